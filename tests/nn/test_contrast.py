import math

import pytest
import torch
from torch import Tensor

from pyg_bsl.nn import BACKBONES, ContrastiveBackbone
from pyg_bsl.nn.contrast import Views, _info_nce, _one_over_count, info_nce
from pyg_bsl.sampling import BatchLoader
from pyg_bsl.types import Embeddings
from tests.nn.graphs import make_graph, pair_batch
from tests.ops.cases import LargestTensor, NoReadBack
from tests.planted import planted

CONTRASTIVE = {k: cls for k, cls in BACKBONES.items() if issubclass(cls, ContrastiveBackbone)}
EVERY = pytest.mark.parametrize("cls", CONTRASTIVE.values(), ids=CONTRASTIVE)


def by_loops(one: Tensor, two: Tensor, nodes: set[int], tau: float) -> Tensor:
    """InfoNCE, pair by pair."""

    def cosine(v: int, w: int) -> Tensor:
        return one[v] @ two[w] / (one[v].norm() * two[w].norm())

    total = torch.zeros((), dtype=one.dtype)
    for v in nodes:
        denominator = sum((cosine(v, w) / tau).exp() for w in nodes)
        total = total + denominator.log() - cosine(v, v) / tau
    return total / len(nodes)


@pytest.mark.parametrize("nodes", [[3], [0, 4, 2], [5, 1, 1, 5, 5, 0], [2, 2, 2]], ids=str)
@pytest.mark.parametrize("tau", [0.1, 0.7])
@pytest.mark.parametrize("weighted", [False, True], ids=["taken out", "weighed"])
def test_info_nce_counts_each_node_once_however_often_it_is_named(nodes, tau, weighted):
    generator = torch.Generator().manual_seed(0)
    one, two = (
        torch.randn(6, 3, generator=generator, dtype=torch.float64, requires_grad=True)
        for _ in range(2)
    )
    expected, index = by_loops(one, two, set(nodes), tau), torch.tensor(nodes)
    if weighted:  # as on a GPU
        value = _info_nce(one, two, index, _one_over_count(index, one), tau)
    else:
        value = info_nce(one, two, index, tau)
    torch.testing.assert_close(value, expected, rtol=1e-10, atol=1e-10)
    for got, wanted in zip(
        torch.autograd.grad(value, (one, two)),
        torch.autograd.grad(expected, (one, two)),
        strict=True,
    ):
        torch.testing.assert_close(got, wanted, rtol=1e-9, atol=1e-9)


def test_info_nce_of_views_that_tell_nothing_is_the_log_of_the_number_of_nodes():
    ones = torch.ones(5, 2)
    assert info_nce(ones, ones, torch.tensor([0, 1, 2, 2]), 0.1).item() == pytest.approx(
        math.log(3)
    )


def test_info_nce_of_a_zero_vector_is_finite():
    one = torch.zeros(3, 2, requires_grad=True)
    info_nce(one, torch.eye(3)[:, :2], torch.tensor([0, 1]), 0.1).backward()
    assert one.grad.isfinite().all()


@EVERY
def test_the_term_is_weighed_and_sums_users_and_items(cls):
    torch.manual_seed(0)
    backbone = cls(6, 8, embedding_dim=4, contrast_weight=0.3, contrast_tau=0.5).double()
    views = backbone(make_graph())
    batch = pair_batch([(0, 1), (2, 0), (0, 7), (5, 1)])
    expected = by_loops(views.one.user, views.two.user, {0, 2, 5}, 0.5) + by_loops(
        views.one.item, views.two.item, {0, 1, 7}, 0.5
    )
    torch.testing.assert_close(backbone.auxiliary_loss(views, batch), 0.3 * expected)


@EVERY
def test_the_term_trains_the_learned_vectors(cls):
    torch.manual_seed(0)
    backbone, graph = cls(6, 8, embedding_dim=4, init="normal"), make_graph(torch.float32)
    batch = pair_batch([(user, item) for user in range(6) for item in range(8)])
    optimizer = torch.optim.Adam(backbone.parameters(), 0.01)
    values = []
    for _ in range(30):
        optimizer.zero_grad()
        term = backbone.auxiliary_loss(backbone(graph), batch)
        term.backward()
        optimizer.step()
        values.append(term.item())
    assert sum(values[-5:]) < sum(values[:5])


@EVERY
def test_evaluation_is_plain_and_always_the_same(cls):
    backbone, graph = cls(6, 8), make_graph(torch.float32)
    assert isinstance(backbone(graph), Views)
    one, two = (backbone.eval()(graph) for _ in range(2))
    assert type(one) is Embeddings
    assert torch.equal(one.user, two.user) and torch.equal(one.item, two.item)


@EVERY
def test_a_large_batch_contrasts_as_many_of_its_pairs_as_asked_for(cls):
    torch.manual_seed(0)
    backbone, graph = cls(6, 8, embedding_dim=4, contrast_size=1), make_graph(torch.float32)
    views = backbone(graph)
    many = pair_batch([(0, 1), (2, 0), (5, 7)])
    # One node of each kind has nothing to be told apart from.
    assert backbone.auxiliary_loss(views, many).item() == pytest.approx(0, abs=1e-5)
    backbone.contrast_size = 3
    assert backbone.auxiliary_loss(views, many).item() > 0.01
    backbone.contrast_size = 2
    values = {round(backbone.auxiliary_loss(views, many).item(), 6) for _ in range(50)}
    pairs = ([(0, 1), (2, 0)], [(0, 1), (5, 7)], [(2, 0), (5, 7)])
    expected = {round(backbone.auxiliary_loss(views, pair_batch(p)).item(), 6) for p in pairs}
    assert values == expected and len(values) == 3


@EVERY
@pytest.mark.parametrize("by", ["user", "pair"])
def test_the_term_reads_nothing_back(cls, by):
    graph = planted()
    batch = next(BatchLoader(graph.train, 8, by).epoch(torch.Generator().manual_seed(0)))
    graph, batch = graph.to("meta"), batch.to("meta")
    _ = graph.train.users  # made once and kept with the graph
    with torch.device("meta"):
        backbone = cls(graph.num_users, graph.num_items, embedding_dim=8, contrast_size=16)
    with NoReadBack():
        term = backbone.auxiliary_loss(backbone(graph), batch)
        term.backward()
    assert term.is_meta and all(p.grad.is_meta for p in backbone.parameters())


def test_memory_of_the_term_is_bounded(monkeypatch):
    """Nothing of the size of all pairs of nodes is made."""
    monkeypatch.setattr("pyg_bsl.ops.tiles.CPU_TILE", 4096)
    monkeypatch.setattr("pyg_bsl.ops.walk.LEAST_QUERIES", 1)
    view = torch.randn(3000, 4, requires_grad=True)
    with LargestTensor() as largest:
        info_nce(view, view, torch.arange(2000), 0.2).backward()
    assert largest.numel < 2000 * 2000 / 10


def test_bad_options_are_errors():
    for name, value, rule in (
        ("contrast_weight", -0.1, "at least 0 and finite"),
        ("contrast_weight", math.inf, "at least 0 and finite"),
        ("contrast_tau", 0.0, "above 0 and finite"),
        ("contrast_size", 0, "a whole number of at least 1"),
    ):
        for cls in CONTRASTIVE.values():
            with pytest.raises(ValueError, match=f"'{name}' must be {rule}"):
                cls(3, 3, **{name: value})
