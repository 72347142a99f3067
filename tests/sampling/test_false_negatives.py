import math

import pytest
import torch

from pyg_bsl.sampling import FalseNegatives
from tests.planted import planted
from tests.sampling.rows import NUM_ITEMS, SEEN, assert_uniform, pair_batch, seeded, train

USERS = [0, 1, 2, 3, 4]


def draw(count: int, step: int = 0, **options):
    batch = pair_batch([(user, min(SEEN[user])) for user in USERS], with_seen=False)
    return FalseNegatives(count, **options).sample(batch, train(), seeded(step))


@pytest.mark.parametrize("share", [0.1, 0.3, 0.5, 1.0])
@pytest.mark.parametrize("seed", range(3))
def test_a_share_of_each_users_items_is_marked_and_the_same_in_all_steps(share, seed):
    marked: list[set[int]] = []
    for step in range(2):
        items = draw(500, step, probability=1.0, share=share, seed=seed).items
        marked.append([set(row) for row in items.tolist()])
    assert marked[0] == marked[1]
    for user in USERS:
        assert marked[0][user] <= SEEN[user]
        assert len(marked[0][user]) == math.ceil(share * len(SEEN[user]) - 1e-9)


def test_ten_per_cent_of_ten_items_is_one():
    negatives = FalseNegatives(200, probability=1.0, share=0.2).sample(
        pair_batch([(0, int(planted().train.items[0]))], with_seen=False), planted().train
    )
    assert negatives.items.unique().numel() == 1  # of five


def test_every_item_is_as_likely_to_be_marked():
    counts = torch.zeros(NUM_ITEMS)
    for seed in range(800):
        counts[draw(1, probability=1.0, share=0.1, seed=seed).items[1]] += 1  # user 1 has all
    assert_uniform(counts.double())


def test_marked_items_are_drawn_evenly():
    items = draw(8000, probability=1.0, share=1.0).items
    assert_uniform(torch.bincount(items[1]).double())


@pytest.mark.parametrize("probability", [0.0, 0.3])
def test_a_draw_is_false_with_the_probability_asked_for_and_uniform_else(probability):
    items = draw(20_000, probability=probability).items
    for user in (0, 2, 4):
        false = torch.tensor([item in SEEN[user] for item in items[user].tolist()])
        assert abs(false.double().mean() - probability) < 0.015
        clean = torch.bincount(items[user][~false], minlength=NUM_ITEMS)
        free = [item for item in range(NUM_ITEMS) if item not in SEEN[user]]
        assert_uniform(clean[free].double())


def test_who_saw_everything_has_false_negatives_only():
    negatives = draw(2000, probability=0.25)
    assert 0.2 < (~negatives.drop[1]).double().mean() < 0.3
    assert not negatives.drop[[0, 2, 3, 4]].any()


def test_marks_are_made_once_for_the_same_data_and_anew_for_other():
    sampler, rows = FalseNegatives(4), train()
    batch = pair_batch([(0, 3)], with_seen=False)
    sampler.sample(batch, rows, seeded(0))
    first = sampler._shuffled[1]
    sampler.sample(batch, rows, seeded(1))
    assert sampler._shuffled[1] is first
    sampler.sample(batch, train(), seeded(1))
    assert sampler._shuffled[1] is not first and torch.equal(sampler._shuffled[1], first)


def test_the_printed_form_tells_the_arguments():
    text = "FalseNegatives(num_negatives=4, probability=0.1, share=0.1, seed=0)"
    assert str(FalseNegatives(4)) == text


def test_bad_options_are_errors():
    with pytest.raises(ValueError, match=r"'probability' must be in \[0, 1\] \(got 1.5\)"):
        FalseNegatives(probability=1.5)
    with pytest.raises(ValueError, match=r"'share' must be above 0 and at most 1 \(got 0\)"):
        FalseNegatives(share=0)
