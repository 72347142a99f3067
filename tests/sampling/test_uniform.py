import pytest
import torch

from pyg_bsl.sampling import Uniform
from tests.sampling.rows import (
    NUM_ITEMS,
    SEEN,
    assert_uniform,
    pair_batch,
    seeded,
    train,
    user_batch,
)


def draw(num_negatives: int, users: list[int], avoid_seen: bool = True, seed: int = 0):
    batch = pair_batch([(user, min(SEEN[user])) for user in users], with_seen=False)
    return Uniform(num_negatives, avoid_seen=avoid_seen).sample(batch, train(), seeded(seed))


@pytest.mark.parametrize("user", [0, 2, 4])
def test_negatives_are_uniform_over_the_unseen_items(user):
    counts = torch.bincount(draw(8000, [user]).items.view(-1), minlength=NUM_ITEMS)
    free = [item for item in range(NUM_ITEMS) if item not in SEEN[user]]
    assert counts.sum() == counts[free].sum() == 8000
    assert_uniform(counts[free].double())


@pytest.mark.parametrize("user", [0, 1])
def test_negatives_are_uniform_over_all_items_when_seen_ones_may_come(user):
    negatives = draw(8000, [user], avoid_seen=False)
    assert_uniform(torch.bincount(negatives.items.view(-1), minlength=NUM_ITEMS).double())
    assert negatives.drop is None


def test_rows_are_independent():
    first, second = draw(4000, [2, 2]).items
    free = torch.tensor([item for item in range(NUM_ITEMS) if item not in SEEN[2]])
    pairs = torch.bincount(torch.searchsorted(free, first) * 7 + torch.searchsorted(free, second))
    assert pairs.numel() == 49
    assert_uniform(pairs.double())


def test_a_seen_item_is_never_drawn():
    users = [0, 2, 3, 4] * 5
    negatives = draw(500, users)
    for user, items in zip(users, negatives.items.tolist(), strict=True):
        assert not set(items) & SEEN[user]
    assert set(negatives.items[2].tolist()) == {2}
    assert not negatives.drop.any()


def test_a_user_who_saw_everything_has_all_negatives_dropped():
    negatives = draw(50, [1, 0])
    assert negatives.drop.tolist() == [[True] * 50, [False] * 50]
    assert ((negatives.items >= 0) & (negatives.items < NUM_ITEMS)).all()


def test_one_item_is_all_there_is_to_draw():
    one = type(train()).from_pairs(torch.tensor([0]), torch.tensor([0]), 2, 1)
    batch = pair_batch([(0, 0)], with_seen=False)
    negatives = Uniform(3).sample(batch, one, seeded(0))
    assert negatives.items.tolist() == [[0, 0, 0]] and negatives.drop.all()
    assert Uniform(3, avoid_seen=False).sample(batch, one, seeded(0)).items.tolist() == [[0] * 3]


def test_a_user_major_batch_has_negatives_for_each_of_its_rows():
    negatives = Uniform(6).sample(user_batch([2, 0]), train(), seeded(0))
    assert negatives.items.shape == (4, 6)
    for row, user in enumerate([2, 0, 0, 0]):
        assert not set(negatives.items[row].tolist()) & SEEN[user]


@pytest.mark.parametrize("wrong", [0, -3, 2.5, float("nan")])
def test_a_wrong_number_of_negatives_is_an_error(wrong):
    with pytest.raises(ValueError, match=r"'num_negatives' must be a whole number of at least 1"):
        Uniform(wrong)
