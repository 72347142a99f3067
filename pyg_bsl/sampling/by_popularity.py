"""Negatives shared by the batch, drawn by popularity."""

from __future__ import annotations

import torch
from torch import Generator

from pyg_bsl.checks import check_count, check_number
from pyg_bsl.sampling.base import Sampler, seen_mask, seen_of
from pyg_bsl.types import Batch, Negatives, UserItems


class ByPopularity(Sampler):
    r"""Items drawn once for the whole batch, with replacement, popular ones more often.

    .. math::
        q_j = \frac{n_j^p}{\sum_{j'} n_{j'}^p}

    A loss that averages over the draws estimates that of :class:`~pyg_bsl.sampling.AllItems` with
    the same power, not that of the catalogue as it is; ``correct_popularity`` undoes this. With
    :math:`p > 0` an item without interactions is never drawn.

    Args:
        num_negatives: Draws a batch.
        power: Items are drawn in proportion to :math:`n_j^p`, with the number :math:`n_j` of their
            training interactions and this power :math:`p`: 0 is every item alike, 1 is popularity
            itself, 0.75 is that of `word2vec <https://arxiv.org/abs/1310.4546>`_.
        avoid_seen: Whether a user's training items are dropped from its negatives.
        correct_popularity: Whether each negative is weighed by :math:`1 / q_j`, which makes the
            weighted negatives uniform again over the items that can be drawn; in a softmax this
            subtracts :math:`\log q_j` from the logit.

    Raises:
        ValueError: If the number is below 1, or the power is negative or not finite.
    """

    def __init__(
        self,
        num_negatives: int = 1024,
        *,
        power: float = 0.75,
        avoid_seen: bool = True,
        correct_popularity: bool = False,
    ) -> None:
        self.num_negatives = check_count("num_negatives", num_negatives)
        check_number("power", power, least=0)
        self.power = power
        self.avoid_seen = avoid_seen
        self.correct_popularity = correct_popularity

    @property
    def needs_seen(self) -> bool:
        """Whether seen items are dropped."""
        return self.avoid_seen

    def sample(
        self, batch: Batch, train: UserItems, generator: Generator | None = None
    ) -> Negatives:
        """Negatives ``[N]``; they may repeat."""
        # In float64: a place among many items must not fall into a rounding error.
        mass = train.item_counts.double() ** self.power
        bound = mass.cumsum(0)
        draw = torch.rand(
            self.num_negatives, generator=generator, device=mass.device, dtype=mass.dtype
        )
        items = torch.searchsorted(bound, draw * bound[-1], right=True).clamp(
            max=train.num_items - 1
        )
        log_weight = None
        if self.correct_popularity:
            share = mass[items] * (train.num_items / bound[-1])
            log_weight = -share.log().float()
        drop = seen_mask(seen_of(batch), items) if self.avoid_seen else None
        return Negatives(items, drop, log_weight)
