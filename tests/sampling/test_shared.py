import pytest
import torch

from pyg_bsl.sampling import Shared
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


def test_every_item_and_every_pair_of_items_is_as_likely_as_another():
    generator, rows, batch = seeded(0), train(), user_batch([0, 2])
    sampler = Shared(2, avoid_seen=False)
    draws = torch.stack([sampler.sample(batch, rows, generator).items for _ in range(4000)])
    assert_uniform(torch.bincount(draws.view(-1), minlength=NUM_ITEMS).double())
    low, high = draws.amin(1), draws.amax(1)
    pairs = torch.bincount(low * NUM_ITEMS + high, minlength=NUM_ITEMS**2)
    counts = pairs.view(NUM_ITEMS, NUM_ITEMS)[*torch.triu_indices(NUM_ITEMS, NUM_ITEMS, 1)]
    assert counts.sum() == 4000
    assert_uniform(counts.double())


@pytest.mark.parametrize("count", [1, 5, NUM_ITEMS])
def test_items_do_not_repeat(count):
    items = Shared(count).sample(user_batch([0, 2]), train(), seeded(0)).items
    assert items.shape == (count,)
    assert len(set(items.tolist())) == count


def test_more_than_the_catalogue_is_the_catalogue():
    items = Shared(1000).sample(user_batch([0]), train(), seeded(0)).items
    assert sorted(items.tolist()) == list(range(NUM_ITEMS))


@pytest.mark.parametrize("seed", range(20))
def test_exactly_the_seen_items_are_dropped(seed):
    users = [3, 0, 1, 4]
    for batch in (user_batch(users), pair_batch([(user, min(SEEN[user])) for user in users])):
        negatives = Shared(4).sample(batch, train(), seeded(seed))
        expected = [[item in SEEN[user] for item in negatives.items.tolist()] for user in users]
        assert holes(negatives.drop, 4, 4) == expected


def test_nothing_is_dropped_when_seen_items_may_come():
    assert Shared(4, avoid_seen=False).sample(user_batch([1]), train(), seeded(0)).drop is None


@pytest.mark.parametrize("wrong", [0, -3, 2.5])
def test_a_wrong_number_of_negatives_is_an_error(wrong):
    with pytest.raises(ValueError, match=r"'num_negatives' must be a whole number of at least 1"):
        Shared(wrong)
