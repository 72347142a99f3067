"""What a process does for a study: its trials, the finals between the best, the last training."""

from __future__ import annotations

import logging
import os
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch

from pyg_bsl.training import Callback
from pyg_bsl.tuning.plan import Plan, on_test
from pyg_bsl.tuning.report import (
    DEFAULT,
    EXPERIMENT,
    Report,
    best_of,
    finals_name,
    retrain_name,
)
from pyg_bsl.tuning.runs import StudyRun
from pyg_bsl.tuning.spaces import grid, shown
from pyg_bsl.tuning.storage import Storage, storage_url, sweep
from pyg_bsl.tuning.trial import TENTHS, Graphs, Watch, kept, objective, run_trial, train
from pyg_bsl.tuning.work import run_jobs, work

if TYPE_CHECKING:
    from optuna import Study, Trial
    from optuna.pruners import BasePruner
    from optuna.samplers import BaseSampler
    from optuna.trial import FrozenTrial

log = logging.getLogger("pyg_bsl")


class Worker:
    """A process's part in a study.

    Args:
        plan: The study's settings.
        index: Which of the processes of one command it is.
    """

    def __init__(self, plan: Plan, index: int = 0) -> None:
        self.plan = plan
        self.graphs = Graphs(plan.experiment)
        graph = self.graphs[plan.experiment.seed]
        self.storage = Storage.open(storage_url(plan.store, plan.storage))
        identity = plan.identity() | {"digest": graph.digest}
        self.study, created = self.storage.create_or_join(plan.study, identity, plan.directions)
        if EXPERIMENT not in self.study.user_attrs:
            self.study.set_user_attr(EXPERIMENT, plan.experiment.config())
        self.study.sampler = _sampler(plan, self.study, index, created)
        self.study.pruner = _pruner(plan)
        self.run_in_mlflow: StudyRun | None = None
        if plan.tracking:
            with self.storage.turn():
                self.run_in_mlflow = StudyRun.open(plan, self.study, graph)

    def announce(self) -> None:
        """Clear up after processes that died, and say what is going to happen."""
        with self.storage.turn():
            sweep(self.study)
        if self.run_in_mlflow is not None and not self.run_in_mlflow.away:
            self.run_in_mlflow.send_unsent()
            self.close_lost()
        plan, before = self.plan, len(self.study.trials)
        verb = f"Continuing, with {before} trials," if before else "Beginning"
        log.info(
            "%s study '%s': %d trials over %s",
            verb,
            plan.study,
            plan.num_trials,
            ", ".join(plan.searched),
        )
        if on_test(plan.experiment):
            log.warning(
                "The protocol '%s' has no validation data: this study is decided on the TEST set, "
                "and its results are optimistic",
                plan.experiment.protocol.name,
            )

    def run(self) -> None:
        """Take trials until all are done, then take part in the finals."""
        with self._interrupts():
            if self.plan.algorithm == "grid":
                run_jobs(self.storage, self.study, self._grid(), self._trial, self._tell)
            else:
                work(self.storage, self.study, self._trial, self.plan.num_trials, self._tell)
            finalists = best_of(self.study, self.plan.finalists)
            if len(finalists) > 1:
                jobs = [
                    {"trial": trial.number, "seed": seed}
                    for trial in finalists
                    for seed in self.plan.final_numbers
                ]
                log.info(
                    "Finals: %d trials on %d fresh seeds", len(finalists), self.plan.final_seeds
                )
                self._train_each(finals_name(self.plan.study), jobs, "final")

    def retrain(self, seeds: int) -> None:
        """Train the winner and the default on seeds of their own."""
        report = Report.of(self.storage, self.plan.study)
        winner, start = report.winner, report.next_seed()
        jobs = [
            {"trial": number, "seed": seed}
            for seed in range(start, start + seeds)
            for number in (winner.number, DEFAULT)
        ]
        with self._interrupts():
            self._train_each(retrain_name(self.plan.study), jobs, "retrain")

    def end(self) -> Report:
        """Write down what was found."""
        with self._interrupts():
            report = Report.of(self.storage, self.plan.study)
            files = report.save(self.plan.store)
        if self.run_in_mlflow is not None:
            self.run_in_mlflow.end(
                note=report.note(),
                metrics=report.numbers(),
                trials=report.complete,
                files=files,
            )
            if not self.run_in_mlflow.away:
                self.close_lost()
        return report

    def close_lost(self) -> None:
        """Close the MLflow runs of processes that died."""
        if self.run_in_mlflow is None:
            return
        from optuna.trial import TrialState

        names = {"final": finals_name(self.plan.study), "retrain": retrain_name(self.plan.study)}
        there = {s.study_name for s in self.storage.optuna.get_all_studies()}
        going = {
            (phase, trial.params.get("trial"), trial.params.get("seed"))
            for phase, name in names.items()
            if name in there
            for trial in self.storage.load(name).get_trials(states=(TrialState.RUNNING,))
        }
        running = {t.number for t in self.study.get_trials(states=(TrialState.RUNNING,))}

        def is_over(phase: str, number: int, seed: int) -> bool:
            return (
                number not in running if phase == "search" else (phase, number, seed) not in going
            )

        self.run_in_mlflow.close_lost(is_over)

    def _grid(self) -> list[dict[str, Any]]:
        points = grid(self.plan.searched)
        order = torch.randperm(
            len(points), generator=torch.Generator().manual_seed(self.plan.experiment.seed)
        )
        return [points[at] for at in order[: self.plan.num_trials].tolist()]

    def _trial(self, trial: Trial) -> list[float]:
        def tracked(values: Mapping[str, Any], seed: int, phase: str) -> Sequence[Callback]:
            return self._callbacks(trial.number, values, seed, phase)

        return run_trial(self.plan, self.graphs, trial, tracked)

    def _callbacks(
        self, number: int, values: Mapping[str, Any], seed: int, phase: str
    ) -> Sequence[Callback]:
        run = self.run_in_mlflow
        return [] if run is None else run.callbacks(number, values, seed, phase)

    def _train_each(self, name: str, jobs: Sequence[Mapping[str, int]], phase: str) -> None:
        """Train trials of the study again on other seeds."""
        study, _ = self.storage.create_or_join(
            name, {"of": self.plan.study}, {self.plan.metric: "maximize"}
        )
        trials = self.study.trials

        def one(trial: Trial) -> list[float]:
            number = trial.suggest_int("trial", DEFAULT, 10**6)
            seed = trial.suggest_int("seed", 0, 2**62)
            values = {} if number == DEFAULT else trials[number].params
            callbacks = self._callbacks(number, values, seed, phase)
            watch = Watch(None, self.plan.also)
            result = train(self.plan, self.graphs, values, seed, watch, callbacks)
            trial.set_user_attr("kept", kept([result]))
            return [objective(result, self.plan.metric)]

        run_jobs(self.storage, study, jobs, one)

    def _tell(self, trial: FrozenTrial) -> None:
        """Say how a trial ended."""
        name = self.plan.metric
        how = trial.state.name.lower()
        if trial.values is not None:
            how = f"{name} {trial.values[0]:.4f}" + (", pruned" if how == "pruned" else "")
        elif "error" in trial.user_attrs:
            how = f"failed, {trial.user_attrs['error']}"
        best = best_of(self.study, 1)
        so_far = f"; best {best[0].values[0]:.4f}, trial {best[0].number}" if best else ""
        seconds = trial.duration.total_seconds() if trial.duration else 0.0
        log.info(
            "Trial %d: %s (%s), %.0f s%s", trial.number, how, shown(trial.params), seconds, so_far
        )

    @contextmanager
    def _interrupts(self) -> Iterator[None]:
        """Close the study's run where the block is broken off."""
        try:
            yield
        except BaseException as error:
            if self.run_in_mlflow is not None:
                self.run_in_mlflow.stop(error)
            raise


def _sampler(plan: Plan, study: Study, index: int, created: bool) -> BaseSampler:
    """What chooses the next values.

    The same seed gives the same study where one process runs it. One that joins draws on its own:
    it must not repeat what others draw.
    """
    from optuna import samplers

    own = 0 if created or index else int.from_bytes(os.urandom(4), "little")
    parts = (plan.experiment.seed, index, len(study.trials), own)
    seed = zlib.crc32(repr(parts).encode())
    if plan.algorithm == "tpe":
        return samplers.TPESampler(seed=seed, constant_liar=True)
    if plan.algorithm == "gp":
        return samplers.GPSampler(seed=seed)
    return samplers.RandomSampler(seed=seed)


def _pruner(plan: Plan) -> BasePruner:
    from optuna import pruners

    make: dict[str, Callable[[], BasePruner]] = {
        "median": lambda: pruners.MedianPruner(n_startup_trials=5, n_warmup_steps=2),
        "halving": lambda: pruners.SuccessiveHalvingPruner(min_resource=1, reduction_factor=3),
        "hyperband": lambda: pruners.HyperbandPruner(
            min_resource=1, max_resource=TENTHS, reduction_factor=3
        ),
        "none": pruners.NopPruner,
    }
    return make[plan.pruning]()
