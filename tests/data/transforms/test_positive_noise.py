import math

import pytest
import torch

from pyg_bsl.data import build_graph
from pyg_bsl.data.hetero import RATED_BY, RATES, make_hetero
from pyg_bsl.data.transforms import HoldoutValidation, PositiveNoise, RandomSplit
from tests.data.transforms.helpers import by_user, named, random_data
from tests.sampling.rows import assert_uniform


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("ratio", [0.05, 0.2, 0.5, 3.0])
def test_each_user_gets_its_share_of_items_it_did_not_meet(seed, ratio):
    data = HoldoutValidation(0.2)(RandomSplit(0.3)(random_data(seed)))
    out = PositiveNoise(ratio, seed=seed)(data)
    before, after = named(data), named(out)
    assert after[: len(before)] == before
    keys = ("edge_label_index", "valid_edge_label_index")
    assert all(named(out, key) == named(data, key) for key in keys)
    noise = by_user(after[len(before) :])
    for user, pairs in by_user(before).items():
        taken = {pair for key in ("edge_index", *keys) for pair in by_user(named(data, key))[user]}
        assert not taken & set(noise[user])
        assert len(set(noise[user])) == len(noise[user])
        wanted = math.ceil(ratio * len(pairs) - 1e-9)
        assert len(noise[user]) == min(wanted, data["item"].num_nodes - len(taken))
    assert out[RATED_BY].edge_index.equal(out[RATES].edge_index.flip(0))
    assert build_graph(out).train.num_pairs == len(after)


def test_every_unmet_item_is_as_likely_as_another():
    users = torch.arange(4000)
    data = make_hetero(torch.stack([users, users % 2]), 4000, 6)
    noise = PositiveNoise(2.0)(data)[RATES].edge_index[:, 4000:]
    assert noise.size(1) == 8000
    for own in (0, 1):
        counts = torch.bincount(noise[1][noise[0] % 2 == own], minlength=6)
        assert counts[own] == 0
        assert_uniform(counts[torch.arange(6) != own].double())


def test_ratings_and_times_go_as_noise_has_none():
    data = random_data(0)
    out = PositiveNoise(0.1)(data)
    assert "rating" not in out[RATES] and "time" not in out[RATES]
    assert "rating" in data[RATES] and out["item"].title == data["item"].title


def test_another_seed_adds_other_pairs():
    one, two = (named(PositiveNoise(0.2, seed)(random_data(0))) for seed in (0, 1))
    assert one != two and len(one) == len(two)


@pytest.mark.parametrize("ratio", [0.0, -0.1, float("nan"), float("inf")])
def test_ratio_must_be_positive_and_finite(ratio):
    with pytest.raises(ValueError, match="'ratio' must be positive and finite"):
        PositiveNoise(ratio)
