"""SimGCL."""

from __future__ import annotations

from typing import ClassVar

from pyg_bsl.nn._checks import check_number, check_propagation, check_size
from pyg_bsl.nn._noise import mean, noisy_layers
from pyg_bsl.nn.backbone import Init
from pyg_bsl.nn.contrast import ContrastiveBackbone, Views
from pyg_bsl.ops.propagation import Method
from pyg_bsl.space import Choice, LogUniform, Space
from pyg_bsl.types import BipartiteGraph, Embeddings


class SimGCL(ContrastiveBackbone):
    r"""SimGCL: LightGCN beside two views of it with noise in the layers.

    From `"Are Graph Augmentations Necessary? Simple Graph Contrastive Learning for Recommendation"
    <https://arxiv.org/abs/2112.08679>`_:

    .. math::
        \mathbf{E} = \frac{1}{K} \sum_{k=1}^{K} \mathbf{A}^k \mathbf{E}^{(0)}, \qquad
        \mathcal{L}_{cl} = \lambda \, \mathrm{InfoNCE}_\tau(\mathbf{E}', \mathbf{E}'')

    with the learned vectors :math:`\mathbf{E}^{(0)}`, which are no part of the mean. The views
    :math:`\mathbf{E}'` and :math:`\mathbf{E}''` are that mean with noise added in every layer,
    drawn for each on its own as in :class:`~pyg_bsl.nn.XSimGCL`: a training step takes three
    passes. The contrastive term is the sum over the users and over the items of the batch (see
    :class:`~pyg_bsl.nn.contrast.ContrastiveBackbone`).

    The defaults are those of the authors' code for Yelp2018. The noise has an absolute length:
    vectors that grow outgrow it, and beside learned vectors kept at length 1 (``unit_norm=True`` of
    a trainer) it is a steady share of them.

    Args:
        num_users: Number of users.
        num_items: Number of items.
        embedding_dim: Size of an embedding.
        num_layers: Number of layers :math:`K`.
        noise: Length :math:`\epsilon` of the noise.
        contrast_weight: Weight :math:`\lambda` of the contrastive term.
        contrast_tau: Its temperature :math:`\tau`.
        contrast_size: Most pairs of a batch whose nodes are contrasted.
        init: How the vectors start: ``"xavier"`` (uniform, Glorot), ``"normal"`` or ``"svd"``.
        init_std: Standard deviation of ``"normal"``.
        propagation: Who multiplies with the adjacency, as ``method`` of
            :func:`~pyg_bsl.ops.propagation.propagate`; the numbers are the same.

    Example:
        >>> SimGCL(671, 2000)
        SimGCL(671, 2000, embedding_dim=64, num_layers=2, noise=0.1, propagation=auto)
    """

    search_space: ClassVar[dict[str, Space]] = {
        "num_layers": Choice((2, 3)),
        "noise": Choice((0.05, 0.1, 0.2)),
        "contrast_weight": LogUniform(0.01, 2.0),
        "contrast_tau": Choice((0.1, 0.15, 0.2)),
    }

    def __init__(
        self,
        num_users: int,
        num_items: int,
        *,
        embedding_dim: int = 64,
        num_layers: int = 2,
        noise: float = 0.1,
        contrast_weight: float = 0.5,
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
        check_number("noise", noise, least=0)
        check_propagation(propagation)
        self.num_layers = num_layers
        self.noise = noise
        self.propagation = propagation

    def forward(self, graph: BipartiteGraph) -> Embeddings:
        """The mean of the layers; in training, with two noisy views to contrast."""
        emb = self._mean(graph, 0.0)
        if not self.training:
            return emb
        return Views(
            emb.user, emb.item, self._mean(graph, self.noise), self._mean(graph, self.noise)
        )

    def _mean(self, graph: BipartiteGraph, noise: float) -> Embeddings:
        layers = noisy_layers(
            graph.adjacency, self.nodes(), self.num_layers, noise, self.propagation
        )
        return self.split(mean(list(layers)))

    def extra_repr(self) -> str:
        """The options in :func:`repr`."""
        return (
            f"embedding_dim={self.embedding_dim}, num_layers={self.num_layers}, "
            f"noise={self.noise}, propagation={self.propagation}"
        )
