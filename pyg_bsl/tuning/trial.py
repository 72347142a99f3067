"""One training of a study: what is told to the study while it runs, and what is kept of it."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import torch

from pyg_bsl.evaluation import evaluate
from pyg_bsl.experiment import Experiment
from pyg_bsl.training import Callback, FitResult, Trainer
from pyg_bsl.training.result import EpochRecord
from pyg_bsl.tuning.plan import SECONDS, TAIL, Plan
from pyg_bsl.tuning.spaces import suggest_values, with_values
from pyg_bsl.tuning.work import Pruned
from pyg_bsl.types import BipartiteGraph, UserItems

if TYPE_CHECKING:
    from optuna import Trial

TENTHS = 10
HEAD_SHARE = 0.8  # Of the training pairs, which the items that are not in the tail have.

Tracked = Callable[[Mapping[str, Any], int, str], Sequence[Callback]]


class Graphs:
    """The data of an experiment, loaded once for each seed, which draws the validation pairs."""

    def __init__(self, experiment: Experiment) -> None:
        self.experiment = experiment
        self._graphs: dict[int, BipartiteGraph] = {}

    def __getitem__(self, seed: int) -> BipartiteGraph:
        if seed not in self._graphs:
            self._graphs[seed] = replace(self.experiment, seed=seed).load()
        return self._graphs[seed]


class Watch(Callback):
    """Tells a trial how the training goes, and ends it early where the pruner says so.

    What is compared is the best validation metric so far, at each tenth of the training that has
    been validated: trials of different lengths stand beside each other by the share of their
    schedule that is done.

    Args:
        trial: The trial; :obj:`None`: only measure.
        names: Objectives; those that the trainer does not measure are measured at the end.
    """

    def __init__(self, trial: Trial | None, names: Sequence[str]) -> None:
        self.trial = trial
        self.pruned = False
        self._tail = [int(name.partition("@")[2]) for name in names if name.startswith(f"{TAIL}@")]
        self._best = float("-inf")
        self._last = 0
        self._result: FitResult | None = None
        self._graph: BipartiteGraph | None = None

    def on_fit_start(self, trainer: Trainer, graph: BipartiteGraph, result: FitResult) -> None:
        """Remember what is trained on."""
        self._result, self._graph = result, graph

    def on_epoch_end(self, trainer: Trainer, record: EpochRecord) -> None:
        """Tell the metric; stop if it is hopeless."""
        assert self._result is not None
        if self.trial is None or not record.valid:
            return
        self._best = max(self._best, record.valid[trainer.metric])
        tenth = TENTHS * record.epoch // self._result.epochs
        if tenth > self._last:
            self._last = tenth
            self.trial.report(self._best, tenth)
            if tenth < TENTHS and self.trial.should_prune():
                self.pruned = trainer.should_stop = True

    def on_fit_end(self, trainer: Trainer, result: FitResult) -> None:
        """Measure what is left to measure."""
        assert self._graph is not None
        if self.pruned:
            result.status = "pruned"
        for k in self._tail if "valid" in result.metrics else ():
            result.metrics["valid"][f"{TAIL}@{k}"] = tail_ndcg(trainer, self._graph, k)


def tail_ndcg(trainer: Trainer, graph: BipartiteGraph, k: int) -> float:
    """NDCG on the validation pairs with items of the tail, the lists being of all items.

    The tail is all but the most popular items, which have four fifths of the training pairs.
    """
    split = trainer.protocol.select_on
    targets = graph.split(split)
    keep = tail(graph.train.item_counts)[targets.items]
    if not keep.any():
        return 0.0
    kept = UserItems.from_pairs(
        targets.users[keep], targets.items[keep], graph.num_users, graph.num_items
    )
    with torch.no_grad():
        emb = trainer.backbone.eval()(graph)
    narrowed = replace(graph, valid=kept) if split == "valid" else replace(graph, test=kept)
    metrics = evaluate(emb, narrowed, "valid", k, trainer.protocol, metrics=["ndcg"])
    return metrics[f"ndcg@{k}"]


def tail(item_counts: torch.Tensor) -> torch.Tensor:
    """Whether each item is of the tail, ``[num_items]``.

    Example:
        >>> tail(torch.tensor([5, 80, 10, 5]))
        tensor([ True, False,  True,  True])
    """
    order = item_counts.argsort(descending=True, stable=True)
    before = item_counts[order].cumsum(0) - item_counts[order]
    out = torch.empty_like(item_counts, dtype=torch.bool)
    out[order] = before >= HEAD_SHARE * item_counts.sum()
    return out


def run_trial(plan: Plan, graphs: Graphs, trial: Trial, tracked: Tracked) -> list[float]:
    """Train with the values that the trial suggests; its objectives, means over the seeds.

    Raises:
        Pruned: If the pruner ended it.
    """
    values = suggest_values(trial, plan.searched)
    results: list[FitResult] = []
    for at in range(plan.seeds):
        watched = trial if at == 0 and not plan.also else None
        seed = plan.experiment.seed + at
        watch = Watch(watched, plan.also)
        results.append(train(plan, graphs, values, seed, watch, tracked(values, seed, "search")))
        trial.set_user_attr("kept", kept(results))
        if watch.pruned:
            raise Pruned
    return [sum(objective(r, name) for r in results) / len(results) for name in plan.directions]


def train(
    plan: Plan,
    graphs: Graphs,
    values: Mapping[str, Any],
    seed: int,
    watch: Watch,
    callbacks: Sequence[Callback] = (),
) -> FitResult:
    """Train once.

    Raises:
        ValueError: If there was nothing to validate on.
    """
    experiment = with_values(plan.experiment_measured, values, seed)
    with _hushed():
        # The watch ends before those that write down how it ended.
        result = experiment.run([*callbacks, watch], graphs[seed])
    if plan.metric not in result.metrics.get("valid", {}):
        raise ValueError(f"{graphs[seed].name} has no validation pairs: a study needs some")
    return result


def objective(result: FitResult, name: str) -> float:
    """An objective's value in a result."""
    return result.seconds["train"] if name == SECONDS else result.metrics["valid"][name]


def kept(results: Sequence[FitResult]) -> list[dict[str, Any]]:
    """What a study remembers of its trainings: a row a seed."""
    return [
        {
            "seed": result.seed,
            "status": result.status,
            "best_epoch": result.best_epoch,
            "epochs_run": result.epochs_run,
            "seconds": round(result.seconds["total"], 3),
            **{split: dict(metrics) for split, metrics in result.metrics.items()},
        }
        for result in results
    ]


@contextmanager
def _hushed() -> Iterator[None]:
    """What a training says of itself, and warns of, was said once when the study began."""
    own = logging.getLogger("pyg_bsl")
    level = own.level
    own.setLevel(logging.ERROR)
    try:
        yield
    finally:
        own.setLevel(level)
