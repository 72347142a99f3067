"""The hardest of many negatives."""

from __future__ import annotations

from dataclasses import replace

from torch import Generator

from pyg_bsl.checks import check_count
from pyg_bsl.sampling.shared import Shared
from pyg_bsl.types import Batch, Negatives, UserItems


class Hard(Shared):
    r"""The items that score highest for each user, out of a pool drawn for the batch.

    Dynamic negative sampling, from `"Optimizing Top-N Collaborative Filtering via Dynamic Negative
    Item Sampling" <https://doi.org/10.1145/2484028.2484126>`_, whose pool is small and one item is
    kept; that the top few of a larger pool stand for the top of a list is shown in `"On the
    Theories Behind Hard Negative Sampling for Recommendation" <https://arxiv.org/abs/2302.03472>`_.
    The pool is uniform, without replacement and the same for all users of the batch, so that one
    matrix product scores it; the scores are those the loss trains on, at this step, and the trainer
    takes the highest before it scores what is left once more, with gradients. What is kept
    depends on them, so no weight makes the negatives uniform again: the loss is that of hard
    negatives. Unknown positives are among the hardest items.

    Args:
        num_negatives: Items that each row keeps; the whole pool if it has no more.
        pool: Items drawn a batch; the whole catalogue if it has no more.
        avoid_seen: Whether a user's training items are dropped from the pool.
    """

    batch_by = "pair"

    def __init__(
        self, num_negatives: int = 32, *, pool: int = 1024, avoid_seen: bool = True
    ) -> None:
        super().__init__(num_negatives, avoid_seen=avoid_seen)
        self.pool = check_count("pool", pool)

    def sample(
        self, batch: Batch, train: UserItems, generator: Generator | None = None
    ) -> Negatives:
        """The pool ``[M]``, of which each row is to keep the hardest."""
        pool = Shared(self.pool, avoid_seen=self.avoid_seen).sample(batch, train, generator)
        return replace(pool, keep_hardest=self.num_negatives)
