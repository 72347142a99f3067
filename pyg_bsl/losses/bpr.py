"""Bayesian personalised ranking."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from pyg_bsl.losses.base import Loss
from pyg_bsl.losses.context import Context
from pyg_bsl.ops import Scores, mean_map


class BPR(Loss):
    r"""Bayesian personalised ranking loss, on inner products.

    From `"BPR: Bayesian Personalized Ranking from Implicit Feedback"
    <https://arxiv.org/abs/1205.2618>`_.

    .. math::
        \ell_{ui} = -\frac{1}{N} \sum_{j=1}^N \log \sigma(s_{ui} - s_{uj})

    Shapes:
        - **input:** positive scores :math:`(B)`, negative scores :math:`(B, N)`
        - **output:** scalar

    Example:
        >>> import torch
        >>> round(BPR()(torch.zeros(1), torch.zeros(1, 4)).item(), 4)
        0.6931
    """

    similarity = "dot"

    @property
    def per_user(self) -> bool:
        """No: every pair of a positive and a negative is a term of its own."""
        return False

    def rows(self, pos: Tensor, neg: Scores, context: Context) -> Tensor:
        """Loss of each row."""
        return mean_map(neg, lambda s, p: F.softplus(s - p), pos)
