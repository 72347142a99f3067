"""Light graph convolution."""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor
from torch_geometric.nn import LGConv as PyGLGConv
from torch_geometric.typing import Adj, OptTensor

from pyg_bsl.nn._checks import check_propagation
from pyg_bsl.ops.propagation import Method, propagate


class LGConv(PyGLGConv):
    r"""PyG's :class:`~torch_geometric.nn.conv.LGConv` with the fast symmetric product.

    On a symmetric adjacency that is already normalised:

    .. math::
        \mathbf{X}^{\prime} = \mathbf{A} \mathbf{X}

    A sparse CSR tensor or ``torch_sparse.SparseTensor`` goes through
    :func:`~pyg_bsl.ops.propagation.propagate`; edge indices, with their weights, are accepted as
    in PyG, and slow.

    Args:
        propagation: Who multiplies with the adjacency, as ``method`` of
            :func:`~pyg_bsl.ops.propagation.propagate`; the numbers are the same.

    Shapes:
        - **input:** node features :math:`(V, D)`, adjacency :math:`(V, V)` or edge indices
          :math:`(2, E)` and edge weights :math:`(E)`
        - **output:** node features :math:`(V, D)`

    Example:
        >>> import torch
        >>> adjacency = torch.tensor([[0.0, 0.5], [0.5, 0.0]]).to_sparse_csr()
        >>> LGConv()(torch.tensor([[2.0], [4.0]]), adjacency)
        tensor([[2.],
                [1.]])
    """

    # PyG looks the arguments of `propagate` up by class name, and ours is that of its parent.
    propagate_type: ClassVar[dict[str, object]] = {"x": Tensor, "edge_weight": OptTensor}

    def __init__(self, *, propagation: Method = "auto") -> None:
        super().__init__(normalize=False)
        check_propagation(propagation)
        self.propagation = propagation

    def message_and_aggregate(self, adj_t: Adj, x: Tensor) -> Tensor:
        """The product of ``adj_t`` with ``x``."""
        return propagate(adj_t, x, method=self.propagation)
