"""Streamed reductions of any elementwise kernel, with gradients made in the same pass.

As in :mod:`pyg_bsl.ops.fused`, the guess is that all rows of the loss weigh the same. Where it is
known that they do not, values and gradients are made in a pass each, and none is thrown away.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from pyg_bsl.ops.fused import sum_of_rows, wants_gradient, without_vectors
from pyg_bsl.ops.native import native
from pyg_bsl.ops.plain import plain
from pyg_bsl.ops.reduction import Reduction
from pyg_bsl.ops.scores import LazyScores
from pyg_bsl.ops.tiles import RowBlock, TileScores
from pyg_bsl.ops.walk import same_weight, walk_rows

Kernel = Callable[..., Tensor]


def stream(
    scores: LazyScores,
    kernel: Kernel,
    args: tuple[Tensor, ...],
    log: bool,
    *,
    per_query: bool = False,
    alike: bool = True,
) -> Tensor:
    """Mean (or log-mean-exp) over the keys of ``kernel(score, *args)`` for every row, ``[B]``.

    Args:
        scores: The scores.
        kernel: Elementwise function of the scores and of each argument.
        args: Values of each row, ``[B]``; of each query, ``[Q]``, if ``per_query``.
        log: Whether to take log-mean-exps.
        per_query: Whether to reduce once a query, however many rows it stands for.
        alike: Whether the rows are likely to weigh the same in the final loss.

    Raises:
        ValueError: If the kernel closes over a tensor that needs a gradient.
    """
    scores = scores.in_float32().with_largest_weight_1()
    arg = scores.query.new_empty(scores.query.size(0) if per_query else scores.num_rows, 0)
    if args:
        arg = torch.stack([x.to(scores.query.dtype) for x in args], 1)
    _refuse_hidden_gradients(kernel, scores, arg)
    # Off the CPU the check of the guess would make the host wait: no guess is made.
    wanted = wants_gradient(scores.query, scores.key, arg)
    guess = alike and wanted and scores.query.device.type == "cpu"
    return _Stream.apply(kernel, log, per_query, guess, scores, scores.query, scores.key, arg)


class _Stream(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        kernel: Kernel,
        log: bool,
        per_query: bool,
        guess: bool,
        scores: LazyScores,
        query: Tensor,
        key: Tensor,
        arg: Tensor,
    ) -> Tensor:
        scores = replace(scores, query=query, key=key)
        rows = scores.rows if per_query else None
        work = replace(scores, rows=None) if per_query else scores
        weight = None
        if guess:
            weight = arg.new_ones(len(arg)) if rows is None else rows.counts().to(arg.dtype)
        out, *grads = _reduce(work, kernel, arg, log, weight)
        ctx.kernel, ctx.log, ctx.scores, ctx.rows = kernel, log, without_vectors(work), rows
        ctx.save_for_backward(query, key, arg, *(grads if guess else ()))
        return out if rows is None else scores.spread(out)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[Tensor | None, ...]:
        query, key, arg, *grads = ctx.saved_tensors
        slope = grad_outputs[0]
        weight = same_weight(slope) if grads else None
        if weight is not None:
            grads = [weight * grad for grad in grads]
        else:
            if ctx.rows is not None:
                slope = sum_of_rows(ctx.rows, slope)
            scores = replace(ctx.scores, query=query, key=key)
            _, *grads = _reduce(scores, ctx.kernel, arg, ctx.log, slope)
        return None, None, None, None, None, *grads


def _reduce(
    scores: LazyScores, kernel: Kernel, arg: Tensor, log: bool, upstream: Tensor | None
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Values of all rows, and the gradients of queries, keys and arguments.

    Args:
        scores: The scores.
        kernel: The kernel.
        arg: Its arguments, ``[B, A]``.
        log: Whether to take log-mean-exps.
        upstream: Gradient of the loss by each value, ``[B]``; None if no gradient is needed.
    """
    query = scores.query
    mass = scores.mass()
    empty = mass == 0
    mass = mass.masked_fill(empty, 1)
    scale = None
    if upstream is not None:
        scale = (upstream if log else upstream / mass).masked_fill(empty, 0).contiguous()
    out, grad_arg, grad_query = (
        torch.empty_like(mass),
        torch.zeros_like(arg),
        torch.zeros_like(query),
    )
    task = Reduction(kernel, log, scores, arg, scale, out, grad_arg)
    reduce = native(task) or plain(task)

    def visit(part: slice, tile: Tensor, tiles: TileScores, grad_key: Tensor) -> None:
        q0, q1 = part.start, part.stop
        grad = tiles.like(tile).zero_()
        reduce(RowBlock(q0, q1, task.bounds[q0], task.bounds[q1]), tile, grad)
        if upstream is not None:
            tiles.add_gradients(grad, query[part], 0, grad.size(1), grad_query[part], grad_key)

    grad_key = walk_rows(scores, visit)
    out = (out - mass.log() if log else out / mass).masked_fill(empty, 0)
    return out, grad_query, grad_key, grad_arg


def _refuse_hidden_gradients(kernel: Kernel, scores: LazyScores, arg: Tensor) -> None:
    with torch.enable_grad():
        one = scores.query.new_zeros(1, 1)
        x = kernel(one, *(one for _ in range(arg.size(1))))
    if x.requires_grad:
        raise ValueError(
            "A kernel over lazy scores must not close over a tensor that needs a gradient, which "
            "it would not get: pass it as an argument, one value a row"
        )
