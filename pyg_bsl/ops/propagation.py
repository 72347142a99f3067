"""Products of a symmetric sparse matrix with dense rows: propagation on a graph."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, MutableMapping
from contextlib import contextmanager
from functools import partial
from typing import Any, Literal, Protocol, get_args

import torch
from torch import Tensor
from torch.utils.weak import WeakIdKeyDictionary

from pyg_bsl.names import pick
from pyg_bsl.ops.clustering import Clustered, weighted_sums

Method = Literal["auto", "clustered", "embedding_bag", "csr", "edge_index", "torch_sparse"]
Product = Callable[[Tensor], Tensor]

# When "auto" clusters, found on Yelp2018, Gowalla, Amazon-Electronic and MovieLens-1M.
MIN_NODES = 2**15  # the rows of fewer nodes stay in the cache in any order
MIN_DEGREE = 16  # rows gathered for each row that is renumbered
MIN_SHARE = 0.5  # of the edges inside a cluster: a graph without clusters gains nothing
PATIENCE = 8  # uses of a matrix before it is clustered, which costs about as much

MAX_BYTES = 2**25  # from here on, memory comes from the system anew at every allocation
MIN_COLUMNS = 16  # a cache line


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
            node's neighbours as a weighted bag: in float32 the fastest on the CPU for one product.
            ``"clustered"`` does so on nodes numbered by cluster, which is faster on large graphs
            that have clusters; they are found once and kept as long as the matrix, which must not
            be changed meanwhile. ``"csr"`` is ``torch.sparse.mm``. ``"edge_index"`` (PyG's
            ``EdgeIndex.matmul``) and ``"torch_sparse"`` are there to compare with, and convert the
            matrix at every call. ``"auto"`` takes ``"csr"`` on CUDA and for float64, else
            ``"embedding_bag"``, and ``"clustered"`` where it pays: with the same bits, once the
            same matrix has been used a few times.

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
    return _polynomial(adjacency, x, method, lambda product, x: product(x))


def layer_mean(
    adjacency: Tensor | SparseMatrix, x: Tensor, num_layers: int, *, method: Method = "auto"
) -> Tensor:
    r"""Mean of the propagated rows over the layers of LightGCN.

    .. math::
        \mathbf{m}_K = \frac{1}{K + 1} \sum_{k=0}^{K} \mathbf{A}^k \mathbf{x}
        = \frac{\mathbf{s}_K}{K + 1}, \qquad
        \mathbf{s}_k = \mathbf{A} \mathbf{s}_{k-1} + \mathbf{x}, \quad \mathbf{s}_0 = \mathbf{x}

    The right side is the Horner form that is computed: only the running sum is kept, and the
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

    def mean_of_layers(product: Product, x: Tensor) -> Tensor:
        total = x
        for _ in range(num_layers):
            total = product(total).add_(x)
        return total.mul_(1 / (num_layers + 1)) if num_layers else x

    return _polynomial(adjacency, x, method, mean_of_layers)


class _SymmetricMap(torch.autograd.Function):
    """A linear map that is its own transpose, so that it is its own backward."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, linear_map: Callable[[Tensor], Tensor]) -> Tensor:
        ctx.linear_map = linear_map
        return linear_map(x.detach())  # else embedding_bag prepares a backward of its own

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None]:
        return _SymmetricMap.apply(grads[0], ctx.linear_map), None


def _polynomial(
    adjacency: Tensor | SparseMatrix,
    x: Tensor,
    method: Method,
    polynomial: Callable[[Product, Tensor], Tensor],
) -> Tensor:
    """A polynomial of the matrix times ``x``, given as a function of the product and ``x``."""
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
    pick("method", method, dict.fromkeys(METHODS))
    if method == "auto":
        method = _fastest(adjacency, x)
    if method == "clustered":
        on_rows = partial(_on_clusters, _clusters(adjacency), polynomial)
    else:
        on_rows = partial(polynomial, partial(_PRODUCTS[method], adjacency))
    if method in ("clustered", "embedding_bag"):
        on_rows = partial(_by_columns, on_rows)
    return _SymmetricMap.apply(x, on_rows)


def _on_clusters(
    matrix: Clustered, polynomial: Callable[[Product, Tensor], Tensor], x: Tensor
) -> Tensor:
    """The polynomial, with nodes numbered by cluster on the way."""
    product = partial(weighted_sums, matrix.ptr, matrix.col, matrix.value.to(x.dtype))
    return matrix.leave(polynomial(product, matrix.enter(x)))


def _by_columns(function: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    """``function`` of blocks of columns, none of which is as large as ``MAX_BYTES``."""
    num_blocks = x.numel() * x.element_size() // MAX_BYTES + 1
    num_blocks = max(1, min(num_blocks, x.size(1) // MIN_COLUMNS))
    if num_blocks == 1:
        return function(x)
    return torch.cat([function(block) for block in x.chunk(num_blocks, dim=1)], dim=1)


def unclustered(method: Method, x: Tensor) -> Method:
    """``method`` for a matrix that is soon gone: never one that looks for clusters."""
    if method not in ("auto", "clustered"):
        return method
    csr = x.is_cuda or (x.device.type == "cpu" and x.dtype == torch.float64)
    return "csr" if csr else "embedding_bag"


def _fastest(adjacency: Tensor | SparseMatrix, x: Tensor) -> Method:
    """The method that was measured to be the fastest for such a matrix and such rows."""
    fallback = unclustered("auto", x)
    size = x.size(0)
    if fallback == "csr" or x.device.type != "cpu" or size < MIN_NODES:
        return fallback
    if _arrays(adjacency, x.dtype)[1].numel() < MIN_DEGREE * size:
        return fallback
    _uses[adjacency] = _uses.get(adjacency, 0) + 1
    pays = _uses[adjacency] > PATIENCE and _clusters(adjacency).share >= MIN_SHARE
    return "clustered" if pays else fallback


# How often a matrix was used, and its clusters, as long as it lives.
_uses: MutableMapping[Tensor | SparseMatrix, int] = WeakIdKeyDictionary()
_clustered: MutableMapping[Tensor | SparseMatrix, Clustered] = WeakIdKeyDictionary()


def _clusters(adjacency: Tensor | SparseMatrix) -> Clustered:
    if adjacency not in _clustered:
        _clustered[adjacency] = Clustered.of(*_arrays(adjacency))
    return _clustered[adjacency]


def _embedding_bag(adjacency: Tensor | SparseMatrix, x: Tensor) -> Tensor:
    return weighted_sums(*_arrays(adjacency, x.dtype), x.contiguous())


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


def _arrays(
    adjacency: Tensor | SparseMatrix, dtype: torch.dtype | None = None
) -> tuple[Tensor, Tensor, Tensor]:
    """Row boundaries ``[V + 1]``, columns ``[E]`` and values ``[E]``, of ``dtype`` if given."""
    if isinstance(adjacency, Tensor):
        ptr, col, value = adjacency.crow_indices(), adjacency.col_indices(), adjacency.values()
    else:
        ptr, col, optional = adjacency.csr()
        value = torch.ones_like(col, dtype=dtype or torch.float32) if optional is None else optional
    return ptr, col, value.to(dtype or value.dtype)


METHODS: tuple[Method, ...] = get_args(Method)
_PRODUCTS: dict[str, Callable[[Tensor | SparseMatrix, Tensor], Tensor]] = {
    "embedding_bag": _embedding_bag,
    "csr": _csr,
    "edge_index": _edge_index,
    "torch_sparse": _torch_sparse,
}
