import pytest
import torch
from torch import Tensor

from pyg_bsl.nn import NGCFConv
from tests.nn.graphs import dense_adjacency, interactions, make_graph, to_csr


def rows() -> Tensor:
    return torch.randn(14, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(0))


def node_by_node(conv: NGCFConv, matrix: Tensor, x: Tensor) -> Tensor:
    """The paper's messages: W1 e_u to itself, p_ui (W1 e_i + W2 (e_i * e_u)) from neighbours."""
    w1, w2 = conv.weight1.T, conv.weight2.T
    out = []
    for u in range(x.size(0)):
        message = w1 @ x[u]
        for i in range(x.size(0)):
            message = message + matrix[u, i] * (w1 @ x[i] + w2 @ (x[i] * x[u]))
        out.append(torch.where(message > 0, message, 0.2 * message))
    return torch.stack(out)


def test_one_layer_is_the_sum_of_the_messages_of_the_paper():
    conv = NGCFConv(5, 3).double()
    x = rows().requires_grad_()
    expected = node_by_node(conv, dense_adjacency(interactions()), x)
    out = conv(x, make_graph().adjacency)
    torch.testing.assert_close(out, expected)
    inputs = [x, *conv.parameters()]
    weight = torch.linspace(-1, 1, out.numel(), dtype=torch.float64).view_as(out)
    for gradient, other in zip(
        torch.autograd.grad((out * weight).sum(), inputs),
        torch.autograd.grad((expected * weight).sum(), inputs),
        strict=True,
    ):
        torch.testing.assert_close(gradient, other)


def test_edge_indices_and_sparse_tensors_give_the_same():
    torch_sparse = pytest.importorskip("torch_sparse")
    conv = NGCFConv(5, 3).double()
    matrix = dense_adjacency(interactions())
    source, target = matrix.nonzero(as_tuple=True)
    expected = conv(rows(), make_graph().adjacency)
    edges = conv(rows(), torch.stack([source, target]), matrix[source, target])
    torch.testing.assert_close(edges, expected)
    sparse = conv(rows(), torch_sparse.SparseTensor.from_dense(matrix))
    torch.testing.assert_close(sparse, expected)


def test_node_dropout_silences_whole_nodes_and_keeps_the_expectation():
    torch.manual_seed(0)
    conv = NGCFConv(3, 3, negative_slope=1.0, node_dropout=0.4)
    torch.nn.init.eye_(conv.weight1)
    torch.nn.init.zeros_(conv.weight2)
    # Nodes in pairs that only hear each other: what one receives is what the other sent.
    pairs = to_csr(torch.block_diag(*[torch.tensor([[0.0, 1.0], [1.0, 0.0]])] * 2000))
    x = torch.ones(4000, 3)
    received = (conv(x, pairs) - x).detach()
    silent, sent = received == 0, (received - 1 / (1 - 0.4)).abs() < 1e-6
    assert (silent.all(1) | sent.all(1)).all()
    assert abs(silent.float().mean() - 0.4) < 0.03
    torch.testing.assert_close(conv.eval()(x, pairs) - x, x)


def test_a_sparse_adjacency_is_not_turned_into_edge_indices():
    conv = NGCFConv(5, 3, node_dropout=0.5).double().to("meta")
    assert conv(rows().to("meta"), make_graph().adjacency.to("meta")).shape == (14, 3)


def test_weights_are_two_glorot_matrices_without_bias():
    conv = NGCFConv(40, 80)
    assert [tuple(p.shape) for p in conv.parameters()] == [(40, 80), (40, 80)]
    bound = (6 / (40 + 80)) ** 0.5
    for weight in conv.parameters():
        assert 0.98 * bound < weight.abs().max() <= bound
    before = conv.weight2.clone()
    conv.reset_parameters()
    assert not torch.equal(before, conv.weight2)


def test_repr_and_bad_arguments():
    assert str(NGCFConv(5, 3)) == "NGCFConv(5, 3)"
    with pytest.raises(ValueError, match=r"'node_dropout' must be in \[0, 1\) \(got 1\.0\)"):
        NGCFConv(5, 3, node_dropout=1.0)
    with pytest.raises(ValueError, match="Unknown propagation 'crs'; did you mean 'csr'"):
        NGCFConv(5, 3, propagation="crs")
