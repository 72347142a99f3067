"""Numbering the nodes of a graph so that what is gathered together lies together."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

NUM_VECTORS = 8
NUM_CLUSTERS = 16


@dataclass(frozen=True)
class Clustered:
    r"""A symmetric sparse matrix whose nodes are numbered cluster by cluster.

    A product with a large graph waits for memory: the rows that a node gathers lie far apart. When
    the nodes that gather the same rows come one after the other, the rows are still in the cache.
    Only the order of the nodes changes: the neighbours of a node are summed in the order that
    they had, so that the product has the same bits.

    Args:
        order: The old number of each node, ``[V]``.
        rank: The new number of each node, ``[V]``.
        ptr: Row boundaries in the new order, ``[V + 1]``.
        col: Columns, in new numbers, ``[E]``.
        value: Values, ``[E]``.
    """

    order: Tensor
    rank: Tensor
    ptr: Tensor
    col: Tensor
    value: Tensor

    @classmethod
    @torch.no_grad()
    def of(cls, ptr: Tensor, col: Tensor, value: Tensor, cluster: Tensor) -> Clustered:
        """The matrix with row boundaries ``[V + 1]``, columns ``[E]`` and values ``[E]``."""
        counts = ptr.diff()
        order = cluster.argsort(stable=True)
        rank = order.argsort()
        new_ptr = F.pad(counts[order].cumsum(0), (1, 0))
        shift = (ptr[:-1][order] - new_ptr[:-1]).repeat_interleave(counts[order])
        at = shift + torch.arange(col.numel(), device=col.device)
        new_col = rank[col[at]]
        # Half the width of an index is half of what is read beside the rows.
        index = torch.int32 if col.numel() < 2**31 else torch.int64
        return cls(order, rank, new_ptr.to(index), new_col.to(index), value[at])

    def enter(self, x: Tensor) -> Tensor:
        """Rows ``[V, D]`` in the new order."""
        return x.index_select(0, self.order)

    def leave(self, x: Tensor) -> Tensor:
        """Rows ``[V, D]`` in the old order again."""
        return x.index_select(0, self.rank)


@torch.no_grad()
def find_clusters(ptr: Tensor, col: Tensor, value: Tensor) -> Tensor:
    r"""Clusters of nodes with many edges among them, ``[V]``.

    From `"Co-clustering documents and words using bipartite spectral graph partitioning"
    <https://doi.org/10.1145/502512.502550>`_: k-means on the leading eigenvectors of the
    normalised adjacency, here roughly, by a few steps of subspace iteration with
    :math:`\mathbf{I} + \mathbf{A}`. Users and items are clustered together.

    Args:
        ptr: Row boundaries, ``[V + 1]``.
        col: Columns, ``[E]``.
        value: Values, ``[E]``.
    """
    generator = torch.Generator(col.device).manual_seed(0)
    size, value = ptr.numel() - 1, value.float()
    x = torch.randn(size, NUM_VECTORS, generator=generator, dtype=torch.float32, device=col.device)
    for _ in range(5):
        for _ in range(4):
            x = x + weighted_sums(ptr, col, value, x)
        x = torch.linalg.qr(x).Q
    x = F.normalize(x)
    centers = x[torch.randperm(size, generator=generator, device=col.device)[:NUM_CLUSTERS]]
    for _ in range(10):
        cluster = (x @ centers.T).argmax(1)
        centers = F.normalize(torch.zeros_like(centers).index_add_(0, cluster, x))
    return cluster


def share_inside(ptr: Tensor, col: Tensor, cluster: Tensor) -> float:
    """Share of the entries whose row and column are in one cluster."""
    same = cluster.repeat_interleave(ptr.diff()) == cluster[col]
    return float(same.double().mean()) if same.numel() else 0.0


def weighted_sums(ptr: Tensor, col: Tensor, value: Tensor, x: Tensor) -> Tensor:
    """Product of a sparse matrix in compressed rows with the rows ``x``, ``[V, D]``."""
    return F.embedding_bag(
        col, x, ptr, mode="sum", per_sample_weights=value.to(x.dtype), include_last_offset=True
    )
