r"""Means and log-mean-exps of scores over negatives.

Every loss of the library is a positive term and one of these. For row :math:`b` with kept
negatives :math:`j`, weights :math:`w_j` and an elementwise kernel :math:`f`:

.. math::
    \mathrm{mean\_map}_b = \frac{\sum_j w_j f(s_{bj}, a_b)}{\sum_j w_j}, \qquad
    \mathrm{log\_mean\_exp\_map}_b = \log \frac{\sum_j w_j e^{f(s_{bj}, a_b)}}{\sum_j w_j}

Where all negatives of a row are dropped there is nothing to average, and the result is 0 with no
gradient. Dense scores take the plain path through autograd. Lazy scores are streamed in tiles
that stay in cache; no matrix of all scores is ever made, and the value and the gradients are those
of the plain path. Half-precision scores are reduced in float32.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from pyg_bsl.ops.fused import fused_log_mean_exp
from pyg_bsl.ops.power_sums import fused_log_mean_power
from pyg_bsl.ops.scores import DenseScores, LazyScores, Scores, at_least_float32, of_queries
from pyg_bsl.ops.stream import stream

Kernel = Callable[..., Tensor]


def mean_map(
    scores: Scores, kernel: Kernel, *args: Tensor, per_query: bool = False, alike: bool = True
) -> Tensor:
    """Mean over the negatives of ``kernel(score, *args)``.

    Args:
        scores: Dense or lazy scores of ``B`` rows.
        kernel: Elementwise function of the scores ``[b, n]`` and of each argument ``[b, 1]``.
        args: Values of each row, ``[B]``.
        per_query: Whether the arguments are the same in all rows of a query. Lazy scores are then
            reduced once a query, however many rows it stands for, as they are without arguments.
        alike: Whether the result goes into the loss with the same weight in all rows, as under a
            mean. It is a matter of speed alone: gradients over lazy scores are then made beside the
            values, and once more if this turns out wrong.

    Shapes:
        - **output:** ``[B]``
    """
    return _reduce(scores, kernel, args, False, per_query, alike)


def log_mean_exp_map(
    scores: Scores, kernel: Kernel, *args: Tensor, per_query: bool = False, alike: bool = True
) -> Tensor:
    """Log-mean-exp over the negatives of ``kernel(score, *args)``; see :func:`mean_map`."""
    return _reduce(scores, kernel, args, True, per_query, alike)


def log_mean_exp(scores: Scores, tau: float, *, alike: bool = True) -> Tensor:
    r"""Log-mean-exp over the negatives of :math:`s_{bj} / \tau`.

    It does not depend on the positive, so a query that stands for many rows is reduced once.

    Args:
        scores: Dense or lazy scores of ``B`` rows.
        tau: Temperature.
        alike: As in :func:`mean_map`.

    Shapes:
        - **output:** ``[B]``
    """
    if isinstance(scores, LazyScores):
        return fused_log_mean_exp(scores, tau, alike)
    scores = scores.with_largest_weight_1()
    return _log_mean_exp_dense(at_least_float32(scores.values) / tau, scores)


def log_mean_power(scores: Scores, pos: Tensor, power: float) -> Tensor:
    r"""Log-mean over the negatives of :math:`\mathrm{relu}(1 + (s_{bj} - s_b) / 2)^{power}`.

    Exact over a whole catalogue for many positives of a user at once when the power is a small
    whole number and scores are bounded (see :mod:`pyg_bsl.ops.power_sums`).

    Args:
        scores: Dense or lazy scores of ``B`` rows.
        pos: Positive scores, ``[B]``.
        power: The exponent, positive.

    Shapes:
        - **output:** ``[B]``

    Raises:
        ValueError: If there is not one positive score for each row.
    """
    if pos.shape != (scores.num_rows,):
        raise ValueError(
            f"'pos' must have one score for each of the {scores.num_rows} rows of 'scores' (got "
            f"shape {tuple(pos.shape)})"
        )
    if isinstance(scores, LazyScores) and scores.bounded and has_power_sums(power):
        return fused_log_mean_power(scores, pos, round(power))

    def log_power(s: Tensor, p: Tensor) -> Tensor:
        # The floor keeps log(relu(0)) finite, and its gradient is zero.
        return power * (1 + (s - p) / 2).clamp_min(torch.finfo(s.dtype).tiny).log()

    return log_mean_exp_map(scores, log_power, pos)


def has_power_sums(power: float) -> bool:
    """Whether :func:`log_mean_power` at this power needs one pass a query, not one a row.

    It takes whole numbers up to 40: each adds two passes over a tile, and rounding grows with it.
    """
    return abs(power - round(power)) < 1e-6 and 1 <= round(power) <= 40


def _reduce(
    scores: Scores,
    kernel: Kernel,
    args: tuple[Tensor, ...],
    log: bool,
    per_query: bool,
    alike: bool,
) -> Tensor:
    if isinstance(scores, DenseScores):
        return _reduce_dense(scores.with_largest_weight_1(), kernel, args, log)
    if per_query:
        args = tuple(of_queries(scores, x) for x in args)
    per_query = per_query or not args
    return stream(scores, kernel, args, log, per_query=per_query, alike=alike)


def _reduce_dense(
    scores: DenseScores, kernel: Kernel, args: tuple[Tensor, ...], log: bool
) -> Tensor:
    values = at_least_float32(scores.values)  # [B, N]
    drop = values == -torch.inf
    x = kernel(values.masked_fill(drop, 0), *(at_least_float32(a)[:, None] for a in args))
    if log:
        return _log_mean_exp_dense(x.masked_fill(drop, -torch.inf), scores)
    weight = (~drop).to(x.dtype)
    if scores.log_weight is not None:
        weight = weight * scores.log_weight.to(x.dtype).exp()
    total = weight.sum(1)
    return (weight * x).sum(1) / total.masked_fill(total == 0, 1)


def _log_mean_exp_dense(logits: Tensor, scores: DenseScores) -> Tensor:
    """Log-mean-exp of ``logits``, which are ``-inf`` where the scores are; 0 if all are."""
    if scores.log_weight is not None:
        logits = logits + scores.log_weight.to(logits.dtype)
    mass = scores.mass()
    empty = mass == 0
    # The gradient of logsumexp is as exact as its value: most exact where the largest logit is 0.
    top = logits.detach().amax(1).masked_fill(empty, 0)
    log_sum = (logits - top[:, None]).masked_fill(empty[:, None], 0).logsumexp(1)
    return (log_sum + top - mass.masked_fill(empty, 1).log()).masked_fill(empty, 0)
