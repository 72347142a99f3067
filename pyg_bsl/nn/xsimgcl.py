"""XSimGCL."""

from __future__ import annotations

from typing import ClassVar

from pyg_bsl.nn._checks import check_number, check_propagation, check_size
from pyg_bsl.nn._noise import mean, noisy_layers
from pyg_bsl.nn.backbone import Init
from pyg_bsl.nn.contrast import ContrastiveBackbone, Views
from pyg_bsl.ops.propagation import Method
from pyg_bsl.space import Choice, LogUniform, Space
from pyg_bsl.types import BipartiteGraph, Embeddings


class XSimGCL(ContrastiveBackbone):
    r"""XSimGCL: LightGCN with noise in its layers, its mean contrasted with one layer.

    From `"XSimGCL: Towards Extremely Simple Graph Contrastive Learning for Recommendation"
    <https://arxiv.org/abs/2209.02544>`_:

    .. math::
        \mathbf{E} = \frac{1}{K} \sum_{k=1}^{K} \mathbf{E}^{(k)}, \qquad
        \mathbf{E}^{(k)} = \mathbf{A} \mathbf{E}^{(k-1)} + \boldsymbol{\Delta}^{(k)}, \qquad
        \mathcal{L}_{cl} = \lambda \, \mathrm{InfoNCE}_\tau(\mathbf{E}, \mathbf{E}^{(l^*)})

    with the learned vectors :math:`\mathbf{E}^{(0)}`, which are no part of the mean. A node's
    noise :math:`\boldsymbol{\Delta}_v` is a random direction in the orthant of its vector, of
    length :math:`\epsilon`; there is none in evaluation. One pass gives the embeddings and both
    views. The contrastive term is the sum over the users and over the items of the batch (see
    :class:`~pyg_bsl.nn.contrast.ContrastiveBackbone`).

    The defaults are those of the PSL authors' benchmark; the authors' own for Yelp2018 are
    ``num_layers=2, noise=0.2, contrast_tau=0.15``. The noise has an absolute length: vectors
    that grow outgrow it, and beside learned vectors kept at length 1 (``unit_norm=True`` of a
    trainer) it is a steady share of them.

    Args:
        num_users: Number of users.
        num_items: Number of items.
        embedding_dim: Size of an embedding.
        num_layers: Number of layers :math:`K`.
        contrast_layer: The layer :math:`l^*` that the mean is contrasted with.
        noise: Length :math:`\epsilon` of the noise.
        contrast_weight: Weight :math:`\lambda` of the contrastive term.
        contrast_tau: Its temperature :math:`\tau`.
        contrast_size: Most pairs of a batch whose nodes are contrasted.
        init: How the vectors start: ``"xavier"`` (uniform, Glorot), ``"normal"`` or ``"svd"``.
        init_std: Standard deviation of ``"normal"``.
        propagation: Who multiplies with the adjacency, as ``method`` of
            :func:`~pyg_bsl.ops.propagation.propagate`; the numbers are the same.

    Example:
        >>> XSimGCL(671, 2000)
        XSimGCL(671, 2000, embedding_dim=64, num_layers=3,
                contrast_layer=1, noise=0.1, propagation=auto)
    """

    search_space: ClassVar[dict[str, Space]] = {
        "num_layers": Choice((2, 3)),
        "noise": Choice((0.05, 0.1, 0.2)),
        "contrast_weight": LogUniform(0.01, 1.0),
        "contrast_tau": Choice((0.1, 0.15, 0.2)),
    }

    def __init__(
        self,
        num_users: int,
        num_items: int,
        *,
        embedding_dim: int = 64,
        num_layers: int = 3,
        contrast_layer: int = 1,
        noise: float = 0.1,
        contrast_weight: float = 0.2,
        contrast_tau: float = 0.1,
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
        check_size("contrast_layer", contrast_layer)
        check_number("noise", noise, least=0)
        check_propagation(propagation)
        if contrast_layer > num_layers:
            raise ValueError(
                f"'contrast_layer' must be one of the {num_layers} layers of 'num_layers' "
                f"(got {contrast_layer})"
            )
        self.num_layers = num_layers
        self.contrast_layer = contrast_layer
        self.noise = noise
        self.propagation = propagation

    def forward(self, graph: BipartiteGraph) -> Embeddings:
        """The mean of the layers; in training, noisy and with the views to contrast."""
        noise = self.noise if self.training else 0.0
        start = self.nodes()
        layers = list(
            noisy_layers(graph.adjacency, start, self.num_layers, noise, self.propagation)
        )
        emb = self.split(mean(layers))
        if not self.training:
            return emb
        return Views(emb.user, emb.item, emb, self.split(layers[self.contrast_layer - 1]))

    def extra_repr(self) -> str:
        """The options in :func:`repr`."""
        return (
            f"embedding_dim={self.embedding_dim}, num_layers={self.num_layers}, "
            f"contrast_layer={self.contrast_layer}, noise={self.noise}, "
            f"propagation={self.propagation}"
        )
