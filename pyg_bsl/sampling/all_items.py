"""The whole catalogue as negatives."""

from __future__ import annotations

import math

from torch import Generator

from pyg_bsl.checks import check_number
from pyg_bsl.sampling.base import Sampler, seen_of
from pyg_bsl.types import Batch, Negatives, UserItems


class AllItems(Sampler):
    r"""Every item of the catalogue: the loss itself instead of an estimate of it.

    Args:
        avoid_seen: Whether a user's training items are dropped from its negatives.
        power: Items weigh :math:`n_j^p` in the mean over negatives, with the number :math:`n_j` of
            their training interactions and this power :math:`p`: 0 is every item alike, 1 is what
            in-batch negatives are an estimate of. The more popular items weigh among the negatives,
            the less popularity is in the scores.

    Raises:
        ValueError: If the power is not finite.
    """

    def __init__(self, *, avoid_seen: bool = True, power: float = 0.0) -> None:
        check_number("power", power)
        self.avoid_seen = avoid_seen
        self.power = power

    @property
    def needs_seen(self) -> bool:
        """Whether seen items are dropped."""
        return self.avoid_seen

    def sample(
        self, batch: Batch, train: UserItems, generator: Generator | None = None
    ) -> Negatives:
        """All items."""
        log_weight = None
        if self.power != 0:
            # An item that nobody met counts as met once where a negative power would blow it up.
            count = train.item_counts if self.power > 0 else train.item_counts.clamp(min=1)
            log_weight = self.power * count.float().log()
            log_weight = log_weight - log_weight.logsumexp(0) + math.log(train.num_items)
        return Negatives(None, seen_of(batch) if self.avoid_seen else None, log_weight)
