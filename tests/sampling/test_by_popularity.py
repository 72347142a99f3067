import pytest
import torch

from pyg_bsl.sampling import ByPopularity
from pyg_bsl.types import UserItems
from tests.sampling.rows import NUM_ITEMS, SEEN, holes, pair_batch, seeded, train, user_batch

POPULARITY = [sum(item in items for items in SEEN) for item in range(NUM_ITEMS)]


def draw(rows: UserItems | None = None, count: int = 40_000, **options):
    return ByPopularity(count, **options).sample(user_batch([0, 2]), rows or train(), seeded(0))


@pytest.mark.parametrize("power", [0.0, 0.75, 1.0, 3.0])
def test_an_item_is_drawn_by_the_power_of_its_popularity(power):
    shares = torch.bincount(draw(power=power).items, minlength=NUM_ITEMS).double() / 40_000
    mass = [count**power for count in POPULARITY]
    expected = torch.tensor([m / sum(mass) for m in mass], dtype=torch.float64)
    assert ((shares - expected).abs() < 4.5 * (expected / 40_000).sqrt()).all()


@pytest.mark.parametrize("power", [0.5, 1.0])
def test_weighted_negatives_are_uniform(power):
    negatives = draw(power=power, correct_popularity=True)
    mass = [count**power for count in POPULARITY]
    expected = [sum(mass) / (NUM_ITEMS * m) for m in mass]
    for item, weight in zip(negatives.items.tolist(), negatives.log_weight.exp(), strict=True):
        assert weight.item() == pytest.approx(expected[item], rel=1e-5)
        if item > 3:
            break
    total = torch.zeros(NUM_ITEMS).index_add_(0, negatives.items, negatives.log_weight.exp())
    torch.testing.assert_close(total / 40_000, torch.full((NUM_ITEMS,), 1 / 8), atol=5e-3, rtol=0)


def test_items_that_nobody_met_are_drawn_only_without_a_power():
    rows = UserItems.from_pairs(torch.tensor([0, 1, 1]), torch.tensor([1, 1, 3]), 5, 6)
    assert set(draw(rows, avoid_seen=False).items.tolist()) == {1, 3}
    assert set(draw(rows, avoid_seen=False, power=0.0).items.tolist()) == set(range(6))


def test_exactly_the_seen_items_are_dropped():
    users = [3, 0, 1, 4]
    for batch in (user_batch(users), pair_batch([(user, min(SEEN[user])) for user in users])):
        negatives = ByPopularity(30).sample(batch, train(), seeded(0))
        expected = [[item in SEEN[user] for item in negatives.items.tolist()] for user in users]
        assert holes(negatives.drop, 4, 30) == expected
    assert draw(avoid_seen=False).drop is None


@pytest.mark.parametrize("wrong", [-0.1, float("nan"), float("inf")])
def test_a_wrong_power_is_an_error(wrong):
    with pytest.raises(ValueError, match="'power' must be at least 0 and finite"):
        ByPopularity(power=wrong)
