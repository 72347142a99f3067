import pytest
import torch
from torch_geometric.nn import LGConv as PyGLGConv
from torch_geometric.nn import LightGCN as PyGLightGCN

from pyg_bsl.nn import LGConv, LightGCN
from tests.nn.graphs import dense_adjacency, interactions, make_graph


def build(num_layers: int) -> LightGCN:
    torch.manual_seed(0)
    return LightGCN(6, 8, embedding_dim=4, num_layers=num_layers).double()


@pytest.mark.parametrize("num_layers", [1, 2, 3])
def test_is_the_mean_of_dense_propagations(num_layers):
    backbone, matrix = build(num_layers), dense_adjacency(interactions())
    layer = torch.cat([backbone.user_embedding, backbone.item_embedding])
    total = layer
    for _ in range(num_layers):
        layer = torch.stack([sum(matrix[v, w] * layer[w] for w in range(14)) for v in range(14)])
        total = total + layer
    expected = total / (num_layers + 1)
    emb = backbone(make_graph())
    torch.testing.assert_close(torch.cat([emb.user, emb.item]), expected)
    weight = torch.linspace(-1, 1, 56, dtype=torch.float64).view(14, 4)
    inputs = list(backbone.parameters())
    gradients = torch.autograd.grad((torch.cat([emb.user, emb.item]) * weight).sum(), inputs)
    for gradient, other in zip(
        gradients, torch.autograd.grad((expected * weight).sum(), inputs), strict=True
    ):
        torch.testing.assert_close(gradient, other)


@pytest.mark.parametrize("conv", [LGConv(), PyGLGConv(normalize=False)], ids=["ours", "pyg"])
def test_is_the_mean_over_lgconv_layers(conv):
    backbone, graph = build(3), make_graph()
    layers = [backbone.nodes()]
    for _ in range(3):
        layers.append(conv(layers[-1], graph.adjacency))
    emb = backbone(graph)
    torch.testing.assert_close(torch.cat([emb.user, emb.item]), sum(layers) / 4)


def test_equals_the_lightgcn_of_pyg():
    backbone = build(3)
    theirs = PyGLightGCN(14, embedding_dim=4, num_layers=3).double()
    theirs.embedding.weight.data.copy_(backbone.nodes())
    users, items = interactions().nonzero(as_tuple=True)
    edges = torch.stack([torch.cat([users, items + 6]), torch.cat([items + 6, users])])
    emb = backbone(make_graph())
    # Their layer weights are 1 / (K + 1) in float32: exact for K = 3.
    torch.testing.assert_close(torch.cat([emb.user, emb.item]), theirs.get_embedding(edges))


def test_only_the_embeddings_are_learned():
    assert list(dict(build(3).named_parameters())) == ["user_embedding", "item_embedding"]
    assert not list(build(3).buffers())


def test_repr():
    text = "LightGCN(671, 2000, embedding_dim=64, num_layers=3, propagation=auto)"
    assert str(LightGCN(671, 2000, embedding_dim=64, num_layers=3)) == text
