"""Other scores over the same negatives."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from pyg_bsl.ops.scores import DenseScores, Scores, at_least_float32, of_queries


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
