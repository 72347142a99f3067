"""Three layers of LightGCN, forward and backward, with different sparse products.

Every way is a LightGCN with the same vectors and the mean of its layers; only the product differs:

- *LGConv(edge_index)*: PyG's layer as its own LightGCN calls it, normalising in every layer.
- *LGConv(edge_index, weights)*: normalised once.
- *LGConv, torch CSR*; *torch.sparse COO*; *EdgeIndex.matmul* (sorted, undirected, caches filled);
  *torch-sparse* where it is installed (caches filled).
- *library*: ``pyg_bsl.nn.LightGCN``.

All but the library's are made from the training pairs anew. The outputs and gradients are compared
before they are timed.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial

import torch
from torch import Tensor
from torch_geometric import EdgeIndex
from torch_geometric.nn import LGConv

from benchmarks.data import describe, large_graph
from benchmarks.measure import Options, Table, medians
from pyg_bsl.nn import LightGCN
from pyg_bsl.nn.backbone import EmbeddingBackbone
from pyg_bsl.ops.kept import PATIENCE
from pyg_bsl.types import BipartiteGraph, Embeddings

LAYERS = 3
Product = Callable[[Tensor], Tensor]


class Peer(EmbeddingBackbone):
    """LightGCN by somebody else's product, layer by layer."""

    def __init__(self, num_users: int, num_items: int, product: Product) -> None:
        super().__init__(num_users, num_items)
        self.product = product

    def forward(self, graph: BipartiteGraph) -> Embeddings:
        """Mean of the layers."""
        x = total = self.nodes()
        for _ in range(LAYERS):
            x = self.product(x)
            total = total + x
        return self.split(total / (LAYERS + 1))


@contextmanager
def unchecked() -> Iterator[None]:
    """Sparse tensors are made without checks, nor notices about that or their being in beta."""
    with torch.sparse.check_sparse_tensor_invariants(False), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Sparse CSR tensor support is in beta")
        yield


def edges(graph: BipartiteGraph) -> tuple[Tensor, Tensor]:
    """Both directions of every training pair, ordered by row, and their symmetric weights."""
    user, item = graph.train.users, graph.train.items + graph.num_users
    edge = torch.stack([torch.cat([user, item]), torch.cat([item, user])])
    size = graph.num_users + graph.num_items
    edge = edge[:, (edge[0] * size + edge[1]).argsort()]
    scale = torch.bincount(edge[0], minlength=size).clamp(min=1).rsqrt()
    return edge, scale[edge[0]] * scale[edge[1]]


def products(graph: BipartiteGraph) -> dict[str, Callable[[], Product]]:
    """The products, each made when it is called for."""
    size = graph.num_users + graph.num_items

    def literal() -> Product:
        edge, conv = edges(graph)[0], LGConv()
        return lambda x: conv(x, edge)

    def weighted() -> Product:
        (edge, weight), conv = edges(graph), LGConv(normalize=False)
        return lambda x: conv(x, edge, weight)

    def coo() -> Product:
        matrix = torch.sparse_coo_tensor(*edges(graph), (size, size)).coalesce()
        return lambda x: torch.sparse.mm(matrix, x)

    def csr() -> Product:
        conv = LGConv(normalize=False)
        matrix = torch.sparse_coo_tensor(*edges(graph), (size, size)).to_sparse_csr()
        return lambda x: conv(x, matrix)

    def edge_index() -> Product:
        edge, weight = edges(graph)
        index = EdgeIndex(edge, sparse_size=(size, size), sort_order="row", is_undirected=True)
        index.fill_cache_()
        return lambda x: index.matmul(x, input_value=weight)

    def sparse() -> Product:
        from torch_sparse import SparseTensor, matmul

        (row, col), weight = edges(graph)
        matrix = SparseTensor(row=row, col=col, value=weight, sparse_sizes=(size, size))
        matrix.fill_cache_()
        return lambda x: matmul(matrix, x)

    out = {
        "LGConv(edge_index)": literal,
        "LGConv(edge_index, weights)": weighted,
        "LGConv, torch CSR": csr,
        "torch.sparse COO": coo,
        "EdgeIndex.matmul": edge_index,
        "torch-sparse": sparse,
    }
    try:
        import torch_sparse  # noqa: F401
    except ImportError:
        del out["torch-sparse"]
    return out


@unchecked()
def backbone(graph: BipartiteGraph, name: str) -> EmbeddingBackbone:
    """LightGCN by the product called ``name``; always with the same vectors."""
    torch.manual_seed(0)
    if name == "library":
        return LightGCN(graph.num_users, graph.num_items, num_layers=LAYERS)
    return Peer(graph.num_users, graph.num_items, products(graph)[name]())


@unchecked()
def step(
    model: EmbeddingBackbone, graph: BipartiteGraph, grads: Sequence[Tensor]
) -> tuple[Tensor, ...]:
    """Forward and backward: the vectors and the gradients of the tables."""
    emb = model(graph)
    found = torch.autograd.grad((emb.user, emb.item), model.tables(), grads)
    return emb.user.detach(), emb.item.detach(), *found


def run(options: Options) -> list[Table]:
    """Time every product."""
    graph = large_graph(options)
    models = {name: backbone(graph, name) for name in (*products(graph), "library")}
    grads = [torch.randn_like(table) for table in models["library"].tables()]
    ours = step(models["library"], graph, grads)
    worst = 0.0
    for name, model in models.items():
        for mine, theirs in zip(ours, step(model, graph, grads), strict=True):
            worst = max(worst, float((mine - theirs).norm() / theirs.norm()))
        if worst > 1e-3:
            raise AssertionError(f"The library and {name} differ by {worst:.0e}")

    for _ in range(PATIENCE):  # the library clusters a matrix that is used again and again
        step(models["library"], graph, grads)
    ways = {name: partial(step, model, graph, grads) for name, model in models.items()}
    seconds = medians(ways, options)
    rows = [
        [name, f"{1e3 * each:.1f}", f"{each / seconds['library']:.1f}"]
        for name, each in seconds.items()
    ]
    note = (
        f"{describe(graph)}, {LAYERS} layers, d = 64. Vectors and gradients differ by at most "
        f"{worst:.0e} in relative norm."
    )
    return [Table(["product", "ms, forward and backward", "times the library"], rows, note)]
