"""A start from the spectrum of the interactions."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from pyg_bsl.types import UserItems

OVERSAMPLING = 8
"""Singular vectors looked for beyond those that are asked for, which makes these accurate."""


def svd_vectors(train: UserItems, dim: int) -> tuple[Tensor, Tensor]:
    r"""Vectors of users and items from a randomised singular value decomposition.

    .. math::
        \mathbf{D}_U^{-1/2} \mathbf{R} \, \mathbf{D}_I^{-1/2} \approx
        \mathbf{U} \boldsymbol{\Sigma} \mathbf{V}^{\top}, \qquad
        \mathbf{p}_u \propto (\mathbf{U} \boldsymbol{\Sigma}^{1/2})_u, \quad
        \mathbf{q}_i \propto (\mathbf{V} \boldsymbol{\Sigma}^{1/2})_i

    with the 0-1 matrix :math:`\mathbf{R}` of the interactions and its degrees
    :math:`\mathbf{D}`; the largest ``dim`` singular values are kept and the rows are scaled to
    length 1. The decomposition is that of `"Finding Structure with Randomness"
    <https://arxiv.org/abs/0909.4061>`_, drawn from PyTorch's random numbers.

    Args:
        train: The interactions.
        dim: Size :math:`D` of the vectors. Components beyond the rank are 0.

    Shapes:
        - **output:** users :math:`(U, D)` and items :math:`(I, D)`; rows of users and items
          without interactions are 0

    Example:
        >>> one_block = UserItems.from_pairs(torch.tensor([0, 1]), torch.tensor([0, 0]), 2, 2)
        >>> user, item = svd_vectors(one_block, dim=1)
        >>> (user @ item.T).abs()  # the second item was met by nobody
        tensor([[1., 0.],
                [1., 0.]])
    """
    users, items, size = train.users, train.items, (train.num_users, train.num_items)
    per_user, per_item = train.counts, items.bincount(minlength=train.num_items)
    value = (per_user[users] * per_item[items]).float().rsqrt()
    matrix = torch.sparse_coo_tensor(
        torch.stack([users, items]), value, size, check_invariants=False, is_coalesced=True
    )
    most = min(dim + OVERSAMPLING, *size)
    u, s, v = torch.svd_lowrank(matrix, q=most, niter=2)
    kept = min(dim, most)
    root = s[:kept].sqrt()

    def rows(vectors: Tensor, degree: Tensor) -> Tensor:
        scaled = F.normalize(vectors[:, :kept] * root, dim=1).masked_fill((degree == 0)[:, None], 0)
        return F.pad(scaled, (0, dim - kept))

    return rows(u, per_user), rows(v, per_item)
