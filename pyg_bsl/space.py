"""Search spaces as plain data, read by Optuna studies, the command line and the docs."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Choice:
    """One of a few values."""

    values: tuple[object, ...]


@dataclass(frozen=True)
class Uniform:
    """A real number in ``[low, high]``."""

    low: float
    high: float


@dataclass(frozen=True)
class LogUniform:
    """A real number in ``[low, high]``, even on a logarithmic scale; ``0 < low``."""

    low: float
    high: float


@dataclass(frozen=True)
class Integer:
    """A whole number in ``[low, high]``."""

    low: int
    high: int


Space = Choice | Uniform | LogUniform | Integer
