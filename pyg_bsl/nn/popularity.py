"""Popularity, the baseline."""

from __future__ import annotations

from typing import Literal

from pyg_bsl.nn.backbone import Backbone
from pyg_bsl.types import BipartiteGraph, Embeddings


class Popularity(Backbone):
    r"""Everybody gets what most users took: the baseline that learns nothing.

    .. math::
        \mathbf{e}_u = 1, \qquad \mathbf{e}_i = n_i

    with the number :math:`n_i` of training interactions of item :math:`i`. To be ranked by inner
    product; it has no parameters to train.

    Args:
        num_users: Number of users.
        num_items: Number of items.

    Example:
        >>> Popularity(671, 2000)
        Popularity(671, 2000)
    """

    similarity: Literal["cosine", "dot"] | None = "dot"

    def __init__(self, num_users: int, num_items: int) -> None:
        super().__init__(num_users, num_items, embedding_dim=1)

    def forward(self, graph: BipartiteGraph) -> Embeddings:
        """One for every user, ``[num_users, 1]``; the counts of the items, ``[num_items, 1]``."""
        counts = graph.train.item_counts.float()
        return Embeddings(counts.new_ones(self.num_users, 1), counts.unsqueeze(1))

    def reset_parameters(self) -> None:
        """Nothing to do."""
