"""A study in MLflow: a run of its own, above those of its trainings."""

from __future__ import annotations

import logging
import shutil
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pyg_bsl.tracking import MLflowTracker, send_unsent
from pyg_bsl.tracking.address import is_server, resolve_uri, ui_command
from pyg_bsl.tracking.names import clip_tags, key
from pyg_bsl.tracking.outbox import Outbox, Point, is_away
from pyg_bsl.tracking.processes import member_tags
from pyg_bsl.tracking.start import dataset_of, log_dataset
from pyg_bsl.tracking.store import brief, cause, connect, no_garbage_collection, open_experiment
from pyg_bsl.training import Callback
from pyg_bsl.tuning.plan import Plan
from pyg_bsl.tuning.spaces import as_data, shown
from pyg_bsl.types import BipartiteGraph

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from optuna import Study
    from optuna.trial import FrozenTrial

_REQUEST_SECONDS, _UPLOAD_SECONDS = 10, 60
ATTRIBUTE = "mlflow"  # User attribute of the study: its run, by address of the store.

log = logging.getLogger("pyg_bsl")


class StudyRun:
    """The run of a study.

    Args:
        client: Of the store.
        uri: Its address.
        plan: The study's settings.
        run_id: Id of the run.
        name: Name of the MLflow experiment, that of the data set.
    """

    def __init__(self, client: MlflowClient, uri: str, plan: Plan, run_id: str, name: str) -> None:
        self.client, self.uri, self.plan = client, uri, plan
        self.run_id, self.name = run_id, name
        self._before: MLflowTracker | None = None  # Of the training before.
        self.away = False  # Whether the store was, when last asked.

    @classmethod
    def open(cls, plan: Plan, study: Study, graph: BipartiteGraph) -> StudyRun:
        """The study's run, made if need be and running again.

        A server that has the run already and is away is waited for: the study goes on.

        Args:
            plan: The study's settings.
            study: The study.
            graph: The data.

        Raises:
            ConnectionError: If the store cannot be used.
        """
        uri, data = resolve_uri(Path(plan.store).absolute()), graph.name
        runs = dict(study.user_attrs.get(ATTRIBUTE, {}))
        known = uri in runs
        if known:
            _forget_end(plan, runs[uri])
        try:
            with no_garbage_collection(), brief(_REQUEST_SECONDS):
                client, experiment_id = open_experiment(uri, data)
                if known:
                    client.update_run(runs[uri], status="RUNNING")
                    client.set_tag(runs[uri], "status", "running")
                else:
                    run = client.create_run(
                        experiment_id, run_name=f"study {plan.study}", tags=_tags(plan)
                    )
                    runs[uri] = run.info.run_id
                    study.set_user_attr(ATTRIBUTE, runs)
                    for name, space in as_data(plan.searched).items():
                        client.log_param(runs[uri], key(f"space.{name}"), str(space)[:500])
                    sizes = graph.num_users, graph.num_items, graph.train.num_pairs
                    log_dataset(client, runs[uri], dataset_of(data, graph.digest, *sizes))
                for name, value in member_tags().items():
                    client.set_tag(runs[uri], name, value)
        except Exception as error:
            if not (known and is_server(uri) and is_away(error)):
                raise ConnectionError(
                    f"MLflow tracking at {uri} cannot be used: {cause(error)}. Start the server, "
                    "give another store, or switch tracking off"
                ) from error
            run = cls(connect(uri), uri, plan, runs[uri], data)
            run.note_whether_away(True)
            return run
        return cls(client, uri, plan, runs[uri], data)

    def callbacks(
        self, number: int, values: Mapping[str, Any], seed: int, phase: str
    ) -> list[Callback]:
        """What makes a training a run below this one.

        Args:
            number: Number of the trial; -1 for the experiment as it was given.
            values: Its values.
            seed: Seed of the training.
            phase: ``"search"``, ``"final"`` or ``"retrain"``.
        """
        if self._before is not None:
            self.note_whether_away(self._before.unsent is not None)
        who = "default" if number < 0 else f"trial {number:03d}"
        words = [who, "" if phase == "search" else phase, shown(values), f"seed={seed}"]
        tags = {"study": self.plan.study, "trial": str(number), "phase": phase}
        tracker = MLflowTracker(
            self.plan.store,
            tracking_uri=self.uri,
            experiment=self.name,
            run_name=" ".join(filter(None, words)),
            tags=tags,
            parent_run_id=self.run_id,
        )
        self._before = tracker
        return [tracker]

    def send_unsent(self) -> None:
        """Send what the store missed of earlier trainings."""
        with self.attempt("what it missed before"):
            send_unsent(self.plan.store, tracking_uri=self.uri, say=log.info)

    def note_whether_away(self, away: bool) -> None:
        """Say it once where the store is away: the trainings themselves are silent."""
        if away and not self.away:
            log.warning(
                "MLflow tracking at %s is away: the study goes on, and what is missed is kept in "
                "%s and sent when it answers again",
                self.uri,
                Path(self.plan.store) / "unsent",
            )
        self.away = away

    def close_lost(self, is_over: Callable[[str, int, int], bool]) -> int:
        """Close the runs whose process died; how many there were.

        Args:
            is_over: Whether the training of a phase, trial and seed is over.
        """
        text = f"tags.mlflow.parentRunId = '{self.run_id}' and attributes.status = 'RUNNING'"
        closed = 0
        with self.attempt("closing lost runs"), brief(_REQUEST_SECONDS):
            experiment = self.client.get_run(self.run_id).info.experiment_id
            for run in self.client.search_runs([experiment], text, max_results=1000):
                tags, run_id = run.data.tags, run.info.run_id
                if "phase" in tags and is_over(
                    tags["phase"], int(tags["trial"]), int(tags["seed"])
                ):
                    self.client.set_tag(run_id, "status", "lost")
                    self.client.set_terminated(run_id, "KILLED")
                    closed += 1
        return closed

    def end(
        self,
        *,
        note: str,
        metrics: Mapping[str, float],
        trials: Sequence[FrozenTrial],
        files: Sequence[Path],
    ) -> None:
        """Write down what was found, and close the run.

        Args:
            note: Text for its page.
            metrics: Numbers by name.
            trials: Those that ran to their end: a curve of their values.
            files: Files for its page; those that end in ``.png`` under ``figures``.
        """
        now = int(time.time() * 1000)
        points = [Point(key(name), value, now, 0) for name, value in metrics.items()]
        for trial in trials:  # With their own time: a point that is sent again is kept once.
            assert trial.datetime_complete is not None
            ended = int(trial.datetime_complete.timestamp() * 1000)
            points.append(Point("trial_value", trial.values[0], ended, trial.number))
        tags = {"mlflow.note.content": note, "status": "finished"}
        with self.attempt("the end of the study"):
            self._close("FINISHED", tags, points, files)
        if not self.away:
            self.send_unsent()

    def stop(self, error: BaseException) -> None:
        """Close the run of a study that was interrupted, or failed."""
        interrupted = isinstance(error, KeyboardInterrupt | SystemExit)
        tags = {"status": "interrupted" if interrupted else "failed"}
        with self.attempt("that the study was broken off"):
            self._close("KILLED" if interrupted else "FAILED", tags)

    def _close(
        self,
        status: str,
        tags: Mapping[str, str],
        points: Sequence[Point] = (),
        files: Sequence[Path] = (),
    ) -> None:
        """Put the end of the run on disk, and send it if the store answers."""
        outbox = Outbox.create(Path(self.plan.store), self.uri, self.run_id)
        outbox.add(points)
        for file in files:
            folder = outbox.artifacts / "figures" if file.suffix == ".png" else outbox.artifacts
            folder.mkdir(exist_ok=True)
            shutil.copy(file, folder)
        end_time = int(time.time() * 1000)
        outbox.describe({"end": {"status": status, "end_time": end_time, "tags": clip_tags(tags)}})
        try:
            with brief(_UPLOAD_SECONDS):
                outbox.send()
        except Exception as error:
            self.away = True
            outbox.leave()
            log.warning(
                "MLflow tracking at %s missed the end of the study: %s. It is kept in %s, and sent "
                "by the same command, or by: %s",
                self.uri,
                cause(error),
                outbox.folder,
                ui_command(outbox.store, tracking_uri=self.uri),
            )
        else:
            self.away = False
            outbox.remove()

    @contextmanager
    def attempt(self, what: str) -> Iterator[None]:
        """Log what goes wrong inside instead of raising it."""
        try:
            yield
        except Exception as error:
            log.warning("MLflow tracking at %s missed %s: %s", self.uri, what, cause(error))


def _forget_end(plan: Plan, run_id: str) -> None:
    """A study that goes on has not ended: drop what the store missed of its end before."""
    outbox = Outbox(Path(plan.store) / "unsent" / run_id)
    if outbox.folder.is_dir() and outbox.try_lock():
        outbox.remove()


def _tags(plan: Plan) -> dict[str, str]:
    experiment = plan.experiment
    return clip_tags(
        {
            "study": plan.study,
            "phase": "study",
            "dataset": experiment.source,
            "backbone": experiment.backbone,
            "loss": experiment.loss,
            "protocol": experiment.protocol.name,
            "seed": str(experiment.seed),
            "algorithm": plan.algorithm,
            "pruner": plan.pruning,
            "objectives": ", ".join(plan.directions),
            "status": "running",
            "mlflow.source.name": Path(sys.argv[0]).name,
            "mlflow.source.type": "LOCAL",
        }
    )
