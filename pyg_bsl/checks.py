"""Checks of numbers that users hand over: an error tells the rule and the value."""

from __future__ import annotations

from math import inf
from numbers import Real


def check_count(name: str, value: float) -> int:
    """``value`` if it is a whole number of at least 1.

    Example:
        >>> check_count("epochs", 0)
        Traceback (most recent call last):
        ValueError: 'epochs' must be a whole number of at least 1 (got 0)
    """
    good = isinstance(value, Real) and float(value).is_integer() and value >= 1
    _require(good, name, "a whole number of at least 1", value)
    return int(value)


def check_positive(name: str, value: float) -> float:
    """``value`` if it is a positive finite number."""
    _require(isinstance(value, Real) and 0 < value < inf, name, "positive and finite", value)
    return float(value)


def check_number(name: str, value: float, *, least: float = -inf, above: float = -inf) -> float:
    """``value`` if it is a finite number, at least ``least`` and above ``above``."""
    rule = "finite"
    if max(least, above) > -inf:
        rule = (f"at least {least:g}" if least > -inf else f"above {above:g}") + " and finite"
    good = isinstance(value, Real) and value >= least and above < value < inf
    _require(good, name, rule, value)
    return float(value)


def check_cosine(name: str, value: float) -> float:
    """``value`` if it is in [-1, 1]."""
    good = isinstance(value, Real) and -1 <= value <= 1
    _require(good, name, "a cosine, from -1 to 1", value)
    return float(value)


def check_seed(name: str, value: int) -> int:
    """``value`` if it is a whole number that a generator takes."""
    good = isinstance(value, int) and 0 <= value < 2**63
    _require(good, name, "a whole number of at least 0 and below 2**63", value)
    return value


def check_share(name: str, value: float) -> float:
    """``value`` if it is in [0, 1]."""
    _require(isinstance(value, Real) and 0 <= value <= 1, name, "in [0, 1]", value)
    return float(value)


def check_positive_share(name: str, value: float) -> float:
    """``value`` if it is in (0, 1]."""
    _require(isinstance(value, Real) and 0 < value <= 1, name, "above 0 and at most 1", value)
    return float(value)


def check_dropout(name: str, value: float) -> float:
    """``value`` if it is in [0, 1)."""
    _require(isinstance(value, Real) and 0 <= value < 1, name, "in [0, 1)", value)
    return float(value)


def _require(good: bool, name: str, rule: str, value: object) -> None:
    if not good:
        raise ValueError(f"'{name}' must be {rule} (got {value!r})")
