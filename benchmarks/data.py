"""Generated data: power-law popularity and activity, planted clusters."""

from __future__ import annotations

import torch
from torch import Tensor

from benchmarks.measure import Options
from pyg_bsl.data import RandomSplit, build_graph, load_dataset
from pyg_bsl.data.hetero import make_hetero
from pyg_bsl.types import BipartiteGraph

CLUSTERS, OWN, TAIL, TEST = 64, 0.7, 1.6, 0.2


def planted(users: int, items: int, pairs: int) -> BipartiteGraph:
    """A graph of about ``pairs`` interactions, a fifth of each user's held out as test.

    The activity of users and the popularity of items are Pareto (exponent 1.6, about that of
    Yelp2018); 7 of 10 interactions fall into the user's own cluster of items. Numbers of users and
    items are in no order.
    """
    generator = torch.Generator().manual_seed(0)

    def pareto(size: int) -> Tensor:
        return torch.rand(size, generator=generator, dtype=torch.double).pow(-1 / TAIL)

    activity = pareto(users).clamp(max=200)
    draws = (activity * (2 * pairs / activity.sum())).ceil().long()
    user = torch.arange(users).repeat_interleave(draws)
    # Items in the order of their clusters: a cluster is a stretch of the cumulated popularity.
    order = torch.randperm(items, generator=generator)
    edge = torch.cat([torch.zeros(1), pareto(items).clamp(max=200).cumsum(0)]).double()
    cut = edge[torch.linspace(0, items, CLUSTERS + 1).long()]
    home = torch.randint(CLUSTERS, (users,), generator=generator)[user]
    own = torch.rand(user.numel(), generator=generator) < OWN
    low = torch.where(own, cut[home], 0)
    high = torch.where(own, cut[home + 1], edge[-1])
    at = low + (high - low) * torch.rand(user.numel(), generator=generator, dtype=torch.double)
    item = order[torch.searchsorted(edge, at, right=True).sub_(1).clamp_(max=items - 1)]

    key = (user * items + item).unique()
    key = key[torch.randperm(key.numel(), generator=generator)[:pairs]]
    data = make_hetero(
        torch.stack([key // items, key % items]), users, items, name="planted clusters"
    )
    return build_graph(RandomSplit(test=TEST, seed=0)(data))


def large_graph(options: Options) -> BipartiteGraph:
    """The graph that is propagated and evaluated on: generated, of Yelp2018's size, or real."""
    if options.dataset is not None:
        return build_graph(load_dataset(options.dataset))
    return planted(300, 400, 6_000) if options.quick else planted(31_668, 38_048, 1_561_406)


def describe(graph: BipartiteGraph) -> str:
    """Name and size of a graph, for a note."""
    train = graph.train
    return (
        f"Graph: {graph.name}, {graph.num_users:,} users, {graph.num_items:,} items, "
        f"{train.num_pairs:,} training pairs"
    )
