"""Running a study, in one process or in several."""

from __future__ import annotations

import gc
import logging
import multiprocessing
import os
import signal
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Literal

import torch

from pyg_bsl.experiment import Experiment
from pyg_bsl.space import Space
from pyg_bsl.tuning.plan import Plan
from pyg_bsl.tuning.report import Report
from pyg_bsl.tuning.worker import Worker

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
        with worker.storage.used():
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
        with worker.storage.used():
            worker.retrain(seeds)
            return worker.end()


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
    gc.freeze()  # as the command line does
    try:
        worker = Worker(plan, index)
        with worker.storage.used():
            worker.run()
    except KeyboardInterrupt:
        raise SystemExit(130) from None
    except ConnectionError as error:
        log.error("%s", error)
        raise SystemExit(1) from None


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
