"""What is found out about a sparse matrix that is used again and again."""

from __future__ import annotations

from functools import cached_property

from torch import Tensor

from pyg_bsl.ops.clustering import Clustered, find_clusters, share_inside
from pyg_bsl.ops.native_layers import NativeLayers

# When nodes are clustered, found on Yelp2018, Gowalla, Amazon-Electronic and MovieLens-1M.
MIN_NODES = 2**15  # the rows of fewer nodes stay in the cache in any order
MIN_DEGREE = 16  # rows gathered for each row that is renumbered
MIN_SHARE = 0.5  # of the edges inside a cluster: a graph without clusters gains nothing
PATIENCE = 8  # uses of a matrix before it is clustered, which costs about as much


class Kept:
    """A symmetric sparse matrix in other forms, each made when it is first called for.

    Args:
        ptr: Row boundaries, ``[V + 1]``.
        col: Columns, ``[E]``.
        value: Values, ``[E]``.
    """

    def __init__(self, ptr: Tensor, col: Tensor, value: Tensor) -> None:
        # A view of the values would keep the matrix alive.
        self.ptr, self.col, self.value = ptr, col, value.detach()
        self.uses = 0
        self._native: dict[tuple[int | None, bool], NativeLayers | None] = {}

    @cached_property
    def cluster(self) -> Tensor:
        """The cluster of each node, ``[V]``."""
        return find_clusters(self.ptr, self.col, self.value)

    @property
    def is_clustered(self) -> bool:
        """Whether it has been used often enough for clusters to pay, which it has."""
        return self.uses > PATIENCE and self._has_clusters

    @cached_property
    def clustered(self) -> Clustered:
        """With nodes numbered by cluster."""
        return Clustered.of(self.ptr, self.col, self.value, self.cluster)

    def native(self, num_users: int | None) -> NativeLayers | None:
        """For compiled code, if there is one for such a matrix; numbered by cluster if that pays.

        Args:
            num_users: Number of nodes on the first side of the bipartite graph, if known.
        """
        key = num_users, self.is_clustered
        if key not in self._native:
            cluster = self.cluster if self.is_clustered else None
            native = NativeLayers.of(self.ptr, self.col, self.value, num_users, cluster)
            self._native.pop((num_users, not key[1]), None)  # as it was before the clusters
            self._native[key] = native
        return self._native[key]

    @cached_property
    def _has_clusters(self) -> bool:
        size = self.ptr.numel() - 1
        large = size >= MIN_NODES and self.col.numel() >= MIN_DEGREE * size
        return large and share_inside(self.ptr, self.col, self.cluster) >= MIN_SHARE
