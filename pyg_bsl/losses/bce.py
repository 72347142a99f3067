"""Binary cross-entropy."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import torch.nn.functional as F
from torch import Tensor

from pyg_bsl.checks import check_number
from pyg_bsl.losses.base import Loss
from pyg_bsl.losses.context import Context
from pyg_bsl.ops import Scores, mean_map
from pyg_bsl.space import LogUniform, Space


class BCE(Loss):
    r"""Binary cross-entropy of positives against negatives, on inner products.

    .. math::
        \ell_{ui} = -\log \sigma(s_{ui}) - w \, \frac{1}{N} \sum_{j=1}^N \log \sigma(-s_{uj})

    The pointwise loss of `"Neural Collaborative Filtering" <https://arxiv.org/abs/1708.05031>`_.

    Args:
        weight: Weight :math:`w` of the negatives.

    Shapes:
        - **input:** positive scores :math:`(B)`, negative scores :math:`(B, N)`
        - **output:** scalar

    Raises:
        ValueError: If the weight is negative.

    Example:
        >>> import torch
        >>> round(BCE()(torch.zeros(1), torch.zeros(1, 4)).item(), 4)
        1.3863
    """

    similarity = "dot"
    search_space: ClassVar[Mapping[str, Space]] = {"weight": LogUniform(0.1, 1000.0)}

    def __init__(self, weight: float = 1.0) -> None:
        super().__init__()
        self.weight = check_number("weight", weight, least=0)

    def rows(self, pos: Tensor, neg: Scores, context: Context) -> Tensor:
        """Loss of each row."""
        return F.softplus(-pos) + self.weight * mean_map(neg, F.softplus)
