"""Mean squared error."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from torch import Tensor

from pyg_bsl.checks import check_number
from pyg_bsl.losses.base import Loss
from pyg_bsl.losses.context import Context
from pyg_bsl.ops import Scores, mean_map
from pyg_bsl.space import LogUniform, Space


class MSE(Loss):
    r"""Mean squared error: positives are drawn to 1, negatives to 0.

    .. math::
        \ell_{ui} = (1 - s_{ui})^2 + w \, \frac{1}{N} \sum_{j=1}^N s_{uj}^2

    The pointwise loss of `"Collaborative Filtering for Implicit Feedback Datasets"
    <https://doi.org/10.1109/ICDM.2008.22>`_ on cosine scores.

    Args:
        weight: Weight :math:`w` of the negatives.

    Shapes:
        - **input:** positive scores :math:`(B)`, negative scores :math:`(B, N)`
        - **output:** scalar

    Raises:
        ValueError: If the weight is negative.

    Example:
        >>> import torch
        >>> MSE(weight=2.0)(torch.tensor([0.5]), torch.tensor([[0.5, -0.5]])).item()
        0.75
    """

    search_space: ClassVar[Mapping[str, Space]] = {"weight": LogUniform(0.1, 1000.0)}

    def __init__(self, weight: float = 1.0) -> None:
        super().__init__()
        self.weight = check_number("weight", weight, least=0)

    def rows(self, pos: Tensor, neg: Scores, context: Context) -> Tensor:
        """Loss of each row."""
        return (1 - pos) ** 2 + self.weight * mean_map(neg, lambda s: s * s)
