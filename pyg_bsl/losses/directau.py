"""Direct alignment and uniformity."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import torch.nn.functional as F
from torch import Tensor

from pyg_bsl.checks import check_number
from pyg_bsl.losses.base import Loss
from pyg_bsl.losses.context import Context
from pyg_bsl.ops import Scores
from pyg_bsl.ops.uniformity import uniformity
from pyg_bsl.space import LogUniform, Space


class DirectAU(Loss):
    r"""Direct alignment of positive pairs and uniformity of users and of items.

    From `"Towards Representation Alignment and Uniformity in Collaborative Filtering"
    <https://arxiv.org/abs/2206.12811>`_.

    .. math::
        \ell_{ui} = \lVert \mathbf{u} - \mathbf{i} \rVert^2
        + \frac{\gamma}{2} \Big( \log \operatorname{mean} e^{-2 \lVert \mathbf{u} - \mathbf{u}'
        \rVert^2} + \log \operatorname{mean} e^{-2 \lVert \mathbf{i} - \mathbf{i}' \rVert^2} \Big)

    for unit vectors :math:`\mathbf{u}, \mathbf{i}`; the means are over all pairs of two different
    rows of the batch, and every row carries them. There are no negatives: the loss takes the
    vectors of the batch (``user_vectors``, ``item_vectors``, of any length) and leaves the scores
    alone. Its work grows with the square of the rows, so batches of pairs suit it, as a trainer
    takes them by default.

    It wants smaller steps than a trainer takes on cosines by default: ``lr=0.01``.

    Args:
        gamma: Weight :math:`\gamma` of uniformity; the paper tunes it for each data set. The
            default is from validation of MovieLens small alone (MF, lr 0.01, 8 epochs, one seed:
            NDCG@20 0.090; 0.045 at 1).

    Shapes:
        - **input:** positive scores :math:`(B)`, negative scores :math:`(B, N)` or none, vectors
          of users and of items :math:`(B, D)`
        - **output:** scalar

    Raises:
        ValueError: If the weight is negative.

    Example:
        >>> import torch
        >>> u, i = torch.eye(2), torch.eye(2)
        >>> DirectAU(gamma=1.0)(torch.ones(2), None, user_vectors=u, item_vectors=i).item()
        -4.0
    """

    search_space: ClassVar[Mapping[str, Space]] = {"gamma": LogUniform(0.1, 10.0)}
    needs = ("user_vectors", "item_vectors")
    uses_negatives = False

    def __init__(self, gamma: float = 0.3) -> None:
        super().__init__()
        self.gamma = check_number("gamma", gamma, least=0)

    @property
    def per_user(self) -> bool:
        """No: every pair of two rows is a term of its own."""
        return False

    def rows(self, pos: Tensor, neg: Scores, context: Context) -> Tensor:
        """Loss of each row."""
        assert context.user_vectors is not None and context.item_vectors is not None
        user, item = (
            F.normalize(x.to(pos.dtype), dim=1)
            for x in (context.user_vectors, context.item_vectors)
        )
        alignment = (user - item).square().sum(1)
        return alignment + self.gamma / 2 * (uniformity(user) + uniformity(item))
