"""Top-K loss with learned thresholds."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pyg_bsl.checks import check_count, check_positive
from pyg_bsl.losses.base import Loss
from pyg_bsl.losses.context import Context
from pyg_bsl.ops import Scores, detached, log_mean_exp_map, mean_map
from pyg_bsl.space import LogUniform, Space
from pyg_bsl.types import UserItems


class Talos(Loss):
    r"""Top-K loss on scores above learned thresholds, Talos.

    From `"Talos: Optimizing Top-K Accuracy in Recommender Systems"
    <https://arxiv.org/abs/2601.19276>`_.

    .. math::
        \ell_{ui} = \log \frac{1}{N} \sum_{j=1}^N \sigma(s_{uj} - \beta_u)^{1 / \tau}
        - \frac{1}{\tau} \log \sigma(s_{ui} - \beta_u) + q_{ui}

    The threshold :math:`\beta_u` of a user's K best scores is a constant in the first two terms. It
    is learned beside the model, on constant scores, by the pinball loss at level
    :math:`1 - \kappa`, :math:`\kappa = K / |I|`:

    .. math::
        q_{ui} = \frac{|P_u|}{|I|} \rho(s_{ui} - \beta_u)
        + \Big(1 - \frac{|P_u|}{|I|}\Big) \frac{1}{N} \sum_{j=1}^N \rho(s_{uj} - \beta_u), \quad
        \rho(x) = \max\big((1 - \kappa) x, -\kappa x\big)

    The mean of :math:`q_{ui}` over a user's positives is the paper's objective: all positives of
    the user and the negatives, weighted up to the catalogue.

    Args:
        tau: Temperature :math:`\tau`.
        k: List length :math:`K` that is optimised for.
        threshold_lr: Learning rate of the thresholds. The paper's 0.001 is for thousands of small
            steps; in the hundreds of a training here thresholds that start at 0 would not get to
            where they belong.

    Shapes:
        - **input:** positive scores :math:`(B)`, negative scores :math:`(B, N)`, users :math:`(B)`
        - **output:** scalar

    Raises:
        ValueError: If a number is not positive.

    Example:
        >>> loss, zero = Talos(k=1), torch.zeros(1, dtype=torch.long)
        >>> loss.setup(UserItems.from_pairs(zero, zero, 1, 4))
        >>> loss(torch.zeros(1), torch.zeros(1, 4), users=zero).item()
        0.0
    """

    search_space: ClassVar[Mapping[str, Space]] = {
        "tau": LogUniform(0.02, 0.5),
        "threshold_lr": LogUniform(0.005, 0.1),
    }
    needs = ("users",)

    threshold: nn.Parameter | None
    share: Tensor | None
    level: Tensor | None

    def __init__(self, tau: float = 0.1, *, k: int = 20, threshold_lr: float = 0.02) -> None:
        super().__init__()
        self.tau = check_positive("tau", tau)
        self.k = check_count("k", k)
        self.threshold_lr = check_positive("threshold_lr", threshold_lr)
        self.register_parameter("threshold", None)
        self.register_buffer("share", None)
        self.register_buffer("level", None)

    def setup(self, train: UserItems) -> None:
        """A threshold of 0 for each user, and what the catalogue is beside its positives and K."""
        self.share = train.counts / train.num_items
        self.level = torch.full_like(self.share[:1], self.k / train.num_items).clamp_(max=1)
        if self.threshold is None or self.threshold.numel() != train.num_users:
            self.threshold = nn.Parameter(torch.zeros_like(self.share))

    def parameter_groups(self, lr: float) -> list[dict[str, Any]]:
        """The thresholds at their own learning rate."""
        return [{"params": list(self.parameters()), "lr": self.threshold_lr}]

    def rows(self, pos: Tensor, neg: Scores, context: Context) -> Tensor:
        """Loss of each row."""
        assert self.threshold is not None and self.share is not None and self.level is not None
        assert context.users is not None
        learned = self.threshold.index_select(0, context.users)
        fixed, tau, level = learned.detach(), self.tau, self.level

        def log_power(s: Tensor, t: Tensor) -> Tensor:
            return F.logsigmoid(s - t) / tau

        def pinball(s: Tensor, t: Tensor) -> Tensor:
            return torch.maximum((1 - level) * (s - t), level * (t - s))

        push = log_mean_exp_map(neg, log_power, fixed, per_query=True)
        share = self.share[context.users]
        below = mean_map(detached(neg), pinball, learned, per_query=True, alike=False)
        quantile = share * pinball(pos.detach(), learned) + (1 - share) * below
        return push - log_power(pos, fixed) + quantile
