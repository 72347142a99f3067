"""Uniform negatives with false ones among them."""

from __future__ import annotations

import torch
from torch import Generator, Tensor

from pyg_bsl.checks import check_positive_share, check_share
from pyg_bsl.sampling.uniform import Uniform
from pyg_bsl.types import Batch, Negatives, UserItems


class FalseNegatives(Uniform):
    r"""Uniform negatives of which some are positives of the user: noise on purpose.

    The noise of `"PSL: Rethinking and Improving Softmax Loss from Pairwise Perspective for
    Recommendation" <https://arxiv.org/abs/2411.00163>`_: a share of each user's training items is
    marked, and each draw is one of the marked items with probability ``probability`` and a
    uniform unseen item otherwise. Where the paper leaves it open: the marked items stay positives,
    so that a row may have its own positive as a negative, and their number is rounded up, so that
    every user has one.

    Args:
        num_negatives: Items a row (1000 in the paper).
        probability: Probability that a draw is a marked item (0.05 to 0.5 in the paper).
        share: Share of each user's training items that is marked.
        seed: Seed of the marks, which are the same in all steps.

    Raises:
        ValueError: If ``probability`` is not in [0, 1], or ``share`` not in (0, 1].
    """

    def __init__(
        self,
        num_negatives: int = 64,
        *,
        probability: float = 0.1,
        share: float = 0.1,
        seed: int = 0,
    ) -> None:
        super().__init__(num_negatives)
        self.probability = check_share("probability", probability)
        self.share = check_positive_share("share", share)
        self.seed = seed
        self._shuffled: tuple[UserItems, Tensor] | None = None

    def sample(
        self, batch: Batch, train: UserItems, generator: Generator | None = None
    ) -> Negatives:
        """Negatives ``[B, N]``."""
        negatives = super().sample(batch, train, generator)
        clean, drop = negatives.items, negatives.drop
        assert isinstance(clean, Tensor) and isinstance(drop, Tensor)
        users = batch.users[:, None]  # [B, 1]
        marked = (train.counts[users].double() * self.share - 1e-9).ceil().long().clamp(min=1)
        chance, place = (
            torch.rand(clean.shape, generator=generator, device=clean.device) for _ in range(2)
        )
        place = torch.minimum((place * marked).long(), marked - 1)
        false = self._in_random_order(train)[train.ptr[users] + place]
        noisy = chance < self.probability
        return Negatives(torch.where(noisy, false, clean), drop & ~noisy)

    def _in_random_order(self, train: UserItems) -> Tensor:
        """The items of each user in a random order, the marked ones first, ``[num_pairs]``."""
        if self._shuffled is None or self._shuffled[0] is not train:
            generator = Generator().manual_seed(self.seed)
            key = torch.rand(train.num_pairs, generator=generator, dtype=torch.float64)
            order = (train.users + key.to(train.ptr.device)).argsort()
            self._shuffled = train, train.items[order]
        return self._shuffled[1]
