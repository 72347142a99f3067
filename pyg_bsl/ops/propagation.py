"""Products of a symmetric sparse matrix with dense rows: propagation on a graph."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, MutableMapping
from contextlib import contextmanager
from functools import partial
from typing import Any, Literal, Protocol, get_args, overload

import torch
from torch import Tensor
from torch.utils.weak import WeakIdKeyDictionary

from pyg_bsl.names import pick
from pyg_bsl.ops.clustering import Clustered, weighted_sums
from pyg_bsl.ops.compiler import pays
from pyg_bsl.ops.kept import Kept
from pyg_bsl.ops.native_layers import NativeLayers

Method = Literal[
    "auto", "compiled", "clustered", "embedding_bag", "csr", "edge_index", "torch_sparse"
]
Product = Callable[[Tensor], Tensor]
Tables = tuple[Tensor, ...]

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


@overload
def propagate(
    adjacency: Tensor | SparseMatrix, x: Tensor, *, method: Method = "auto"
) -> Tensor: ...


@overload
def propagate(
    adjacency: Tensor | SparseMatrix, x: Tables, *, method: Method = "auto"
) -> Tables: ...


def propagate(
    adjacency: Tensor | SparseMatrix, x: Tensor | Tables, *, method: Method = "auto"
) -> Tensor | Tables:
    r"""Product :math:`\mathbf{A} \mathbf{x}` of a **symmetric** sparse matrix with dense rows.

    As :math:`\mathbf{A}^{\top} = \mathbf{A}`, the gradient with respect to :math:`\mathbf{x}` is
    the same product; :math:`\mathbf{A}` is never transposed and gets no gradient. The symmetry is
    taken on trust.

    Args:
        adjacency: The matrix, sparse CSR or a ``torch_sparse.SparseTensor``. Its values are read in
            the type of ``x``.
        x: The dense rows; or tables of them, one below the other, such as users and items: then the
            output is alike.
        method: Who multiplies; the numbers are the same, but for their last digits.
            ``"embedding_bag"`` sums the rows of a node's neighbours as a weighted bag.
            ``"compiled"`` takes all layers in code that GCC compiles when it is first used, float32
            on the CPU, where the matrix is the normalised adjacency of a bipartite graph
            (``BipartiteGraph.adjacency``), and is ``"embedding_bag"`` elsewhere. ``"clustered"`` is
            ``"embedding_bag"`` on nodes numbered by cluster, which is faster on large graphs that
            have clusters, and has the same bits. ``"csr"`` is ``torch.sparse.mm``.
            ``"edge_index"`` (PyG's ``EdgeIndex.matmul``) and ``"torch_sparse"`` are there to
            compare with, and convert the matrix at every call. ``"auto"`` takes ``"csr"`` on CUDA
            and for float64, else ``"compiled"`` where there is enough to do, else
            ``"embedding_bag"``; once the same matrix has been used a few times, a large one is
            clustered in both, if that pays. What is found out about a matrix is kept as long as
            the matrix, which must not be changed meanwhile.

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
    return _layers(adjacency, x, method, 1, mean=False)


@overload
def layer_mean(
    adjacency: Tensor | SparseMatrix, x: Tensor, num_layers: int, *, method: Method = "auto"
) -> Tensor: ...


@overload
def layer_mean(
    adjacency: Tensor | SparseMatrix, x: Tables, num_layers: int, *, method: Method = "auto"
) -> Tables: ...


def layer_mean(
    adjacency: Tensor | SparseMatrix,
    x: Tensor | Tables,
    num_layers: int,
    *,
    method: Method = "auto",
) -> Tensor | Tables:
    r"""Mean of the propagated rows over the layers of LightGCN.

    .. math::
        \mathbf{m}_K = \frac{1}{K + 1} \sum_{k=0}^{K} \mathbf{A}^k \mathbf{x}
        = \frac{\mathbf{s}_K}{K + 1}, \qquad
        \mathbf{s}_k = \mathbf{A} \mathbf{s}_{k-1} + \mathbf{x}, \quad \mathbf{s}_0 = \mathbf{x}

    The right side is the Horner form that is computed: only the running sum is kept, and the
    gradient, a polynomial in the symmetric :math:`\mathbf{A}` too, is the same computation.

    Args:
        adjacency: Symmetric matrix, as in :func:`propagate`.
        x: The rows of layer 0, or tables of them, as in :func:`propagate`.
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
    return _layers(adjacency, x, method, num_layers, mean=True)


class _SymmetricMap(torch.autograd.Function):
    """A linear map of tables that is its own transpose, so that it is its own backward."""

    @staticmethod
    def forward(ctx: Any, linear_map: Callable[[Tables], Tables], *tables: Tensor) -> Tables:
        ctx.linear_map = linear_map
        # Detached, else embedding_bag prepares a backward of its own.
        return linear_map(tuple(table.detach() for table in tables))

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        return None, *_SymmetricMap.apply(ctx.linear_map, *grads)


def _layers(
    adjacency: Tensor | SparseMatrix,
    x: Tensor | Tables,
    method: Method,
    num_layers: int,
    mean: bool,
) -> Tensor | Tables:
    """The last layer, or the mean of layer 0 and those that follow."""
    tables = (x,) if isinstance(x, Tensor) else tuple(x)
    size = sum(len(table) for table in tables)
    if {table.dim() for table in tables} != {2} or len({table.size(1) for table in tables}) > 1:
        raise ValueError(
            "'x' must have rows of equally many columns (got "
            f"{' and '.join(str(tuple(table.shape)) for table in tables) or 'no tables'})"
        )
    if isinstance(adjacency, Tensor) and adjacency.layout is not torch.sparse_csr:
        raise ValueError(
            "'adjacency' must be a sparse CSR tensor or a torch_sparse.SparseTensor "
            f"(got a tensor of layout {adjacency.layout}): make it once with '.to_sparse_csr()'"
        )
    if (adjacency.size(0), adjacency.size(1)) != (size, size):
        raise ValueError(
            f"'adjacency' must have a row and a column for each row of 'x' (got "
            f"{adjacency.size(0)} x {adjacency.size(1)} for {size} rows)"
        )
    pick("method", method, dict.fromkeys(METHODS))
    if num_layers == 0:
        return x
    if method == "auto":
        method = _fastest(adjacency, tables)
    native = _native(adjacency, tables) if method == "compiled" else None
    function: Callable[[Tables], Tensor]
    if native is None:
        function = partial(_in_one, adjacency, method, partial(_horner, num_layers, mean))
    else:
        function = partial(_in_slabs, native, num_layers, mean)
    if isinstance(x, Tensor):
        return _SymmetricMap.apply(lambda tables: (function(tables),), x)[0]
    sizes = [len(table) for table in tables]
    return _SymmetricMap.apply(lambda tables: function(tables).split(sizes), *tables)


def _horner(num_layers: int, mean: bool, product: Product, x: Tensor) -> Tensor:
    """The last layer of :func:`_layers`, or the mean."""
    total = x
    for _ in range(num_layers):
        total = product(total).add_(x) if mean else product(total)
    return total.mul_(1 / (num_layers + 1)) if mean else total


def _in_slabs(native: NativeLayers, num_layers: int, mean: bool, tables: Tables) -> Tensor:
    """All layers in compiled code."""
    sizes = [len(side.scale) for side in native.sides]
    if [len(table) for table in tables] != sizes:
        tables = torch.cat(tables).split(sizes)
    return native.propagate(tables, num_layers, mean)


def _in_one(
    adjacency: Tensor | SparseMatrix,
    method: Method,
    polynomial: Callable[[Product, Tensor], Tensor],
    tables: Tables,
) -> Tensor:
    """The polynomial, layer by layer, of all rows in one tensor."""
    x = tables[0] if len(tables) == 1 else torch.cat(tables)
    if method == "clustered":
        return _by_columns(partial(_on_clusters, _keep(adjacency).clustered, polynomial), x)
    if method in ("embedding_bag", "compiled"):
        return _by_columns(partial(polynomial, partial(_embedding_bag, adjacency)), x)
    return polynomial(partial(_PRODUCTS[method], adjacency), x)


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


def unclustered(method: Method, adjacency: Tensor | SparseMatrix, x: Tensor) -> Method:
    """``method`` for a matrix that is soon gone: never one that looks for clusters."""
    if method not in ("auto", "clustered"):
        return method
    if x.is_cuda or (x.device.type == "cpu" and x.dtype == torch.float64):
        return "csr"
    work = _arrays(adjacency)[1].numel() * x.size(1) // 4  # to add is less than to reduce
    return "compiled" if pays(x, work) else "embedding_bag"


def _fastest(adjacency: Tensor | SparseMatrix, tables: Tables) -> Method:
    """The method that was measured to be the fastest for such a matrix and such rows."""
    method = unclustered("auto", adjacency, tables[0])
    if method == "csr" or tables[0].device.type != "cpu":
        return method
    kept = _keep(adjacency)
    kept.uses += 1
    if method == "compiled" and _native(adjacency, tables):
        return method
    return "clustered" if kept.is_clustered else "embedding_bag"


# Other forms of a matrix, as long as it lives.
_kept: MutableMapping[Tensor | SparseMatrix, Kept] = WeakIdKeyDictionary()


def _keep(adjacency: Tensor | SparseMatrix) -> Kept:
    if adjacency not in _kept:
        _kept[adjacency] = Kept(*_arrays(adjacency))
    return _kept[adjacency]


def _native(adjacency: Tensor | SparseMatrix, tables: Tables) -> NativeLayers | None:
    if any(table.device.type != "cpu" or table.dtype != torch.float32 for table in tables):
        return None
    return _keep(adjacency).native(len(tables[0]) if len(tables) == 2 else None)


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
    "csr": _csr,
    "edge_index": _edge_index,
    "torch_sparse": _torch_sparse,
}
