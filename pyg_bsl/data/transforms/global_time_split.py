"""Train on the past, test on the future."""

from __future__ import annotations

import logging
from dataclasses import dataclass

from torch import Tensor
from torch_geometric.data import HeteroData
from torch_geometric.transforms import BaseTransform

from pyg_bsl.data.errors import DataError
from pyg_bsl.data.hetero import RATES, name_of
from pyg_bsl.data.transforms._pairs import (
    drop_lonely_nodes,
    hold_out,
    require_column,
    require_share,
    require_unsplit,
)

log = logging.getLogger("pyg_bsl")


@dataclass(frozen=True)
class GlobalTimeSplit(BaseTransform):
    """Moves the latest share of all pairs to the test pairs: one moment for all users.

    Pairs at that moment itself are test pairs, so the share may come out a little larger. Users
    and items that training does not know are left out, with their test pairs; the log counts
    them.

    Args:
        test: Share of all pairs that becomes test.

    Raises:
        ValueError: If ``test`` does not lie between 0 and 1.
        DataError: If the data has no times or is split already, or the split leaves no training
            or no test pairs.

    Example:
        >>> GlobalTimeSplit(0.1)
        GlobalTimeSplit(test=0.1)
    """

    test: float = 0.2

    def __post_init__(self) -> None:
        require_share("test", self.test)

    def forward(self, data: HeteroData) -> HeteroData:
        """A copy of ``data`` with ``edge_label_index`` taken out of ``edge_index``."""
        require_unsplit(data, "GlobalTimeSplit")
        time = require_column(data, "time", "GlobalTimeSplit")
        late = time >= _moment(time, self.test)
        if late.all():
            raise DataError(
                f"No pair of '{name_of(data)}' is earlier than its latest {self.test:.0%} by time: "
                "give finer times, a smaller 'test', or use RandomSplit"
            )
        out = drop_lonely_nodes(hold_out(data, late))
        known = out[RATES].edge_label_index.size(1)
        if known == 0:
            raise DataError(
                f"No test pair of '{name_of(data)}' is left: the users or items of its latest "
                f"{self.test:.0%} by time are all unknown to training; give a larger 'test', "
                "or use LeaveLastOut"
            )
        if known < int(late.sum()):
            log.warning(
                "GlobalTimeSplit: %d of %d test pairs dropped with %d users and %d items unknown "
                "to train",
                int(late.sum()) - known,
                int(late.sum()),
                data["user"].num_nodes - out["user"].num_nodes,
                data["item"].num_nodes - out["item"].num_nodes,
            )
        return out


def _moment(time: Tensor, test: float) -> Tensor:
    """The time from which on pairs are test pairs."""
    latest = max(1, int(test * time.numel() + 1e-9))
    return time.sort().values[-latest:].min()
