import math

import pytest
import torch

from pyg_bsl.data.hetero import RATES, make_hetero
from pyg_bsl.data.transforms import RandomSplit
from tests.data.transforms.helpers import by_user, named, random_data, rows


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("share", [0.01, 0.2, 0.5, 0.99])
def test_each_user_gives_its_share_and_keeps_one(seed, share):
    data = random_data(seed)
    out = RandomSplit(share, seed=seed)(data)
    train, test = by_user(named(out)), by_user(named(out, "edge_label_index"))
    assert sorted(named(out) + named(out, "edge_label_index")) == sorted(named(data))
    for user, pairs in by_user(named(data)).items():
        n = len(pairs)
        assert len(test[user]) == min(max(1, math.floor(share * n)), n - 1)
        assert len(train[user]) >= 1


def test_ratings_and_times_stay_beside_their_pairs():
    data = random_data(1)
    assert set(rows(RandomSplit()(data))) <= set(rows(data))


def test_decimal_shares_round_as_people_count():
    users = torch.arange(3).repeat_interleave(torch.tensor([10, 30, 100]))
    items = torch.cat([torch.arange(10), torch.arange(30), torch.arange(100)])
    out = RandomSplit(0.29)(make_hetero(torch.stack([users, items]), 3, 100))
    assert torch.bincount(out[RATES].edge_label_index[0]).tolist() == [2, 8, 29]


def test_seeds_differ_and_every_pair_has_the_same_chance():
    data = random_data(0, num_users=1, num_items=10, share=1.0)
    draws = [named(RandomSplit(0.2, seed=s)(data), "edge_label_index") for s in range(400)]
    counts = torch.bincount(torch.tensor([int(i[1:]) for draw in draws for _, i in draw]))
    assert counts.sum() == 800
    assert counts.min() > 50 and counts.max() < 110


@pytest.mark.parametrize("share", [0, 1, -0.1, 1.5, float("nan")])
def test_share_must_lie_between_zero_and_one(share):
    with pytest.raises(ValueError, match="'test' must lie between 0 and 1"):
        RandomSplit(share)
