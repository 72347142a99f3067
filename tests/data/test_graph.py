"""The graph against dense matrices."""

import hashlib
import logging
import struct
import sys

import pytest
import torch

from pyg_bsl.data import DataError, build_graph, make_hetero
from pyg_bsl.data.hetero import RATES

NUM_USERS, NUM_ITEMS = 7, 5


def random_data(seed=0, shuffle=False):
    """Disjoint train, valid and test pairs; user 6 and item 4 have no training pair."""
    generator = torch.Generator().manual_seed(seed)
    fate = torch.randint(6, (NUM_USERS, NUM_ITEMS), generator=generator)
    train = (fate < 3).nonzero().t()
    train = train[:, (train[0] < 6) & (train[1] < 4)]
    valid, test = (fate == 3).nonzero().t(), (fate == 4).nonzero().t()
    if shuffle:
        train, valid, test = (
            pairs[:, torch.randperm(pairs.size(1), generator=generator)]
            for pairs in (train, valid, test)
        )
    return make_hetero(train, NUM_USERS, NUM_ITEMS, valid=valid, test=test, name="random")


def dense_adjacency(data):
    """The formula, entry by entry."""
    size = NUM_USERS + NUM_ITEMS
    matrix = torch.zeros(size, size, dtype=torch.double)
    for user, item in data[RATES].edge_index.t().tolist():
        matrix[user, NUM_USERS + item] = matrix[NUM_USERS + item, user] = 1
    degree = matrix.sum(1)
    for row in range(size):
        for column in range(size):
            if matrix[row, column]:
                matrix[row, column] /= (degree[row] * degree[column]).sqrt()
    return matrix


@pytest.mark.parametrize("seed", range(3))
def test_adjacency_is_the_normalised_matrix(seed):
    data = random_data(seed)
    adjacency = build_graph(data).adjacency
    assert adjacency.layout == torch.sparse_csr
    assert adjacency.dtype == torch.float32
    dense = dense_adjacency(data)
    torch.testing.assert_close(adjacency.to_dense(), dense.float())
    assert torch.equal(adjacency.to_dense(), adjacency.to_dense().t())
    x = torch.randn(NUM_USERS + NUM_ITEMS, 3)
    torch.testing.assert_close(adjacency @ x, dense.float() @ x)


def test_sparse_tensor_is_the_same_matrix():
    pytest.importorskip("torch_sparse")
    data = random_data()
    graph = build_graph(data, layout="sparse_tensor")
    assert type(graph.adjacency).__name__ == "SparseTensor"
    assert torch.equal(graph.adjacency.to_dense(), build_graph(data).adjacency.to_dense())
    x = torch.randn(NUM_USERS + NUM_ITEMS, 3)
    torch.testing.assert_close(graph.adjacency @ x, dense_adjacency(data).float() @ x)


def test_a_missing_torch_sparse_is_told(monkeypatch):
    monkeypatch.setitem(sys.modules, "torch_sparse", None)
    with pytest.raises(ModuleNotFoundError, match=r"needs torch-sparse: pip install.*'csr'"):
        build_graph(random_data(), layout="sparse_tensor")


def test_an_unknown_layout_is_refused():
    with pytest.raises(ValueError, match="'layout' must be 'csr' or 'sparse_tensor'"):
        build_graph(random_data(), layout="coo")


def test_splits_hold_the_pairs_of_each_user_in_order():
    data = random_data(shuffle=True)
    graph = build_graph(data)
    for split, key in (
        ("train", "edge_index"),
        ("valid", "valid_edge_label_index"),
        ("test", "edge_label_index"),
    ):
        pairs = data[RATES][key].t().tolist()
        for user in range(NUM_USERS):
            rows = graph.split(split)
            got = rows.items[rows.ptr[user] : rows.ptr[user + 1]].tolist()
            assert got == sorted(i for u, i in pairs if u == user)


def test_names_and_raw_ids_are_carried_over():
    pairs = torch.tensor([[0, 1], [1, 0]])
    users, items = ["ann", "bob"], ["x", "y"]
    graph = build_graph(make_hetero(pairs, 2, 2, user_ids=users, item_ids=items, name="tiny"))
    assert (graph.name, graph.user_ids, graph.item_ids) == ("tiny", users, items)
    assert graph.valid is None and graph.test is None
    bare = build_graph(make_hetero(pairs, 2, 2))
    assert (bare.name, bare.user_ids, bare.item_ids) == ("unnamed", None, None)


def test_digest_is_that_of_the_data_not_of_its_order():
    digest = build_graph(random_data()).digest
    assert len(digest) == 16 and int(digest, 16)
    assert build_graph(random_data(shuffle=True)).digest == digest


@pytest.mark.parametrize("change", ["seed", "size", "move", "drop"])
def test_digest_changes_with_the_data(change):
    data = random_data()
    digest = build_graph(data).digest
    store = data[RATES]
    if change == "seed":
        data = random_data(1)
    elif change == "size":
        data["item"].num_nodes += 1
    elif change == "move":
        valid, test = store.valid_edge_label_index, store.edge_label_index
        store.valid_edge_label_index, store.edge_label_index = test, valid
    else:
        del store.valid_edge_label_index
    assert build_graph(data).digest != digest


def test_digest_is_that_of_the_sizes_and_the_sorted_pairs():
    train, test = [(0, 1), (1, 0), (1, 1)], [(0, 0)]
    data = make_hetero(torch.tensor(train).t(), 2, 2, test=torch.tensor(test).t())
    text = b"(2, 2)"
    for split, pairs in (("train", train), ("test", test)):
        text += f"{split} {len(pairs)} ".encode()
        text += b"".join(struct.pack("<q", user * 2 + item) for user, item in pairs)
    assert build_graph(data).digest == hashlib.sha256(text).hexdigest()[:16]


@pytest.mark.parametrize(
    ("train", "message"),
    [
        ([[0, 2], [0, 1]], r"the train pairs .*: user ids must lie in 0 ... 1 \(got 2, and 0 more"),
        ([[0, 1], [0, 3]], r"item ids must lie in 0 ... 2 \(got 3"),
        ([[0, -1], [0, 1]], r"user ids must lie in 0 ... 1 \(got -1"),
        ([[0, 0, 1], [1, 1, 0]], r"1 pairs stand there more than once"),
        ([[], []], r"'tiny' has no training pairs"),
    ],
)
def test_bad_training_pairs_are_refused(train, message):
    train = torch.tensor(train, dtype=torch.long)
    with pytest.raises(DataError, match=message):
        build_graph(make_hetero(train, 2, 3, name="tiny"))


@pytest.mark.parametrize(
    "train", [torch.rand(2, 3), torch.zeros(3, 2).long(), torch.zeros(2).long()]
)
def test_pairs_of_another_type_or_shape_are_refused(train):
    data = make_hetero(torch.tensor([[0], [0]]), 2, 3)
    data[RATES].edge_index = train
    with pytest.raises(DataError, match=r"must be an int64 tensor of shape \[2, E\] \(got torch"):
        build_graph(data)


def test_a_missing_size_is_told():
    data = make_hetero(torch.tensor([[0], [0]]), 2, 3)
    del data["item"].num_nodes
    with pytest.raises(DataError, match=r"how many items there are: set data\['item'\].num_nodes"):
        build_graph(data)


@pytest.mark.parametrize("split", ["valid", "test"])
def test_held_out_pairs_in_train_are_refused(split):
    train = torch.tensor([[0, 0, 1], [0, 1, 2]])
    held_out = torch.tensor([[0, 1, 0], [2, 2, 1]])
    with pytest.raises(DataError, match=rf"2 {split} pairs of 'tiny' are .*first: user 0, item 1"):
        build_graph(make_hetero(train, 2, 3, name="tiny", **{split: held_out}))


def test_users_without_training_pairs_are_counted_in_the_log(caplog):
    with caplog.at_level(logging.WARNING, "pyg_bsl"):
        build_graph(make_hetero(torch.tensor([[1], [0]]), 4, 1, name="tiny"))
    assert caplog.messages == ["tiny: 3 users have no training pair"]


@pytest.fixture
def warn_always():
    """Without this, torch warns once a process."""
    before = torch.is_warn_always_enabled()
    torch.set_warn_always(True)
    yield
    torch.set_warn_always(before)


@pytest.mark.filterwarnings("error")
def test_no_warning_of_torch_is_shown(warn_always):
    graph = build_graph(random_data()).to("cpu")
    with pytest.warns(UserWarning, match="beta"):  # the fixture works
        torch.sparse_csr_tensor([0, 1], [0], [1.0], check_invariants=True)
    assert graph.num_users == NUM_USERS
