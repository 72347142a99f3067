"""LightGCN++."""

from __future__ import annotations

from typing import ClassVar

import torch
import torch.nn.functional as F

from pyg_bsl.nn._checks import check_number, check_propagation, check_share, check_size
from pyg_bsl.nn.backbone import EmbeddingBackbone, Init
from pyg_bsl.ops.propagation import Method, propagate
from pyg_bsl.space import Choice, Space
from pyg_bsl.types import BipartiteGraph, Embeddings


class LightGCNpp(EmbeddingBackbone):
    r"""LightGCN++: how much a layer scales norms and weighs neighbours is chosen.

    From `"Revisiting LightGCN: Unexpected Inflexibility, Inconsistency, and A Remedy Towards
    Improved Recommendation" <https://doi.org/10.1145/3640457.3688176>`_:

    .. math::
        \mathbf{e}_v = \gamma \mathbf{e}_v^{(0)} + \frac{1 - \gamma}{K} \sum_{k=1}^{K}
        \mathbf{e}_v^{(k)}, \qquad
        \mathbf{e}_v^{(k)} = \sum_{w \in N_v} \frac{1}{d_v^\alpha d_w^\beta}
        \frac{\mathbf{e}_w^{(k-1)}}{\lVert \mathbf{e}_w^{(k-1)} \rVert_2}

    with the learned vectors :math:`\mathbf{e}^{(0)}` and the numbers :math:`d` of neighbours.
    :math:`\alpha` sets the length of what a node gathers, and with it its weight beside
    :math:`\mathbf{e}_v^{(0)}`; :math:`\beta < 0` weighs popular neighbours more.

    A layer takes in directions only, so the length of a learned vector sets how much its node
    trusts itself: :math:`\gamma \lVert \mathbf{e}_v^{(0)} \rVert`. A trainer that is told to keep
    learned vectors at length 1 (``unit_norm=True``) makes that :math:`\gamma` for all nodes, where
    the paper learns it; the lengths in the layers, set by :math:`\alpha`, stay as they are.

    Args:
        num_users: Number of users.
        num_items: Number of items.
        embedding_dim: Size of an embedding.
        num_layers: Number of layers :math:`K` (2 in the authors' code).
        alpha: Exponent :math:`\alpha` of the receiving node's degree.
        beta: Exponent :math:`\beta` of the sending node's degree.
        gamma: Share :math:`\gamma` of the learned vectors.
        init: How the vectors start: ``"xavier"`` (uniform, Glorot), ``"normal"`` or ``"svd"``.
        init_std: Standard deviation of ``"normal"``.
        propagation: Who multiplies with the adjacency, as ``method`` of
            :func:`~pyg_bsl.ops.propagation.propagate`; the numbers are the same.

    Example:
        >>> LightGCNpp(671, 2000)
        LightGCNpp(671, 2000, embedding_dim=64, num_layers=2,
                   alpha=0.6, beta=-0.1, gamma=0.2, propagation=auto)
    """

    search_space: ClassVar[dict[str, Space]] = {
        "num_layers": Choice((1, 2, 3)),
        "alpha": Choice((0.4, 0.5, 0.6)),
        "beta": Choice((-0.1, 0.0, 0.1)),
        "gamma": Choice((0.0, 0.1, 0.2)),
    }

    def __init__(
        self,
        num_users: int,
        num_items: int,
        *,
        embedding_dim: int = 64,
        num_layers: int = 2,
        alpha: float = 0.6,
        beta: float = -0.1,
        gamma: float = 0.2,
        init: Init = "xavier",
        init_std: float = 0.1,
        propagation: Method = "auto",
    ) -> None:
        super().__init__(
            num_users, num_items, embedding_dim=embedding_dim, init=init, init_std=init_std
        )
        check_size("num_layers", num_layers)
        check_number("alpha", alpha)
        check_number("beta", beta)
        check_share("gamma", gamma)
        check_propagation(propagation)
        self.num_layers = num_layers
        self.alpha = alpha
        self.beta = beta
        self.gamma = gamma
        self.propagation = propagation

    def forward(self, graph: BipartiteGraph) -> Embeddings:
        """The weighted mean of the layers on ``graph.adjacency``."""
        start = self.nodes()
        degree = torch.cat([graph.train.counts, graph.train.item_counts]).clamp(min=1)
        degree = degree.to(start.dtype).unsqueeze(1)
        # The adjacency has 1/2 for both exponents.
        sends, receives = degree ** (0.5 - self.beta), degree ** (0.5 - self.alpha)
        layer, total = start, torch.zeros_like(start)
        for _ in range(self.num_layers):
            sent = sends * F.normalize(layer, dim=1)
            layer = receives * propagate(graph.adjacency, sent, method=self.propagation)
            total = total + layer
        return self.split(self.gamma * start + (1 - self.gamma) / self.num_layers * total)

    def extra_repr(self) -> str:
        """The options in :func:`repr`."""
        return (
            f"embedding_dim={self.embedding_dim}, num_layers={self.num_layers}, "
            f"alpha={self.alpha}, beta={self.beta}, gamma={self.gamma}, "
            f"propagation={self.propagation}"
        )
