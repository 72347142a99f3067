"""Other scores over the same negatives, and values that all rows of a query share."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import torch
from torch import Tensor

from pyg_bsl.ops.scores import DenseScores, Scores, at_least_float32


def once_a_query(
    reduce: Callable[..., Tensor], scores: Scores, kernel: Callable[..., Tensor], *args: Tensor
) -> Tensor:
    """``reduce(scores, kernel, *args)`` where all rows of a query have the same arguments.

    Lazy scores are then reduced once a query, however many rows it stands for.

    Args:
        reduce: :func:`~pyg_bsl.ops.mean_map` or :func:`~pyg_bsl.ops.log_mean_exp_map`.
        scores: Dense or lazy scores of ``B`` rows.
        kernel: Elementwise function of the scores and of each argument.
        args: Values of each row, ``[B]``, the same in all rows of a query.

    Shapes:
        - **output:** ``[B]``
    """
    if isinstance(scores, DenseScores):
        return reduce(scores, kernel, *args)
    per_query = replace(scores, rows=None)
    return scores.spread(reduce(per_query, kernel, *(of_queries(scores, a) for a in args)))


def of_queries(scores: Scores, x: Tensor) -> Tensor:
    """Values of rows, ``[B, ...]``, as values of queries, ``[Q, ...]``: those of the first row.

    A query that stands for no row gets those of another one.
    """
    if isinstance(scores, DenseScores) or scores.rows is None:
        return x
    first = torch.tensor(scores.rows.bounds[:-1]).clamp_(max=x.size(0) - 1)
    return x.index_select(0, first.to(x.device, non_blocking=True))


def with_vectors(scores: Scores, query: Tensor, key: Tensor, *, bounded: bool = False) -> Scores:
    """Scores of other vectors over the same negatives, with the same drops and weights.

    Args:
        scores: Dense or lazy scores of ``B`` rows over ``N`` negatives.
        query: A vector of each row, ``[B, E]``, the same in all rows of a query.
        key: A vector of each negative, ``[N, E]``; ``[B, N, E]`` where each row has its own.
        bounded: Whether the new scores are known to lie in [-1, 1].
    """
    if isinstance(scores, DenseScores):
        values = _products(query, key).masked_fill(scores.values == -torch.inf, -torch.inf)
        return DenseScores(values, scores.log_weight)
    return replace(scores, query=of_queries(scores, query), key=key, bounded=bounded)


def add_scores(scores: Scores, tau: float, query: Tensor, key: Tensor) -> Scores:
    """Scores over ``tau`` plus those of other vectors; see :func:`with_vectors`.

    Lazy scores stay lazy: a sum of inner products is one of concatenated vectors.
    """
    if isinstance(scores, DenseScores):
        values = at_least_float32(scores.values) / tau + _products(query, key)
        return DenseScores(values, scores.log_weight)
    scaled = at_least_float32(scores.query) / tau
    both = torch.cat([scaled, of_queries(scores, query)], 1)
    return replace(scores, query=both, key=torch.cat([scores.key, key], 1), bounded=False)


def detached(scores: Scores) -> Scores:
    """The same scores without gradients."""
    if isinstance(scores, DenseScores):
        return replace(scores, values=scores.values.detach())
    return replace(scores, query=scores.query.detach(), key=scores.key.detach())


def num_negatives(scores: Scores) -> int:
    """Number of negatives, ``N``, the dropped ones among them."""
    return scores.values.size(1) if isinstance(scores, DenseScores) else scores.key.size(0)


def _products(query: Tensor, key: Tensor) -> Tensor:
    if key.dim() == 2:
        return query @ key.t()
    return (key @ query[:, :, None]).squeeze(2)
