"""Where a study looks: names of an experiment's arguments, each with its values.

A name is that of a configuration file: ``loss.tau``, ``backbone.num_layers``,
``sampler.num_negatives``, ``trainer.lr`` (or just ``lr``) and ``epochs``.
"""

from __future__ import annotations

import inspect
import types
import typing
from collections.abc import Collection, Mapping
from dataclasses import asdict, replace
from itertools import product
from math import isfinite, prod
from typing import TYPE_CHECKING, Any

from pyg_bsl.experiment import DEFAULT_EPOCHS, NOT_ASKED, PARTS, Experiment
from pyg_bsl.losses import LOSSES
from pyg_bsl.names import suggest
from pyg_bsl.nn import BACKBONES
from pyg_bsl.sampling import SAMPLERS
from pyg_bsl.space import Choice, Integer, LogUniform, Space, Uniform
from pyg_bsl.training import Trainer

if TYPE_CHECKING:
    from optuna import Trial

Spaces = Mapping[str, Space]
SYNTAX = "NAME=A,B,C (choices), NAME=LOW:HIGH or NAME=LOW:HIGH:log (a range)"


def default_space(experiment: Experiment, given: Collection[str] = ()) -> dict[str, Space]:
    """What the parts themselves say is worth tuning, but for what the experiment sets.

    Args:
        experiment: Names the parts; what it gives arguments for is not tuned.
        given: Names that are not tuned either.

    Example:
        >>> experiment = Experiment("movielens-small", loss="SL", trainer_args={"lr": 0.1})
        >>> sorted(default_space(experiment))
        ['backbone.dropout', 'epochs', 'loss.tau', 'trainer.weight_decay']
    """
    out = {f"loss.{name}": space for name, space in LOSSES[experiment.loss].search_space.items()}
    for name, space in BACKBONES[experiment.backbone].search_space.items():
        out[f"backbone.{name}"] = space
    for name, space in Trainer.search_space.items():
        out["epochs" if name == "epochs" else f"trainer.{name}"] = space
    return without(out, {*given, *given_by(experiment)})


def given_by(experiment: Experiment) -> set[str]:
    """Names of the arguments that the experiment sets."""
    out = {"epochs"} if experiment.epochs != DEFAULT_EPOCHS else set()
    for part in (*PARTS, "trainer"):
        out |= {f"{part}.{name}" for name in getattr(experiment, f"{part}_args")}
    return out


def without(space: Spaces, names: Collection[str]) -> dict[str, Space]:
    """The space less some names."""
    return {name: each for name, each in space.items() if name not in names}


def full_name(name: str, experiment: Experiment) -> str:
    """The name with its part: ``trainer.lr`` for ``lr``.

    Raises:
        ValueError: If the experiment has no such argument.
    """
    known = _arguments(experiment)
    full = f"trainer.{name}" if f"trainer.{name}" in known else name
    if full not in known:
        part = name.partition(".")[0]
        near = [other for other in known if other.startswith(f"{part}.")] or list(known)
        raise ValueError(
            f"There is nothing called '{name}' to tune{suggest(name, dict.fromkeys(known))} "
            f"Choices: {', '.join(near)}"
        )
    return full


def _arguments(experiment: Experiment) -> dict[str, Any]:
    """Every argument that could be tuned, with its type."""
    parts: dict[str, Any] = {
        "loss": LOSSES[experiment.loss],
        "backbone": BACKBONES[experiment.backbone],
        "trainer": Trainer,
    }
    if experiment.sampler is not None:
        parts["sampler"] = SAMPLERS[experiment.sampler]
    # They decide what is measured, or where: a study holds them fixed.
    fixed = {"trainer.metric", "trainer.protocol", "trainer.k", "trainer.device"}
    out: dict[str, Any] = {"epochs": int}
    for part, cls in parts.items():
        hints = typing.get_type_hints(cls.__init__)
        for name in inspect.signature(cls).parameters:
            if name not in NOT_ASKED.get(part, ()) and f"{part}.{name}" not in fixed:
                out[f"{part}.{name}"] = hints[name]
    return out


def parse_space(text: str, experiment: Experiment) -> tuple[str, Space]:
    """An entry of ``--space``: ``loss.tau=0.05:0.5:log``, ``epochs=10:60``, ``lr=0.01,0.05``.

    Raises:
        ValueError: If the name or the values are wrong.

    Example:
        >>> parse_space("loss.tau=0.05:0.5:log", Experiment("movielens-small"))
        ('loss.tau', LogUniform(low=0.05, high=0.5))
        >>> parse_space("epochs=10,20", Experiment("movielens-small"))
        ('epochs', Choice(values=(10, 20)))
    """
    name, equals, values = text.partition("=")
    if not equals or not values:
        raise ValueError(f"A space is written {SYNTAX} (got '{text}')")
    name = full_name(name, experiment)
    hint = _arguments(experiment)[name]
    if ":" not in values:
        return name, Choice(tuple(_value(word, hint, text) for word in values.split(",")))
    low, *rest = values.split(":")
    if len(rest) not in (1, 2) or (len(rest) == 2 and rest[1] != "log"):
        raise ValueError(f"A range is written LOW:HIGH or LOW:HIGH:log (got '{text}')")
    try:
        ends = float(low), float(rest[0])
    except ValueError:
        raise ValueError(f"A range is between two numbers (got '{text}')") from None
    if float not in _options(hint):
        if int not in _options(hint) or len(rest) == 2 or not all(end.is_integer() for end in ends):
            raise ValueError(f"'{name}' is no real number: give choices, {SYNTAX} (got '{text}')")
        return name, Integer(int(ends[0]), int(ends[1]))
    return name, (LogUniform if len(rest) == 2 else Uniform)(*ends)


def parse_fix(text: str, experiment: Experiment) -> tuple[str, Any]:
    """An entry of ``--fix``, ``NAME=VALUE``; the value is :obj:`None` for a bare ``NAME``.

    Raises:
        ValueError: If the name or the value is wrong.
    """
    name, equals, value = text.partition("=")
    name = full_name(name, experiment)
    return name, _value(value, _arguments(experiment)[name], text) if equals else None


def _options(hint: Any) -> tuple[Any, ...]:
    union = typing.get_origin(hint) in (typing.Union, types.UnionType)
    return (
        tuple(option for arg in typing.get_args(hint) for option in _options(arg))
        if (union)
        else (hint,)
    )


def _value(word: str, hint: Any, text: str) -> Any:
    """A word as the type of its argument."""
    options = _options(hint)
    if bool in options and word.lower() in ("true", "false"):
        return word.lower() == "true"
    if type(None) in options and word.lower() == "none":
        return None
    for kind in (int, float):
        if kind in options:
            try:
                return kind(word)
            except ValueError:
                continue
    texts = [
        v for o in options if typing.get_origin(o) is typing.Literal for v in typing.get_args(o)
    ]
    if str in options or word in texts:
        return word
    wanted = f"one of {', '.join(texts)}" if texts else inspect.formatannotation(hint)
    raise ValueError(f"'{word}' in '{text}' must be {wanted}")


def check_space(space: Spaces, experiment: Experiment) -> dict[str, Space]:
    """The space, when every end of it makes an experiment.

    Raises:
        ValueError: If it is empty, a name is unknown, or a value is refused.
    """
    if not space:
        raise ValueError(f"There is nothing to tune: give a space, {SYNTAX}")
    out = {full_name(name, experiment): each for name, each in space.items()}
    for name, each in out.items():
        if isinstance(each, Choice):
            if not each.values or len(set(each.values)) < len(each.values):
                raise ValueError(f"'{name}' needs one choice or more, all different (got {each})")
        elif not (isfinite(each.low) and isfinite(each.high) and each.low < each.high):
            raise ValueError(f"'{name}' needs a range whose low end is below its high one ({each})")
        if isinstance(each, LogUniform) and each.low <= 0:
            raise ValueError(f"'{name}' on a logarithmic scale must be above 0 (got {each})")
        for value in each.values if isinstance(each, Choice) else (each.low, each.high):
            try:
                with_values(experiment, {name: value})
            except ValueError as error:
                raise ValueError(
                    f"The space of '{name}' ends outside what it may be: {error}"
                ) from (error)
    return out


def with_values(
    experiment: Experiment, values: Mapping[str, Any], seed: int | None = None
) -> Experiment:
    """The experiment with these values, and perhaps another seed.

    Example:
        >>> experiment = Experiment("movielens-small", loss_args={"tau": 0.2})
        >>> with_values(experiment, {"loss.tau": 0.1, "epochs": 5}, seed=3).name
        'SL MF movielens-small tau=0.1 seed=3'
    """
    changes: dict[str, Any] = {} if seed is None else {"seed": seed}
    for name, value in values.items():
        part, _, argument = name.partition(".")
        if argument:
            key = f"{part}_args"
            changes[key] = {**changes.get(key, getattr(experiment, key)), argument: value}
        else:
            changes[part] = value
    return replace(experiment, **changes)


def suggest_values(trial: Trial, space: Spaces) -> dict[str, Any]:
    """The trial's values."""
    out: dict[str, Any] = {}
    for name, each in space.items():
        if isinstance(each, Choice):
            out[name] = trial.suggest_categorical(name, each.values)  # type: ignore[arg-type]
        elif isinstance(each, Integer):
            out[name] = trial.suggest_int(name, each.low, each.high)
        else:
            log = isinstance(each, LogUniform)
            out[name] = trial.suggest_float(name, each.low, each.high, log=log)
    return out


def grid(space: Spaces) -> list[dict[str, Any]]:
    """Every combination of the choices.

    Raises:
        ValueError: If the space is not made of choices, or far too large.

    Example:
        >>> grid({"a": Choice((1, 2)), "b": Integer(3, 4)})
        [{'a': 1, 'b': 3}, {'a': 1, 'b': 4}, {'a': 2, 'b': 3}, {'a': 2, 'b': 4}]
    """
    axes: dict[str, tuple[Any, ...]] = {}
    for name, each in space.items():
        if isinstance(each, Uniform | LogUniform):
            raise ValueError(
                f"A grid is made of choices, and '{name}' is a range: give choices "
                f"({name}=A,B,C), or another algorithm"
            )
        whole = isinstance(each, Integer)
        axes[name] = tuple(range(each.low, each.high + 1)) if whole else each.values  # type: ignore
    if (size := prod(map(len, axes.values()))) > 100_000:
        raise ValueError(f"The grid has {size:,} points, of at most 100,000: give fewer choices")
    return [dict(zip(axes, point, strict=True)) for point in product(*axes.values())]


def shown(values: Mapping[str, Any]) -> str:
    """Values on a line: ``loss.tau=0.1 lr=0.0312``."""
    words = []
    for name, value in values.items():
        text = f"{value:.4g}" if isinstance(value, float) else str(value)
        words.append(f"{name.removeprefix('trainer.')}={text}")
    return " ".join(words)


def as_data(space: Spaces) -> dict[str, Any]:
    """The space as plain data, to be kept and compared."""
    return {
        name: {"kind": type(each).__name__, **{k: _plain(v) for k, v in asdict(each).items()}}
        for name, each in space.items()
    }


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value


def from_data(data: Mapping[str, Mapping[str, Any]]) -> dict[str, Space]:
    """The space that :func:`as_data` wrote.

    Example:
        >>> space = {"epochs": Integer(1, 5), "loss.tau": Choice((0.1, 0.2))}
        >>> from_data(as_data(space)) == space
        True
    """
    kinds: dict[str, Any] = {kind.__name__: kind for kind in (Choice, Uniform, LogUniform, Integer)}
    out: dict[str, Space] = {}
    for name, entry in data.items():
        args = {k: tuple(v) if isinstance(v, list) else v for k, v in entry.items() if k != "kind"}
        out[name] = kinds[entry["kind"]](**args)
    return out
