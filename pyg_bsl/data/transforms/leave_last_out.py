"""Test on the last pairs of each user."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch_geometric.data import HeteroData
from torch_geometric.transforms import BaseTransform

from pyg_bsl.data.hetero import RATES
from pyg_bsl.data.transforms._pairs import (
    hold_out,
    rank_in_user,
    require_column,
    require_unsplit,
)


@dataclass(frozen=True)
class LeaveLastOut(BaseTransform):
    """Moves the last ``n`` pairs of each user, by time, to the test pairs.

    Of pairs at the same time, the one that stands later in the data is the later one. Every user
    keeps at least one pair for training. An item may end up with test pairs only.

    Args:
        n: How many pairs of each user become test.

    Raises:
        ValueError: If ``n`` is below 1.
        DataError: If the data has no times or is split already.

    Example:
        >>> LeaveLastOut()
        LeaveLastOut(n=1)
    """

    n: int = 1

    def __post_init__(self) -> None:
        if self.n < 1:
            raise ValueError(f"'n' must be at least 1 (got {self.n!r})")

    def forward(self, data: HeteroData) -> HeteroData:
        """A copy of ``data`` with ``edge_label_index`` taken out of ``edge_index``."""
        require_unsplit(data, "LeaveLastOut")
        time = require_column(data, "time", "LeaveLastOut")
        users = data[RATES].edge_index[0]
        counts = torch.bincount(users, minlength=data["user"].num_nodes)
        rank = rank_in_user(users, time.argsort(stable=True), counts)
        first_out = (counts - self.n).clamp(min=1)
        return hold_out(data, rank >= first_out[users])
