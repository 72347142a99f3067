"""Matrix factorisation."""

from __future__ import annotations

from typing import ClassVar

import torch.nn.functional as F

from pyg_bsl.nn._checks import check_dropout
from pyg_bsl.nn.backbone import EmbeddingBackbone, Init
from pyg_bsl.space import Choice, Space
from pyg_bsl.types import BipartiteGraph, Embeddings


class MF(EmbeddingBackbone):
    r"""Matrix factorisation: the learned vectors are the embeddings.

    From `"Matrix Factorization Techniques for Recommender Systems"
    <https://doi.org/10.1109/MC.2009.263>`_:

    .. math::
        \mathbf{e}_u = \operatorname{dropout}(\mathbf{p}_u), \qquad \mathbf{e}_i = \mathbf{q}_i

    Args:
        num_users: Number of users.
        num_items: Number of items.
        embedding_dim: Size of an embedding.
        init: How the vectors start: ``"xavier"`` (uniform, Glorot), ``"normal"`` or ``"svd"``.
        init_std: Standard deviation of ``"normal"``.
        dropout: Share of a user's vector that is zeroed in a training step (the authors of BSL
            train with 0.1).

    Example:
        >>> MF(671, 2000)
        MF(671, 2000, embedding_dim=64, dropout=0.0)
    """

    unit_norm = True

    search_space: ClassVar[dict[str, Space]] = {"dropout": Choice((0.0, 0.1, 0.2))}

    def __init__(
        self,
        num_users: int,
        num_items: int,
        *,
        embedding_dim: int = 64,
        init: Init = "xavier",
        init_std: float = 0.1,
        dropout: float = 0.0,
    ) -> None:
        super().__init__(
            num_users, num_items, embedding_dim=embedding_dim, init=init, init_std=init_std
        )
        check_dropout("dropout", dropout)
        self.dropout = dropout

    def forward(self, graph: BipartiteGraph) -> Embeddings:
        """The learned vectors; ``graph`` is not looked at."""
        user = F.dropout(self.user_embedding, self.dropout, self.training)
        return Embeddings(user, self.item_embedding)

    def extra_repr(self) -> str:
        """The options in :func:`repr`."""
        return f"embedding_dim={self.embedding_dim}, dropout={self.dropout}"
