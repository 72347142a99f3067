"""Neural graph collaborative filtering."""

from __future__ import annotations

from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import nn
from torch_geometric.nn.inits import reset

from pyg_bsl.nn._checks import check_dropout, check_propagation, check_size
from pyg_bsl.nn.backbone import EmbeddingBackbone, Init
from pyg_bsl.nn.conv.ngcf_conv import NGCFConv
from pyg_bsl.ops.propagation import Method
from pyg_bsl.space import Choice, Space
from pyg_bsl.types import BipartiteGraph, Embeddings


class NGCF(EmbeddingBackbone):
    r"""Neural graph collaborative filtering.

    From `"Neural Graph Collaborative Filtering" <https://arxiv.org/abs/1905.08108>`_:

    .. math::
        \mathbf{E} = \mathbf{E}^{(0)} \, \Big\Vert_{k=1}^{K} \,
        \frac{\mathbf{E}^{(k)}}{\lVert \mathbf{E}^{(k)} \rVert_2}, \qquad
        \mathbf{E}^{(k)} = \operatorname{dropout} \big(
        \mathrm{NGCFConv}(\mathbf{E}^{(k-1)}, \mathbf{A}) \big)

    with the learned vectors :math:`\mathbf{E}^{(0)}` of users and items, each row normalised, and
    :class:`~pyg_bsl.nn.conv.NGCFConv` with weights of its own in every layer. The embeddings have
    ``(num_layers + 1) * embedding_dim`` numbers.

    Args:
        num_users: Number of users.
        num_items: Number of items.
        embedding_dim: Size of the learned vectors and of every layer.
        num_layers: Number of layers :math:`K`.
        dropout: Message dropout: share of a layer's numbers that is zeroed in a training step.
        node_dropout: Share of the nodes that send nothing to their neighbours in a training step,
            drawn for every layer.
        init: How the vectors start: ``"xavier"`` (uniform, Glorot), ``"normal"`` or ``"svd"``.
        init_std: Standard deviation of ``"normal"``.
        propagation: Who multiplies with the adjacency, as ``method`` of
            :func:`~pyg_bsl.ops.propagation.propagate`; the numbers are the same.

    Example:
        >>> NGCF(9, 9)
        NGCF(9, 9, embedding_dim=64, num_layers=3, dropout=0.1, node_dropout=0.0, propagation=auto)
    """

    search_space: ClassVar[dict[str, Space]] = {
        "num_layers": Choice((1, 2, 3)),
        "dropout": Choice((0.0, 0.1, 0.2, 0.3)),
        "node_dropout": Choice((0.0, 0.1, 0.2)),
    }

    def __init__(
        self,
        num_users: int,
        num_items: int,
        *,
        embedding_dim: int = 64,
        num_layers: int = 3,
        dropout: float = 0.1,
        node_dropout: float = 0.0,
        init: Init = "xavier",
        init_std: float = 0.1,
        propagation: Method = "auto",
    ) -> None:
        super().__init__(
            num_users, num_items, embedding_dim=embedding_dim, init=init, init_std=init_std
        )
        check_size("num_layers", num_layers)
        check_dropout("dropout", dropout)
        check_propagation(propagation)
        self.num_layers = num_layers
        self.dropout = dropout
        self.node_dropout = node_dropout
        self.propagation = propagation
        self.convs = nn.ModuleList(
            NGCFConv(
                embedding_dim, embedding_dim, node_dropout=node_dropout, propagation=propagation
            )
            for _ in range(num_layers)
        )

    def reset_parameters(self) -> None:
        """Draw the vectors and the weights of the layers anew."""
        self.reset_embeddings()
        reset(self.convs)

    def forward(self, graph: BipartiteGraph) -> Embeddings:
        """The layers on ``graph.adjacency``, side by side."""
        x = self.nodes()
        layers = [x]
        for conv in self.convs:
            x = F.dropout(conv(x, graph.adjacency), self.dropout, self.training)
            layers.append(F.normalize(x))
        return self.split(torch.cat(layers, dim=1))

    def extra_repr(self) -> str:
        """The options in :func:`repr`."""
        return (
            f"embedding_dim={self.embedding_dim}, num_layers={self.num_layers}, "
            f"dropout={self.dropout}, node_dropout={self.node_dropout}, "
            f"propagation={self.propagation}"
        )
