"""The batch's own items and uniform ones together."""

from __future__ import annotations

import torch
from torch import Generator

from pyg_bsl.checks import check_count
from pyg_bsl.sampling.base import Sampler, seen_mask, seen_of
from pyg_bsl.types import Batch, Negatives, UserItems


class Mixed(Sampler):
    r"""The positive items of the batch beside uniform ones, as negatives of all its users.

    From `"Mixed Negative Sampling for Learning Two-tower Neural Networks in Recommendations"
    <https://doi.org/10.1145/3366424.3386195>`_. In-batch negatives alone never show an item that
    nobody met, and popular ones all the time; uniform ones alone are mostly easy. Of :math:`B + N`
    negatives an item is expected to be

    .. math::
        m_j = B \frac{n_j}{\sum_{j'} n_{j'}} + N \frac{1}{|I|}

    with the number :math:`n_j` of its training interactions.

    Args:
        num_negatives: Uniform items :math:`N` beside those of the batch, drawn with replacement.
        avoid_seen: Whether items that a user has seen (its own positive among them) are dropped
            from its negatives.
        correct_popularity: Whether each negative is weighed by :math:`1 / m_j`, as the paper does,
            which makes the weighted negatives uniform; in a softmax this subtracts
            :math:`\log m_j` from the logit.
    """

    batch_by = "pair"

    def __init__(
        self,
        num_negatives: int = 1024,
        *,
        avoid_seen: bool = True,
        correct_popularity: bool = False,
    ) -> None:
        self.num_negatives = check_count("num_negatives", num_negatives)
        self.avoid_seen = avoid_seen
        self.correct_popularity = correct_popularity

    @property
    def needs_seen(self) -> bool:
        """Whether seen items are dropped."""
        return self.avoid_seen

    def sample(
        self, batch: Batch, train: UserItems, generator: Generator | None = None
    ) -> Negatives:
        """Negatives ``[B + N]``, those of the batch first; they may repeat."""
        shape, device = (self.num_negatives,), batch.queries.device
        uniform = torch.randint(train.num_items, shape, generator=generator, device=device)
        items = torch.cat([batch.items, uniform])
        drop = seen_mask(seen_of(batch), items) if self.avoid_seen else None
        if not self.correct_popularity:
            return Negatives(items, drop)
        num_batch = batch.items.numel()
        popularity = train.item_counts[items].double() * (train.num_items / train.num_pairs)
        share = (num_batch * popularity + self.num_negatives) / items.numel()
        return Negatives(items, drop, log_weight=-share.log().float())
