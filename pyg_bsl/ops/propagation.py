"""Products of a symmetric sparse matrix with dense rows: propagation on a graph."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any, Literal, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

from pyg_bsl.names import pick

Method = Literal["auto", "embedding_bag", "csr", "edge_index", "torch_sparse"]


class SparseMatrix(Protocol):
    """What is used of a ``torch_sparse.SparseTensor``."""

    def csr(self) -> tuple[Tensor, Tensor, Tensor | None]:
        """Row boundaries, columns and values."""
        ...

    def size(self, dim: int) -> int:
        """Number of rows (0) or columns (1)."""
        ...


def propagate(adjacency: Tensor | SparseMatrix, x: Tensor, *, method: Method = "auto") -> Tensor:
    r"""Product :math:`\mathbf{A} \mathbf{x}` of a **symmetric** sparse matrix with dense rows.

    As :math:`\mathbf{A}^{\top} = \mathbf{A}`, the gradient with respect to :math:`\mathbf{x}` is
    the same product; :math:`\mathbf{A}` is never transposed and gets no gradient. The symmetry is
    taken on trust.

    Args:
        adjacency: The matrix, sparse CSR or a ``torch_sparse.SparseTensor``. Its values are read in
            the type of ``x``.
        x: The dense rows.
        method: Who multiplies; the numbers are the same. ``"embedding_bag"`` sums the rows of a
            node's neighbours as a weighted bag: in float32 the fastest on the CPU. ``"csr"`` is
            ``torch.sparse.mm``. ``"edge_index"`` (PyG's ``EdgeIndex.matmul``) and
            ``"torch_sparse"`` are there to compare with, and convert the matrix at every call.
            ``"auto"`` takes ``"csr"`` on CUDA, else ``"embedding_bag"``.

    Shapes:
        - **adjacency:** :math:`(V, V)`
        - **x:** :math:`(V, D)`
        - **output:** :math:`(V, D)`

    Raises:
        ValueError: If the matrix is in another layout, the sizes differ or the method is unknown.

    Example:
        >>> adjacency = torch.tensor([[0.0, 0.5], [0.5, 0.0]]).to_sparse_csr()
        >>> propagate(adjacency, torch.tensor([[2.0], [4.0]]))
        tensor([[2.],
                [1.]])
    """
    return _SymmetricMap.apply(x, _product(adjacency, x, method))


def layer_mean(
    adjacency: Tensor | SparseMatrix, x: Tensor, num_layers: int, *, method: Method = "auto"
) -> Tensor:
    r"""Mean of the propagated rows over the layers of LightGCN.

    .. math::
        \mathbf{m}_K = \frac{1}{K + 1} \sum_{k=0}^{K} \mathbf{A}^k \mathbf{x},
        \qquad \mathbf{m}_k = \frac{k}{k + 1} \mathbf{A} \mathbf{m}_{k-1}
        + \frac{1}{k + 1} \mathbf{x}

    The right side is the Horner form that is computed: only the running mean is kept, and the
    gradient, a polynomial in the symmetric :math:`\mathbf{A}` too, is the same computation.

    Args:
        adjacency: Symmetric matrix, as in :func:`propagate`.
        x: The rows of layer 0.
        num_layers: Number of propagations :math:`K`.
        method: As in :func:`propagate`.

    Shapes:
        - **adjacency:** :math:`(V, V)`
        - **x:** :math:`(V, D)`
        - **output:** :math:`(V, D)`

    Raises:
        ValueError: As :func:`propagate`, and if ``num_layers`` is negative.

    Example:
        >>> adjacency = torch.tensor([[0.0, 0.5], [0.5, 0.0]]).to_sparse_csr()
        >>> layer_mean(adjacency, torch.tensor([[2.0], [4.0]]), num_layers=1)
        tensor([[2.0000],
                [2.5000]])
    """
    if num_layers < 0:
        raise ValueError(f"'num_layers' must not be negative (got {num_layers})")
    product = _product(adjacency, x, method)

    def mean_of_layers(x: Tensor) -> Tensor:
        mean = x
        for k in range(1, num_layers + 1):
            mean = product(mean).lerp_(x, 1 / (k + 1))
        return mean

    return _SymmetricMap.apply(x, mean_of_layers)


class _SymmetricMap(torch.autograd.Function):
    """A linear map that is its own transpose, so that it is its own backward."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, linear_map: Callable[[Tensor], Tensor]) -> Tensor:
        ctx.linear_map = linear_map
        return linear_map(x.detach())  # else embedding_bag prepares a backward of its own

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None]:
        return _SymmetricMap.apply(grads[0], ctx.linear_map), None


def _product(
    adjacency: Tensor | SparseMatrix, x: Tensor, method: Method
) -> Callable[[Tensor], Tensor]:
    """The product with ``adjacency`` as a function of the rows, checked against ``x``."""
    if isinstance(adjacency, Tensor) and adjacency.layout is not torch.sparse_csr:
        raise ValueError(
            "'adjacency' must be a sparse CSR tensor or a torch_sparse.SparseTensor "
            f"(got a tensor of layout {adjacency.layout}): make it once with '.to_sparse_csr()'"
        )
    if (adjacency.size(0), adjacency.size(1)) != (x.size(0), x.size(0)):
        raise ValueError(
            f"'adjacency' must have a row and a column for each row of 'x' (got "
            f"{adjacency.size(0)} x {adjacency.size(1)} for {x.size(0)} rows)"
        )
    if method == "auto":
        method = "csr" if x.is_cuda else "embedding_bag"
    return partial(pick("method", method, _PRODUCTS), adjacency)


def _embedding_bag(adjacency: Tensor | SparseMatrix, x: Tensor) -> Tensor:
    ptr, col, value = _arrays(adjacency, x.dtype)
    return F.embedding_bag(
        col, x.contiguous(), ptr, mode="sum", per_sample_weights=value, include_last_offset=True
    )


def _csr(adjacency: Tensor | SparseMatrix, x: Tensor) -> Tensor:
    with _unchecked():
        if not isinstance(adjacency, Tensor):
            size = (adjacency.size(0), adjacency.size(1))
            adjacency = torch.sparse_csr_tensor(*_arrays(adjacency, x.dtype), size)
        adjacency = adjacency.to(x.dtype)
    with torch.autocast(x.device.type, enabled=False):  # else CUDA multiplies in half precision
        return torch.sparse.mm(adjacency, x)


def _edge_index(adjacency: Tensor | SparseMatrix, x: Tensor) -> Tensor:
    from torch_geometric import EdgeIndex

    ptr, col, value = _arrays(adjacency, x.dtype)
    row = torch.arange(x.size(0), dtype=col.dtype, device=x.device)
    row = row.repeat_interleave(ptr.diff(), output_size=col.numel())
    size = (adjacency.size(0), adjacency.size(1))
    with _unchecked():
        edges = EdgeIndex(torch.stack([row, col]), sparse_size=size, sort_order="row")
        return edges.matmul(x, input_value=value)


@contextmanager
def _unchecked() -> Iterator[None]:
    """Sparse tensors are made without a look at their indices, nor a notice about that."""
    with torch.sparse.check_sparse_tensor_invariants(False), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Sparse CSR tensor support is in beta")
        yield


def _torch_sparse(adjacency: Tensor | SparseMatrix, x: Tensor) -> Tensor:
    from torch_sparse import SparseTensor, matmul

    ptr, col, value = _arrays(adjacency, x.dtype)
    size = (adjacency.size(0), adjacency.size(1))
    matrix = SparseTensor(
        rowptr=ptr.long(), col=col.long(), value=value, sparse_sizes=size, is_sorted=True
    )
    return matmul(matrix, x)


def _arrays(adjacency: Tensor | SparseMatrix, dtype: torch.dtype) -> tuple[Tensor, Tensor, Tensor]:
    """Row boundaries ``[V + 1]``, columns ``[E]`` and values ``[E]`` of the matrix."""
    if isinstance(adjacency, Tensor):
        return adjacency.crow_indices(), adjacency.col_indices(), adjacency.values().to(dtype)
    ptr, col, value = adjacency.csr()
    return ptr, col, torch.ones_like(col, dtype=dtype) if value is None else value.to(dtype)


_PRODUCTS: dict[str, Callable[[Tensor | SparseMatrix, Tensor], Tensor]] = {
    "embedding_bag": _embedding_bag,
    "csr": _csr,
    "edge_index": _edge_index,
    "torch_sparse": _torch_sparse,
}
