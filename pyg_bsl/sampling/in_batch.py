"""The batch's own items as negatives."""

from __future__ import annotations

from torch import Generator

from pyg_bsl.sampling.base import Sampler, seen_mask, seen_of
from pyg_bsl.types import Batch, Negatives, UserItems


class InBatch(Sampler):
    r"""The positive items of the batch, as negatives of all its users.

    An item comes up as often as it is met, so the negatives follow popularity.

    Args:
        drop_hits: Whether accidental hits, items that the user has seen (its own positive among
            them), are dropped.
        correct_popularity: Whether each negative is weighed by one over its popularity, which
            makes the weighted negatives uniform again; in a softmax this subtracts the log
            of the popularity from the logit (`"Sampling-Bias-Corrected Neural Modeling"
            <https://doi.org/10.1145/3298689.3346996>`_).
    """

    batch_by = "pair"

    def __init__(self, *, drop_hits: bool = True, correct_popularity: bool = False) -> None:
        self.drop_hits = drop_hits
        self.correct_popularity = correct_popularity

    @property
    def needs_seen(self) -> bool:
        """Whether seen items are dropped."""
        return self.drop_hits

    def sample(
        self, batch: Batch, train: UserItems, generator: Generator | None = None
    ) -> Negatives:
        """Negatives ``[B]``, one for each row of the batch."""
        items = batch.items
        drop = seen_mask(seen_of(batch), items) if self.drop_hits else None
        if not self.correct_popularity:
            return Negatives(items, drop)
        popularity = train.item_counts[items].float() * (train.num_items / train.num_pairs)
        return Negatives(items, drop, log_weight=-popularity.log())
