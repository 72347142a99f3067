"""Split each user's pairs at random."""

from __future__ import annotations

from dataclasses import dataclass

from torch_geometric.data import HeteroData
from torch_geometric.transforms import BaseTransform

from pyg_bsl.data.transforms._pairs import hold_out_share, require_share, require_unsplit


@dataclass(frozen=True)
class RandomSplit(BaseTransform):
    r"""Moves a random share of each user's pairs to the test pairs.

    Of a user's :math:`n` pairs, :math:`\max(1, \lfloor test \cdot n \rfloor)` are test pairs; who
    has one pair only keeps it for training. An item may end up with test pairs only.

    Args:
        test: Share of each user's pairs that becomes test.
        seed: Seed of the choice.

    Raises:
        ValueError: If ``test`` does not lie between 0 and 1.
        DataError: If the data is split already.

    Example:
        >>> RandomSplit(test=0.2, seed=1)
        RandomSplit(test=0.2, seed=1)
    """

    test: float = 0.2
    seed: int = 0

    def __post_init__(self) -> None:
        require_share("test", self.test)

    def forward(self, data: HeteroData) -> HeteroData:
        """A copy of ``data`` with ``edge_label_index`` taken out of ``edge_index``."""
        require_unsplit(data, "RandomSplit")
        return hold_out_share(data, self.test, self.seed)
