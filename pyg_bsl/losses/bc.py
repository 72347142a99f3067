"""Bias-aware margins in the softmax loss."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pyg_bsl.checks import check_count, check_positive
from pyg_bsl.losses.base import Loss
from pyg_bsl.losses.context import Context
from pyg_bsl.losses.sl import info_nce
from pyg_bsl.ops import Scores, log_mean_exp, with_vectors
from pyg_bsl.space import LogUniform, Space, Uniform
from pyg_bsl.types import UserItems

LEAST_SINE = 1e-3
"""Floor of the sine of a positive's angle, where the slope of the angle has no bound."""


class BC(Loss):
    r"""Softmax loss with bias-aware margins, BC loss.

    From `"Incorporating Bias-aware Margins into Contrastive Loss for Collaborative Filtering"
    <https://arxiv.org/abs/2210.11054>`_.

    .. math::
        \ell_{ui} = (1 - \lambda) \, \mathrm{SL}^+\big(\cos(\theta_{ui} + M_{ui}), s_{uj};
        \tau\big) + \lambda \, \mathrm{SL}^+\big(c_{ui}, c_{uj}; \tau'\big), \quad
        s_{ui} = \cos \theta_{ui}

    where :math:`\mathrm{SL}^+` is SL with the positive in the denominator. The second term trains
    vectors :math:`\mathbf{p}` of users and items that know nothing but popularity (the same vector
    for all of the same number of interactions) on their cosines :math:`c`. A pair that popularity
    explains badly gets a wide margin,

    .. math::
        M_{ui} = \min\big(1 - \sigma(\mathbf{p}_u^\top \mathbf{p}_i), \, \pi - \theta_{ui}\big) .

    The paper leaves open how the vectors are met by the two terms. Here the margin is that of the
    authors' code with the paper's bound, and a constant in the first term: it follows popularity
    alone (their code lets the first term shrink it, and freezes it after a few epochs).

    Args:
        tau: Temperature :math:`\tau` of the first term.
        tau_popularity: Temperature :math:`\tau'` of the second term.
        weight: Weight :math:`\lambda` of the second term, below 1.
        popularity_dim: Size of the popularity vectors.

    Shapes:
        - **input:** positive scores :math:`(B)`, negative scores :math:`(B, N)`, users and items
          :math:`(B)`, negatives :math:`(N)` or :math:`(B, N)` or none for the whole catalogue
        - **output:** scalar

    Raises:
        ValueError: If a number is not positive, or the weight not below 1.

    Example:
        >>> loss, zero = BC(), torch.zeros(1, dtype=torch.long)
        >>> loss.setup(UserItems.from_pairs(zero, zero, 1, 4))
        >>> loss(torch.ones(1), torch.zeros(1, 4), users=zero, items=zero).shape
        torch.Size([])
    """

    search_space: ClassVar[Mapping[str, Space]] = {
        "tau": LogUniform(0.02, 1.0),
        "weight": Uniform(0.1, 0.9),
    }
    needs = ("users", "items", "negatives")

    user_level: Tensor | None
    item_level: Tensor | None
    user_popularity: nn.Parameter | None
    item_popularity: nn.Parameter | None

    def __init__(
        self,
        tau: float = 0.07,
        tau_popularity: float = 0.1,
        *,
        weight: float = 0.5,
        popularity_dim: int = 64,
    ) -> None:
        super().__init__()
        self.tau = check_positive("tau", tau)
        self.tau_popularity = check_positive("tau_popularity", tau_popularity)
        self.weight = check_positive("weight", weight)
        if self.weight >= 1:
            raise ValueError(f"'weight' must be below 1 (got {weight!r})")
        self.popularity_dim = check_count("popularity_dim", popularity_dim)
        for name in ("user_level", "item_level"):
            self.register_buffer(name, None)
        for name in ("user_popularity", "item_popularity"):
            self.register_parameter(name, None)

    def setup(self, train: UserItems) -> None:
        """Levels of popularity, the distinct numbers of interactions, and a vector of each."""
        for side, counts in (("user", train.counts), ("item", train.item_counts)):
            levels, level = counts.unique(return_inverse=True)
            setattr(self, f"{side}_level", level)
            vectors = getattr(self, f"{side}_popularity")
            if vectors is None or len(vectors) != len(levels):
                vectors = torch.empty(len(levels), self.popularity_dim, device=level.device)
                nn.init.xavier_normal_(vectors)
                setattr(self, f"{side}_popularity", nn.Parameter(vectors))

    def rows(self, pos: Tensor, neg: Scores, context: Context) -> Tensor:
        """Loss of each row."""
        assert self.user_level is not None and self.item_level is not None
        assert self.user_popularity is not None and self.item_popularity is not None
        assert context.users is not None and context.items is not None
        user = self.user_popularity.index_select(0, self.user_level[context.users])  # [B, E]
        item = self.item_popularity.index_select(0, self.item_level[context.items])
        margin = 1 - torch.sigmoid((user * item).sum(1)).detach()
        mass = neg.mass()
        wide = _widen(pos, margin) / self.tau
        main = info_nce(wide, log_mean_exp(neg, self.tau, alike=False), mass)

        user, item = F.normalize(user, dim=1), F.normalize(item, dim=1)
        table = F.normalize(self.item_popularity, dim=1)
        levels = context.of_negatives(self.item_level, neg)
        key = table.index_select(0, levels.flatten()).view(*levels.shape, -1)
        by_popularity = with_vectors(neg, user, key, bounded=True)
        tau = self.tau_popularity
        log_mean = log_mean_exp(by_popularity, tau, alike=False)
        own = info_nce((user * item).sum(1) / tau, log_mean, mass)
        return (1 - self.weight) * main + self.weight * own


def _widen(cosine: Tensor, margin: Tensor) -> Tensor:
    """Cosine of an angle made wider by a margin, at most to a straight one."""
    sine = (1 - cosine * cosine).clamp_min(LEAST_SINE**2).sqrt()
    wide = cosine * margin.cos() - sine * margin.sin()
    return torch.where(cosine <= -margin.cos(), -torch.ones_like(wide), wide)
