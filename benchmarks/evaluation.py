"""Exact evaluation: Recall@20 and NDCG@20 of all users that have test items.

- *blocks, fp32 and topk*: scores of 1,024 users at a time, training items masked, ``topk``, and the
  library's metrics of the lists.
- *a user at a time*: scores, mask, ``topk`` and metrics in a Python loop over users, as released
  code does; measured on a part of the users.
- *library*: ``pyg_bsl.evaluate``.

The vectors are those of two epochs of MF with SL, for the speed of an exact evaluation may depend
on how scores lie. The metrics of all ways must be equal.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

import torch
import torch.nn.functional as F

from benchmarks.data import describe, large_graph
from benchmarks.measure import Options, Table, medians
from pyg_bsl import Trainer, evaluate
from pyg_bsl.losses import SL
from pyg_bsl.metrics.ranking import rank_metrics
from pyg_bsl.nn import MF
from pyg_bsl.types import BipartiteGraph, Embeddings, UserItems

K, METRICS, BLOCK = 20, ("recall", "ndcg"), 1_024
Metrics = dict[str, float]


def library(emb: Embeddings, graph: BipartiteGraph) -> Metrics:
    """As the library does it."""
    return evaluate(emb, graph, k=K, metrics=METRICS)


def blocks(emb: Embeddings, graph: BipartiteGraph) -> Metrics:
    """Plain PyTorch, a block of users at a time."""
    assert graph.test is not None
    user, item = F.normalize(emb.user), F.normalize(emb.item)
    queries = (graph.test.counts > 0).nonzero().view(-1)
    lists = []
    for part in queries.split(BLOCK):
        scores = user[part] @ item.t()
        seen = graph.train.select(part)
        scores[seen.users, seen.items] = -torch.inf
        lists.append(scores.topk(K).indices)
    targets, popularity = graph.test.select(queries), graph.train.item_counts
    return rank_metrics(torch.cat(lists), targets, popularity, metrics=METRICS, k=[K])


def one_by_one(emb: Embeddings, graph: BipartiteGraph) -> Metrics:
    """A user at a time, in Python."""
    assert graph.test is not None
    user, item = F.normalize(emb.user), F.normalize(emb.item)
    discount = [1 / math.log2(rank + 2) for rank in range(K)]
    recall, ndcg = [], []
    for u in (graph.test.counts > 0).nonzero().view(-1).tolist():
        scores = item @ user[u]
        scores[graph.train.items[graph.train.ptr[u] : graph.train.ptr[u + 1]]] = -torch.inf
        targets = set(graph.test.items[graph.test.ptr[u] : graph.test.ptr[u + 1]].tolist())
        hits = [float(i in targets) for i in scores.topk(K).indices.tolist()]
        recall.append(sum(hits) / len(targets))
        gain = sum(hit * weight for hit, weight in zip(hits, discount, strict=True))
        ndcg.append(gain / sum(discount[: len(targets)]))
    return {
        f"recall@{K}": math.fsum(recall) / len(recall),
        f"ndcg@{K}": math.fsum(ndcg) / len(ndcg),
    }


WAYS: dict[str, Callable[[Embeddings, BipartiteGraph], Metrics]] = {
    "a user at a time": one_by_one,
    "blocks, fp32 and topk": blocks,
    "library": library,
}


def some_users(graph: BipartiteGraph, count: int) -> BipartiteGraph:
    """The graph with the test items of about ``count`` users only, spread over all."""
    assert graph.test is not None
    test = graph.test
    keep = test.users % max(1, graph.num_users // count) == 0
    pairs = test.users[keep], test.items[keep]
    return replace(graph, test=UserItems.from_pairs(*pairs, graph.num_users, graph.num_items))


def trained(graph: BipartiteGraph) -> Embeddings:
    """Vectors after two epochs."""
    model = MF(graph.num_users, graph.num_items)
    Trainer(model, SL(tau=0.2)).fit(replace(graph, test=None, valid=graph.test), 2)
    return model(graph).detach()


def check_equal(found: dict[str, Metrics]) -> None:
    """Raise unless all metrics are the same, but for the rounding of sums."""
    first, *others = found.values()
    for other in others:
        for key, value in first.items():
            if not math.isclose(value, other[key], rel_tol=1e-5):
                raise AssertionError(f"The metrics differ: {found}")


def run(options: Options) -> list[Table]:
    """Time every way."""
    graph = large_graph(options)
    emb = trained(graph)
    part = some_users(graph, 2_048)
    ways = {name: (way, part if way is one_by_one else graph) for name, way in WAYS.items()}
    check_equal({name: way(emb, part) for name, (way, _) in ways.items()})
    check_equal({name: ways[name][0](emb, graph) for name in ("library", "blocks, fp32 and topk")})
    seconds = medians({key: lambda w=w: w[0](emb, w[1]) for key, w in ways.items()}, options)
    rates = {}
    for name, (_, on) in ways.items():
        assert on.test is not None
        rates[name] = int((on.test.counts > 0).sum()) / seconds[name]
    rows = [
        [name, f"{rate:,.0f}", f"{rates['library'] / rate:.1f}"] for name, rate in rates.items()
    ]
    values = ", ".join(f"{key} {value:.6f}" for key, value in library(emb, graph).items())
    note = f"{describe(graph)}, d = 64. Metrics are equal: {values}."
    return [Table(["way", "users a second", "times slower than the library"], rows, note)]
