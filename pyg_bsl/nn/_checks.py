"""Checks of constructor arguments."""

from __future__ import annotations


def check_size(name: str, value: int) -> None:
    """Raise a ``ValueError`` unless ``value`` is at least 1."""
    if value < 1:
        raise ValueError(f"'{name}' must be at least 1 (got {value})")


def check_dropout(name: str, value: float) -> None:
    """Raise a ``ValueError`` unless ``value`` is in ``[0, 1)``."""
    if not 0 <= value < 1:
        raise ValueError(f"'{name}' must be in [0, 1) (got {value})")
