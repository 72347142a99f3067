"""Negatives of each row, uniform over items."""

from __future__ import annotations

import torch
from torch import Generator

from pyg_bsl.checks import check_count
from pyg_bsl.sampling.base import Sampler
from pyg_bsl.types import Batch, Negatives, UserItems


class Uniform(Sampler):
    """Items drawn for each row on its own, uniformly and with replacement.

    Args:
        num_negatives: Items a row.
        avoid_seen: Whether a user's training items are never drawn for it. The draw is exact,
            without rejection: a place among the unseen items is drawn and looked up.
    """

    batch_by = "pair"

    def __init__(self, num_negatives: int = 64, *, avoid_seen: bool = True) -> None:
        self.num_negatives = check_count("num_negatives", num_negatives)
        self.avoid_seen = avoid_seen

    def sample(
        self, batch: Batch, train: UserItems, generator: Generator | None = None
    ) -> Negatives:
        """Negatives ``[B, N]``; all dropped for a user who has seen every item."""
        users = batch.users[:, None]  # [B, 1]
        shape, device = (users.size(0), self.num_negatives), users.device
        if not self.avoid_seen:
            items = torch.randint(train.num_items, shape, generator=generator, device=device)
            return Negatives(items)
        free = train.num_items - train.counts[users]  # [B, 1]
        draw = torch.randint(1 << 62, shape, generator=generator, device=device)
        items = train.unseen(users, draw % free.clamp(min=1)).clamp(max=train.num_items - 1)
        return Negatives(items, drop=(free == 0).expand(shape))
