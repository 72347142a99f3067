"""LightGCN."""

from __future__ import annotations

from typing import ClassVar

from pyg_bsl.nn._checks import check_propagation, check_size
from pyg_bsl.nn.backbone import EmbeddingBackbone, Init
from pyg_bsl.ops.propagation import Method, layer_mean
from pyg_bsl.space import Choice, Space
from pyg_bsl.types import BipartiteGraph, Embeddings


class LightGCN(EmbeddingBackbone):
    r"""LightGCN: the mean of linear propagations.

    From `"LightGCN: Simplifying and Powering Graph Convolution Network for Recommendation"
    <https://arxiv.org/abs/2002.02126>`_:

    .. math::
        \mathbf{E} = \frac{1}{K + 1} \sum_{k=0}^{K} \mathbf{E}^{(k)}, \qquad
        \mathbf{E}^{(k)} = \mathbf{A} \mathbf{E}^{(k-1)}

    with the learned vectors :math:`\mathbf{E}^{(0)}` of users and items and the symmetrically
    normalised adjacency :math:`\mathbf{A}`. A layer is an :class:`~pyg_bsl.nn.conv.LGConv`; as it
    is linear, :func:`~pyg_bsl.ops.propagation.layer_mean` takes all layers and their mean in one
    go. Only :math:`\mathbf{E}^{(0)}` is learned.

    Args:
        num_users: Number of users.
        num_items: Number of items.
        embedding_dim: Size of an embedding.
        num_layers: Number of layers :math:`K`.
        init: How the vectors start: ``"xavier"`` (uniform, Glorot), ``"normal"`` or ``"svd"``.
        init_std: Standard deviation of ``"normal"``.
        propagation: Who multiplies with the adjacency, as ``method`` of
            :func:`~pyg_bsl.ops.propagation.propagate`; the numbers are the same.

    Example:
        >>> LightGCN(671, 2000)
        LightGCN(671, 2000, embedding_dim=64, num_layers=3, propagation=auto)
    """

    search_space: ClassVar[dict[str, Space]] = {"num_layers": Choice((1, 2, 3))}

    def __init__(
        self,
        num_users: int,
        num_items: int,
        *,
        embedding_dim: int = 64,
        num_layers: int = 3,
        init: Init = "xavier",
        init_std: float = 0.1,
        propagation: Method = "auto",
    ) -> None:
        super().__init__(
            num_users, num_items, embedding_dim=embedding_dim, init=init, init_std=init_std
        )
        check_size("num_layers", num_layers)
        check_propagation(propagation)
        self.num_layers = num_layers
        self.propagation = propagation

    def forward(self, graph: BipartiteGraph) -> Embeddings:
        """The mean of the layers on ``graph.adjacency``."""
        tables, method = self.tables(), self.propagation
        return Embeddings(*layer_mean(graph.adjacency, tables, self.num_layers, method=method))

    def extra_repr(self) -> str:
        """The options in :func:`repr`."""
        return (
            f"embedding_dim={self.embedding_dim}, num_layers={self.num_layers}, "
            f"propagation={self.propagation}"
        )
