"""A run from names: which data, which parts, how long."""

from __future__ import annotations

import inspect
import time
import types
import typing
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from numbers import Integral, Real
from pathlib import Path
from typing import Any

import torch

from pyg_bsl.data import HoldoutValidation, build_graph, from_files, load_dataset
from pyg_bsl.data.hetero import RATES
from pyg_bsl.data.table import DATASETS
from pyg_bsl.evaluation import PROTOCOLS, Protocol
from pyg_bsl.losses import LOSSES
from pyg_bsl.names import pick, suggest
from pyg_bsl.nn import BACKBONES
from pyg_bsl.sampling import SAMPLERS
from pyg_bsl.training import Callback, FitResult, Trainer
from pyg_bsl.types import BipartiteGraph

PARTS = ("backbone", "loss", "sampler")
NOT_ASKED: Mapping[str, tuple[str, ...]] = {
    "backbone": ("num_users", "num_items"),
    "trainer": ("backbone", "loss", "sampler", "callbacks", "seed"),
    "reader": ("path",),
}
"""Arguments that an experiment hands to its parts by itself."""
DEFAULT_EPOCHS: int = inspect.signature(Trainer.fit).parameters["epochs"].default


@dataclass(frozen=True)
class Experiment:
    """One training run: data, backbone, loss and sampler by name, with their arguments.

    Args:
        dataset: Name of a data set (:data:`pyg_bsl.data.table.DATASETS`).
        data: Folder or file of one's own data, instead of ``dataset``.
        root: Folder that keeps downloaded data sets.
        files: Arguments of :func:`pyg_bsl.data.from_files` for one's own data, such as
            ``{"split": "random"}``.
        backbone: Name of the backbone.
        backbone_args: Arguments of the backbone.
        loss: Name of the loss.
        loss_args: Arguments of the loss.
        sampler: Name of the sampler; :obj:`None`: the trainer's choice for the loss.
        sampler_args: Arguments of the sampler.
        trainer_args: Arguments of :class:`pyg_bsl.Trainer`. The protocol is the data set's own
            unless given here.
        epochs: Passes over the training pairs.
        seed: Seed of the validation split, the initialisation and the training. The test split of
            a ``dataset`` is its own, the same at every seed.

    Raises:
        ValueError: If a name or an argument is unknown, or not exactly one of ``dataset`` and
            ``data`` is given.
    """

    dataset: str | None = None
    data: str | None = None
    root: str = "data"
    files: Mapping[str, Any] = field(default_factory=dict)
    backbone: str = "MF"
    backbone_args: Mapping[str, Any] = field(default_factory=dict)
    loss: str = "SL"
    loss_args: Mapping[str, Any] = field(default_factory=dict)
    sampler: str | None = None
    sampler_args: Mapping[str, Any] = field(default_factory=dict)
    trainer_args: Mapping[str, Any] = field(default_factory=dict)
    epochs: int = DEFAULT_EPOCHS
    seed: int = 0

    def __post_init__(self) -> None:
        check_arguments("experiment", Experiment, vars(self))
        if (self.dataset is None) == (self.data is None):
            raise ValueError("Give exactly one of 'dataset' (a name) and 'data' (a folder)")
        if self.dataset is not None:
            pick("data set", self.dataset, DATASETS)
            if self.files:
                raise ValueError(
                    f"'files' tell how to read one's own 'data', not a 'dataset' (got "
                    f"{dict(self.files)})"
                )
        check_arguments("reader", from_files, self.files)
        for kind, name, choices, args in (
            ("backbone", self.backbone, BACKBONES, self.backbone_args),
            ("loss", self.loss, LOSSES, self.loss_args),
            ("sampler", self.sampler, SAMPLERS, self.sampler_args),
        ):
            if name is not None:
                check_arguments(kind, pick(kind, name, choices), args)
            elif args:
                raise ValueError(f"'{kind}_args' need a '{kind}' (got {dict(args)})")
        check_arguments("trainer", Trainer, self.trainer_args)
        if self.epochs < 1:
            raise ValueError(f"'epochs' must be at least 1 (got {self.epochs})")
        # A tiny copy of all parts: wrong values are found before any data is loaded.
        with torch.random.fork_rng(devices=[]):  # which is not to be seen in random numbers
            self._parts(1, 1)

    @property
    def protocol(self) -> Protocol:
        """The evaluation protocol."""
        default = "holdout" if self.dataset is None else DATASETS[self.dataset].protocol
        given = self.trainer_args.get("protocol", default)
        return pick("protocol", given, PROTOCOLS) if isinstance(given, str) else given

    @property
    def source(self) -> str:
        """Name of the data set, or of the folder or file of one's own data."""
        return self.dataset or Path(self.data or "").resolve().name

    @property
    def name(self) -> str:
        """A telling name: ``SL MF amazon-electronic tau=0.2 seed=0``."""
        args = [f"{k}={v}" for k, v in {**self.loss_args, **self.backbone_args}.items()]
        return " ".join([self.loss, self.backbone, self.source, *args, f"seed={self.seed}"])

    def load(self) -> BipartiteGraph:
        """The data, with validation pairs held out of train where none are given."""
        if self.dataset is not None:
            data = load_dataset(self.dataset, self.root)
        else:
            assert self.data is not None
            data = from_files(self.data, **self.files)
        wants_valid = self.protocol.select_on == "valid"
        if wants_valid and "valid_edge_label_index" not in data[RATES]:
            data = HoldoutValidation(seed=self.seed)(data)
        return build_graph(data)

    def build(self, graph: BipartiteGraph, callbacks: Iterable[Callback] = ()) -> Trainer:
        """The parts, initialised from the seed, in a trainer."""
        torch.manual_seed(self.seed)
        return self._parts(graph.num_users, graph.num_items, callbacks)

    def _parts(self, num_users: int, num_items: int, callbacks: Iterable[Callback] = ()) -> Trainer:
        return Trainer(
            BACKBONES[self.backbone](num_users, num_items, **self.backbone_args),
            LOSSES[self.loss](**self.loss_args),
            None if self.sampler is None else SAMPLERS[self.sampler](**self.sampler_args),
            **{**self.trainer_args, "protocol": self.protocol},
            seed=self.seed,
            callbacks=callbacks,
        )

    def run(
        self, callbacks: Iterable[Callback] = (), graph: BipartiteGraph | None = None
    ) -> FitResult:
        """Load, build, train and evaluate.

        Args:
            callbacks: What else should happen.
            graph: What :meth:`load` gave earlier, to load it once for several runs.
        """
        started = time.perf_counter()
        graph = self.load() if graph is None else graph
        load_seconds = time.perf_counter() - started
        trainer = self.build(graph, callbacks)
        asked = self.config()
        config = asked | trainer.config()
        return trainer.fit(
            graph, self.epochs, config=config, asked=asked, load_seconds=load_seconds
        )

    def config(self) -> dict[str, Any]:
        """Plain data from which :meth:`from_config` makes this experiment again."""
        return {
            "dataset": self.dataset,
            "data": None if self.data is None else str(Path(self.data).absolute()),
            "root": self.root,
            "files": dict(self.files),
            "backbone": {"name": self.backbone, **self.backbone_args},
            "loss": {"name": self.loss, **self.loss_args},
            "sampler": None
            if self.sampler is None
            else {"name": self.sampler, **self.sampler_args},
            "trainer": dict(self.trainer_args),
            "epochs": self.epochs,
            "seed": self.seed,
        }

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> Experiment:
        """The experiment that a configuration, or a ``result.json``'s ``config``, tells of.

        Raises:
            ValueError: If the configuration has an unknown entry.
        """
        known = sorted(("dataset", "data", "root", "files", "epochs", "seed", "trainer", *PARTS))
        for key in config:
            if key not in known:
                raise ValueError(
                    f"Unknown entry '{key}' in the configuration"
                    f"{suggest(key, dict.fromkeys(known))} Choices: {', '.join(known)}"
                )
        args = {key: config[key] for key in config if key not in ("files", "trainer", *PARTS)}
        for part in PARTS:
            entry = table_of(config, part)
            if "name" in entry:
                args[part] = entry.pop("name")
            args[f"{part}_args"] = entry
        return cls(
            **args, files=table_of(config, "files"), trainer_args=table_of(config, "trainer")
        )


def table_of(config: Mapping[str, Any], key: str) -> dict[str, Any]:
    """The table under ``key``, empty if there is none.

    A part without arguments may stand there as a bare name.

    Raises:
        ValueError: If it is no table.
    """
    entry = config.get(key)
    is_part = key in PARTS
    if entry is None:
        return {}
    if is_part and isinstance(entry, str):
        return {"name": entry}
    if not isinstance(entry, Mapping) or (is_part and not isinstance(entry.get("name", ""), str)):
        allowed = "a name, or a table with or without a name" if is_part else "a table"
        raise ValueError(f"'{key}' in the configuration must be {allowed} (got {entry!r})")
    return dict(entry)


def check_arguments(kind: str, part: Callable[..., Any], args: Mapping[str, Any]) -> None:
    """Check names and types of arguments meant for ``part``.

    Args:
        kind: Which of :data:`NOT_ASKED` the part is, if any.
        part: A class or function.
        args: Its arguments by name.

    Raises:
        ValueError: If the part takes no argument of that name, or none of that type.
    """
    have = dict.fromkeys(
        name
        for name, parameter in inspect.signature(part).parameters.items()
        if name not in NOT_ASKED.get(kind, ())
        and parameter.kind not in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD)
    )
    hints = typing.get_type_hints(part.__init__ if inspect.isclass(part) else part)
    for name, value in args.items():
        if name not in have:
            raise ValueError(
                f"{part.__name__} has no argument '{name}'{suggest(name, have)} "
                f"Choices: {', '.join(have) or 'none'}"
            )
        if not _fits(value, hints[name]):
            wanted = inspect.formatannotation(hints[name]).replace("collections.abc.", "")
            raise ValueError(f"'{name}' must be {wanted} (got {value!r})")


def _fits(value: object, hint: Any) -> bool:
    """Whether a value is of a type; which of a few words it may be is left to the part."""
    origin, args = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        return any(_fits(value, option) for option in args)
    if origin is typing.Literal:
        return type(value) in {type(option) for option in args}
    if origin is Sequence:
        return isinstance(value, list | tuple) and all(_fits(each, args[0]) for each in value)
    if hint in (int, float):
        number = Integral if hint is int else Real
        return isinstance(value, number) and not isinstance(value, bool)
    return isinstance(value, origin or hint)
