"""SimpleX."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import nn

from pyg_bsl.nn._checks import check_propagation, check_share
from pyg_bsl.nn.backbone import EmbeddingBackbone, Init
from pyg_bsl.ops.propagation import Method, propagate
from pyg_bsl.space import Choice, Space
from pyg_bsl.types import BipartiteGraph, Embeddings


class SimpleX(EmbeddingBackbone):
    r"""SimpleX: a user is its own vector and the mean of the items it met.

    From `"SimpleX: A Simple and Strong Baseline for Collaborative Filtering"
    <https://arxiv.org/abs/2109.12613>`_, its behaviour aggregation with average pooling, over all
    training items of a user:

    .. math::
        \mathbf{h}_u = \gamma \mathbf{p}_u + (1 - \gamma)
        \Big( \frac{1}{|N_u|} \sum_{i \in N_u} \mathbf{q}_i \Big) \mathbf{V}, \qquad
        \mathbf{h}_i = \mathbf{q}_i

    The paper's own loss is CCL, on cosines. The lengths of the learned vectors are weights, of an
    item in the histories and of a user beside its own. At length 1 (``unit_norm=True`` of a
    trainer) :math:`\gamma` is the weight of the user's own vector whatever its history, and a
    varied history counts less than one of a kind, as its mean is shorter.

    Args:
        num_users: Number of users.
        num_items: Number of items.
        embedding_dim: Size of an embedding.
        gamma: Weight :math:`\gamma` of the user's own vector; at 1 this is
            :class:`~pyg_bsl.nn.MF`.
        init: How the vectors start: ``"xavier"`` (uniform, Glorot), ``"normal"`` or ``"svd"``.
        init_std: Standard deviation of ``"normal"``.
        propagation: Who multiplies with the adjacency, as ``method`` of
            :func:`~pyg_bsl.ops.propagation.propagate`; the numbers are the same.

    Example:
        >>> SimpleX(671, 2000)
        SimpleX(671, 2000, embedding_dim=64, gamma=0.5, propagation=auto)
    """

    search_space: ClassVar[dict[str, Space]] = {
        "gamma": Choice((0.0, 0.1, 0.3, 0.5, 0.7, 0.9, 1.0)),
    }

    def __init__(
        self,
        num_users: int,
        num_items: int,
        *,
        embedding_dim: int = 64,
        gamma: float = 0.5,
        init: Init = "xavier",
        init_std: float = 0.1,
        propagation: Method = "auto",
    ) -> None:
        super().__init__(
            num_users, num_items, embedding_dim=embedding_dim, init=init, init_std=init_std
        )
        check_share("gamma", gamma)
        check_propagation(propagation)
        self.gamma = gamma
        self.propagation = propagation
        self.weight = nn.Parameter(torch.empty(embedding_dim, embedding_dim))
        nn.init.xavier_uniform_(self.weight)

    def reset_parameters(self) -> None:
        """Draw the vectors and the matrix anew."""
        self.reset_embeddings()
        nn.init.xavier_uniform_(self.weight)

    def forward(self, graph: BipartiteGraph) -> Embeddings:
        """Users with what they met mixed in, and the learned vectors of the items."""
        train, item = graph.train, self.item_embedding
        # The adjacency has 1 / sqrt(d_u d_i): a mean over items has 1 / d_u.
        by_user, by_item = (
            counts.clamp(min=1).to(item.dtype).sqrt().unsqueeze(1)
            for counts in (train.counts, train.item_counts)
        )
        nothing = torch.zeros_like(self.user_embedding)
        sent = torch.cat([nothing, by_item * item])
        sums = propagate(graph.adjacency, sent, method=self.propagation)
        history = self.split(sums).user / by_user
        user = self.gamma * self.user_embedding + (1 - self.gamma) * history @ self.weight
        return Embeddings(user, item)

    def extra_repr(self) -> str:
        """The options in :func:`repr`."""
        return (
            f"embedding_dim={self.embedding_dim}, gamma={self.gamma}, "
            f"propagation={self.propagation}"
        )
