"""Small random interactions, and a plain view of a HeteroData."""

from __future__ import annotations

import random
from collections import defaultdict

import torch
from torch import Tensor
from torch_geometric.data import HeteroData

from pyg_bsl.data.hetero import RATED_BY, RATES, make_hetero


def random_data(seed: int, num_users: int = 12, num_items: int = 9, share: float = 0.4):
    """Every user and every item has a pair; ratings 1..5; times with ties."""
    rng = random.Random(seed)
    pairs = {(u, rng.randrange(num_items)) for u in range(num_users)}
    pairs |= {(rng.randrange(num_users), i) for i in range(num_items)}
    every = [(u, i) for u in range(num_users) for i in range(num_items)]
    pairs |= {pair for pair in every if rng.random() < share}
    ordered = sorted(pairs)
    rng.shuffle(ordered)
    data = make_hetero(
        torch.tensor(ordered).T.contiguous(),
        num_users,
        num_items,
        user_ids=[f"u{u}" for u in range(num_users)],
        item_ids=[f"i{i}" for i in range(num_items)],
        name="random",
        rating=torch.tensor([float(rng.randint(1, 5)) for _ in ordered]),
        time=torch.tensor([rng.randint(0, 20) for _ in ordered]),
    )
    data["item"].title = [f"title {i}" for i in range(num_items)]
    data["item"].x = torch.arange(num_items) * 10
    return data


def named(data: HeteroData, key: str = "edge_index") -> list[tuple[str, str]]:
    """Pairs by raw id, in the order of the data."""
    users, items = data["user"].raw_id, data["item"].raw_id
    return [(users[u], items[i]) for u, i in data[RATES][key].T.tolist()]


def rows(data: HeteroData) -> list[tuple[str, str, float, int]]:
    """Training pairs with rating and time."""
    store = data[RATES]
    columns = zip(named(data), store.rating.tolist(), store.time.tolist(), strict=True)
    return [(user, item, rating, time) for (user, item), rating, time in columns]


def by_user(pairs: list[tuple]) -> dict[str, list[tuple]]:
    out: dict[str, list[tuple]] = defaultdict(list)
    for pair in pairs:
        out[pair[0]].append(pair)
    return out


def assert_consistent(data: HeteroData) -> None:
    """Reverse edges mirror the edges, ids are in range and node attributes agree."""
    pairs: Tensor = data[RATES].edge_index
    assert data[RATED_BY].edge_index.equal(pairs.flip(0))
    columns = [data[RATES][key] for key in ("rating", "time") if key in data[RATES]]
    assert all(column.numel() == pairs.size(1) for column in columns)
    for node in ("user", "item"):
        assert len(data[node].raw_id) == data[node].num_nodes
    assert data["item"].title == [f"title {raw[1:]}" for raw in data["item"].raw_id]
    assert data["item"].x.tolist() == [int(raw[1:]) * 10 for raw in data["item"].raw_id]
    for key in ("edge_index", "edge_label_index", "valid_edge_label_index"):
        if key in data[RATES]:
            assert bool((data[RATES][key] >= 0).all())
            assert data[RATES][key].dtype == torch.long
            assert bool((data[RATES][key][0] < data["user"].num_nodes).all())
            assert bool((data[RATES][key][1] < data["item"].num_nodes).all())


def snapshot(data: HeteroData) -> str:
    """Everything in the data, to see whether it was touched."""
    plain = [
        (key, value.tolist() if isinstance(value, Tensor) else value)
        for store in data.stores
        for key, value in store.items()
    ]
    return repr(plain)
