"""The whole catalogue as negatives."""

from __future__ import annotations

from torch import Generator

from pyg_bsl.sampling.base import Sampler, seen_of
from pyg_bsl.types import Batch, Negatives, UserItems


class AllItems(Sampler):
    """Every item of the catalogue: the loss itself instead of an estimate of it.

    Args:
        avoid_seen: Whether a user's training items are dropped from its negatives.
    """

    def __init__(self, *, avoid_seen: bool = True) -> None:
        self.avoid_seen = avoid_seen

    @property
    def needs_seen(self) -> bool:
        """Whether seen items are dropped."""
        return self.avoid_seen

    def sample(
        self, batch: Batch, train: UserItems, generator: Generator | None = None
    ) -> Negatives:
        """All items."""
        return Negatives(None, drop=seen_of(batch) if self.avoid_seen else None)
