import pytest
import torch

from pyg_bsl.sampling import BatchLoader
from pyg_bsl.types import Batch, UserItems
from tests.planted import planted
from tests.sampling.rows import SEEN, seeded, train

EVERY_WAY = pytest.mark.parametrize(
    ("by", "size"), [("user", 1), ("user", 2), ("user", 50), ("pair", 1), ("pair", 7), ("pair", 99)]
)


def pairs_of(batch: Batch) -> list[tuple[int, int]]:
    return list(zip(batch.users.tolist(), batch.items.tolist(), strict=True))


@EVERY_WAY
def test_an_epoch_has_every_pair_exactly_once(by, size):
    loader = BatchLoader(train(), size, by)
    batches = list(loader.epoch(seeded(0)))
    assert len(batches) == len(loader)
    pairs = [pair for batch in batches for pair in pairs_of(batch)]
    assert sorted(pairs) == [(u, i) for u, items in enumerate(SEEN) for i in sorted(items)]


@EVERY_WAY
def test_batches_have_the_size_asked_for_but_for_the_last(by, size):
    batches = list(BatchLoader(train(), size, by).epoch(seeded(0)))
    sizes = [batch.queries.numel() for batch in batches]
    assert all(each == size for each in sizes[:-1]) and 1 <= sizes[-1] <= size


@EVERY_WAY
def test_the_bounds_are_those_of_the_rows(by, size):
    for batch in BatchLoader(train(), size, by).epoch(seeded(0)):
        for rows in (batch.positives, batch.seen):
            assert rows.num_rows == batch.queries.numel()
            assert rows.bounds[0] == 0 and rows.bounds[-1] == rows.row.numel() == rows.col.numel()
            for row in range(rows.num_rows):
                part = slice(rows.bounds[row], rows.bounds[row + 1])
                assert (rows.row[part] == row).all()
            assert rows.counts().sum() == rows.row.numel()


@EVERY_WAY
def test_a_batch_carries_all_items_of_its_users(by, size):
    for batch in BatchLoader(train(), size, by).epoch(seeded(0)):
        for row, user in enumerate(batch.queries.tolist()):
            part = slice(batch.seen.bounds[row], batch.seen.bounds[row + 1])
            assert set(batch.seen.col[part].tolist()) == SEEN[user]
        assert (batch.seen is batch.positives) == (by == "user")


def test_users_of_a_user_major_batch_come_once_with_all_their_items():
    for batch in BatchLoader(train(), 2).epoch(seeded(0)):
        assert len(set(batch.queries.tolist())) == batch.queries.numel()
        for user in batch.queries.tolist():
            assert {i for u, i in pairs_of(batch) if u == user} == SEEN[user]


def test_users_without_items_are_left_out():
    rows = UserItems.from_pairs(torch.tensor([1, 3]), torch.tensor([0, 1]), 5, 2)
    loader = BatchLoader(rows, 1)
    assert len(loader) == 2
    assert sorted(batch.queries.item() for batch in loader.epoch(seeded(0))) == [1, 3]


def test_seen_items_of_pairs_may_be_left_out():
    batches = BatchLoader(train(), 4, "pair", with_seen=False).epoch(seeded(0))
    assert all(batch.seen is None for batch in batches)


@pytest.mark.parametrize("by", ["user", "pair"])
def test_the_order_is_that_of_the_seed_and_changes_with_every_epoch(by):
    def orders(seed: int) -> list[list[tuple[int, int]]]:
        loader, generator = BatchLoader(planted().train, 4, by), seeded(seed)
        return [
            [pair for batch in loader.epoch(generator) for pair in pairs_of(batch)]
            for _ in range(3)
        ]

    one, two, three = orders(0)
    assert one != two != three
    assert orders(0) == [one, two, three]
    assert orders(1) != [one, two, three]


@pytest.mark.parametrize(("by", "total"), [("user", 24), ("pair", 120)])
def test_small_data_still_gets_twelve_batches_or_so(by, total):
    loader = BatchLoader(planted().train, None, by)
    assert loader.batch_size == total // 12
    assert len(loader) == 12


def test_batches_grow_with_the_data():
    for size, expected in ((24, 2), (12_000, 1000), (40_000, 2048)):
        ids = torch.arange(size)
        rows = UserItems.from_pairs(ids, torch.zeros_like(ids), size, 1)
        assert BatchLoader(rows).batch_size == BatchLoader(rows, by="pair").batch_size == expected


def test_one_pair_is_an_epoch():
    rows = UserItems.from_pairs(torch.tensor([0]), torch.tensor([0]), 1, 1)
    for by in ("user", "pair"):
        assert [pairs_of(batch) for batch in BatchLoader(rows, None, by).epoch(seeded(0))] == (
            [[(0, 0)]]
        )


def test_bad_arguments_are_errors():
    with pytest.raises(ValueError, match=r"'batch_by' must be 'user' or 'pair' \(got 'item'\)"):
        BatchLoader(train(), by="item")
    for size in (0, -1, 1.5):
        with pytest.raises(ValueError, match="'batch_size' must be a whole number of at least 1"):
            BatchLoader(train(), size)
    empty = torch.tensor([], dtype=torch.long)
    with pytest.raises(ValueError, match="the data has no training pairs"):
        BatchLoader(UserItems.from_pairs(empty, empty, 3, 3))


@pytest.mark.parametrize(("size", "batch_size"), [(13, 4), (9, 4), (12, 4), (5, 7), (13455, 1121)])
def test_no_batch_of_an_epoch_is_a_small_rest(size, batch_size):
    ids = torch.arange(size)
    rows = UserItems.from_pairs(ids, torch.zeros_like(ids), size, 1)
    for by in ("user", "pair"):
        loader = BatchLoader(rows, batch_size, by)
        sizes = [batch.queries.numel() for batch in loader.epoch(seeded(0))]
        assert sum(sizes) == size and len(sizes) == len(loader) == -(-size // batch_size)
        assert max(sizes) <= batch_size and max(sizes) - min(sizes) <= 1
