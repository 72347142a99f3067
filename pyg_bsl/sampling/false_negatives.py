"""Negatives with false ones among them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import Generator, Tensor

from pyg_bsl.checks import check_positive_share, check_seed, check_share
from pyg_bsl.names import pick
from pyg_bsl.sampling.base import Sampler
from pyg_bsl.sampling.by_popularity import ByPopularity
from pyg_bsl.sampling.in_batch import InBatch
from pyg_bsl.sampling.mixed import Mixed
from pyg_bsl.sampling.shared import Shared
from pyg_bsl.sampling.uniform import Uniform
from pyg_bsl.types import Batch, Negatives, UserItems

WRAPPED: dict[str, type[Sampler]] = {
    sampler.__name__: sampler for sampler in (Uniform, Shared, ByPopularity, InBatch, Mixed)
}
"""Samplers whose negatives are a list of draws, by name."""


class FalseNegatives(Sampler):
    r"""Another sampler's negatives, of which some are positives of the user: noise on purpose.

    The noise of `"PSL: Rethinking and Improving Softmax Loss from Pairwise Perspective for
    Recommendation" <https://arxiv.org/abs/2411.00163>`_: a share of each user's training items is
    marked, and each draw is one of the marked items with probability ``probability`` and what the
    wrapped sampler drew otherwise (in the paper, a uniform unseen item). Where the paper leaves it
    open: the marked items stay positives, so that a row may have its own positive as a negative,
    and their number is rounded up, so that every user has one.

    Each row has negatives of its own then, also where those of the wrapped sampler are shared. In
    weighted negatives a false one weighs 1, the mean of weights that make draws uniform. The whole
    catalogue (:class:`~pyg_bsl.sampling.AllItems`) is no list of draws and cannot be wrapped: its
    items would need other weights for each user. Nor can :class:`~pyg_bsl.sampling.Hard`, which
    looks at scores after the draw, so that the false ones would be most of what it keeps.

    Args:
        sampler: The sampler to wrap, itself (``Shared(1000)``), by name, or as a table with its
            name and arguments: one of ``Uniform``, ``Shared``, ``ByPopularity``, ``InBatch`` and
            ``Mixed``.
        num_negatives: Items that a sampler given by name draws (1000 in the paper); :obj:`None`
            for its default.
        probability: Probability that a draw is a marked item (0.05 to 0.5 in the paper).
        share: Share of each user's training items that is marked.
        seed: Seed of the marks, which are the same in all steps.

    Raises:
        TypeError: If ``sampler`` is none.
        ValueError: If the sampler cannot be wrapped, ``probability`` is not in [0, 1], or ``share``
            not in (0, 1].
    """

    batch_by = "pair"

    def __init__(
        self,
        sampler: Sampler | str | Mapping[str, Any] = "Uniform",
        num_negatives: int | None = None,
        *,
        probability: float = 0.1,
        share: float = 0.1,
        seed: int = 0,
    ) -> None:
        self.sampler = sampler
        self.num_negatives = num_negatives
        self.probability = check_share("probability", probability)
        self.share = check_positive_share("share", share)
        self.seed = check_seed("seed", seed)
        self._wrapped = _made(sampler, num_negatives)
        self._shuffled: tuple[UserItems, Tensor] | None = None

    @property
    def needs_seen(self) -> bool:
        """Whether the wrapped sampler needs them."""
        return self._wrapped.needs_seen

    def sample(
        self, batch: Batch, train: UserItems, generator: Generator | None = None
    ) -> Negatives:
        """Negatives ``[B, N]``."""
        clean = _of_each_row(self._wrapped.sample(batch, train, generator), batch)
        assert clean.items is not None
        users = batch.users[:, None]  # [B, 1]
        marked = (train.counts[users].double() * self.share - 1e-9).ceil().long().clamp(min=1)
        chance, place = (
            torch.rand(clean.items.shape, generator=generator, device=users.device)
            for _ in range(2)
        )
        place = torch.minimum((place * marked).long(), marked - 1)
        false = self._in_random_order(train)[train.ptr[users] + place]
        noisy = chance < self.probability
        return Negatives(
            torch.where(noisy, false, clean.items),
            clean.drop & ~noisy if isinstance(clean.drop, Tensor) else None,
            None if clean.log_weight is None else clean.log_weight.masked_fill(noisy, 0),
        )

    def _in_random_order(self, train: UserItems) -> Tensor:
        """The items of each user in a random order, the marked ones first, ``[num_pairs]``."""
        if self._shuffled is None or self._shuffled[0] is not train:
            generator = Generator().manual_seed(self.seed)
            key = torch.rand(train.num_pairs, generator=generator, dtype=torch.float64)
            order = (train.users + key.to(train.ptr.device)).argsort()
            self._shuffled = train, train.items[order]
        return self._shuffled[1]


def _made(sampler: Sampler | str | Mapping[str, Any], num_negatives: int | None) -> Sampler:
    """The sampler to wrap, made if it is told by name."""
    given = {} if num_negatives is None else {"num_negatives": num_negatives}
    if isinstance(sampler, str):
        if given and sampler == "InBatch":
            raise ValueError(
                f"'num_negatives' does not go with 'InBatch', whose negatives are the batch's own "
                f"(got {num_negatives})"
            )
        return pick("sampler to wrap", sampler, WRAPPED)(**given)
    if given:
        raise ValueError(
            f"'num_negatives' goes with a sampler that is given by name (got {num_negatives}): "
            "hand it to the wrapped sampler"
        )
    if isinstance(sampler, Mapping):
        table = {"name": "Uniform", **sampler}
        return pick("sampler to wrap", table.pop("name"), WRAPPED)(**table)
    if not isinstance(sampler, Sampler):
        raise TypeError(
            f"'sampler' must be a Sampler object, made with its arguments, or a name (got "
            f"{sampler!r})"
        )
    if type(sampler).__name__ in ("AllItems", "Hard", "FalseNegatives"):
        pick("sampler to wrap", type(sampler).__name__, WRAPPED)
    return sampler


def _of_each_row(negatives: Negatives, batch: Batch) -> Negatives:
    """Shared negatives laid out for each row: items, drops and weights ``[B, N]``."""
    items, drop, log_weight = negatives.items, negatives.drop, negatives.log_weight
    if items is None or not (drop is None or isinstance(drop, Tensor)) or negatives.keep_hardest:
        raise ValueError(
            "FalseNegatives wraps samplers whose negatives are a list of draws (got the whole "
            "catalogue, ragged drops, or a pool): wrap another one"
        )
    if items.dim() == 2:
        return negatives
    shape = batch.items.numel(), items.numel()
    return replace(
        negatives,
        items=items.expand(shape),
        drop=None if drop is None else drop.index_select(0, batch.positives.row),
        log_weight=None if log_weight is None else log_weight.expand(shape),
    )
