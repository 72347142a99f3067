"""Evaluation of embeddings by named protocols, and the recommendations themselves."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from pyg_bsl.metrics.ranking import METRICS, parse_metric, rank_metrics
from pyg_bsl.names import pick
from pyg_bsl.ops.topk import masked_topk
from pyg_bsl.types import BipartiteGraph, Embeddings, UserItems

Similarity = Literal["cosine", "dot"]


@dataclass(frozen=True)
class Protocol:
    """How results were measured; its name is written beside every result.

    When validating, the training pairs alone are masked, in every protocol.

    Args:
        name: Name, the key in :data:`PROTOCOLS`.
        description: The protocol in a sentence.
        mask_valid: Whether the validation pairs are masked too when testing; else they stay
            candidates and take places in the lists.
        average: Whether means run over the users that have ``"targets"`` or over ``"all"`` users,
            those without targets counting 0.
        select_on: The split on which epochs and models are chosen. ``"test"`` makes the results
            optimistic: say so beside them.
        source: Where the protocol comes from.
    """

    name: str
    description: str
    mask_valid: bool
    average: Literal["targets", "all"]
    select_on: Literal["valid", "test"]
    source: str


PROTOCOLS: Mapping[str, Protocol] = {
    protocol.name: protocol
    for protocol in (
        Protocol(
            "holdout",
            "Chosen on validation; the test masks training and validation pairs; mean over the "
            "users that have test items.",
            mask_valid=True,
            average="targets",
            select_on="valid",
            source="the clean default",
        ),
        Protocol(
            "psl-iid",
            "Chosen on validation; the test masks the remaining training pairs only, so that "
            "validation pairs stay candidates (lower than 'holdout'); mean over all users.",
            mask_valid=False,
            average="all",
            select_on="valid",
            source="PSL, independent and identically distributed (arXiv:2411.00163, Table 1)",
        ),
        Protocol(
            "psl-ood",
            "No validation set: the epoch is chosen on the test set itself; the test masks "
            "training pairs; mean over all users.",
            mask_valid=False,
            average="all",
            select_on="test",
            source="PSL, out of distribution (arXiv:2411.00163, Table 2)",
        ),
        Protocol(
            "bsl-released",
            "Validation is the test set, as in the authors' released code; the test masks "
            "training pairs; mean over the users that have test items.",
            mask_valid=False,
            average="targets",
            select_on="test",
            source="BSL, released code (arXiv:2312.12882)",
        ),
    )
}
"""The protocols by name."""


def evaluate(
    emb: Embeddings,
    graph: BipartiteGraph,
    split: str = "test",
    k: int | Sequence[int] = (10, 20),
    protocol: str | Protocol = "holdout",
    similarity: Similarity | None = None,
    metrics: Sequence[str] = tuple(METRICS),
    block_size: int | None = None,
) -> dict[str, float]:
    """Metrics of the embeddings on held-out interactions.

    Every user that has targets is given one list of the largest K over the whole catalogue, the
    protocol's known pairs masked, and all metrics are of these lists. Users without targets get
    no list: they count for coverage and average popularity in no protocol, and for the means as
    :attr:`Protocol.average` says.

    Args:
        emb: One vector for every user and item.
        graph: Where the embeddings belong.
        split: ``"test"``, or ``"valid"`` for what the protocol chooses epochs on (which may be
            the test split: :attr:`Protocol.select_on`).
        k: Lengths of the lists. One beyond the catalogue ranks all of it.
        protocol: Masks and averages, by name (:data:`PROTOCOLS`) or itself.
        similarity: Rank by ``"cosine"`` (a zero vector scores 0) or inner product (``"dot"``);
            :obj:`None`: what the embeddings are meant for, else cosine.
        metrics: Names of metrics (:mod:`pyg_bsl.metrics.ranking` defines them).
        block_size: Number of users scored at once; does not change the result, but for scores that
            differ by less than their rounding.

    Returns:
        ``{"recall@10": ..., "recall@20": ..., "ndcg@10": ...}``.

    Raises:
        TypeError: If ``emb`` or ``graph`` is something else, such as the backbone.
        ValueError: If a name is unknown, the split is missing or empty, or embeddings do not fit
            the graph or are not finite.

    Example:
        >>> from pyg_bsl.types import BipartiteGraph, Embeddings, UserItems
        >>> train = UserItems.from_pairs(torch.tensor([0, 1]), torch.tensor([0, 1]), 2, 3)
        >>> test = UserItems.from_pairs(torch.tensor([0, 1]), torch.tensor([1, 2]), 2, 3)
        >>> graph = BipartiteGraph(train, None, test, adjacency=torch.empty(0))
        >>> evaluate(Embeddings(torch.eye(2), torch.ones(3, 2)), graph, k=1, metrics=["recall"])
        {'recall@1': 0.5}
    """
    if isinstance(protocol, str):
        protocol = pick("protocol", protocol, PROTOCOLS)
    if split not in ("valid", "test"):
        raise ValueError(f"'split' must be one of 'valid', 'test' (got '{split}')")
    cuts = [k] if isinstance(k, int) else list(k)
    if not cuts or not metrics:
        raise ValueError(f"Give at least one K and one metric (got k={cuts}, metrics={metrics})")
    for name in metrics:
        for cut in cuts:
            parse_metric(f"{name}@{cut}")
    user, item = _vectors(emb, graph, similarity)

    targets = graph.split(protocol.select_on if split == "valid" else split)
    users = (targets.counts > 0).nonzero().view(-1)
    if users.numel() == 0:
        raise ValueError(f"The data set '{graph.name}' has no {split} pairs to evaluate on")
    with_valid = split == "test" and protocol.mask_valid
    seen = (_seen(graph, "valid") if with_valid else graph.train).select(users)
    _, items = masked_topk(user[users], item, max(cuts), seen, block_size=block_size)
    return rank_metrics(
        items,
        targets.select(users),
        graph.train.item_counts,
        metrics=metrics,
        k=cuts,
        num_users=graph.num_users if protocol.average == "all" else None,
    )


def recommend(
    emb: Embeddings,
    graph: BipartiteGraph,
    users: Tensor | Sequence[int],
    k: int = 20,
    similarity: Similarity | None = None,
    exclude_seen: bool = True,
) -> tuple[Tensor, Tensor]:
    r"""The best items of each user, best first.

    Args:
        emb: One vector for every user and item.
        graph: Where the embeddings belong.
        users: Ids of users.
        k: Length of the lists.
        similarity: Rank by ``"cosine"`` or inner product (``"dot"``); :obj:`None`: what the
            embeddings are meant for, else cosine.
        exclude_seen: Leave out all that the graph knows of each user: training, validation and
            test items. To look at hits and misses on the test items, use :func:`evaluate`.

    Shapes:
        - **output:** items :math:`(Q, k)`, :obj:`-1` where fewer than :math:`k` remain, and
          their scores :math:`(Q, k)`, :math:`-\infty` there

    Raises:
        TypeError: If ``emb`` or ``graph`` is something else, such as the backbone.
        ValueError: If a user is unknown or no whole number, or embeddings do not fit the graph or
            are not finite.

    Example:
        >>> from pyg_bsl.types import BipartiteGraph, Embeddings, UserItems
        >>> train = UserItems.from_pairs(torch.tensor([0, 1]), torch.tensor([0, 1]), 2, 3)
        >>> graph = BipartiteGraph(train, None, None, adjacency=torch.empty(0))
        >>> recommend(Embeddings(torch.eye(2), torch.ones(3, 2)), graph, [1], k=2)[0]
        tensor([[0, 2]])
    """
    user, item = _vectors(emb, graph, similarity)
    if not isinstance(users, Tensor) and any(isinstance(each, str) for each in users):
        raise ValueError(
            "'users' must be the graph's own numbers of users (got text): the number of a raw id "
            "is graph.user_ids.index(id)"
        )
    users = torch.as_tensor(users, device=user.device).view(-1)
    if users.numel() > 0 and (users.dtype == torch.bool or users.is_floating_point()):
        raise ValueError(
            f"'users' must be numbers of users, whole ones (got {users.dtype}): those of a mask "
            "are mask.nonzero().view(-1)"
        )
    users = users.long()
    unknown = users[(users < 0) | (users >= graph.num_users)]
    if unknown.numel() > 0:
        raise ValueError(
            f"Users are numbered from 0 to {graph.num_users - 1} (got {unknown[0].item()})"
        )
    seen = _seen(graph, "valid", "test").select(users) if exclude_seen else None
    scores, items = masked_topk(user[users], item, k, seen)
    return items, scores


def _seen(graph: BipartiteGraph, *more: Literal["valid", "test"]) -> UserItems:
    """The training pairs of each user, and those of the other splits asked for."""
    parts = [graph.train, *(rows for split in more if (rows := getattr(graph, split)) is not None)]
    users = torch.cat([rows.users for rows in parts])
    items = torch.cat([rows.items for rows in parts])
    return UserItems.from_pairs(users, items, graph.num_users, graph.num_items)


def _vectors(
    emb: Embeddings, graph: BipartiteGraph, similarity: Similarity | None
) -> tuple[Tensor, Tensor]:
    """User and item vectors whose inner products are the scores, at least float32."""
    if not isinstance(emb, Embeddings) or not isinstance(graph, BipartiteGraph):
        raise TypeError(
            f"Evaluation takes Embeddings and a BipartiteGraph (got {type(emb).__name__} and "
            f"{type(graph).__name__}): backbone(graph) gives the one, build_graph(data) the other"
        )
    if similarity is None:
        similarity = emb.similarity or "cosine"
    if similarity not in ("cosine", "dot"):
        raise ValueError(f"'similarity' must be one of 'cosine', 'dot' (got '{similarity}')")
    out = []
    for side, vectors, count in (
        ("user", emb.user.detach(), graph.num_users),
        ("item", emb.item.detach(), graph.num_items),
    ):
        if vectors.dim() != 2 or vectors.size(0) != count:
            raise ValueError(
                f"The graph has {count} {side}s, so the {side} embeddings must be [{count}, D] "
                f"(got {list(vectors.shape)})"
            )
        if vectors.device != graph.train.ptr.device:
            raise ValueError(
                f"The {side} embeddings are on '{vectors.device}' and the graph on "
                f"'{graph.train.ptr.device}': move one with .to(device)"
            )
        if not vectors.isfinite().all():
            raise ValueError(
                f"The {side} embeddings hold NaN or infinite values: the training diverged"
            )
        vectors = vectors.to(torch.promote_types(vectors.dtype, torch.float32))
        out.append(F.normalize(vectors, dim=1) if similarity == "cosine" else vectors)
    return out[0], out[1]
