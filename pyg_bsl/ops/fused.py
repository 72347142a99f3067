r"""Log-mean-exps over a whole catalogue whose gradients are made in the same pass.

A tile holds a few queries against all keys: its scores, their exponentials and both gradient
products are made while it is in cache. The gradient to the keys needs the weight of each row in
the final loss before that loss is known. The guess is that all rows of the loss weigh the same, as
they do under a mean; the backward pass checks it and, where it fails, streams once more.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from pyg_bsl.ops.scores import LazyScores
from pyg_bsl.ops.stream import stream
from pyg_bsl.ops.tiles import TileScores, tile_size
from pyg_bsl.ops.workers import num_workers, share

MOST_SUMS = 1 << 26
"""Numbers that the threads' own sums of the keys' gradient may take together: 256 MiB."""

NO_SHIFT_TAU = 1 / 60
"""Down to this temperature exp(s / tau) of a score in [-1, 1] is summed without a shift: float32
spans e^-87 to e^88, so e^-60 to e^60 leaves a factor of e^27 for the numbers of items and rows."""


def fused_log_mean_exp(scores: LazyScores, tau: float) -> Tensor:
    r"""Log-mean-exp over the keys of :math:`s_{bj} / \tau`, ``[B]`` (CPU)."""
    if scores.query.dtype in (torch.float16, torch.bfloat16):
        scores = replace(scores, query=scores.query.float(), key=scores.key.float())
    return _LogMeanExp.apply(scores, tau, scores.query, scores.key)


def fused_log_mean_power(scores: LazyScores, pos: Tensor, power: int) -> Tensor:
    r"""Log-mean over the keys of :math:`(1 + (s_{bj} - s_b) / 2)^m`, ``[B]`` (CPU).

    For scores in [-1, 1] put :math:`x_j = (1 + s_j) / 2` and :math:`y_b = (1 - s_b) / 2`, both in
    [0, 1]. Then :math:`1 + d = x_j + y_b`, the relu never acts, and by the binomial theorem

    .. math::
        \sum_j (x_j + y_b)^m = \sum_{k=0}^m \binom{m}{k} y_b^{m-k} \sum_j x_j^k ,

    so :math:`m` power sums of a user give the exact sums of all its positives. All terms are
    non-negative: nothing cancels. With the largest :math:`x` of the user, :math:`t`, the code
    below takes :math:`(y + t)^m` out of the sum: what is left is at least 1.
    """
    if scores.query.dtype in (torch.float16, torch.bfloat16):
        scores = replace(scores, query=scores.query.float(), key=scores.key.float())
    y = (1 - pos.to(scores.query.dtype)) / 2
    return _LogMeanPower.apply(scores, power, scores.query, scores.key, y)


def _walk(scores: LazyScores, visit: Callable[[slice, Tensor, TileScores, Tensor], None]) -> Tensor:
    """Gradient of the keys, ``[N, D]``, to which ``visit`` adds for each block of queries.

    Blocks are shared among threads, each with a tile and a sum of its own. ``visit`` gets the
    queries, their scores against all keys (overwritten by the next block), what made them, and the
    sum.
    """
    num_queries, num_keys = scores.query.size(0), scores.key.size(0)
    most = max(8, tile_size(scores.query.device) // num_keys)
    num_blocks = -(-num_queries // most)
    # A sum of its own costs a thread as much memory as the keys: few threads where they are large.
    workers = num_workers(min(num_blocks, max(1, MOST_SUMS // scores.key.numel())))

    def work(blocks: range) -> Tensor:
        grad_key = torch.zeros_like(scores.key)
        tiles = TileScores(scores, most, num_keys)
        for block in blocks:
            q0, q1 = block * most, min((block + 1) * most, num_queries)
            visit(slice(q0, q1), tiles(q0, q1, 0, num_keys), tiles, grad_key)
        return grad_key

    total, *others = share(work, num_blocks, workers)
    for other in others:
        total += other
    return total


def _same_weight(grad: Tensor) -> float | None:
    """The weight of every row if it is the same for all of them, else None."""
    weight = float(grad.sum()) / max(grad.numel(), 1)
    rtol = 1e-5 if grad.dtype == torch.float32 else 1e-12
    same = torch.allclose(grad, grad.new_full((), weight).expand_as(grad), rtol=rtol, atol=0)
    return weight if same else None


class _LogMeanExp(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, scores: LazyScores, tau: float, query: Tensor, key: Tensor) -> Tensor:
        weight = query.new_ones(query.size(0))  # rows of each query
        if scores.rows is not None:
            weight = scores.rows.counts().to(query.dtype)
        scaled = query / tau
        scores = replace(scores, query=scaled, key=key)
        log_weight = scores.log_weight
        if log_weight is not None:
            log_weight = log_weight.to(query.dtype)
        shift = not (scores.bounded and log_weight is None and tau >= NO_SHIFT_TAU)
        out = query.new_empty(query.size(0))
        grad_query = torch.empty_like(query)

        def visit(part: slice, tile: Tensor, _: TileScores, grad_key: Tensor) -> None:
            top: Tensor | None = None
            if log_weight is not None:
                tile += log_weight
            if shift:
                top = tile.amax(1)
                top.masked_fill_(top == -torch.inf, 0)
                tile -= top[:, None]
            total = tile.exp_().sum(1)
            total.masked_fill_(total == 0, 1)
            factor = (weight[part] / total)[:, None]
            torch.mm(tile, key, out=grad_query[part])
            grad_query[part] *= factor / tau
            grad_key.addmm_(tile.t(), factor * scaled[part])
            out[part] = total.log() if top is None else total.log() + top

        grad_key = _walk(scores, visit)
        mass = scores.query_mass()
        empty = mass == 0
        out -= mass.masked_fill(empty, 1).log()
        out.masked_fill_(empty, 0)
        ctx.scores, ctx.tau = scores, tau
        ctx.save_for_backward(query, key, grad_query, grad_key)
        return scores.spread(out)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[Tensor | None, ...]:
        query, key, grad_query, grad_key = ctx.saved_tensors
        grad = grad_outputs[0]
        weight = _same_weight(grad)
        if weight is not None:
            return None, None, weight * grad_query, weight * grad_key
        tau = ctx.tau
        with torch.enable_grad():
            q, k = query.detach().requires_grad_(), key.detach().requires_grad_()
            scores = replace(ctx.scores, query=q, key=k, rows=None)
            out = ctx.scores.spread(stream(scores, lambda s: s / tau, (), log=True))
        return None, None, *torch.autograd.grad(out, (q, k), grad)


def _few_rows(x: Tensor) -> list[slice]:
    """Rows of a tile a few at a time, so that many passes over them stay in the nearest cache."""
    few = max(1, tile_size(x.device) // (4 * x.size(1)))
    return [slice(r, r + few) for r in range(0, x.size(0), few)]


def _power_sums(x: Tensor, m: int, raised: Tensor) -> Tensor:
    """Sums over each row of ``x`` to the powers 1 to ``m``, ``[R, m]``; ``raised`` is scratch."""
    sums = x.new_empty(x.size(0), m)
    for rows in _few_rows(x):
        power = x[rows]
        for k in range(m):
            if k > 0:
                power = torch.mul(power, x[rows], out=raised[rows])
            torch.sum(power, 1, out=sums[rows, k])
    return sums


def _polynomial(coefficient: Tensor, x: Tensor, out: Tensor) -> None:
    """``out = c_0 + c_1 x + c_2 x^2 + ...`` with coefficients ``[R, m]`` of each row (Horner)."""
    m = coefficient.size(1)
    for rows in _few_rows(x):
        c = coefficient[rows, :, None]  # [r, m, 1]
        value = out[rows].copy_(c[:, m - 1].expand_as(out[rows]))
        for k in range(m - 2, -1, -1):
            torch.addcmul(c[:, k], value, x[rows], out=value)


class _LogMeanPower(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, scores: LazyScores, power: int, query: Tensor, key: Tensor, y: Tensor
    ) -> Tensor:
        scores = replace(scores, query=query / 2, key=key)
        m = power
        rows = scores.rows
        row = torch.arange(y.numel()) if rows is None else rows.row
        bounds = range(y.numel() + 1) if rows is None else rows.bounds
        count = scores.query_mass()
        out, slope = torch.empty_like(y), torch.empty_like(y)
        grad_query = torch.empty_like(query)
        tiny = torch.finfo(y.dtype).tiny
        least = y.clamp_min(tiny)[:, None]
        powers = torch.arange(m + 1)
        binomial = y.new_tensor([math.comb(m, k) for k in range(m + 1)])
        lower = y.new_tensor([m * math.comb(m - 1, k) for k in range(m)])

        def visit(part: slice, tile: Tensor, tiles: TileScores, grad_key: Tensor) -> None:
            b = slice(bounds[part.start], bounds[part.stop])
            local = row[b] - part.start
            tile += 0.5
            tile.clamp_min_(0)  # dropped scores, -inf so far, give nothing to the sums
            top = tile.amax(1, keepdim=True).clamp_min_(tiny)
            tile /= top
            raised = tiles.like(tile)
            sums = torch.cat([count[part, None], _power_sums(tile, m, raised)], dim=1)
            spread = sums[local]  # [b, m + 1]
            whole = least[b] + top[local]  # [b, 1]
            up, down = (top[local] / whole) ** powers, (least[b] / whole) ** powers.flip(0)
            total = (binomial * up * down * spread).sum(1)
            out[b] = total.log() + m * whole[:, 0].log()
            # Where even the largest 1 + d is 0, the relu passes no gradient.
            part_of_total = (1 / (total[:, None] * whole)).masked_fill(whole <= 2 * tiny, 0)
            slopes = lower * up[:, :m] * down[:, 1:] * part_of_total
            slope[b] = (slopes * spread[:, :m]).sum(1)
            # d/dx_j of the sum of this query's rows is a polynomial in x_j: Horner.
            coefficient = tile.new_zeros(tile.size(0), m).index_add_(0, local, slopes)
            _polynomial(coefficient, tile, raised)
            tiles.fill(raised, part.start, part.stop, 0, key.size(0), 0.0)
            torch.mm(raised, key, out=grad_query[part])
            grad_key.addmm_(raised.t(), scores.query[part])

        grad_key = _walk(scores, visit)
        grad_query /= 2
        empty = count == 0
        spread_empty = empty[row]
        out -= count.masked_fill(empty, 1).log()[row]
        out.masked_fill_(spread_empty, 0)
        slope.masked_fill_(spread_empty, 0)
        ctx.scores, ctx.power = scores, power
        ctx.save_for_backward(query, key, y, slope, grad_query, grad_key)
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[Tensor | None, ...]:
        query, key, y, slope, grad_query, grad_key = ctx.saved_tensors
        grad = grad_outputs[0]
        weight = _same_weight(grad)
        if weight is not None:
            return None, None, weight * grad_query, weight * grad_key, grad * slope
        power = ctx.power
        with torch.enable_grad():
            q, k = query.detach().requires_grad_(), key.detach().requires_grad_()
            y_ = y.detach().requires_grad_()

            def log_power(s: Tensor, y: Tensor) -> Tensor:
                return power * ((1 + s) / 2 + y).clamp_min(torch.finfo(s.dtype).tiny).log()

            out = stream(replace(ctx.scores, query=q, key=k), log_power, (y_,), log=True)
        return None, None, *torch.autograd.grad(out, (q, k, y_), grad)
