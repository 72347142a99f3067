"""Checks of constructor arguments."""

from __future__ import annotations

from math import inf
from numbers import Integral, Real

from pyg_bsl.names import pick
from pyg_bsl.ops.propagation import METHODS


def check_size(name: str, value: int) -> None:
    """Raise a ``ValueError`` unless ``value`` is a whole number of at least 1."""
    if not isinstance(value, Integral) or value < 1:
        raise ValueError(f"'{name}' must be a whole number of at least 1 (got {value!r})")


def check_dropout(name: str, value: float) -> None:
    """Raise a ``ValueError`` unless ``value`` is in ``[0, 1)``."""
    if not isinstance(value, Real) or not 0 <= value < 1:
        raise ValueError(f"'{name}' must be in [0, 1) (got {value!r})")


def check_propagation(name: str) -> None:
    """Raise a ``ValueError`` unless ``name`` is a way to multiply with the adjacency."""
    pick("propagation", name, dict.fromkeys(METHODS))


def check_number(name: str, value: float, *, least: float = -inf, above: float = -inf) -> None:
    """Raise a ``ValueError`` unless ``value`` is finite, at least ``least`` and above ``above``."""
    if not isinstance(value, Real) or not (value >= least and above < value < inf):
        rule = f"at least {least:g}" if least > -inf else f"above {above:g}"
        rule = rule + " and finite" if max(least, above) > -inf else "finite"
        raise ValueError(f"'{name}' must be {rule} (got {value!r})")


def check_share(name: str, value: float) -> None:
    """Raise a ``ValueError`` unless ``value`` is in ``[0, 1]``."""
    if not isinstance(value, Real) or not 0 <= value <= 1:
        raise ValueError(f"'{name}' must be in [0, 1] (got {value!r})")
