r"""Log-means of powers of gaps over a whole catalogue, for many positives of a user at once.

For scores in [-1, 1] put :math:`x_j = (1 + s_j) / 2` and :math:`y_b = (1 - s_b) / 2`, both in
[0, 1]. Then :math:`1 + d = x_j + y_b`, the relu never acts, and by the binomial theorem

.. math::
    \sum_j w_j (x_j + y_b)^m = \sum_{k=0}^m \binom{m}{k} y_b^{m-k} \sum_j w_j x_j^k ,

so :math:`m` power sums of a user give the exact sums of all its positives. All terms are
non-negative: nothing cancels. With the largest :math:`x` of the user, :math:`t`, the code below
takes :math:`(y + t)^m` out of the sum: what is left is at least 1. Where a query has one positive,
the powers of its gaps themselves are less work.

Passes over the scores are as in :mod:`pyg_bsl.ops.fused`.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from pyg_bsl.ops.fused import wants_gradient, without_vectors
from pyg_bsl.ops.native_powers import NativePowers, native_powers
from pyg_bsl.ops.native_tiles import RowGradients
from pyg_bsl.ops.scores import LazyScores
from pyg_bsl.ops.tiles import TileScores, tile_size
from pyg_bsl.ops.walk import fits_whole_rows, same_weight, walk_keys, walk_rows


def fused_log_mean_power(scores: LazyScores, pos: Tensor, power: int) -> Tensor:
    r"""Log-mean over the keys of :math:`(1 + (s_{bj} - s_b) / 2)^m`, ``[B]``."""
    scores = scores.in_float32().with_largest_weight_1()
    y = (1 - pos.to(scores.query.dtype)) / 2
    wanted = wants_gradient(scores.query, scores.key, y)
    return _LogMeanPower.apply(scores, power, wanted, scores.query, scores.key, y)


class _LogMeanPower(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        scores: LazyScores,
        power: int,
        wanted: bool,
        query: Tensor,
        key: Tensor,
        y: Tensor,
    ) -> Tensor:
        halves = replace(scores, query=query / 2, key=key)
        rows = scores.rows
        row = torch.arange(y.numel(), device=y.device) if rows is None else rows.row
        count = scores.query_mass()
        passes = _passes(halves, power)
        grads: list[Tensor] = []
        y = y.clamp_min(torch.finfo(y.dtype).tiny)[:, None]
        if wanted and fits_whole_rows(scores):
            one_pass = _pairs_and_gradients if rows is None else _rows_and_gradients
            total, slope, top, *grads = one_pass(halves, passes, count, y)
        else:
            sums, top = _sums(halves, passes)
            total, slope, _ = _expand(torch.cat([count[:, None], sums], dim=1), top[row], y, row)
        out = (total.log() + power * (y + top[row]).log())[:, 0]
        empty = count == 0
        spread_empty = empty[row]
        out -= count.masked_fill(empty, 1).log()[row]
        out.masked_fill_(spread_empty, 0)
        slope = slope[:, 0].masked_fill(spread_empty, 0)
        ctx.halves, ctx.row, ctx.passes = without_vectors(halves), row, passes
        ctx.save_for_backward(halves.query, key, y, total, top, slope, *grads)
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[Tensor | None, ...]:
        query, key, y, total, top, slope, *grads = ctx.saved_tensors
        grad = grad_outputs[0]
        weight = same_weight(grad) if grads else None
        if weight is not None:
            return None, None, None, weight / 2 * grads[0], weight * grads[1], grad * slope
        halves = replace(ctx.halves, query=query, key=key)
        coefficient = top.new_zeros(query.size(0), ctx.passes.m)
        slopes = _slopes(total, top[ctx.row], y, ctx.passes.m)
        coefficient.index_add_(0, ctx.row, grad[:, None] * slopes)
        grad_query, grad_key = _gradients(halves, ctx.passes, top, coefficient)
        return None, None, None, grad_query / 2, grad_key, grad * slope


def _rows_and_gradients(
    halves: LazyScores, passes: Passes, count: Tensor, y: Tensor
) -> tuple[Tensor, ...]:
    """What :func:`_expand` gives of all rows, and gradients of the sum of their log-sums.

    Returns:
        The total and its log's slope in y, ``[B, 1]`` each; the largest x of each query,
        ``[Q, 1]``; the gradients to queries and keys.
    """
    assert halves.rows is not None
    m, query, weight, rows = passes.m, halves.query, _weight(halves), halves.rows
    total, slope, top = torch.empty_like(y), torch.empty_like(y), _least(query)
    grad_query = torch.zeros_like(query)

    def visit(part: slice, tile: Tensor, tiles: TileScores, grad_key: Tensor) -> None:
        b = slice(rows.bounds[part.start], rows.bounds[part.stop])
        row = rows.row[b] - part.start
        top[part] = passes.shares(tile, top[part])
        scratch = tiles.like(tile)
        sums = torch.cat([count[part, None], passes.sums(tile, weight, scratch)], dim=1)
        total[b], slope[b], slopes = _expand(sums, top[part][row], y[b], row)
        coefficient = tile.new_zeros(tile.size(0), m).index_add_(0, row, slopes)
        passes.polynomial(coefficient, tile, weight, scratch)
        tiles.fill(scratch, part.start, part.stop, 0, tile.size(1), 0.0)
        tiles.add_gradients(scratch, query[part], 0, tile.size(1), grad_query[part], grad_key)

    grad_key = walk_rows(halves, visit)
    return total, slope, top, grad_query, grad_key


def _pairs_and_gradients(
    halves: LazyScores, passes: Passes, count: Tensor, y: Tensor
) -> tuple[Tensor, ...]:
    """As :func:`_rows_and_gradients`, where row b is query b."""
    m, query, weight = passes.m, halves.query, _weight(halves)
    empty = (count == 0)[:, None]
    times = torch.full_like(y, m).masked_fill_(empty, 0)
    total, lower, top = torch.empty_like(y), torch.empty_like(y), _least(query)
    factor, grad_query = torch.empty_like(y), torch.zeros_like(query)

    def visit_all(part: slice, tiles: TileScores, grad_key: Tensor) -> bool:
        own = times[part], y[part], top[part], total[part], lower[part]
        slopes = passes.gap_slopes(weight, *own)
        return tiles.walk(part, slopes, RowGradients(factor[part], grad_query[part], grad_key))

    def visit(part: slice, tile: Tensor, tiles: TileScores, grad_key: Tensor) -> None:
        top[part], total[part], lower[part] = passes.gaps(tile, y[part], weight, top[part])
        factor[part] = times[part] * _part_of_total(total[part], y[part] + top[part])
        scaled = factor[part] * query[part]
        tiles.add_gradients(tile, scaled, 0, tile.size(1), grad_query[part], grad_key)

    grad_key = walk_rows(halves, visit, visit_all)
    grad_query *= factor
    total.masked_fill_(empty, 0)  # as that of _expand
    return total, factor * lower, top, grad_query, grad_key


def _sums(halves: LazyScores, passes: Passes) -> tuple[Tensor, Tensor]:
    """Power sums ``[Q, m]`` of x over its largest, and that, ``[Q, 1]``."""
    m, query, weight = passes.m, halves.query, _weight(halves)
    powers = torch.arange(1, m + 1, device=query.device)

    def start() -> tuple[Tensor, Tensor]:
        return query.new_zeros(query.size(0), m), _least(query)

    def visit(
        part: slice, keys: slice, tile: Tensor, tiles: TileScores, made: tuple[Tensor, Tensor]
    ) -> None:
        total, top = (x[part] for x in made)
        higher = passes.shares(tile, top)
        total *= (top / higher) ** powers
        top.copy_(higher)
        piece = None if weight is None else weight[keys]
        total += passes.sums(tile, piece, tiles.like(tile))

    made = walk_keys(halves, start, visit)
    top = torch.stack([top for _, top in made]).amax(0)
    return torch.stack([total * (own / top) ** powers for total, own in made]).sum(0), top


def _gradients(
    halves: LazyScores, passes: Passes, top: Tensor, coefficient: Tensor
) -> tuple[Tensor, Tensor]:
    """Gradients to queries and keys from the polynomials' coefficients ``[Q, m]``."""
    query, weight = halves.query, _weight(halves)
    grad_key = torch.zeros_like(halves.key)

    def visit(
        part: slice, keys: slice, tile: Tensor, tiles: TileScores, grad_query: Tensor
    ) -> None:
        passes.shares(tile, top[part])
        slope = tiles.like(tile)
        piece = None if weight is None else weight[keys]
        passes.polynomial(coefficient[part], tile, piece, slope)
        tiles.fill(slope, part.start, part.stop, keys.start, keys.stop, 0.0)
        tiles.add_gradients(
            slope, query[part], keys.start, keys.stop, grad_query[part], grad_key[keys]
        )

    grad_query, *others = walk_keys(halves, lambda: torch.zeros_like(query), visit)
    for other in others:
        grad_query += other
    return grad_query, grad_key


def _weight(scores: LazyScores) -> Tensor | None:
    return None if scores.log_weight is None else scores.log_weight.exp()


def _least(query: Tensor) -> Tensor:
    """What the largest x of each query, ``[Q, 1]``, is at least: above 0."""
    return query.new_full((query.size(0), 1), torch.finfo(query.dtype).tiny)


def _expand(sums: Tensor, top: Tensor, y: Tensor, row: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """From power sums ``[Q, m + 1]`` to those of the powers of rows, and slopes of their logs.

    Where the first, that of the weights, is 0, all are.

    Returns:
        The sum of ``((x + y) / (top + y)) ** m``; the slope of its log in y; the coefficients of
        that in x, as :func:`_slopes`: ``[B, 1]``, ``[B, 1]`` and ``[B, m]``.
    """
    m, spread = sums.size(1) - 1, sums.masked_fill(sums[:, :1] == 0, 0)[row]
    total = (_binomial(y, top, m) * spread).sum(1, keepdim=True)
    slopes = _slopes(total, top, y, m)
    return total, (slopes * spread[:, :m]).sum(1, keepdim=True), slopes


def _slopes(total: Tensor, top: Tensor, y: Tensor, m: int) -> Tensor:
    """Slopes of the log of ``total`` in x, coefficients of a polynomial in ``x / top``."""
    return m * _binomial(y, top, m - 1) * _part_of_total(total, y + top)


def _binomial(y: Tensor, top: Tensor, m: int) -> Tensor:
    """Coefficients of ``((x + y) / (top + y)) ** m`` as a polynomial in ``x / top``."""
    powers, whole = torch.arange(m + 1, device=y.device), y + top
    binomial = y.new_tensor([math.comb(m, k) for k in range(m + 1)])
    return binomial * (top / whole) ** powers * (y / whole) ** powers.flip(0)


def _part_of_total(total: Tensor, whole: Tensor) -> Tensor:
    """What a row's log-sum gains by a unit of its sum."""
    # Where even the largest 1 + d is 0, the relu passes no gradient; nor does an empty sum.
    dead = (whole <= 2 * torch.finfo(whole.dtype).tiny) | (total == 0)
    return (1 / (total * whole)).masked_fill(dead, 0)


def _few_rows(x: Tensor) -> list[slice]:
    """Rows of a tile a few at a time, so that many passes over them stay in the nearest cache."""
    few = max(1, tile_size(x.device) // (4 * x.size(1)))
    return [slice(r, r + few) for r in range(0, x.size(0), few)]


class PlainPowers(NamedTuple):
    """The passes in plain PyTorch, a pass over the tile for every power."""

    m: int

    def shares(self, x: Tensor, least: Tensor) -> Tensor:
        """From half the scores to x over its largest in place; that, ``[R, 1]``, from ``least``.

        A dropped score, ``-inf`` so far, becomes 0.
        """
        x.add_(0.5).clamp_min_(0)
        top = torch.maximum(least, x.amax(1, keepdim=True))
        x /= top
        return top

    def gaps(
        self, x: Tensor, y: Tensor, weight: Tensor | None, least: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """From half the scores to ``weight * t ** (m - 1)`` in place, ``t = (x + y) / (top + y)``.

        Returns:
            The largest x of each row from ``least``, ``top``; the sums of ``weight * t ** m``, and
            of what stands in place: ``[R, 1]`` each.
        """
        drop = x == -torch.inf
        x.add_(0.5).clamp_min_(0)
        top = torch.maximum(least, x.amax(1, keepdim=True))
        t = ((x + y) / (top + y)).masked_fill_(drop, 0)
        torch.pow(t, self.m - 1, out=x).masked_fill_(drop, 0)
        if weight is not None:
            x *= weight
        return top, (x * t).sum(1, keepdim=True), x.sum(1, keepdim=True)

    def gap_slopes(self, *_: Tensor | None) -> None:
        """None: only compiled code walks over all tiles by itself."""

    def sums(self, x: Tensor, weight: Tensor | None, scratch: Tensor) -> Tensor:
        """Sums over each row of the weighted powers 1 to ``m`` of ``x``, ``[R, m]``."""
        sums = x.new_empty(x.size(0), self.m)
        for rows in _few_rows(x):
            power = x[rows] if weight is None else torch.mul(x[rows], weight, out=scratch[rows])
            for k in range(self.m):
                if k > 0:
                    power = torch.mul(power, x[rows], out=scratch[rows])
                torch.sum(power, 1, out=sums[rows, k])
        return sums

    def polynomial(
        self, coefficient: Tensor, x: Tensor, weight: Tensor | None, out: Tensor
    ) -> None:
        """``out = weight * (c_0 + c_1 x + ...)`` with coefficients ``[R, m]`` (Horner)."""
        for rows in _few_rows(x):
            c = coefficient[rows, :, None]  # [r, m, 1]
            value = out[rows].copy_(c[:, self.m - 1].expand_as(out[rows]))
            for k in range(self.m - 2, -1, -1):
                torch.addcmul(c[:, k], value, x[rows], out=value)
            if weight is not None:
                value *= weight


Passes = NativePowers | PlainPowers


def _passes(scores: LazyScores, m: int) -> Passes:
    size = scores.query.size(0) * scores.key.size(0)
    return native_powers(m, scores.query, size) or PlainPowers(m)
