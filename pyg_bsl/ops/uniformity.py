"""Uniformity of unit vectors over all pairs of them."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from pyg_bsl.ops.tiles import tile_size


def uniformity(x: Tensor) -> Tensor:
    r"""Log of the mean over pairs of two different rows of :math:`e^{-2 \|x - x'\|^2}`.

    A pair counts in both its rows, so each is looked at once, in tiles that stay in cache, and the
    gradient is made in the same pass: a weight that all pairs share can be put on afterwards.

    Args:
        x: Rows of length 1, ``[N, D]``.

    Shapes:
        - **output:** scalar; 0 where there is only one row.

    Example:
        >>> uniformity(torch.eye(2)).item()
        -4.0
    """
    if x.size(0) < 2:
        return x.new_zeros(())
    out: Tensor = _Uniformity.apply(x)
    return out


class _Uniformity(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        num_rows = x.size(0)
        height = max(1, tile_size(x.device) // num_rows)
        total, slope = x.new_zeros((), dtype=torch.double), torch.zeros_like(x)
        for start in range(0, num_rows, height):
            # Pairs of these rows with themselves and with all rows behind them.
            part, rest = x[start : start + height], x[start:]
            count = part.size(0)
            tile = (part @ rest.t()).sub_(1).mul_(4).exp_()  # for unit vectors: 4 cos - 4
            tile.diagonal().zero_()
            behind = tile[:, count:]
            total += tile[:, :count].sum() + 2 * behind.sum()
            slope[start : start + count].addmm_(tile, rest)
            slope[start + count :].addmm_(behind.t(), part)
        ctx.save_for_backward(slope, total)
        return (total.log() - math.log(num_rows * (num_rows - 1))).to(x.dtype)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grad_outputs: Tensor) -> Tensor:
        slope, total = ctx.saved_tensors
        weight = 8 * grad_outputs[0] / total
        return slope * weight.to(slope.dtype)
