"""A study in MLflow: a run of its own, above those of its trainings."""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pyg_bsl.tracking import MLflowTracker, send_unsent
from pyg_bsl.tracking.address import resolve_uri
from pyg_bsl.tracking.names import clip_tags, key
from pyg_bsl.tracking.start import dataset_of, log_dataset
from pyg_bsl.tracking.store import brief, cause, no_garbage_collection, open_experiment
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
        experiment_id: Id of the MLflow experiment, that of the data set.
        run_id: Id of the run.
        name: Name of the MLflow experiment.
    """

    def __init__(
        self, client: MlflowClient, uri: str, plan: Plan, experiment_id: str, run_id: str, name: str
    ) -> None:
        self.client, self.uri, self.plan = client, uri, plan
        self.experiment_id, self.run_id, self.name = experiment_id, run_id, name
        self._before: MLflowTracker | None = None  # Of the training before.
        self._was_away = False

    @classmethod
    def open(cls, plan: Plan, study: Study, graph: BipartiteGraph) -> StudyRun:
        """The study's run, made if need be and running again.

        Args:
            plan: The study's settings.
            study: The study.
            graph: The data.

        Raises:
            ConnectionError: If the store cannot be used.
        """
        uri, data = resolve_uri(Path(plan.store).absolute()), graph.name
        try:
            with no_garbage_collection(), brief(_REQUEST_SECONDS):
                client, experiment_id = open_experiment(uri, data)
                runs = dict(study.user_attrs.get(ATTRIBUTE, {}))
                if uri in runs:
                    client.update_run(runs[uri], status="RUNNING")
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
        except Exception as error:
            raise ConnectionError(
                f"MLflow tracking at {uri} cannot be used: {cause(error)}. Start the server, give "
                "another store, or switch tracking off"
            ) from error
        return cls(client, uri, plan, experiment_id, runs[uri], data)

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
        self._look_back()
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

    def _look_back(self) -> None:
        """Say it where the store is away: the trainings themselves are silent."""
        unsent = None if self._before is None else self._before.unsent
        if unsent is not None and not self._was_away:
            log.warning(
                "MLflow tracking at %s is away: the study goes on, and what is missed is kept in "
                "%s and sent when it answers again",
                self.uri,
                unsent.parent,
            )
        self._was_away = unsent is not None

    def close_lost(self, is_over: Callable[[str, int, int], bool]) -> int:
        """Close the runs whose process died; how many there were.

        Args:
            is_over: Whether the training of a phase, trial and seed is over.
        """
        text = f"tags.mlflow.parentRunId = '{self.run_id}' and attributes.status = 'RUNNING'"
        closed = 0
        with self.attempt("closing lost runs"), brief(_REQUEST_SECONDS):
            for run in self.client.search_runs([self.experiment_id], text, max_results=1000):
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
        from mlflow.entities import Metric, RunTag

        now = int(time.time() * 1000)
        rows = [Metric(key(name), value, now, 0) for name, value in metrics.items()]
        for trial in trials:  # With their own time: a point that is sent again is kept once.
            assert trial.datetime_complete is not None
            ended = int(trial.datetime_complete.timestamp() * 1000)
            rows.append(Metric("trial_value", trial.values[0], ended, trial.number))
        tags = clip_tags({"mlflow.note.content": note, "status": "finished"})
        self.send_unsent()
        end = "the end of the study, which the same command sends when it answers again"
        with self.attempt(end), brief(_UPLOAD_SECONDS):
            for start in range(0, max(1, len(rows)), 900):
                self.client.log_batch(
                    self.run_id,
                    metrics=rows[start : start + 900],
                    tags=[RunTag(*tag) for tag in tags.items()],
                )
            for file in files:
                folder = "figures" if file.suffix == ".png" else None
                self.client.log_artifact(self.run_id, str(file), folder)
            self.client.set_terminated(self.run_id, "FINISHED")

    def stop(self) -> None:
        """Close the run of a study that was interrupted."""
        with self.attempt("the interrupt"), brief(_REQUEST_SECONDS):
            self.client.set_terminated(self.run_id, "KILLED")

    @contextmanager
    def attempt(self, what: str) -> Iterator[None]:
        """Log what goes wrong inside instead of raising it."""
        try:
            yield
        except Exception as error:
            log.warning("MLflow tracking at %s missed %s: %s", self.uri, what, cause(error))


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
