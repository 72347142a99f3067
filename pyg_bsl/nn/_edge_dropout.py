"""Graphs with a random part of the edges left out."""

from __future__ import annotations

import warnings

import torch
from torch import Tensor

from pyg_bsl.types import UserItems


def drop_edges(train: UserItems, share: float) -> Tensor:
    r"""Symmetrically normalised adjacency of what is left of the interactions.

    .. math::
        \tilde A_{ui} = \frac{m_{ui}}{\sqrt{d'_u d'_i}}, \qquad
        m_{ui} \sim \operatorname{Bernoulli}(1 - \rho)

    with the degrees :math:`d'` of what is left. An edge goes in both directions or in none. Edges
    that are left out stay in the matrix with the value 0, so that its size does not depend on the
    draw and nothing is read back.

    Args:
        train: The interactions.
        share: Share :math:`\rho` to leave out.

    Shapes:
        - **output:** users followed by items, :math:`(V, V)`, sparse CSR
    """
    users, items, device = train.users, train.items, train.ptr.device
    kept = (torch.rand(train.num_pairs, device=device) >= share).float()
    degree_user, degree_item = (
        torch.zeros(size, device=device).index_add_(0, ids, kept).clamp_(min=1)
        for size, ids in ((train.num_users, users), (train.num_items, items))
    )
    values = kept * (degree_user[users] * degree_item[items]).rsqrt()
    by_item = items.argsort(stable=True)
    size = train.num_users + train.num_items
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Sparse CSR tensor support is in beta")
        return torch.sparse_csr_tensor(
            torch.cat([train.ptr, train.num_pairs + train.item_counts.cumsum(0)]),
            torch.cat([items + train.num_users, users[by_item]]),
            torch.cat([values, values[by_item]]),
            (size, size),
            check_invariants=False,
        )
