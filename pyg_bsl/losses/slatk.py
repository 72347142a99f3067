"""Softmax loss at K."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import ClassVar

import torch
from torch import Tensor

from pyg_bsl.checks import check_count, check_positive
from pyg_bsl.losses.base import Loss
from pyg_bsl.losses.context import Context
from pyg_bsl.ops import Scores, log_mean_exp
from pyg_bsl.ops.topk import masked_topk
from pyg_bsl.space import LogUniform, Space, Uniform
from pyg_bsl.types import Embeddings, UserItems


class SLatK(Loss):
    r"""Softmax loss at K, SL@K.

    From `"Breaking the Top-K Barrier: Advancing Top-K Ranking Metrics Optimization in Recommender
    Systems" <https://arxiv.org/abs/2508.05673>`_.

    .. math::
        \ell_{ui} = \sigma\!\left(\frac{s_{ui} - \beta_u}{\tau_w}\right)
        \left[\log \frac{M}{N} \sum_{j=1}^N e^{s_{uj} / \tau} - \frac{s_{ui}}{\tau}\right]

    with the user's threshold :math:`\beta_u`, its :math:`K`-th largest score, a constant between
    refreshes. The gradient flows through the sigmoid too, so that the size of the sum matters: the
    paper sums over :math:`M = 1000` sampled negatives. Here the mean over any number of negatives
    stands for that sum (over the whole catalogue, this subtracts :math:`\log(|I| / M)`).

    The thresholds are exact over the catalogue, training items among them; the released code
    estimates them from the positives and the sampled negatives. Standalone, call
    ``loss.setup(train)``, and ``loss.refresh(embeddings)`` whenever the model has moved on.

    Args:
        tau: Temperature :math:`\tau` of the softmax.
        tau_weight: Temperature :math:`\tau_w` of the weight; the paper's best are 0.5 to 2.5. The
            lower it is, the more of a positive's pull its weight's own gradient takes off: on
            Yelp2018 LightGCN was best at 1.2 and MF at 1.5; at 1, MF ended with the popular items.
        k: List length :math:`K` that is optimised for.
        every: Epochs between refreshes of the thresholds; the paper's are 5 or 20.
        num_negatives: Number :math:`M` of negatives that the sum stands for.

    Shapes:
        - **input:** positive scores :math:`(B)`, negative scores :math:`(B, N)`, users :math:`(B)`
        - **output:** scalar

    Raises:
        ValueError: If a temperature is not positive, or a number below 1.

    Example:
        >>> loss = SLatK(k=1, num_negatives=1)
        >>> loss.setup(UserItems.from_pairs(torch.tensor([0]), torch.tensor([0]), 1, 2))
        >>> loss(torch.tensor([0.1]), torch.zeros(1, 4), users=torch.tensor([0])).item() < -0.5
        True
    """

    search_space: ClassVar[Mapping[str, Space]] = {
        "tau": LogUniform(0.02, 1.0),
        "tau_weight": Uniform(0.5, 3.0),
    }
    needs = ("users",)

    threshold: Tensor | None

    def __init__(
        self,
        tau: float = 0.1,
        tau_weight: float = 2.25,
        *,
        k: int = 20,
        every: int = 5,
        num_negatives: int = 1000,
    ) -> None:
        super().__init__()
        self.tau = check_positive("tau", tau)
        self.tau_weight = check_positive("tau_weight", tau_weight)
        self.k = check_count("k", k)
        self.every = check_count("every", every)
        self.num_negatives = check_count("num_negatives", num_negatives)
        self.register_buffer("threshold", None)

    def setup(self, train: UserItems) -> None:
        """A threshold of 0 for each user."""
        if self.threshold is None or self.threshold.numel() != train.num_users:
            self.threshold = torch.zeros(train.num_users, device=train.ptr.device)

    def on_epoch_start(
        self, epoch: int, train: UserItems, embeddings: Callable[[], Embeddings]
    ) -> None:
        """Refresh the thresholds, at the first epoch and every so often after it."""
        if (epoch - 1) % self.every == 0:
            self.refresh(embeddings())

    @torch.no_grad()
    def refresh(self, emb: Embeddings) -> None:
        """Set each user's threshold to its K-th largest score.

        Args:
            emb: Vectors of all users and items whose inner products are the scores.
        """
        assert self.threshold is not None
        k = min(self.k, emb.item.size(0))
        self.threshold.copy_(masked_topk(emb.user, emb.item, k)[0][:, -1])

    def rows(self, pos: Tensor, neg: Scores, context: Context) -> Tensor:
        """Loss of each row."""
        assert self.threshold is not None
        assert context.users is not None
        weight = torch.sigmoid((pos - self.threshold[context.users]) / self.tau_weight)
        log_sum = log_mean_exp(neg, self.tau, alike=False) + math.log(self.num_negatives)
        log_sum = torch.where(neg.mass() > 0, log_sum, 0)
        return weight * (log_sum - pos / self.tau)
