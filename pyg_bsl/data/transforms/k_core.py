"""Keep the dense core of the interactions."""

from __future__ import annotations

import logging
from dataclasses import dataclass

import torch
from torch import Tensor
from torch_geometric.data import HeteroData
from torch_geometric.transforms import BaseTransform

from pyg_bsl.data.errors import DataError
from pyg_bsl.data.hetero import RATES, keep_train, name_of
from pyg_bsl.data.transforms._pairs import drop_lonely_nodes, require_unsplit

log = logging.getLogger("pyg_bsl")


@dataclass(frozen=True)
class KCore(BaseTransform):
    """Keeps the largest part in which every user has ``k`` pairs and every item ``item_k``.

    Users and items with fewer are left out again and again until none is left. Comes before a
    split.

    Args:
        k: Fewest pairs of a user, and of an item where ``item_k`` is not given.
        item_k: Fewest pairs of an item.

    Raises:
        ValueError: If ``k`` or ``item_k`` is below 1.
        DataError: If the data is split already, or has no such core.

    Example:
        >>> KCore(5)
        KCore(k=5, item_k=None)
    """

    k: int
    item_k: int | None = None

    def __post_init__(self) -> None:
        for name, least in (("k", self.k), ("item_k", self.item_k)):
            if least is not None and least < 1:
                raise ValueError(f"'{name}' must be at least 1 (got {least!r})")

    def forward(self, data: HeteroData) -> HeteroData:
        """A copy of ``data`` with the pairs of the core only."""
        require_unsplit(data, "KCore")
        item_k = self.k if self.item_k is None else self.item_k
        pairs = data[RATES].edge_index
        keep = _core(pairs, self.k, item_k)
        if keep.numel() == 0:
            raise DataError(
                f"Nothing of '{name_of(data)}' is left: it has no part in which every user has "
                f"{self.k} and every item {item_k} pairs; choose a smaller 'k' or 'item_k'"
            )
        log.info("KCore: %d of %d pairs kept", keep.numel(), pairs.size(1))
        return drop_lonely_nodes(keep_train(data, keep))


def _core(pairs: Tensor, k: int, item_k: int) -> Tensor:
    """Indices of the pairs of the core, ascending."""
    kept = torch.arange(pairs.size(1), device=pairs.device)
    while True:
        users, items = pairs[:, kept]
        enough = (torch.bincount(users)[users] >= k) & (torch.bincount(items)[items] >= item_k)
        if enough.all():
            return kept
        kept = kept[enough]
