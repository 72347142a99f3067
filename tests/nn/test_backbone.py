"""What holds for every backbone."""

import copy
import inspect
from dataclasses import replace

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from pyg_bsl.nn import BACKBONES, MF, Backbone, ContrastiveBackbone, EmbeddingBackbone
from pyg_bsl.ops.propagation import METHODS
from pyg_bsl.types import Embeddings
from tests.nn.graphs import (
    NUM_ITEMS,
    NUM_USERS,
    dense_adjacency,
    interactions,
    make_graph,
    pair_batch,
)

EVERY = pytest.mark.parametrize("cls", BACKBONES.values(), ids=BACKBONES)
LEARNED = {name: cls for name, cls in BACKBONES.items() if issubclass(cls, EmbeddingBackbone)}
PROPAGATING = {n: c for n, c in LEARNED.items() if "propagation" in inspect.signature(c).parameters}
EVERY_PROPAGATING = pytest.mark.parametrize("cls", PROPAGATING.values(), ids=PROPAGATING)
EVERY_LEARNED = pytest.mark.parametrize("cls", LEARNED.values(), ids=LEARNED)
READS_BACK = {"aten::_local_scalar_dense", "aten::item", "aten::nonzero", "aten::masked_select"}


def build(cls: type[Backbone], seed: int = 0, **options: object) -> Backbone:
    torch.manual_seed(seed)
    return cls(NUM_USERS, NUM_ITEMS, **options)


def total(emb: Embeddings) -> Tensor:
    return emb.user.square().sum() + emb.item.square().sum()


@EVERY
def test_gives_a_vector_for_every_user_and_item(cls):
    emb = build(cls)(make_graph(torch.float32))
    assert emb.user.shape[0] == NUM_USERS
    assert emb.item.shape[0] == NUM_ITEMS
    assert emb.user.shape[1] == emb.item.shape[1]


@EVERY
def test_users_and_items_without_edges_stay_finite(cls):
    backbone = build(cls)
    emb = backbone(make_graph(torch.float32))
    assert emb.user.isfinite().all() and emb.item.isfinite().all()
    if emb.user.requires_grad:
        total(emb).backward()
        assert all(p.grad.isfinite().all() for p in backbone.parameters())


@EVERY
def test_a_sparse_tensor_gives_the_same_as_csr(cls):
    torch_sparse = pytest.importorskip("torch_sparse")
    graph = make_graph()
    sparse = torch_sparse.SparseTensor.from_dense(dense_adjacency(interactions()))
    backbone = build(cls).double().eval()
    emb, other = backbone(graph), backbone(replace(graph, adjacency=sparse))
    torch.testing.assert_close(emb.user, other.user)
    torch.testing.assert_close(emb.item, other.item)


@EVERY_PROPAGATING
@pytest.mark.parametrize("propagation", METHODS)
def test_every_way_to_multiply_gives_the_same_both_ways(cls, propagation):
    if propagation == "torch_sparse":
        pytest.importorskip("torch_sparse")
    results = []
    for name in (propagation, "csr"):
        backbone = build(cls, propagation=name).double().eval()
        assert f"propagation={name}" in str(backbone)
        emb = backbone(make_graph())
        gradients = torch.autograd.grad(total(emb), list(backbone.parameters()))
        results.append((emb.user, emb.item, *gradients))
    for one, other in zip(*results, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-10, atol=1e-12)


@EVERY_PROPAGATING
def test_an_unknown_way_to_multiply_is_an_error(cls):
    with pytest.raises(ValueError, match="Unknown propagation 'crs'; did you mean 'csr'"):
        build(cls, propagation="crs")


@EVERY_PROPAGATING
def test_lengths_of_vectors_that_are_propagated_are_weights(cls):
    assert not cls.unit_norm


@EVERY
def test_the_same_seed_gives_the_same_bits(cls):
    graph = make_graph(torch.float32)
    one, two, other = (build(cls, seed)(graph) for seed in (3, 3, 4))
    assert torch.equal(one.user, two.user) and torch.equal(one.item, two.item)
    if cls in LEARNED.values():
        assert not torch.equal(one.item, other.item)


@EVERY
def test_reset_parameters_is_a_new_start(cls):
    backbone, fresh = build(cls, seed=1), build(cls, seed=2)
    torch.manual_seed(2)
    backbone.reset_parameters()
    assert str(backbone) == str(fresh)
    for name, value in fresh.state_dict().items():
        assert torch.equal(backbone.state_dict()[name], value)


@EVERY
def test_state_dict_and_deepcopy_bring_everything_back(cls):
    graph = make_graph(torch.float32)
    backbone, other = build(cls, seed=1).eval(), build(cls, seed=2).eval()
    other.load_state_dict(backbone.state_dict())
    for same in (other, copy.deepcopy(backbone)):
        assert torch.equal(same(graph).user, backbone(graph).user)
        assert torch.equal(same(graph).item, backbone(graph).item)


@EVERY
def test_a_step_runs_on_the_meta_device(cls):
    graph = make_graph(torch.float32).to("meta")
    with torch.device("meta"):
        backbone = cls(NUM_USERS, NUM_ITEMS)
    emb = backbone(graph)
    assert emb.user.is_meta and emb.item.is_meta
    if emb.user.requires_grad:
        total(emb).backward()
        assert all(p.grad.is_meta for p in backbone.parameters())


class _Names(TorchDispatchMode):
    def __init__(self) -> None:
        super().__init__()
        self.seen: set[str] = set()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.seen.add(func.name())
        return func(*args, **(kwargs or {}))


@EVERY
def test_a_step_reads_nothing_back_to_the_host(cls):
    backbone, graph = build(cls), make_graph(torch.float32)
    with _Names() as names:
        emb = backbone(graph)
        if emb.user.requires_grad:
            total(emb).backward()
    assert names.seen
    assert not names.seen & READS_BACK


@EVERY
def test_another_graph_is_an_error(cls):
    backbone = cls(NUM_USERS, NUM_ITEMS + 1)
    with pytest.raises(
        ValueError, match=f"has 6 users and 9 items, but 'unnamed' has 6 and 8: .*{cls.__name__}"
    ):
        backbone(make_graph(torch.float32))


@EVERY
def test_bad_sizes_are_errors(cls):
    with pytest.raises(
        ValueError, match=r"'num_users' must be a whole number of at least 1 \(got 0\)"
    ):
        cls(0, 3)
    with pytest.raises(
        ValueError, match=r"'num_items' must be a whole number of at least 1 \(got -2\)"
    ):
        cls(3, -2)


@EVERY
def test_options_are_keywords_and_the_search_space_names_them(cls):
    parameters = list(inspect.signature(cls).parameters.values())
    assert [p.name for p in parameters[:2]] == ["num_users", "num_items"]
    assert all(p.kind is p.KEYWORD_ONLY for p in parameters[2:])
    assert set(cls.search_space) <= {p.name for p in parameters[2:]}


@EVERY
def test_tables_are_the_learned_vectors(cls):
    backbone = build(cls)
    shapes = [tuple(table.shape) for table in backbone.tables()]
    assert shapes == ([(NUM_USERS, 64), (NUM_ITEMS, 64)] if cls in LEARNED.values() else [])
    assert {id(t) for t in backbone.tables()} <= {id(p) for p in backbone.parameters()}


@EVERY
def test_only_backbones_that_contrast_views_have_an_auxiliary_loss(cls):
    backbone, graph, batch = build(cls), make_graph(torch.float32), pair_batch([(0, 1), (2, 0)])
    term = backbone.auxiliary_loss(backbone(graph), batch)
    assert (term is not None) == issubclass(cls, ContrastiveBackbone)
    assert backbone.eval().auxiliary_loss(backbone(graph), batch) is None


@EVERY_LEARNED
def test_both_ways_to_start(cls):
    xavier = cls(400, 200, embedding_dim=32)
    for table, rows in ((xavier.user_embedding, 400), (xavier.item_embedding, 200)):
        bound = (6 / (rows + 32)) ** 0.5
        assert 0.99 * bound < table.abs().max() <= bound
    normal = cls(400, 200, embedding_dim=32, init="normal", init_std=0.5)
    for table in (normal.user_embedding, normal.item_embedding):
        assert abs(table.std() - 0.5) < 0.02 and abs(table.mean()) < 0.02
        assert table.abs().max() > 1


@EVERY_LEARNED
def test_bad_options_are_errors(cls):
    with pytest.raises(
        ValueError, match=r"'embedding_dim' must be a whole number of at least 1 \(got 0\)"
    ):
        cls(3, 3, embedding_dim=0)
    with pytest.raises(ValueError, match="Unknown init 'xaver'; did you mean 'xavier'"):
        cls(3, 3, init="xaver")
    with pytest.raises(ValueError, match=r"'init_std' must be positive and finite \(got 0\)"):
        cls(3, 3, init="normal", init_std=0)
    for name in ("dropout", "node_dropout", "edge_dropout"):
        if name in inspect.signature(cls).parameters:
            with pytest.raises(ValueError, match=rf"'{name}' must be in \[0, 1\) \(got 1\)"):
                cls(3, 3, **{name: 1})
    if "gamma" in inspect.signature(cls).parameters:
        with pytest.raises(ValueError, match=r"'gamma' must be in \[0, 1\] \(got 1.1\)"):
            cls(3, 3, gamma=1.1)
    if "num_layers" in inspect.signature(cls).parameters:
        with pytest.raises(
            ValueError, match=r"'num_layers' must be a whole number of at least 1 \(got 0\)"
        ):
            cls(3, 3, num_layers=0)


def test_names_are_those_of_the_classes():
    assert BACKBONES["MF"] is MF
    assert all(name == cls.__name__ for name, cls in BACKBONES.items())


def test_a_backbone_of_ones_own_is_short():
    class Constant(Backbone):
        def __init__(self, num_users: int, num_items: int) -> None:
            super().__init__(num_users, num_items, embedding_dim=2)

        def forward(self, graph):
            return Embeddings(torch.ones(self.num_users, 2), torch.ones(self.num_items, 2))

        def reset_parameters(self):
            pass

    backbone = build(Constant)
    assert str(backbone) == "Constant(6, 8)"
    assert backbone(make_graph()).item.shape == (8, 2)
    assert Constant.search_space == {}


@EVERY
def test_embeddings_know_the_scores_they_are_ranked_by(cls):
    backbone, graph = build(cls), make_graph(torch.float32)
    assert backbone(graph).similarity == cls.similarity
    backbone.similarity = "cosine"
    assert backbone(graph).similarity == "cosine"
    assert build(cls)(graph).similarity == cls.similarity
