"""Softmax loss."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import torch
from torch import Tensor

from pyg_bsl.checks import check_positive
from pyg_bsl.losses.base import Loss
from pyg_bsl.losses.context import Context
from pyg_bsl.ops import Scores, log_mean_exp
from pyg_bsl.space import LogUniform, Space


class SL(Loss):
    r"""Softmax loss.

    As studied in `"On the Effectiveness of Sampled Softmax Loss for Item Recommendation"
    <https://arxiv.org/abs/2201.02327>`_.

    .. math::
        \ell_{ui} = \log \frac{1}{N} \sum_{j=1}^N e^{s_{uj} / \tau} - \frac{s_{ui}}{\tau}

    The mean over negatives instead of their sum shifts the value by :math:`\log N` and leaves
    the gradient as it is. With ``include_positive`` the positive is one of the :math:`N + 1`
    terms that are averaged, as in InfoNCE.

    Negatives that follow popularity are corrected by their log weights (``log_weight``, or
    ``InBatch(correct_popularity=True)``): the log of an item's popularity is taken off its logit.

    Args:
        tau: Temperature :math:`\tau` on the full cosine in [-1, 1]; the PSL paper's tables give
            it on half the cosine, which is half this value.
        include_positive: Whether the positive stands in the denominator too.

    Shapes:
        - **input:** positive scores :math:`(B)`, negative scores :math:`(B, N)`
        - **output:** scalar

    Raises:
        ValueError: If the temperature is not positive.

    Example:
        >>> import torch
        >>> SL(tau=0.5)(torch.tensor([1.0]), torch.zeros(1, 4)).item()
        -2.0
    """

    search_space: ClassVar[Mapping[str, Space]] = {"tau": LogUniform(0.02, 1.0)}

    def __init__(self, tau: float = 0.1, *, include_positive: bool = False) -> None:
        super().__init__()
        self.tau = check_positive("tau", tau)
        self.include_positive = include_positive

    def rows(self, pos: Tensor, neg: Scores, context: Context) -> Tensor:
        """Loss of each row."""
        logit = pos / self.tau
        log_mean = log_mean_exp(neg, self.tau, alike=not self.include_positive)
        if self.include_positive:
            return info_nce(logit, log_mean, neg.mass())
        return log_mean - logit

    def extra_repr(self) -> str:
        """Arguments in the printed form."""
        more = ", include_positive=True" if self.include_positive else ""
        return f"tau={self.tau:g}{more}"


def info_nce(logit: Tensor, log_mean: Tensor, mass: Tensor) -> Tensor:
    """Softmax loss with the positive as one more term that is averaged.

    Args:
        logit: Positive logits, ``[B]``.
        log_mean: Log-mean-exp of the negative logits, ``[B]``.
        mass: Total weight of the negatives, ``[B]``.
    """
    # log(sum_j w_j e^{s_j / tau} + e^{s_i / tau}) - log(sum_j w_j + 1)
    return torch.logaddexp(log_mean + mass.log(), logit) - mass.log1p() - logit
