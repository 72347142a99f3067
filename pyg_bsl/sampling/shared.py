"""Negatives shared by the batch, uniform over items."""

from __future__ import annotations

import torch
from torch import Generator

from pyg_bsl.checks import check_count
from pyg_bsl.sampling.base import Sampler, seen_mask, seen_of
from pyg_bsl.types import Batch, Negatives, UserItems


class Shared(Sampler):
    """Items drawn once for the whole batch, uniformly and without replacement.

    One matrix product scores them for all users.

    Args:
        num_negatives: Items a batch; the whole catalogue if it has no more.
        avoid_seen: Whether a user's training items are dropped from its negatives.
    """

    def __init__(self, num_negatives: int = 1024, *, avoid_seen: bool = True) -> None:
        self.num_negatives = check_count("num_negatives", num_negatives)
        self.avoid_seen = avoid_seen

    @property
    def needs_seen(self) -> bool:
        """Whether seen items are dropped."""
        return self.avoid_seen

    def sample(
        self, batch: Batch, train: UserItems, generator: Generator | None = None
    ) -> Negatives:
        """Negatives ``[N]``."""
        key = torch.rand(train.num_items, generator=generator, device=batch.queries.device)
        items = key.topk(min(self.num_negatives, train.num_items), sorted=False).indices
        return Negatives(items, drop=seen_mask(seen_of(batch), items) if self.avoid_seen else None)
