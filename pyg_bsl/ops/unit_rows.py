"""Rows brought to length 1."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from pyg_bsl.ops.tiles import tile_size

SHORTEST = 1e-12
"""Rows shorter than this are divided by it, as in :func:`torch.nn.functional.normalize`."""


def unit_rows(x: Tensor) -> Tensor:
    r"""Rows :math:`\mathbf{x} / \lVert \mathbf{x} \rVert`, ``[N, D]``.

    That is :func:`torch.nn.functional.normalize`, with a gradient that makes no temporary as large
    as ``x``, and can be taken once.

    Example:
        >>> unit_rows(torch.tensor([[3.0, 4.0]]))
        tensor([[0.6000, 0.8000]])
    """
    unit: Tensor = _UnitRows.apply(x)
    return unit


class _UnitRows(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        length = torch.linalg.vector_norm(x, dim=1, keepdim=True)
        unit = x / length.clamp_min(SHORTEST)
        ctx.save_for_backward(unit, length)
        return unit

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grad_outputs: Tensor) -> Tensor:
        # With u = x / |x|: du = (dx - u (u . dx)) / |x|, a few rows at a time.
        grad, (unit, length) = grad_outputs[0], ctx.saved_tensors
        out = torch.empty_like(unit)
        most = max(1, tile_size(unit.device) // max(1, unit.size(1)))
        for dx, g, u, size in zip(*(x.split(most) for x in (out, grad, unit, length)), strict=True):
            along = torch.mul(u, g, out=dx).sum(1, keepdim=True).masked_fill_(size < SHORTEST, 0)
            torch.addcmul(g, u, along, value=-1, out=dx).div_(size.clamp_min(SHORTEST))
        return out
