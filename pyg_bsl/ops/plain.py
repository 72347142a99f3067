"""Streamed reductions in plain PyTorch, a few rows at a time."""

from __future__ import annotations

from bisect import bisect_left, bisect_right

import torch
from torch import Tensor

from pyg_bsl.ops.reduction import Reduce, Reduction
from pyg_bsl.ops.tiles import RowBlock, tile_size

TENSORS = 4
"""A kernel and its derivative have several tensors in use at once. On the CPU this many of them
fill a tile: fewer rows at a time would cost more in calls than they gain from the cache."""


def plain(task: Reduction) -> Reduce:
    """The reduction by the kernel itself and its backward pass. It runs on every device."""
    num_keys, device = task.scores.key.size(0), task.arg.device
    most = max(1, tile_size(device) // num_keys // (TENSORS if device.type == "cpu" else 1))
    drops = task.scores.drop is not None or task.weight is not None

    def reduce(block: RowBlock, tile: Tensor, grad: Tensor) -> None:
        dropped = None
        if drops:
            dropped = tile == -torch.inf
            if task.weight is not None:
                dropped |= task.weight == 0
            tile.masked_fill_(dropped, 0)
        for b0 in range(block.b0, block.b1, most):
            b1 = min(b0 + most, block.b1)
            q0 = bisect_right(task.bounds, b0) - 1 - block.q0
            q1 = bisect_left(task.bounds, b1) - block.q0
            _few_rows(
                task,
                slice(b0, b1),
                tile[q0:q1],
                None if dropped is None else dropped[q0:q1],
                grad[q0:q1],
                task.query[b0:b1] - (block.q0 + q0),
            )

    return reduce


def _few_rows(
    task: Reduction, b: slice, tile: Tensor, dropped: Tensor | None, grad: Tensor, local: Tensor
) -> None:
    one_each = task.scores.rows is None
    if not one_each:
        tile = tile.index_select(0, local)
        dropped = None if dropped is None else dropped.index_select(0, local)
    inputs = [x.detach().requires_grad_() for x in (tile, *task.arg[b, :, None].unbind(1))]
    with torch.enable_grad():
        x = task.kernel(*inputs).expand_as(tile)
    measure = _log_mean if task.log else _mean
    scale = None if task.scale is None else task.scale[b, None]
    task.out[b], slope = measure(x.detach(), dropped, task.weight, scale)
    if slope is None or not x.requires_grad:
        return
    grads = torch.autograd.grad(x, inputs, slope.expand_as(x), allow_unused=True)
    if grads[0] is not None and one_each:
        grad.copy_(grads[0])
    elif grads[0] is not None:
        # Rows of a query are summed by a small product: much faster than by index.
        queries = torch.arange(len(grad), device=local.device)
        grad.addmm_((queries[:, None] == local).to(grad.dtype), grads[0])
    for n, g in enumerate(grads[1:]):
        if g is not None:
            task.grad_arg[b, n] = g[:, 0]


def _mean(
    x: Tensor, dropped: Tensor | None, weight: Tensor | None, scale: Tensor | None
) -> tuple[Tensor, Tensor | None]:
    """Sum of each row, ``[b]``, and its derivatives by ``x``, times ``scale``."""
    if dropped is not None:
        x = x.masked_fill(dropped, 0)
    total = x.sum(1) if weight is None else x @ weight
    slope = scale if scale is None or weight is None else scale * weight
    if slope is not None and dropped is not None:
        slope = slope.expand_as(x).masked_fill(dropped, 0)
    return total, slope


def _log_mean(
    x: Tensor, dropped: Tensor | None, weight: Tensor | None, scale: Tensor | None
) -> tuple[Tensor, Tensor | None]:
    """Log of the sum of exponentials of each row, ``[b]``, and its derivatives likewise."""
    if dropped is not None:
        x = x.masked_fill(dropped, -torch.inf)
    top = x.amax(1, keepdim=True)
    top = top.masked_fill(top == -torch.inf, 0)
    e = (x - top).exp_()
    if weight is not None:
        e *= weight
    total = e.sum(1, keepdim=True)
    total = total.masked_fill(total == 0, 1)
    return (total.log() + top)[:, 0], None if scale is None else e.mul_(scale / total)
