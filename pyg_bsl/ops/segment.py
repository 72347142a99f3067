"""Reductions over groups of rows."""

from __future__ import annotations

import torch
from torch import Tensor


def segment_log_mean_exp(x: Tensor, group: Tensor) -> Tensor:
    r"""Log-mean-exp of the values of each group, given back to each of its rows.

    .. math::
        y_b = \log \frac{1}{|G_b|} \sum_{b' \in G_b} e^{x_{b'}}, \quad
        G_b = \{b' : g_{b'} = g_b\}

    Args:
        x: Values, ``[B]``.
        group: Group of each row, ``[B]``, any whole numbers.

    Shapes:
        - **output:** ``[B]``

    Example:
        >>> segment_log_mean_exp(torch.zeros(3), torch.tensor([7, 7, 2]))
        tensor([0., 0., 0.])
    """
    # Groups are found by sorting: no size that depends on the data, so nothing reads back.
    order = group.argsort(stable=True)
    new = torch.ones_like(group, dtype=torch.bool)
    new[1:] = group[order[1:]] != group[order[:-1]]
    index = torch.empty_like(order).scatter_(0, order, new.cumsum(0) - 1)
    empty = x.new_zeros(x.numel())
    top = empty.scatter_reduce(0, index, x.detach(), "amax", include_self=False)[index]
    total = empty.scatter_add(0, index, (x - top).exp())
    count = empty.scatter_add(0, index, torch.ones_like(x))
    # index_select: on several threads the gradient of total[index] differs from run to run.
    return (total.index_select(0, index) / count[index]).log() + top
