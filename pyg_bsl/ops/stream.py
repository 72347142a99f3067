"""Streamed reductions of any elementwise kernel, with gradients made anew tile by tile."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from pyg_bsl.ops.scores import LazyScores
from pyg_bsl.ops.tiles import RowBlock, TileScores, row_blocks, tile_size

KEYS_PER_TILE = 2048


def stream(
    scores: LazyScores, kernel: Callable[..., Tensor], args: tuple[Tensor, ...], log: bool
) -> Tensor:
    """Mean (or log-mean-exp) over the keys of ``kernel(score, *args)`` for every row, ``[B]``.

    Raises:
        ValueError: If the kernel closes over a tensor that needs a gradient.
    """
    if scores.query.dtype in (torch.float16, torch.bfloat16):
        scores = replace(scores, query=scores.query.float(), key=scores.key.float())
    args = tuple(arg.to(scores.query.dtype) for arg in args)
    return _Stream.apply(kernel, log, scores, scores.query, scores.key, scores.log_weight, *args)


class _Stream(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        kernel: Callable[..., Tensor],
        log: bool,
        scores: LazyScores,
        query: Tensor,
        key: Tensor,
        log_weight: Tensor | None,
        *args: Tensor,
    ) -> Tensor:
        scores = replace(scores, query=query, key=key, log_weight=log_weight)
        out = query.new_empty(scores.num_rows)
        total = query.new_empty(scores.num_rows)
        for block, columns in _blocks(scores):
            part = slice(block.b0, block.b1)
            count = block.b1 - block.b0
            summed, weight, top = (query.new_zeros(count) for _ in range(3))
            if log:
                top.fill_(-torch.inf)
            for c0, c1, tile in columns():
                s, w = _spread(scores, block, tile, c0, c1)
                x = _constant(kernel, s, *(a[part, None] for a in args))
                weight += w.sum(1)
                if log:
                    # Online log-sum-exp: the sum so far is kept relative to the largest so far.
                    x = x.masked_fill(w == 0, -torch.inf)
                    higher = torch.maximum(top, x.amax(1))
                    safe = higher.masked_fill(higher == -torch.inf, 0)
                    summed *= (top - safe).exp()
                    summed += (w * (x - safe[:, None]).exp()).sum(1)
                    top = higher
                else:
                    summed += (w * x).sum(1)
            empty = weight == 0
            weight.masked_fill_(empty, 1)
            if log:
                value = (summed / weight).masked_fill(empty, 1).log()
                out[part] = value + top.masked_fill(empty, 0)
            else:
                out[part] = summed / weight
            total[part] = weight
        ctx.kernel, ctx.log, ctx.scores = kernel, log, scores
        ctx.save_for_backward(query, key, log_weight, out, total, *args)
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[Tensor | None, ...]:
        query, key, log_weight, out, total, *args = ctx.saved_tensors
        scores = replace(ctx.scores, query=query, key=key, log_weight=log_weight)
        scale = grad_outputs[0] / total
        grad_query, grad_key = torch.zeros_like(query), torch.zeros_like(key)
        grad_args = [torch.zeros_like(arg) for arg in args]
        for block, columns in _blocks(scores):
            part = slice(block.b0, block.b1)
            queries = slice(block.q0, block.q1)
            for c0, c1, tile in columns():
                s, w = _spread(scores, block, tile, c0, c1)
                with torch.enable_grad():
                    inputs = [s.requires_grad_()]
                    inputs += [a[part, None].detach().requires_grad_() for a in args]
                    x = ctx.kernel(*inputs)
                slope = scale[part, None] * w
                if ctx.log:
                    slope = slope * (x.detach() - out[part, None]).clamp_max(80).exp()
                grads = torch.autograd.grad(x, inputs, slope, allow_unused=True)
                g = grads[0] if grads[0] is not None else torch.zeros_like(s)
                if scores.rows is not None:
                    g = g.new_zeros(tile.shape).index_add_(0, _local_rows(scores, block), g)
                grad_query[queries] += g @ key[c0:c1]
                grad_key[c0:c1] += g.t() @ query[queries]
                for whole, piece in zip(grad_args, grads[1:], strict=True):
                    if piece is not None:
                        whole[part] += piece.squeeze(1)
        return None, None, None, grad_query, grad_key, None, *grad_args


def _blocks(scores: LazyScores) -> Iterator[tuple[RowBlock, Any]]:
    """Blocks of rows, each with a function that walks over its blocks of keys."""
    num_keys = scores.key.size(0)
    size = tile_size(scores.query.device)
    width = min(num_keys, KEYS_PER_TILE if scores.query.device.type == "cpu" else size // 256)
    most = max(1, size // width)
    tiles = TileScores(scores, most, width)
    for block in row_blocks(scores.query.size(0), scores.rows, most):

        def columns(block: RowBlock = block) -> Iterator[tuple[int, int, Tensor]]:
            for c0 in range(0, num_keys, width):
                c1 = min(c0 + width, num_keys)
                yield c0, c1, tiles(block.q0, block.q1, c0, c1)

        yield block, columns


def _spread(
    scores: LazyScores, block: RowBlock, tile: Tensor, c0: int, c1: int
) -> tuple[Tensor, Tensor]:
    """Scores of the block's rows with drops set to 0, and the weights, 0 where dropped."""
    s = tile.clone() if scores.rows is None else tile[_local_rows(scores, block)]
    keep = s != -torch.inf
    w = keep.to(s.dtype)
    if scores.log_weight is not None:
        w = w * scores.log_weight[c0:c1].to(s.dtype).exp()
    return s.masked_fill_(~keep, 0), w


def _constant(kernel: Callable[..., Tensor], *inputs: Tensor) -> Tensor:
    """The kernel's values, once it is sure that nothing but its inputs would need a gradient."""
    with torch.enable_grad():
        x = kernel(*(x.detach() for x in inputs))
    if x.requires_grad:
        raise ValueError(
            "A kernel over lazy scores must not close over a tensor that needs a gradient, which "
            "it would not get: pass it as an argument, one value a row"
        )
    return x


def _local_rows(scores: LazyScores, block: RowBlock) -> Tensor:
    assert scores.rows is not None
    return scores.rows.row[block.b0 : block.b1] - block.q0
