"""Bilateral softmax loss."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from torch import Tensor

from pyg_bsl.checks import check_positive
from pyg_bsl.losses.base import Loss
from pyg_bsl.losses.context import Context
from pyg_bsl.ops import Scores, log_mean_exp, segment_log_mean_exp
from pyg_bsl.space import LogUniform, Space, Uniform


class BSL(Loss):
    r"""Bilateral softmax loss.

    From `"BSL: Understanding and Improving Softmax Loss for Recommendation"
    <https://arxiv.org/abs/2312.12882>`_.

    .. math::
        \ell_{ui} = w \log \frac{1}{N} \sum_{j=1}^N e^{s_{uj} / \tau_2}
        - \log \frac{1}{|P_u|} \sum_{i' \in P_u} e^{s_{ui'} / \tau_1}

    Here :math:`P_u` are the rows of the batch that belong to the same user, when ``users`` is
    handed to the loss; without it every row stands alone and :math:`P_u = \{i\}`.

    Without pooling and with the default weight, :math:`w = \tau_2 / \tau_1`, this is
    :math:`\tau_2 / \tau_1` times SL at :math:`\tau_2`. Adam does not see a factor, so it trains as
    SL does: what makes the difference then is another weight.

    Three published forms are this one class:

    - the paper's, divided by :math:`\tau_1`: the default :math:`w = \tau_2 / \tau_1`;
    - the authors' code, with one temperature :math:`t_1` and an exponent :math:`t_2`:
      :meth:`as_released`, pooled in its ``multi`` mode and not in ``reweight``;
    - the PSL authors' re-implementation: the paper's form, not pooled.

    Args:
        tau1: Temperature :math:`\tau_1` of the positives; where they are pooled, smaller trusts
            the best ones more.
        tau2: Temperature :math:`\tau_2` of the negatives.
        weight: Weight :math:`w` of the negatives; above 1 positives pull less than negatives
            push. :obj:`None` for :math:`\tau_2 / \tau_1`.

    Shapes:
        - **input:** positive scores :math:`(B)`, negative scores :math:`(B, N)`, users :math:`(B)`
        - **output:** scalar

    Raises:
        ValueError: If a temperature or the weight is not positive.

    Example:
        >>> import torch
        >>> BSL(tau1=0.2, tau2=0.1)(torch.zeros(4), torch.zeros(4, 8)).item()
        0.0
    """

    search_space: ClassVar[Mapping[str, Space]] = {
        "tau2": LogUniform(0.02, 1.0),
        "weight": Uniform(0.8, 1.6),
    }

    def __init__(
        self, tau1: float = 0.1, tau2: float = 0.1, *, weight: float | None = None
    ) -> None:
        super().__init__()
        self.tau1 = check_positive("tau1", tau1)
        self.tau2 = check_positive("tau2", tau2)
        self.weight = None if weight is None else check_positive("weight", weight)

    @classmethod
    def as_released(cls, t1: float, t2: float) -> BSL:
        r"""The form of the authors' code: one temperature, and the negatives' sum to a power.

        .. math::
            \ell_{ui} = -\log \frac{\sum_{i'} e^{s_{ui'} / t_1}}
            {\big(\sum_j e^{s_{uj} / t_1}\big)^{t_2}}

        up to a constant.

        Args:
            t1: Temperature :math:`t_1` of positives and negatives.
            t2: Exponent :math:`t_2` of the negatives' sum.

        Example:
            >>> BSL.as_released(0.2, 1.3)
            BSL(tau1=0.2, tau2=0.2, weight=1.3)
        """
        return cls(t1, t1, weight=t2)

    def rows(self, pos: Tensor, neg: Scores, context: Context) -> Tensor:
        """Loss of each row."""
        pull = pos / self.tau1
        if context.users is not None:
            pull = segment_log_mean_exp(pull, context.users)
        weight = self.tau2 / self.tau1 if self.weight is None else self.weight
        return weight * log_mean_exp(neg, self.tau2) - pull
