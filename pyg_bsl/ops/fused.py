r"""Log-mean-exps over a whole catalogue.

Where the scores of some queries against all keys fit in cache, their exponentials and both gradient
products are made while they are there, in one pass. The gradient to the keys needs the weight of
each row in the final loss before that loss is known. The guess is that all rows of the loss weigh
the same, as they do under a mean; the backward pass checks it.

Where they do not fit, or the guess fails or would fail, the backward pass makes the scores once
more.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from pyg_bsl.ops.native_tiles import RowGradients
from pyg_bsl.ops.scores import LazyScores
from pyg_bsl.ops.tiles import TileScores
from pyg_bsl.ops.walk import fits_whole_rows, same_weight, walk_keys, walk_rows
from pyg_bsl.types import Ragged

LARGEST_LOGIT = 60
"""Logits of at most this size are summed without a shift: float32 spans e^-87 to e^88, so e^-60 to
e^60 leaves a factor of e^27 for the numbers of items and rows."""


def fused_log_mean_exp(scores: LazyScores, tau: float, alike: bool = True) -> Tensor:
    r"""Log-mean-exp over the keys of :math:`s_{bj} / \tau`, ``[B]``; ``alike`` is the guess."""
    scores = scores.in_float32().with_largest_weight_1()
    at_once = alike and wants_gradient(scores.query, scores.key) and fits_whole_rows(scores)
    return _LogMeanExp.apply(scores, tau, at_once, scores.query, scores.key)


def wants_gradient(*inputs: Tensor) -> bool:
    """Whether a gradient may be asked for: where none is, a pass over the scores is its value."""
    return torch.is_grad_enabled() and any(x.requires_grad for x in inputs)


def without_vectors(scores: LazyScores) -> LazyScores:
    """The scores without queries and keys, which autograd keeps, and frees after use."""
    none = scores.key.new_empty(1, 0)
    return replace(scores, query=none, key=none)


def sum_of_rows(rows: Ragged, x: Tensor) -> Tensor:
    """Sums of the values of each query's rows, ``[Q]``; a query may stand for very many rows."""
    total = x.new_zeros(rows.num_rows, dtype=torch.double)
    return total.index_add_(0, rows.row, x.double()).to(x.dtype)


class _LogMeanExp(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, scores: LazyScores, tau: float, at_once: bool, query: Tensor, key: Tensor
    ) -> Tensor:
        log_weight = scores.log_weight
        shift = _needs_shift(scores, tau)
        # From here on scores are logits.
        logits = replace(scores, query=query / tau, key=key, log_weight=log_weight)
        mass = scores.query_mass()
        empty = mass == 0
        grads: list[Tensor] = []
        if at_once:
            log_sum, *grads = _sums_and_gradients(logits, shift, empty)
        else:
            log_sum = _sums(logits, shift)
        log_sum.masked_fill_(empty, 0)
        out = log_sum - mass.masked_fill(empty, 1).log()
        out.masked_fill_(empty, 0)
        ctx.logits, ctx.tau, ctx.shift = without_vectors(logits), tau, shift
        ctx.save_for_backward(logits.query, key, log_sum, empty, *grads)
        return scores.spread(out)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[Tensor | None, ...]:
        query, key, log_sum, empty, *grads = ctx.saved_tensors
        weight = same_weight(grad_outputs[0]) if grads else None
        if weight is not None:
            return None, None, None, (weight / ctx.tau) * grads[0], weight * grads[1]
        logits = replace(ctx.logits, query=query, key=key)
        slope = grad_outputs[0]
        if logits.rows is not None:
            slope = sum_of_rows(logits.rows, slope)
        grad_query, grad_key = _gradients(logits, ctx.shift, log_sum, slope.masked_fill(empty, 0))
        return None, None, None, grad_query / ctx.tau, grad_key


def _needs_shift(scores: LazyScores, tau: float) -> bool:
    """Whether the largest logit must be taken out of a sum of exponentials, to be sure."""
    if not scores.bounded:
        return True
    lowest = 0.0
    if scores.log_weight is not None:
        if scores.log_weight.device.type != "cpu":
            return True  # to look at it would make the host wait
        weighs = scores.log_weight > -torch.inf
        lowest = float(scores.log_weight.masked_fill(~weighs, 0).amin())  # the largest is 0
    return 1 / tau - lowest > LARGEST_LOGIT


def _sums_and_gradients(
    logits: LazyScores, shift: bool, empty: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Log-sums ``[Q]`` and the gradients to queries and keys of the sum over rows, in one pass.

    Rows of ``empty`` queries pass none.
    """
    query, log_weight = logits.query, logits.log_weight
    weight = query.new_ones(query.size(0))  # rows of each query
    if logits.rows is not None:
        weight = logits.rows.counts().to(query.dtype)
    weight.masked_fill_(empty, 0)
    total, share = torch.empty_like(weight), torch.empty_like(weight)
    top = torch.zeros_like(weight) if shift else None
    grad_query = torch.zeros_like(query)

    def visit_all(part: slice, tiles: TileScores, grad_key: Tensor) -> bool:
        own_top = None if top is None else top[part]
        slopes = tiles.log_sum_slopes(weight[part], total[part], own_top)
        return tiles.walk(part, slopes, RowGradients(share[part], grad_query[part], grad_key))

    def visit(part: slice, tile: Tensor, tiles: TileScores, grad_key: Tensor) -> None:
        if log_weight is not None:
            tile += log_weight
        if top is not None:
            top[part] = _top(tile)
            tile -= top[part, None]
        total[part] = tiles.exponentials(tile)
        share[part] = (weight[part] / total[part]).masked_fill_(total[part] == 0, 0)
        scaled = share[part, None] * query[part]
        tiles.add_gradients(tile, scaled, 0, tile.size(1), grad_query[part], grad_key)

    grad_key = walk_rows(logits, visit, visit_all)
    log_sum = total.log()
    if top is not None:
        log_sum += top
    return log_sum, grad_query.mul_(share[:, None]), grad_key


def _sums(logits: LazyScores, shift: bool) -> Tensor:
    """Log-sums, ``[Q]``; ``-inf`` where every key is dropped."""
    query, log_weight = logits.query, logits.log_weight

    def start() -> Tensor:
        return query.new_full(query.shape[:1], -torch.inf if shift else 0)

    def visit(part: slice, keys: slice, tile: Tensor, tiles: TileScores, sums: Tensor) -> None:
        if log_weight is not None:
            tile += log_weight[keys]
        if shift:
            top = _top(tile)
            tile -= top[:, None]
            sums[part] = torch.logaddexp(sums[part], tiles.exponentials(tile).log() + top)
        else:
            sums[part] += tiles.exponentials(tile)

    sums = torch.stack(walk_keys(logits, start, visit))
    return sums.logsumexp(0) if shift else sums.sum(0).log()


def _gradients(
    logits: LazyScores, shift: bool, log_sum: Tensor, slope: Tensor
) -> tuple[Tensor, Tensor]:
    """Gradients to queries and keys of the log-sums with the slopes ``[Q]``."""
    query, log_weight = logits.query, logits.log_weight
    grad_key = torch.zeros_like(logits.key)
    factor = (slope if shift else slope * (-log_sum).exp())[:, None]
    scaled = factor * query

    def visit(
        part: slice, keys: slice, tile: Tensor, tiles: TileScores, grad_query: Tensor
    ) -> None:
        if log_weight is not None:
            tile += log_weight[keys]
        if shift:
            tile -= log_sum[part, None]
        tiles.exponentials(tile)
        tiles.add_gradients(
            tile, scaled[part], keys.start, keys.stop, grad_query[part], grad_key[keys]
        )

    grad_query, *others = walk_keys(logits, lambda: torch.zeros_like(query), visit)
    for other in others:
        grad_query += other
    grad_query *= factor
    return grad_query, grad_key


def _top(tile: Tensor) -> Tensor:
    """Largest logit of each row, 0 where every key is dropped."""
    top = tile.amax(1)
    return top.masked_fill_(top == -torch.inf, 0)
