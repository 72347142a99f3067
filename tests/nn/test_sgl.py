import copy

import pytest
import torch
from torch import Tensor

from pyg_bsl.nn import SGL, LightGCN
from pyg_bsl.nn._edge_dropout import drop_edges
from pyg_bsl.ops import kept, propagation
from tests.nn.graphs import (
    NUM_ITEMS,
    NUM_USERS,
    dense_adjacency,
    interactions,
    make_graph,
    nodes_of,
    pair_batch,
)


def kept_of(matrix: Tensor) -> Tensor:
    """Which interactions a view kept, ``[NUM_USERS, NUM_ITEMS]``."""
    return matrix.to_dense()[:NUM_USERS, NUM_USERS:] != 0


@pytest.mark.parametrize("share", [0.0, 0.3, 0.9])
@pytest.mark.parametrize("seed", range(5))
def test_what_is_left_is_normalised_anew(share, seed):
    torch.manual_seed(seed)
    matrix = drop_edges(make_graph().train, share)
    kept = kept_of(matrix)
    assert not (kept & ~interactions()).any()
    torch.testing.assert_close(matrix.to_dense().double(), dense_adjacency(kept))


def test_every_edge_is_left_out_as_often_as_asked_for():
    torch.manual_seed(0)
    train = make_graph().train
    total = sum(kept_of(drop_edges(train, 0.3)).double() for _ in range(2000)) / 2000
    assert ((total - 0.7).abs() < 0.05)[interactions()].all()


def test_it_is_lightgcn_with_views_on_two_graphs():
    torch.manual_seed(0)
    backbone = SGL(6, 8, embedding_dim=4, num_layers=2, edge_dropout=0.4).double()
    graph = make_graph()
    views = backbone(graph)
    plain = LightGCN(6, 8, embedding_dim=4, num_layers=2).double()
    plain.load_state_dict(backbone.state_dict())
    torch.testing.assert_close(nodes_of(views), nodes_of(plain(graph)))
    for view, adjacency in zip((views.one, views.two), backbone._views[1:], strict=True):
        matrix, nodes = dense_adjacency(kept_of(adjacency)), backbone.nodes()
        expected = (nodes + matrix @ nodes + matrix @ (matrix @ nodes)) / 3
        torch.testing.assert_close(nodes_of(view), expected, rtol=1e-6, atol=1e-6)
    assert not torch.equal(views.one.user, views.two.user)


def test_views_are_drawn_once_an_epoch():
    torch.manual_seed(0)
    backbone, graph = SGL(6, 8, embedding_dim=4, edge_dropout=0.4), make_graph(torch.float32)
    first, second = backbone(graph), backbone(graph)
    assert torch.equal(first.one.item, second.one.item)
    third = backbone.train()(graph)
    assert not torch.equal(first.one.item, third.one.item)
    backbone.eval()(graph)
    assert not torch.equal(third.one.item, backbone.train()(graph).one.item)


def test_views_belong_to_their_graph():
    torch.manual_seed(0)
    backbone, graph = SGL(6, 8, embedding_dim=4, edge_dropout=0.4), make_graph(torch.float32)
    first = backbone(graph)
    other = make_graph(torch.float32)
    assert not torch.equal(first.one.item, backbone(other).one.item)


def test_views_are_those_of_the_seed():
    backbone, graph = SGL(6, 8, edge_dropout=0.4), make_graph(torch.float32)

    def draw(seed: int) -> Tensor:
        torch.manual_seed(seed)
        return backbone.train()(graph).one.item

    assert torch.equal(draw(1), draw(1))
    assert not torch.equal(draw(1), draw(2))


@pytest.mark.parametrize("method", ["auto", "clustered"])
def test_clusters_are_found_in_the_graph_and_not_in_its_views(monkeypatch, method):
    for name in ("MIN_NODES", "MIN_DEGREE", "PATIENCE"):
        monkeypatch.setattr(kept, name, 0)
    backbone = SGL(6, 8, edge_dropout=0.4, propagation=method)
    graph, known = make_graph(torch.float32), propagation._kept
    for _ in range(3):
        backbone.train()
        for _ in range(2):
            nodes_of(backbone(graph).one).sum().backward()
        assert all(view not in known for view in backbone._views[1:])
    assert "cluster" in vars(known[graph.adjacency])


@pytest.mark.parametrize("method", propagation.METHODS)
def test_views_are_the_same_whoever_multiplies(method):
    if method == "torch_sparse":
        pytest.importorskip("torch_sparse")
    graph, results = make_graph(torch.float32), []
    for name in (method, "csr"):
        torch.manual_seed(0)
        views = SGL(6, 8, embedding_dim=4, edge_dropout=0.4, propagation=name)(graph)
        results.append(nodes_of(views.two))
    torch.testing.assert_close(*results)


def test_views_are_no_part_of_the_weights():
    backbone, graph = SGL(6, 8), make_graph(torch.float32)
    backbone(graph)
    assert list(backbone.state_dict()) == ["user_embedding", "item_embedding"]
    again = copy.deepcopy(backbone)
    assert again.auxiliary_loss(again(graph), pair_batch([(0, 1), (2, 2)])) is not None


def test_without_dropout_the_views_are_the_embeddings():
    views = SGL(6, 8, edge_dropout=0.0)(make_graph(torch.float32))
    torch.testing.assert_close(views.one.item, views.item)


def test_repr():
    options = "embedding_dim=64, num_layers=3, edge_dropout=0.1, propagation=auto"
    assert str(SGL(NUM_USERS, NUM_ITEMS)) == f"SGL(6, 8, {options})"
