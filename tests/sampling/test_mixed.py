from collections import Counter

import pytest
import torch

from pyg_bsl.sampling import BatchLoader, Mixed
from tests.sampling.rows import (
    NUM_ITEMS,
    SEEN,
    assert_uniform,
    holes,
    pair_batch,
    seeded,
    train,
    user_batch,
)

PAIRS = [(0, 3), (2, 7), (4, 0), (0, 3), (3, 0)]


def test_the_items_of_the_batch_stand_beside_uniform_ones():
    for batch in (pair_batch(PAIRS), user_batch([2, 0])):
        items = Mixed(8000).sample(batch, train(), seeded(0)).items
        count = batch.items.numel()
        assert items[:count].tolist() == batch.items.tolist()
        assert items.numel() == count + 8000
        assert_uniform(torch.bincount(items[count:], minlength=NUM_ITEMS).double())


def test_exactly_the_seen_items_are_dropped():
    negatives = Mixed(10).sample(pair_batch(PAIRS), train(), seeded(0))
    items = negatives.items.tolist()
    expected = [[item in SEEN[user] for item in items] for user, _ in PAIRS]
    assert holes(negatives.drop, len(PAIRS), len(items)) == expected
    bare = pair_batch(PAIRS, with_seen=False)
    assert Mixed(10, avoid_seen=False).sample(bare, train(), seeded(0)).drop is None


def test_the_weight_is_one_over_how_often_an_item_is_expected():
    negatives = Mixed(15, correct_popularity=True).sample(pair_batch(PAIRS), train(), seeded(0))
    popularity = Counter(item for items in SEEN for item in items)
    total = sum(popularity.values())
    for item, weight in zip(negatives.items.tolist(), negatives.log_weight.exp(), strict=True):
        expected = 5 * popularity[item] / total + 15 / NUM_ITEMS  # of 20 negatives
        assert weight.item() == pytest.approx((20 / NUM_ITEMS) / expected, rel=1e-5)


def test_weighted_negatives_are_uniform_over_an_epoch():
    rows, sampler = train(), Mixed(3, avoid_seen=False, correct_popularity=True)
    weight, generator, rounds = torch.zeros(NUM_ITEMS), seeded(0), 600
    for _ in range(rounds):
        for batch in BatchLoader(rows, rows.num_pairs // 4, "pair").epoch(generator):
            if batch.items.numel() == rows.num_pairs // 4:
                negatives = sampler.sample(batch, rows, generator)
                weight.index_add_(0, negatives.items, negatives.log_weight.exp())
    shares = weight / weight.sum()
    torch.testing.assert_close(shares, torch.full((NUM_ITEMS,), 1 / NUM_ITEMS), atol=4e-3, rtol=0)


def test_a_wrong_number_is_an_error():
    with pytest.raises(ValueError, match="'num_negatives' must be a whole number of at least 1"):
        Mixed(0)
