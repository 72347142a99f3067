"""Convolution of neural graph collaborative filtering."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch_geometric.nn import MessagePassing
from torch_geometric.typing import Adj, OptTensor

from pyg_bsl.nn._checks import check_dropout, check_propagation
from pyg_bsl.ops.propagation import Method, propagate


class NGCFConv(MessagePassing):
    r"""The convolution of neural graph collaborative filtering.

    From `"Neural Graph Collaborative Filtering" <https://arxiv.org/abs/1905.08108>`_:

    .. math::
        \mathbf{X}^{\prime} = \operatorname{LeakyReLU} \big( (\mathbf{X} + \mathbf{A} \mathbf{X})
        \mathbf{W}_1 + (\mathbf{A} \mathbf{X} \odot \mathbf{X}) \mathbf{W}_2 \big)

    with a symmetric, normalised adjacency :math:`\mathbf{A}` without self-loops. A sparse CSR
    tensor or ``torch_sparse.SparseTensor`` goes through
    :func:`~pyg_bsl.ops.propagation.propagate`.

    Args:
        in_channels: Size of an input row.
        out_channels: Size of an output row.
        negative_slope: Slope of the LeakyReLU below zero (0.2 in the authors' code).
        node_dropout: Share of the nodes whose messages are all dropped in training; those of the
            others grow by ``1 / (1 - node_dropout)``.
        propagation: Who multiplies with the adjacency, as ``method`` of
            :func:`~pyg_bsl.ops.propagation.propagate`; the numbers are the same.

    Shapes:
        - **input:** node features :math:`(V, D_{in})`, adjacency :math:`(V, V)` or edge indices
          :math:`(2, E)` and edge weights :math:`(E)`
        - **output:** node features :math:`(V, D_{out})`

    Example:
        >>> NGCFConv(64, 32)
        NGCFConv(64, 32)
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        *,
        negative_slope: float = 0.2,
        node_dropout: float = 0.0,
        propagation: Method = "auto",
    ) -> None:
        super().__init__(aggr="add")
        check_dropout("node_dropout", node_dropout)
        check_propagation(propagation)
        self.in_channels = in_channels
        self.out_channels = out_channels
        self.negative_slope = negative_slope
        self.node_dropout = node_dropout
        self.propagation = propagation
        self.weight1 = nn.Parameter(torch.empty(in_channels, out_channels))
        self.weight2 = nn.Parameter(torch.empty(in_channels, out_channels))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw both weight matrices anew (uniform, Glorot)."""
        super().reset_parameters()
        nn.init.xavier_uniform_(self.weight1)
        nn.init.xavier_uniform_(self.weight2)

    def forward(self, x: Tensor, edge_index: Adj, edge_weight: OptTensor = None) -> Tensor:
        """One layer."""
        sends = F.dropout(x.new_ones(x.size(0), 1), self.node_dropout, self.training)
        # propagate_type: (x: Tensor, edge_weight: OptTensor)
        received = self.propagate(edge_index, x=x * sends, edge_weight=edge_weight)
        out = (x + received) @ self.weight1 + (received * x) @ self.weight2
        return F.leaky_relu(out, self.negative_slope)

    def message(self, x_j: Tensor, edge_weight: OptTensor) -> Tensor:
        """What a node sends over one edge of ``edge_index``."""
        return x_j if edge_weight is None else edge_weight.view(-1, 1) * x_j

    def message_and_aggregate(self, adj_t: Adj, x: Tensor) -> Tensor:
        """What all nodes receive over ``adj_t``."""
        return propagate(adj_t, x, method=self.propagation)
