from dataclasses import FrozenInstanceError, replace
from itertools import pairwise

import pytest
import torch

from pyg_bsl.types import Batch, BipartiteGraph, Embeddings, Ragged, UserItems
from tests.planted import NUM_ITEMS, NUM_USERS, pairs, planted

NUM_ROWS, CATALOGUE = 9, 12


def random_sets(seed: int) -> list[set[int]]:
    """Items of each user; one user has none, one has all, one all but one."""
    generator = torch.Generator().manual_seed(seed)
    sets = []
    for _ in range(NUM_ROWS):
        size = int(torch.randint(0, CATALOGUE + 1, (), generator=generator))
        sets.append(set(torch.randperm(CATALOGUE, generator=generator)[:size].tolist()))
    sets[1], sets[3], sets[8] = set(), set(range(CATALOGUE)), set(range(CATALOGUE)) - {seed % 12}
    return sets


def of(sets: list[set[int]], num_items: int = CATALOGUE) -> UserItems:
    """The sets as rows, their pairs handed over in a random order."""
    rows = [(user, item) for user, items in enumerate(sets) for item in items]
    order = torch.randperm(len(rows), generator=torch.Generator().manual_seed(5))
    table = torch.tensor(rows, dtype=torch.long).view(-1, 2)[order]
    return UserItems.from_pairs(table[:, 0], table[:, 1], len(sets), num_items)


def sets_of(rows: UserItems) -> list[list[int]]:
    ptr = rows.ptr.tolist()
    return [rows.items[a:b].tolist() for a, b in pairwise(ptr)]


EVERY_SEED = pytest.mark.parametrize("seed", range(5))


@EVERY_SEED
def test_rows_hold_each_users_items_ascending(seed):
    sets = random_sets(seed)
    rows = of(sets)
    assert sets_of(rows) == [sorted(items) for items in sets]
    assert (rows.num_users, rows.num_items) == (NUM_ROWS, CATALOGUE)
    assert rows.num_pairs == sum(map(len, sets))
    assert rows.counts.tolist() == [len(items) for items in sets]
    popularity = [sum(item in items for items in sets) for item in range(CATALOGUE)]
    assert rows.item_counts.tolist() == popularity
    assert rows.users.tolist() == [u for u, items in enumerate(sets) for _ in items]
    expected = [u * CATALOGUE + i for u, items in enumerate(sets) for i in sorted(items)]
    assert rows.keys.tolist() == expected


@EVERY_SEED
def test_contains_is_membership(seed):
    sets = random_sets(seed)
    users, items = torch.arange(NUM_ROWS)[:, None], torch.arange(CATALOGUE)[None]
    expected = [[item in items for item in range(CATALOGUE)] for items in sets]
    assert of(sets).contains(users, items).tolist() == expected


def test_contains_nothing_where_there_is_nothing():
    rows = of([set(), set()])
    assert rows.contains(torch.tensor([0, 1]), torch.tensor([0, 11])).tolist() == [False, False]
    assert rows.item_counts.tolist() == [0] * CATALOGUE
    assert rows.unseen(torch.tensor([[0], [1]]), torch.arange(CATALOGUE)[None]).tolist() == (
        [list(range(CATALOGUE))] * 2
    )


@EVERY_SEED
def test_select_takes_rows_in_the_order_asked_for_and_again(seed):
    sets = random_sets(seed)
    users = [4, 1, 3, 4, 0, 8]
    rows = of(sets).select(torch.tensor(users))
    assert sets_of(rows) == [sorted(sets[user]) for user in users]
    assert rows.num_items == CATALOGUE
    assert of(sets).select(torch.tensor([], dtype=torch.long)).num_users == 0


@EVERY_SEED
def test_unseen_lists_exactly_the_items_that_a_user_does_not_have(seed):
    sets = random_sets(seed)
    rows = of(sets)
    for user, items in enumerate(sets):
        free = [item for item in range(CATALOGUE) if item not in items]
        ranks = torch.arange(len(free))[None]
        assert rows.unseen(torch.tensor([[user]]), ranks).tolist() == [free]


def test_unseen_of_many_users_at_once():
    sets = random_sets(0)
    users = [user for user in range(NUM_ROWS) if len(sets[user]) < CATALOGUE]
    first = of(sets).unseen(torch.tensor(users)[:, None], torch.zeros(len(users), 3).long())
    expected = [min(set(range(CATALOGUE)) - sets[user]) for user in users]
    assert first.tolist() == [[item] * 3 for item in expected]


def test_one_item_is_a_catalogue_too():
    rows = of([{0}, set()], num_items=1)
    assert rows.contains(torch.tensor([0, 1]), torch.tensor([0, 0])).tolist() == [True, False]
    assert rows.unseen(torch.tensor([[1]]), torch.tensor([[0]])).tolist() == [[0]]


def test_ragged_rows_of_user_items():
    rows = of(random_sets(1))
    ragged = Ragged.of(rows)
    assert ragged.bounds == tuple(rows.ptr.tolist())
    assert ragged.num_rows == NUM_ROWS
    assert ragged.counts().tolist() == rows.counts.tolist()
    for row in range(ragged.num_rows):
        part = slice(ragged.bounds[row], ragged.bounds[row + 1])
        assert (ragged.row[part] == row).all()
        assert ragged.col[part].tolist() == sorted(random_sets(1)[row])


def test_batch_lists_users_and_items_of_its_rows():
    positives = Ragged((0, 2, 3), torch.tensor([0, 0, 1]), torch.tensor([5, 6, 7]))
    batch = Batch(torch.tensor([9, 4]), positives, positives)
    assert batch.users.tolist() == [9, 9, 4]
    assert batch.items.tolist() == [5, 6, 7]


def test_a_batch_moves_whole_and_keeps_one_copy_of_what_was_one():
    positives = Ragged((0, 2, 3), torch.tensor([0, 0, 1]), torch.tensor([5, 6, 7]))
    other = Ragged((0, 1, 1), torch.tensor([0]), torch.tensor([5]))
    for seen in (positives, other, None):
        moved = Batch(torch.tensor([9, 4]), positives, seen).to("meta")
        assert moved.users.is_meta and moved.items.is_meta
        assert moved.positives.bounds == (0, 2, 3)
        assert (moved.seen is moved.positives) == (seen is positives)
        assert moved.seen is None or moved.seen.col.is_meta
        assert (moved.seen is None) == (seen is None)


def test_embeddings_detach_and_move():
    emb = Embeddings(torch.ones(2, 3, requires_grad=True), torch.ones(4, 3, requires_grad=True))
    assert not emb.detach().user.requires_grad and not emb.detach().item.requires_grad
    assert emb.to("meta").user.is_meta and emb.to("meta").item.is_meta


def test_graph_knows_its_sizes_and_splits():
    graph = planted()
    assert (graph.num_users, graph.num_items) == (NUM_USERS, NUM_ITEMS)
    for split, rows in pairs().items():
        held = graph.split(split)
        assert sorted(zip(held.users.tolist(), held.items.tolist(), strict=True)) == sorted(rows)


def test_missing_and_unknown_splits_are_errors():
    graph = replace(planted(), valid=None)
    with pytest.raises(ValueError, match=r"'planted' has no valid interactions: hold some out"):
        graph.split("valid")
    with pytest.raises(ValueError, match=r"must be one of 'train', 'valid', 'test' \(got 'dev'\)"):
        graph.split("dev")


def test_graph_moves_whole_and_keeps_what_it_is_called():
    graph = replace(planted(), test=None, user_ids=["a"], item_ids=["b"]).to("meta")
    assert isinstance(graph, BipartiteGraph)
    assert graph.train.items.is_meta and graph.valid is not None and graph.valid.ptr.is_meta
    assert graph.test is None and graph.adjacency.is_meta
    assert (graph.name, graph.digest) == (planted().name, planted().digest)
    assert (graph.user_ids, graph.item_ids) == (["a"], ["b"])


def test_what_layers_hand_on_cannot_be_changed():
    with pytest.raises(FrozenInstanceError):
        planted().name = "other"  # type: ignore[misc]
