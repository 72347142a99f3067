"""Small graphs, and what they are as dense matrices."""

import warnings

import torch
from torch import Tensor

from pyg_bsl.types import Batch, BipartiteGraph, Embeddings, Ragged, UserItems

NUM_USERS, NUM_ITEMS = 6, 8
COLD_USER, COLD_ITEM = 4, 5


def interactions() -> Tensor:
    """Who met what, ``[NUM_USERS, NUM_ITEMS]``; one user and one item met nobody."""
    met = torch.rand(NUM_USERS, NUM_ITEMS, generator=torch.Generator().manual_seed(1)) < 0.5
    met[COLD_USER] = False
    met[:, COLD_ITEM] = False
    return met


def dense_adjacency(met: Tensor) -> Tensor:
    """The normalised adjacency of users followed by items, edge by edge, in float64."""
    num_users, num_items = met.shape
    adjacency = torch.zeros(num_users + num_items, num_users + num_items, dtype=torch.float64)
    for user in range(num_users):
        for item in range(num_items):
            if met[user, item]:
                weight = (int(met[user].sum()) * int(met[:, item].sum())) ** -0.5
                adjacency[user, num_users + item] = weight
                adjacency[num_users + item, user] = weight
    return adjacency


def to_csr(matrix: Tensor) -> Tensor:
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Sparse CSR tensor support is in beta")
        return matrix.to_sparse_csr()


def make_graph(dtype: torch.dtype = torch.float64) -> BipartiteGraph:
    met = interactions()
    users, items = met.nonzero(as_tuple=True)
    return BipartiteGraph(
        train=UserItems.from_pairs(users, items, NUM_USERS, NUM_ITEMS),
        valid=None,
        test=None,
        adjacency=to_csr(dense_adjacency(met).to(dtype)),
    )


def pair_batch(pairs: list[tuple[int, int]]) -> Batch:
    """Single pairs."""
    users, items = torch.tensor(pairs).t().contiguous()
    count = len(pairs)
    return Batch(users, Ragged(tuple(range(count + 1)), torch.arange(count), items))


def nodes_of(emb: Embeddings) -> Tensor:
    """Users followed by items."""
    return torch.cat([emb.user, emb.item])
