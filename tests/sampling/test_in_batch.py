from collections import Counter

import pytest
import torch

from pyg_bsl.sampling import BatchLoader, InBatch
from tests.sampling.rows import NUM_ITEMS, SEEN, holes, pair_batch, seeded, train, user_batch

PAIRS = [(0, 3), (2, 7), (4, 0), (0, 3), (3, 0), (1, 7), (0, 4), (3, 7)]
"""Pairs of a batch; items 0, 3 and 7 come several times, pair (0, 3) twice."""


def test_negatives_are_the_items_of_the_batch_in_its_order():
    for batch in (pair_batch(PAIRS), user_batch([2, 0])):
        assert InBatch().sample(batch, train()).items.tolist() == batch.items.tolist()


def test_accidental_hits_are_dropped_wherever_an_item_repeats():
    negatives = InBatch().sample(pair_batch(PAIRS), train())
    expected = [[item in SEEN[user] for _, item in PAIRS] for user, _ in PAIRS]
    assert holes(negatives.drop, len(PAIRS), len(PAIRS)) == expected
    assert sum(expected[0]) == 5  # user 0 has seen 3 (twice), 0 (twice) and 4
    assert all(expected[5])  # user 1 has seen everything


def test_accidental_hits_of_a_user_major_batch():
    users = [4, 2, 0]
    batch = user_batch(users)
    negatives = InBatch().sample(batch, train())
    items = batch.items.tolist()
    assert holes(negatives.drop, 3, 5) == [[item in SEEN[user] for item in items] for user in users]


def test_hits_stay_when_told_so():
    negatives = InBatch(drop_hits=False).sample(pair_batch(PAIRS, with_seen=False), train())
    assert negatives.drop is None and negatives.log_weight is None


def test_the_weight_is_one_over_popularity():
    negatives = InBatch(correct_popularity=True).sample(pair_batch(PAIRS), train())
    popularity = Counter(item for items in SEEN for item in items)
    mean = sum(popularity.values()) / NUM_ITEMS
    expected = torch.tensor([mean / popularity[item] for _, item in PAIRS])
    torch.testing.assert_close(negatives.log_weight.exp(), expected)


def test_weighted_negatives_are_uniform_over_items():
    """Over an epoch of pairs, every item has the same total weight: one over its popularity for
    each time that it is met."""
    weight, rows = torch.zeros(NUM_ITEMS), train()
    sampler = InBatch(drop_hits=False, correct_popularity=True)
    for batch in BatchLoader(rows, 3, "pair").epoch(seeded(0)):
        negatives = sampler.sample(batch, rows)
        weight.index_add_(0, negatives.items, negatives.log_weight.exp())
    torch.testing.assert_close(weight, torch.full((NUM_ITEMS,), rows.num_pairs / NUM_ITEMS))


def test_uncorrected_negatives_follow_popularity():
    counts, rows = torch.zeros(NUM_ITEMS, dtype=torch.long), train()
    for batch in BatchLoader(rows, 3, "pair").epoch(seeded(0)):
        counts += torch.bincount(InBatch().sample(batch, rows).items, minlength=NUM_ITEMS)
    assert counts.tolist() == rows.item_counts.tolist()


@pytest.mark.parametrize("drop_hits", [True, False])
def test_a_batch_of_one(drop_hits):
    negatives = InBatch(drop_hits=drop_hits).sample(pair_batch([(0, 3)]), train())
    assert negatives.items.tolist() == [3]
    assert holes(negatives.drop, 1, 1) == [[drop_hits]]
