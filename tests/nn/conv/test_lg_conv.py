import pytest
import torch
from torch_geometric.nn import LGConv as PyGLGConv

from pyg_bsl.nn import LGConv
from pyg_bsl.ops.propagation import METHODS
from tests.nn.graphs import dense_adjacency, interactions, make_graph


def rows() -> torch.Tensor:
    return torch.randn(14, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(0))


def test_one_layer_is_the_dense_product():
    expected = dense_adjacency(interactions()) @ rows()
    torch.testing.assert_close(LGConv()(rows(), make_graph().adjacency), expected)


def test_equals_the_layer_of_pyg_on_every_kind_of_edges():
    adjacency = make_graph().adjacency
    edge_index, edge_weight = dense_edges()
    x = rows().requires_grad_()
    results = []
    for conv, edges in (
        (LGConv(), (adjacency,)),
        (LGConv(), (edge_index, edge_weight)),
        (PyGLGConv(normalize=False), (adjacency,)),
        (PyGLGConv(normalize=False), (edge_index, edge_weight)),
        (PyGLGConv(), (edge_index,)),
    ):
        out = conv(x, *edges)
        (gradient,) = torch.autograd.grad((out * rows().flip(0)).sum(), x)
        results.append((out, gradient))
    for out, gradient in results[1:]:
        torch.testing.assert_close(out, results[0][0])
        torch.testing.assert_close(gradient, results[0][1])


def test_takes_a_sparse_tensor():
    torch_sparse = pytest.importorskip("torch_sparse")
    matrix = dense_adjacency(interactions())
    out = LGConv()(rows(), torch_sparse.SparseTensor.from_dense(matrix))
    torch.testing.assert_close(out, matrix @ rows())


def test_a_sparse_adjacency_is_not_turned_into_edge_indices():
    # That cannot be done on the meta device, and costs more than the product elsewhere.
    adjacency = make_graph().adjacency.to("meta")
    assert LGConv()(rows().to("meta"), adjacency).shape == (14, 5)


def test_repr():
    assert str(LGConv()) == "LGConv()"


@pytest.mark.parametrize("propagation", METHODS)
def test_every_way_to_multiply_gives_the_same(propagation):
    if propagation == "torch_sparse":
        pytest.importorskip("torch_sparse")
    expected = dense_adjacency(interactions()) @ rows()
    conv = LGConv(propagation=propagation)
    torch.testing.assert_close(conv(rows(), make_graph().adjacency), expected)


def test_an_unknown_way_to_multiply_is_an_error():
    with pytest.raises(ValueError, match="Unknown propagation 'crs'; did you mean 'csr'"):
        LGConv(propagation="crs")


def dense_edges() -> tuple[torch.Tensor, torch.Tensor]:
    matrix = dense_adjacency(interactions())
    source, target = matrix.nonzero(as_tuple=True)
    return torch.stack([source, target]), matrix[source, target]
