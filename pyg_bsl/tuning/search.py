"""Running a study: the trials, then the finals between the best of them."""

from __future__ import annotations

import logging
import multiprocessing
import os
import signal
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Literal

import torch

from pyg_bsl.experiment import Experiment
from pyg_bsl.space import Space
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
from pyg_bsl.tuning.trial import Graphs, Watch, kept, objective, run_trial, train
from pyg_bsl.tuning.work import run_jobs, work

if TYPE_CHECKING:
    from optuna import Study, Trial
    from optuna.pruners import BasePruner
    from optuna.samplers import BaseSampler
    from optuna.trial import FrozenTrial

log = logging.getLogger("pyg_bsl")


def search(
    experiment: Experiment,
    *,
    study: str = "",
    trials: int | None = None,
    space: Mapping[str, Space] | None = None,
    algorithm: Literal["tpe", "gp", "random", "grid"] = "tpe",
    pruner: Literal["median", "halving", "hyperband", "none"] | None = None,
    seeds: int = 1,
    also: Sequence[str] = (),
    finalists: int = 3,
    final_seeds: int = 3,
    workers: int = 1,
    threads: int | None = None,
    storage: str | None = None,
    store: str = "mlruns",
    tracking: bool = True,
) -> Report:
    """Tune an experiment on its validation metric.

    A study of the name that is in the storage already is continued, up to the number of trials
    asked for; processes that run the same study at the same time share its trials. A trial whose
    process dies is tried once more.

    After the trials the best of them are trained on fresh seeds, and the best mean wins: the best
    of many noisy numbers is better than it deserves.

    Args:
        experiment: What to tune. What it gives arguments for stays as it is.
        study: Name of the study; by default data, backbone and loss.
        trials: Number of trials, pruned and failed ones among them; :obj:`None`: 30, or the whole
            grid.
        space: Where to look, by names such as ``"loss.tau"``, ``"trainer.lr"``, ``"epochs"``;
            :obj:`None`: what the parts say (:func:`~pyg_bsl.tuning.default_space`).
        algorithm: What chooses the trials: ``"tpe"``, ``"gp"``, ``"random"`` or ``"grid"``.
        pruner: What ends hopeless trials early, by the validation metric at each tenth of their
            training: ``"median"``, ``"halving"``, ``"hyperband"`` or ``"none"``; :obj:`None`:
            ``"median"``, or ``"none"`` with several objectives.
        seeds: Trainings of a trial, on the experiment's seed and those after it; their mean
            counts. Pruning looks at the first.
        also: Objectives beside the validation metric, which makes the study one of trade-offs:
            other metrics of the validation pairs, ``"tail_ndcg@20"`` (on items of the long tail)
            or ``"seconds"`` (of training).
        finalists: Number of best trials that are trained on fresh seeds; 1: none, the best trial
            wins.
        final_seeds: Number of those seeds.
        workers: Processes that share the work, this one among them. A script that asks for
            several needs the usual ``if __name__ == "__main__":``.
        threads: CPU threads of each; :obj:`None`: with several workers, their share of the cores.
        storage: Address of the storage, such as ``"postgresql://..."``; by default
            ``studies.db`` in ``store``.
        store: Folder of the study's files and of the MLflow store.
        tracking: Whether MLflow records the study as a run, and its trainings as runs below it.

    Returns:
        What was found.

    Raises:
        ConnectionError: If a storage cannot be used.
        ValueError: If an argument is out of its range, the study is there and was another one, or
            it would be decided on test data without having been asked for.
    """
    plan = Plan(
        experiment=experiment,
        study=study,
        trials=trials,
        space=space,
        algorithm=algorithm,
        pruner=pruner,
        seeds=seeds,
        also=also,
        finalists=finalists,
        final_seeds=final_seeds,
        storage=storage,
        store=store,
        tracking=tracking,
    )
    return run(plan, workers, threads)


def run(plan: Plan, workers: int = 1, threads: int | None = None) -> Report:
    """Run the study, or continue it."""
    with _threads(threads or (max(1, (os.cpu_count() or 1) // workers) if workers > 1 else None)):
        worker = Worker(plan)
        worker.announce()
        level = logging.getLogger("pyg_bsl").getEffectiveLevel()
        with _others(plan, workers - 1, torch.get_num_threads(), level):
            worker.run()
    return worker.end()


def retrain(plan: Plan, seeds: int, threads: int | None = None) -> Report:
    """Train what a study found, and the experiment as it was given, on seeds not used before.

    Trainings that are done already are not repeated.

    Args:
        plan: The study's settings.
        seeds: Number of seeds.
        threads: CPU threads.
    """
    with _threads(threads):
        worker = Worker(plan)
        worker.retrain(seeds)
    return worker.end()


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
                self.run_in_mlflow = StudyRun.open(plan, self.study, graph.name)

    def announce(self) -> None:
        """Clear up after processes that died, and say what is going to happen."""
        with self.storage.turn():
            sweep(self.study)
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
        self.close_lost()
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
        return report

    def close_lost(self) -> None:
        """Close the MLflow runs of processes that died."""
        if self.run_in_mlflow is None:
            return
        from optuna.trial import TrialState

        names = {"search": self.plan.study}
        names["final"], names["retrain"] = (
            finals_name(names["search"]),
            retrain_name(names["search"]),
        )
        open_ = (TrialState.RUNNING,)
        going: set[tuple[str, int, int | None]] = set()
        there = {s.study_name for s in self.storage.optuna.get_all_studies()}
        for phase, name in names.items():
            for trial in self.storage.load(name).get_trials(states=open_) if name in there else ():
                number = trial.number if phase == "search" else trial.params.get("trial", 0)
                going.add((phase, number, None if phase == "search" else trial.params.get("seed")))
        self.run_in_mlflow.close_lost(
            lambda phase, number, seed: (
                (phase, number, None if phase == "search" else seed) not in going
            )
        )

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
        except BaseException:
            if self.run_in_mlflow is not None:
                self.run_in_mlflow.stop()
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

    tenths = 10
    make: dict[str, Callable[[], BasePruner]] = {
        "median": lambda: pruners.MedianPruner(n_startup_trials=5, n_warmup_steps=2),
        "halving": lambda: pruners.SuccessiveHalvingPruner(min_resource=1, reduction_factor=3),
        "hyperband": lambda: pruners.HyperbandPruner(
            min_resource=1, max_resource=tenths, reduction_factor=3
        ),
        "none": pruners.NopPruner,
    }
    return make[plan.pruning]()


# Several processes


@contextmanager
def _others(plan: Plan, number: int, threads: int, level: int) -> Iterator[None]:
    """So many more workers, for as long as the block runs and they have work."""
    context = multiprocessing.get_context("spawn")
    children = [
        context.Process(target=_other, args=(plan, index, threads, level), name=f"worker {index}")
        for index in range(1, number + 1)
    ]
    for child in children:
        child.start()
    try:
        yield
    except BaseException:
        for child in children:
            child.terminate()
        raise
    finally:
        for child in children:
            child.join()
            if child.exitcode not in (0, -signal.SIGTERM, 130):
                log.warning("A worker died (%s): the others did its work", child.exitcode)


def _other(plan: Plan, index: int, threads: int, level: int) -> None:
    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    logging.getLogger("pyg_bsl").setLevel(level)
    signal.signal(signal.SIGTERM, _interrupt)
    torch.set_num_threads(threads)
    try:
        Worker(plan, index).run()
    except KeyboardInterrupt:
        raise SystemExit(130) from None


def _interrupt(number: int, frame: object) -> None:
    signal.signal(number, signal.SIG_IGN)  # A second one would break off the clearing up.
    raise KeyboardInterrupt


@contextmanager
def _threads(number: int | None) -> Iterator[None]:
    before = torch.get_num_threads()
    if number is not None:
        torch.set_num_threads(number)
    try:
        yield
    finally:
        torch.set_num_threads(before)
