"""Streamed reductions of any elementwise kernel, with gradients made in the same pass."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from pyg_bsl.ops.native import native
from pyg_bsl.ops.plain import plain
from pyg_bsl.ops.reduction import Reduction
from pyg_bsl.ops.scores import LazyScores
from pyg_bsl.ops.tiles import RowBlock, TileScores
from pyg_bsl.ops.walk import same_weight, walk_rows

Kernel = Callable[..., Tensor]


def stream(scores: LazyScores, kernel: Kernel, args: tuple[Tensor, ...], log: bool) -> Tensor:
    """Mean (or log-mean-exp) over the keys of ``kernel(score, *args)`` for every row, ``[B]``.

    Raises:
        ValueError: If the kernel closes over a tensor that needs a gradient.
    """
    scores = scores.in_float32().with_largest_weight_1()
    arg = scores.query.new_empty(scores.num_rows, 0)
    if args:
        arg = torch.stack([x.to(scores.query.dtype) for x in args], 1)
    _refuse_hidden_gradients(kernel, scores, arg)
    needs_grad = torch.is_grad_enabled() and any(
        x.requires_grad for x in (scores.query, scores.key, arg)
    )
    return _Stream.apply(kernel, log, needs_grad, scores, scores.query, scores.key, arg)


class _Stream(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        kernel: Kernel,
        log: bool,
        needs_grad: bool,
        scores: LazyScores,
        query: Tensor,
        key: Tensor,
        arg: Tensor,
    ) -> Tensor:
        scores = replace(scores, query=query, key=key)
        # Off the CPU the check of the guess would make the host wait: no guess is made.
        guess = needs_grad and query.device.type == "cpu"
        out, *grads = _reduce(scores, kernel, arg, log, arg.new_ones(len(arg)) if guess else None)
        ctx.kernel, ctx.log, ctx.scores, ctx.guess = kernel, log, scores, guess
        ctx.save_for_backward(query, key, arg, *grads)
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[Tensor | None, ...]:
        query, key, arg, *grads = ctx.saved_tensors
        weight = same_weight(grad_outputs[0]) if ctx.guess else None
        if weight is not None:
            grads = [weight * grad for grad in grads]
        else:
            scores = replace(ctx.scores, query=query, key=key)
            _, *grads = _reduce(scores, ctx.kernel, arg, ctx.log, grad_outputs[0])
        return None, None, None, None, *grads


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
