"""Lower-left partial AUC."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pyg_bsl.checks import check_positive_share
from pyg_bsl.losses.base import Loss
from pyg_bsl.losses.context import Context
from pyg_bsl.ops import Scores, mean_map, reverse_gradient
from pyg_bsl.space import Choice, Space

SHARPNESS = 5.0


class LLPAUC(Loss):
    r"""Surrogate of the lower-left partial area under the ROC curve, on inner products.

    From `"Lower-Left Partial AUC: An Effective and Efficient Optimization Metric for
    Recommendation" <https://arxiv.org/abs/2403.00844>`_.

    .. math::
        \ell_{ui} = -s^+ - \frac{1}{\alpha} r\big({-\ell_+(x_{ui})} - s^+\big)
        + s^- + \frac{1}{\beta} \frac{1}{N} \sum_{j=1}^N r\big(\ell_-(x_{uj}) - s^-\big) - \gamma^2

    with :math:`x = \sigma(s)`, :math:`\ell_+(x) = (x - a)^2 - 2 (1 + \gamma) x`,
    :math:`\ell_-(x) = (x - b)^2 + 2 (1 + \gamma) x` and :math:`r(x) = \log(1 + e^{5 x}) / 5`.

    The loss is **lowered** over the model, :math:`a, b \in [0, 1]` and :math:`s^- \in [0, 5]`, and
    **raised** over :math:`\gamma \in [\max(-a, b - 1), 1]` and :math:`s^+ \in [-1, 4]`, by gradient
    reversal, as the paper has it. A widely used re-implementation lowers it over all of them:
    ``ascent=False``. That is another loss, and on MovieLens small the better one (MF, exact over
    the catalogue, 40 epochs, one seed, epoch chosen on validation; test NDCG@20 with and without
    ascent: 0.246 and 0.258 at :math:`\beta = 0.1`, 0.160 and 0.209 at 0.01).

    Starts and ranges are the authors'; the range of :math:`\gamma`, for which their code adds
    penalties, is kept by projection.

    Args:
        alpha: Share :math:`\alpha` of the positives (true positive rate) that counts.
        beta: Share :math:`\beta` of the negatives (false positive rate) that counts.
        ascent: Whether the loss is raised over :math:`\gamma` and :math:`s^+`.

    Shapes:
        - **input:** positive scores :math:`(B)`, negative scores :math:`(B, N)`
        - **output:** scalar

    Raises:
        ValueError: If a share is not in (0, 1].

    Example:
        >>> round(LLPAUC(alpha=1.0, beta=1.0)(torch.zeros(1), torch.zeros(1, 4)).item(), 4)
        0.4543
    """

    similarity = "dot"
    search_space: ClassVar[Mapping[str, Space]] = {
        "alpha": Choice((0.1, 0.3, 0.5, 0.7, 0.9)),
        "beta": Choice((0.001, 0.01, 0.1)),
    }

    def __init__(self, alpha: float = 0.7, beta: float = 0.01, *, ascent: bool = True) -> None:
        super().__init__()
        self.alpha = check_positive_share("alpha", alpha)
        self.beta = check_positive_share("beta", beta)
        self.ascent = ascent
        self.a, self.b, self.s_pos, self.s_neg, self.gamma = (
            nn.Parameter(torch.tensor(start)) for start in (1.0, 0.0, 0.5, 0.5, 0.0)
        )

    def parameter_groups(self, lr: float) -> list[dict[str, Any]]:
        """The authors' learning rates: twice that of the model for s and gamma."""
        return [
            {"params": [self.a, self.b], "lr": lr},
            {"params": [self.s_pos, self.s_neg, self.gamma], "lr": 2 * lr},
        ]

    @torch.no_grad()
    def after_step(self) -> None:
        """Put everything back into its range."""
        self.a.clamp_(0, 1)
        self.b.clamp_(0, 1)
        self.s_pos.clamp_(-1, 4)
        self.s_neg.clamp_(0, 5)
        self.gamma.copy_(torch.maximum(self.gamma.clamp(max=1), torch.maximum(-self.a, self.b - 1)))

    def rows(self, pos: Tensor, neg: Scores, context: Context) -> Tensor:
        """Loss of each row."""
        s_pos: Tensor = self.s_pos
        gamma: Tensor = self.gamma
        if self.ascent:
            s_pos, gamma = reverse_gradient(s_pos), reverse_gradient(gamma)
        x = torch.sigmoid(pos)
        gain = _softplus(2 * (1 + gamma) * x - (x - self.a) ** 2 - s_pos)
        shared = (self.b, gamma, self.s_neg)
        cost = mean_map(neg, _cost, *(t.expand(pos.size(0)) for t in shared), per_query=True)
        push = torch.where(neg.mass() > 0, self.s_neg + cost / self.beta, 0)
        return -s_pos - gain / self.alpha + push - gamma**2


def _cost(s: Tensor, b: Tensor, gamma: Tensor, s_neg: Tensor) -> Tensor:
    x = torch.sigmoid(s)
    return _softplus((x - b) ** 2 + 2 * (1 + gamma) * x - s_neg)


def _softplus(x: Tensor) -> Tensor:
    return -F.logsigmoid(-SHARPNESS * x) / SHARPNESS  # exact, where F.softplus has a cut
