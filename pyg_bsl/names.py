"""Finding a thing by its name."""

from __future__ import annotations

from collections.abc import Mapping
from difflib import get_close_matches
from typing import TypeVar

T = TypeVar("T")


def pick(kind: str, name: str, choices: Mapping[str, T]) -> T:
    """The choice called ``name``.

    Args:
        kind: What is chosen, for the message: ``"loss"``, ``"data set"``.
        name: The name asked for.
        choices: What there is, by name.

    Raises:
        ValueError: If there is no such name; the message gives the nearest one and all choices.

    Example:
        >>> pick("loss", "BSL", {"SL": 1, "BSL": 2})
        2
    """
    if name in choices:
        return choices[name]
    raise ValueError(f"Unknown {kind} '{name}'{suggest(name, choices)} Choices: {_join(choices)}")


def suggest(name: str, choices: Mapping[str, object]) -> str:
    """``"; did you mean 'X'?"`` for the nearest of ``choices``, or a full stop."""
    by_folded = {choice.lower(): choice for choice in choices}
    near = get_close_matches(name.lower(), by_folded, n=1, cutoff=0.5)
    return f"; did you mean '{by_folded[near[0]]}'?" if near else "."


def _join(choices: Mapping[str, object]) -> str:
    return ", ".join(sorted(choices, key=str.lower))
