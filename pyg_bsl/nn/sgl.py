"""Self-supervised graph learning."""

from __future__ import annotations

from typing import ClassVar, Self

from torch import Tensor

from pyg_bsl.nn._checks import check_dropout, check_propagation, check_size
from pyg_bsl.nn._edge_dropout import drop_edges
from pyg_bsl.nn.backbone import Init
from pyg_bsl.nn.contrast import ContrastiveBackbone, Views
from pyg_bsl.ops.propagation import Method, layer_mean, unclustered
from pyg_bsl.space import Choice, LogUniform, Space
from pyg_bsl.types import BipartiteGraph, Embeddings


class SGL(ContrastiveBackbone):
    r"""SGL: LightGCN beside two views of it on graphs with edges left out.

    From `"Self-supervised Graph Learning for Recommendation" <https://arxiv.org/abs/2010.10783>`_,
    its edge dropout (SGL-ED), the best of its three ways to make views:

    .. math::
        \mathbf{E} = \mathrm{LightGCN}(\mathbf{A}), \qquad
        \mathcal{L}_{ssl} = \lambda \, \mathrm{InfoNCE}_\tau \big(
        \mathrm{LightGCN}(\mathbf{A}'), \mathrm{LightGCN}(\mathbf{A}'') \big)

    In :math:`\mathbf{A}'` and :math:`\mathbf{A}''` a share :math:`\rho` of the interactions is left
    out at random and the rest is normalised anew. As in the paper they are drawn once an epoch:
    at the first step after :meth:`train` was called, as training loops do at the start of an
    epoch. A training step takes three passes of LightGCN. The contrastive term is the sum over
    the users and over the items of the batch (see
    :class:`~pyg_bsl.nn.contrast.ContrastiveBackbone`).

    Args:
        num_users: Number of users.
        num_items: Number of items.
        embedding_dim: Size of an embedding.
        num_layers: Number of layers.
        edge_dropout: Share :math:`\rho` of the interactions that a view leaves out.
        contrast_weight: Weight :math:`\lambda` of the contrastive term.
        contrast_tau: Its temperature :math:`\tau`.
        contrast_size: Most pairs of a batch whose nodes are contrasted.
        init: How the vectors start: ``"xavier"`` (uniform, Glorot), ``"normal"`` or ``"svd"``.
        init_std: Standard deviation of ``"normal"``.
        propagation: Who multiplies with the adjacency, as ``method`` of
            :func:`~pyg_bsl.ops.propagation.propagate`; the numbers are the same. Views do not
            live long enough for clusters to pay, and are multiplied without.

    Example:
        >>> SGL(671, 2000)
        SGL(671, 2000, embedding_dim=64, num_layers=3, edge_dropout=0.1, propagation=auto)
    """

    search_space: ClassVar[dict[str, Space]] = {
        "num_layers": Choice((1, 2, 3)),
        "edge_dropout": Choice((0.1, 0.2, 0.3, 0.4, 0.5)),
        "contrast_weight": LogUniform(0.005, 1.0),
        "contrast_tau": Choice((0.1, 0.2, 0.5)),
    }

    def __init__(
        self,
        num_users: int,
        num_items: int,
        *,
        embedding_dim: int = 64,
        num_layers: int = 3,
        edge_dropout: float = 0.1,
        contrast_weight: float = 0.1,
        contrast_tau: float = 0.2,
        contrast_size: int = 2048,
        init: Init = "xavier",
        init_std: float = 0.1,
        propagation: Method = "auto",
    ) -> None:
        super().__init__(
            num_users,
            num_items,
            embedding_dim=embedding_dim,
            contrast_weight=contrast_weight,
            contrast_tau=contrast_tau,
            contrast_size=contrast_size,
            init=init,
            init_std=init_std,
        )
        check_size("num_layers", num_layers)
        check_dropout("edge_dropout", edge_dropout)
        check_propagation(propagation)
        self.num_layers = num_layers
        self.edge_dropout = edge_dropout
        self.propagation = propagation
        self._views: tuple[BipartiteGraph, Tensor, Tensor] | None = None

    def train(self, mode: bool = True) -> Self:
        """Set the mode; the next training step draws new views."""
        self._views = None
        return super().train(mode)

    def __getstate__(self) -> dict[str, object]:
        """What a copy takes along: it draws views of its own."""
        return {**self.__dict__, "_views": None}

    def forward(self, graph: BipartiteGraph) -> Embeddings:
        """LightGCN; in training, with two views to contrast."""
        emb = self._light_gcn(graph.adjacency, self.propagation)
        if not self.training:
            return emb
        if self._views is None or self._views[0] is not graph:
            one, two = (drop_edges(graph.train, self.edge_dropout) for _ in range(2))
            self._views = graph, one, two
        _, one, two = self._views
        method = unclustered(self.propagation, one, emb.user)
        return Views(emb.user, emb.item, self._light_gcn(one, method), self._light_gcn(two, method))

    def _light_gcn(self, adjacency: Tensor, method: Method) -> Embeddings:
        return Embeddings(*layer_mean(adjacency, self.tables(), self.num_layers, method=method))

    def extra_repr(self) -> str:
        """The options in :func:`repr`."""
        return (
            f"embedding_dim={self.embedding_dim}, num_layers={self.num_layers}, "
            f"edge_dropout={self.edge_dropout}, propagation={self.propagation}"
        )
