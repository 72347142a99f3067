"""Hold validation pairs out of the training pairs."""

from __future__ import annotations

from dataclasses import dataclass

from torch_geometric.data import HeteroData
from torch_geometric.transforms import BaseTransform

from pyg_bsl.data.errors import DataError
from pyg_bsl.data.hetero import RATES, name_of
from pyg_bsl.data.transforms._pairs import hold_out_share, require_share


@dataclass(frozen=True)
class HoldoutValidation(BaseTransform):
    r"""Moves a random share of each user's training pairs to the validation pairs.

    Of a user's :math:`n` training pairs, :math:`\max(1, \lfloor ratio \cdot n \rfloor)` are held
    out; who has one pair only keeps it for training. This is how "10 % of each user's training
    pairs, at least one" of the PSL protocol is rounded here.

    Args:
        ratio: Share of each user's training pairs that becomes validation.
        seed: Seed of the choice.

    Raises:
        ValueError: If ``ratio`` does not lie between 0 and 1.
        DataError: If the data has validation pairs already.

    Example:
        >>> HoldoutValidation()
        HoldoutValidation(ratio=0.1, seed=0)
    """

    ratio: float = 0.1
    seed: int = 0

    def __post_init__(self) -> None:
        require_share("ratio", self.ratio)

    def forward(self, data: HeteroData) -> HeteroData:
        """A copy of ``data`` with ``valid_edge_label_index`` taken out of ``edge_index``."""
        if "valid_edge_label_index" in data[RATES]:
            raise DataError(
                f"The data set '{name_of(data)}' has validation pairs already: leave "
                "HoldoutValidation out"
            )
        return hold_out_share(data, self.ratio, self.seed, key="valid_edge_label_index")
