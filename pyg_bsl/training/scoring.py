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

    Shared negatives and the whole catalogue come as lazy scores, negatives per row in full. All
    that are given are scored: :func:`hardest` comes first.

    Args:
        emb: Embeddings of all users and items.
        batch: The positive pairs.
        negatives: The negatives a sampler chose for them.
        similarity: ``"cosine"`` or ``"dot"`` (inner product).
        gemm: Type of the numbers in the matrix products of the gradients of lazy scores (see
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
    if negatives.items is not None and negatives.items.dim() == 2:
        return pos, _score_per_row(per_row, item, negatives)
    key = item if negatives.items is None else item.index_select(0, negatives.items)
    return pos, LazyScores(
        query=user,
        key=key,
        rows=rows,
        drop=negatives.drop,
        log_weight=negatives.log_weight,
        bounded=similarity == "cosine",
        gemm=gemm,
    )


@torch.no_grad()
def hardest(
    emb: Embeddings,
    batch: Batch,
    negatives: Negatives,
    similarity: Literal["cosine", "dot"] = "cosine",
) -> Negatives:
    """The negatives that each row keeps: a pass over a pool before the one that trains.

    Args:
        emb: Embeddings of all users and items.
        batch: The positive pairs.
        negatives: The pool. If ``keep_hardest`` asks for nothing, it is the result.
        similarity: Scores by which negatives are hard.
    """
    if negatives.keep_hardest is None:
        return negatives
    scores = score(emb, batch, negatives, similarity)[1]
    # Shared negatives are looked at once a query.
    pool = scores if isinstance(scores, DenseScores) else replace(scores, rows=None).dense()
    best = pool.values.topk(min(negatives.keep_hardest, pool.values.size(1)), sorted=False)
    chosen, drop = best.indices, best.values == -torch.inf
    if isinstance(scores, LazyScores):
        chosen, drop = scores.spread(chosen), scores.spread(drop)

    def of_chosen(x: Tensor) -> Tensor:
        return x[chosen] if x.dim() == 1 else x.gather(1, chosen)

    items, weight = negatives.items, negatives.log_weight
    return Negatives(
        chosen if items is None else of_chosen(items),
        drop,
        None if weight is None else of_chosen(weight),
    )


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
