"""Add false positives to the training pairs."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch_geometric.data import HeteroData
from torch_geometric.transforms import BaseTransform

from pyg_bsl.checks import check_positive
from pyg_bsl.data.errors import DataError
from pyg_bsl.data.hetero import PAIR_KEYS, RATED_BY, RATES
from pyg_bsl.types import UserItems


@dataclass(frozen=True)
class PositiveNoise(BaseTransform):
    r"""Adds random items that a user did not meet to its training pairs: noise on purpose.

    Of a user with :math:`n` training pairs, :math:`\lceil ratio \cdot n \rceil` items are added,
    uniform without replacement among those it has in no split (all of these if there are no
    more). This is the noise in positives of `BSL <https://arxiv.org/abs/2312.12882>`_ and `SL@K
    <https://arxiv.org/abs/2508.05673>`_. Comes last: validation pairs held out later would be
    noise in part. The pairs that are added stand after the others; as they have no rating and no
    time, both columns go.

    Args:
        ratio: Number of pairs to add, over the number of a user's training pairs.
        seed: Seed of the choice.

    Raises:
        ValueError: If ``ratio`` is not positive and finite.
        DataError: If there are no training pairs.

    Example:
        >>> PositiveNoise(0.1)
        PositiveNoise(ratio=0.1, seed=0)
    """

    ratio: float
    seed: int = 0

    def __post_init__(self) -> None:
        check_positive("ratio", self.ratio)

    def forward(self, data: HeteroData) -> HeteroData:
        """A copy of ``data`` with more pairs in ``edge_index``."""
        train = data[RATES].edge_index
        num_users, num_items = data["user"].num_nodes, data["item"].num_nodes
        if train.size(1) == 0:
            raise DataError(f"PositiveNoise needs pairs, but the data set '{data.name}' has none")
        taken = torch.cat(
            [data[RATES][key].cpu() for key in PAIR_KEYS.values() if key in data[RATES]], dim=1
        )
        users, items = taken.unique(dim=1)
        met = UserItems.from_pairs(users, items, num_users, num_items)
        counts = torch.bincount(train[0].cpu(), minlength=num_users)
        wanted = (counts.double() * self.ratio - 1e-9).ceil().long()
        wanted = torch.minimum(wanted, num_items - met.counts)
        noise = _unmet(met, wanted, torch.Generator().manual_seed(self.seed))
        out = data.__copy__()
        store = out[RATES]
        store.edge_index = torch.cat([train, noise.to(train.device)], dim=1)
        for key in ("rating", "time"):
            if key in store:
                del store[key]
        out[RATED_BY].edge_index = store.edge_index.flip(0).contiguous()
        return out


def _unmet(met: UserItems, wanted: Tensor, generator: torch.Generator) -> Tensor:
    """Pairs that are not in ``met``, ``wanted[u]`` of each user, without repetition, ``[2, N]``."""
    free = met.num_items - met.counts
    every = torch.arange(met.num_users)
    found = torch.empty(0, dtype=torch.long)  # user * num_items + place among the unmet items
    while True:
        have = torch.bincount(found // met.num_items, minlength=met.num_users)
        users = every.repeat_interleave(wanted - have)
        if users.numel() == 0:
            break
        # What comes up a second time is drawn again.
        draw = torch.randint(1 << 62, users.shape, generator=generator) % free[users]
        found = torch.cat([found, users * met.num_items + draw]).unique()
    users, place = found // met.num_items, found % met.num_items
    return torch.stack([users, met.unseen(users, place)])
