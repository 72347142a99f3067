"""What a study is: everything that was decided before its first trial."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from pyg_bsl.checks import check_count
from pyg_bsl.evaluation import PROTOCOLS
from pyg_bsl.experiment import Experiment
from pyg_bsl.metrics import parse_metric
from pyg_bsl.names import pick
from pyg_bsl.space import Space
from pyg_bsl.tuning.spaces import as_data, check_space, default_space, grid

ALGORITHMS: Mapping[str, str] = {
    "tpe": "tree-structured Parzen estimator: learns where good trials lie",
    "gp": "Gaussian process: fewer, better chosen trials; takes seconds to choose one",
    "random": "independent draws",
    "grid": "every combination of the choices, in an order drawn from the seed",
}
PRUNERS: Mapping[str, str] = {
    "median": "stop a trial whose best so far is below the median of the others at that point",
    "halving": "successive halving: a third of the trials goes on past each of a few points",
    "hyperband": "several successive halvings, some of which start late",
    "none": "let every trial end",
}
SECONDS, TAIL = "seconds", "tail_ndcg"


@dataclass(frozen=True, kw_only=True)
class Plan:
    """A study's settings; those of :func:`pyg_bsl.tuning.search`.

    Raises:
        ValueError: If one is out of its range, or the study would be decided on test data without
            anybody having asked for that.
    """

    experiment: Experiment
    study: str = ""
    trials: int | None = None
    space: Mapping[str, Space] | None = None
    algorithm: Literal["tpe", "gp", "random", "grid"] = "tpe"
    pruner: Literal["median", "halving", "hyperband", "none"] | None = None
    seeds: int = 1
    also: Sequence[str] = ()
    finalists: int = 3
    final_seeds: int = 3
    storage: str | None = None
    store: str | Path = "mlruns"
    tracking: bool = True

    def __post_init__(self) -> None:
        def put(name: str, value: Any) -> None:
            object.__setattr__(self, name, value)

        experiment = self.experiment
        _check_selection(experiment)
        parts = (experiment.source, experiment.backbone, experiment.loss)
        put("study", self.study or " ".join(parts))
        pick("algorithm", self.algorithm, ALGORITHMS)
        space = default_space(experiment) if self.space is None else self.space
        put("space", check_space(space, experiment))
        points = len(grid(self.searched)) if self.algorithm == "grid" else None
        if self.trials is None:
            put("trials", points or 30)
        check_count("trials", self.num_trials)
        if points is not None and self.num_trials > points:
            raise ValueError(
                f"The grid has {points} points: 'trials' must be at most that (got {self.trials})"
            )
        for name in ("seeds", "finalists", "final_seeds"):
            check_count(name, getattr(self, name))
        put("also", tuple(_check_objective(name) for name in self.also))
        if len({self.metric, *self.also}) < 1 + len(self.also):
            raise ValueError(f"'also' names an objective twice (got {', '.join(self.also)})")
        put("pruner", self.pruner or ("none" if self.also else "median"))
        pick("pruner", self.pruning, PRUNERS)
        if self.also and self.pruning != "none":
            raise ValueError(
                f"With several objectives no trial can be pruned: 'pruner' must be 'none' "
                f"(got '{self.pruning}')"
            )
        put("store", Path(self.store))

    @property
    def searched(self) -> Mapping[str, Space]:
        """The space."""
        assert self.space is not None
        return self.space

    @property
    def num_trials(self) -> int:
        """Number of trials."""
        assert self.trials is not None
        return self.trials

    @property
    def pruning(self) -> str:
        """Name of the pruner."""
        assert self.pruner is not None
        return self.pruner

    @property
    def metric(self) -> str:
        """The validation metric by which trials, and epochs, are compared."""
        return metric_of(self.experiment)

    @property
    def directions(self) -> dict[str, Literal["minimize", "maximize"]]:
        """Objectives, the metric first, each with its direction."""
        names = (self.metric, *self.also)
        return {name: "minimize" if name == SECONDS else "maximize" for name in names}

    @property
    def final_numbers(self) -> range:
        """Seeds of the finals: fresh ones, since those of the trials chose the finalists."""
        start = self.experiment.seed + self.seeds
        return range(start, start + self.final_seeds)

    @property
    def experiment_measured(self) -> Experiment:
        """The experiment, with the list lengths that the objectives need."""
        lengths = {int(name.partition("@")[2]) for name in self.directions if "@" in name}
        given = self.experiment.trainer_args.get("k", (10, 20))
        lengths |= {given} if isinstance(given, int) else {*given}
        args = {**self.experiment.trainer_args, "k": tuple(sorted(lengths))}
        return replace(self.experiment, trainer_args=args)

    def identity(self) -> dict[str, Any]:
        """What trials of one study have in common: to be compared where it is continued.

        Where the data lie is left out, so that another machine may join: their digest is compared.
        """
        config = self.experiment.config()
        data = Path(config.pop("data") or "").name or None
        config.pop("root")
        config["trainer"] = {k: v for k, v in config["trainer"].items() if k != "device"}
        return {
            "data": config.pop("dataset") or data,
            "metric": self.metric,
            "also": list(self.also),
            "seeds": self.seeds,
            "protocol": self.experiment.protocol.name,
            "config": config,
            "space": as_data(self.searched),
        }


def metric_of(experiment: Experiment) -> str:
    """The validation metric by which the experiment's epochs are compared."""
    name, at = parse_metric(experiment.trainer_args.get("metric", "ndcg@20"))
    return f"{name}@{at}"


def on_test(experiment: Experiment) -> bool:
    """Whether the experiment's "validation" is the test set."""
    return experiment.protocol.select_on == "test"


def _check_selection(experiment: Experiment) -> None:
    if on_test(experiment) and "protocol" not in experiment.trainer_args:
        name = experiment.protocol.name
        clean = next(p.name for p in PROTOCOLS.values() if p.select_on == "valid")
        raise ValueError(
            f"The protocol '{name}' of the data set '{experiment.source}' chooses on the test set, "
            f"and so would a study. Tune on held-out pairs (protocol '{clean}'), or ask for "
            f"protocol '{name}' by its name: its results are optimistic, and say so"
        )


def _check_objective(name: str) -> str:
    if name == SECONDS:
        return name
    word, at = (TAIL, name.partition("@")[2]) if name.startswith(f"{TAIL}@") else parse_metric(name)
    if word == TAIL:
        parse_metric(f"ndcg@{at}")
    if word == "average_popularity":
        raise ValueError("'average_popularity' is neither good nor bad: it can be no objective")
    return f"{word}@{at}"
