"""From embeddings and a batch to the scores that a loss takes."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import replace
from typing import Literal

import torch
from torch import Tensor

from pyg_bsl.ops import DenseScores, LazyScores, Scores
from pyg_bsl.ops.unit_rows import unit_rows
from pyg_bsl.types import Batch, Embeddings, Negatives

GATHER_COST = 16
"""Scoring an item that was gathered costs about as much as this many inside a matrix product."""


def score(
    emb: Embeddings,
    batch: Batch,
    negatives: Negatives,
    similarity: Literal["cosine", "dot"] = "cosine",
    gemm: torch.dtype | None = None,
) -> tuple[Tensor, Scores]:
    """Scores of a batch: positives ``[B]`` and negatives of ``B`` rows.

    Shared negatives and the whole catalogue come as lazy scores, negatives per row in full, and so
    do the hardest ones of any of them.

    Args:
        emb: Embeddings of all users and items.
        batch: The positive pairs.
        negatives: The negatives a sampler chose for them.
        similarity: ``"cosine"`` or ``"dot"`` (inner product).
        gemm: Type of the numbers in matrix products of lazy scores (see
            :class:`~pyg_bsl.ops.LazyScores`).
    """
    # Rows are taken by index_select: on several threads the gradient of user[queries] is not the
    # same to the bit from run to run, and takes four times as long.
    user, item = emb.user.index_select(0, batch.queries), emb.item
    if similarity == "cosine":
        user, item = unit_rows(user), unit_rows(item)
    # Every query has a positive: as many rows as queries means that they are the same.
    rows = None if batch.items.numel() == user.size(0) else batch.positives
    per_row = user if rows is None else user.index_select(0, rows.row)
    pos = (per_row * item.index_select(0, batch.items)).sum(1)
    neg: Scores
    if negatives.items is not None and negatives.items.dim() == 2:
        neg = _score_per_row(per_row, item, negatives)
    else:
        neg = LazyScores(
            query=user,
            key=item if negatives.items is None else item.index_select(0, negatives.items),
            rows=rows,
            drop=negatives.drop,
            log_weight=negatives.log_weight,
            bounded=similarity == "cosine",
            gemm=gemm,
        )
    if negatives.keep_hardest is not None:
        neg = _hardest(neg, negatives.keep_hardest)
    return pos, neg


def context(
    emb: Embeddings, batch: Batch, negatives: Negatives, needs: Collection[str]
) -> dict[str, Tensor | None]:
    """What a loss needs to know of a batch beside its scores, by name (:attr:`Loss.needs`)."""
    fields: dict[str, Callable[[], Tensor | None]] = {
        "users": lambda: batch.users,
        "items": lambda: batch.items,
        "negatives": lambda: negatives.items,
        "user_vectors": lambda: emb.user.index_select(0, batch.users),
        "item_vectors": lambda: emb.item.index_select(0, batch.items),
    }
    return {name: fields[name]() for name in needs}


def _score_per_row(user: Tensor, item: Tensor, negatives: Negatives) -> DenseScores:
    items = negatives.items
    assert items is not None
    if item.size(0) <= GATHER_COST * items.size(1):
        values = (user @ item.t()).gather(1, items)
    else:
        gathered = item.index_select(0, items.flatten()).view(*items.shape, -1)
        values = (gathered @ user[:, :, None]).squeeze(2)
    if isinstance(negatives.drop, Tensor):
        values = values.masked_fill(negatives.drop, -float("inf"))
    return DenseScores(values, negatives.log_weight)


def _hardest(scores: Scores, count: int) -> DenseScores:
    """The ``count`` highest scores of each row; shared negatives are looked at once a query."""
    pool = scores if isinstance(scores, DenseScores) else replace(scores, rows=None).dense()
    best = pool.values.topk(min(count, pool.values.size(1)), dim=1, sorted=False)
    values, weight = best.values, pool.log_weight
    if weight is not None:
        weight = weight.expand_as(pool.values).gather(1, best.indices)
    if isinstance(scores, LazyScores):
        values, weight = scores.spread(values), None if weight is None else scores.spread(weight)
    return DenseScores(values, weight)
