"""Checks of constructor arguments."""

from __future__ import annotations

from pyg_bsl.checks import check_count as check_size
from pyg_bsl.checks import check_dropout, check_number, check_share
from pyg_bsl.names import pick
from pyg_bsl.ops.propagation import METHODS

__all__ = ["check_dropout", "check_number", "check_propagation", "check_share", "check_size"]


def check_propagation(name: str) -> None:
    """Raise a ``ValueError`` unless ``name`` is a way to multiply with the adjacency."""
    pick("propagation", name, dict.fromkeys(METHODS))
