import json
import math

import pytest
import torch

from pyg_bsl.sampling import (
    AllItems,
    ByPopularity,
    FalseNegatives,
    Hard,
    InBatch,
    Mixed,
    Shared,
    Uniform,
)
from pyg_bsl.training.trainer import describe
from tests.planted import planted
from tests.sampling.rows import (
    NUM_ITEMS,
    SEEN,
    any_batch,
    assert_uniform,
    pair_batch,
    seeded,
    train,
)

USERS = [0, 1, 2, 3, 4]


def draw(count: int, step: int = 0, **options):
    batch = pair_batch([(user, min(SEEN[user])) for user in USERS], with_seen=False)
    return FalseNegatives(Uniform(count), **options).sample(batch, train(), seeded(step))


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
    negatives = FalseNegatives(Uniform(200), probability=1.0, share=0.2).sample(
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
    sampler, rows = FalseNegatives(Uniform(4)), train()
    batch = pair_batch([(0, 3)], with_seen=False)
    sampler.sample(batch, rows, seeded(0))
    first = sampler._shuffled[1]
    sampler.sample(batch, rows, seeded(1))
    assert sampler._shuffled[1] is first
    sampler.sample(batch, train(), seeded(1))
    assert sampler._shuffled[1] is not first and torch.equal(sampler._shuffled[1], first)


def test_the_printed_form_tells_the_arguments():
    text = (
        "FalseNegatives(sampler=Shared(num_negatives=4, avoid_seen=True), num_negatives=None, "
        "probability=0.1, share=0.1, seed=0)"
    )
    assert str(FalseNegatives(Shared(4))) == text


WRAPPABLE = [
    Uniform(6000),
    Uniform(6000, avoid_seen=False),
    Shared(4),
    Shared(6, avoid_seen=False),
    ByPopularity(6000),
    ByPopularity(6000, correct_popularity=True),
    InBatch(correct_popularity=True),
    Mixed(3, correct_popularity=True),
]


@pytest.mark.parametrize("wrapped", WRAPPABLE, ids=str)
@pytest.mark.parametrize("by", ["user", "pair"])
def test_what_is_not_false_is_what_the_wrapped_sampler_drew(wrapped, by):
    batch, rows = any_batch(by), train()
    clean = wrapped.sample(batch, rows, seeded(5))
    noisy = FalseNegatives(wrapped, probability=0.4, share=0.5).sample(batch, rows, seeded(5))
    size, kept = batch.items.numel(), FalseNegatives(wrapped, probability=0.0)
    again = kept.sample(batch, rows, seeded(5))
    for row in range(size):
        query = int(batch.positives.row[row])
        at = row if clean.items.dim() == 2 else slice(None)
        assert torch.equal(again.items[row], clean.items[at])
        if clean.drop is not None:
            assert torch.equal(
                again.drop[row], clean.drop[row if clean.items.dim() == 2 else query]
            )
        if clean.log_weight is not None:
            assert torch.equal(again.log_weight[row], clean.log_weight)
        seen = SEEN[int(batch.users[row])]
        changed = noisy.items[row] != again.items[row]
        assert {*noisy.items[row][changed].tolist()} <= seen
        if clean.log_weight is not None:
            assert not noisy.log_weight[row][changed].any()
        if clean.drop is not None:
            assert not noisy.drop[row][changed].any()
    if wrapped.sample(batch, rows, seeded(0)).items.shape[-1] == 6000:
        share = (noisy.items != again.items).double().mean()
        assert 0.2 < share <= 0.41  # a false one may be what was drawn


def test_marked_items_come_up_in_shared_negatives_with_the_probability_asked_for():
    batch, rows = any_batch("pair"), train()
    false = 0.0
    for step in range(300):
        negatives = FalseNegatives(Shared(2), probability=0.3).sample(batch, rows, seeded(step))
        user, items = batch.users, negatives.items
        is_false = rows.contains(user[:, None], items) & ~negatives.drop
        free = rows.counts[user] < NUM_ITEMS
        false += float(is_false[free].double().mean()) / 300
    assert abs(false - 0.3) < 0.03


def test_a_sampler_may_be_told_by_name_or_as_a_table():
    batch, rows = any_batch("pair"), train()
    draws = [
        FalseNegatives(given, number).sample(batch, rows, seeded(1)).items
        for given, number in (
            (Shared(5), None),
            ("Shared", 5),
            ({"name": "Shared", "num_negatives": 5}, None),
        )
    ]
    assert torch.equal(draws[0], draws[1]) and torch.equal(draws[0], draws[2])
    assert FalseNegatives("Shared").needs_seen and not FalseNegatives("Uniform").needs_seen


def test_a_wrapped_object_is_described_by_name_and_made_again_from_that():
    sampler = FalseNegatives(ByPopularity(7, power=0.5), share=0.5)
    description = json.loads(json.dumps(describe(sampler)))
    assert description["sampler"]["name"] == "ByPopularity"
    del description["name"]
    batch, rows = any_batch("pair"), train()
    one, two = (s.sample(batch, rows, seeded(2)) for s in (sampler, FalseNegatives(**description)))
    assert torch.equal(one.items, two.items)


def test_what_lists_no_draws_cannot_be_wrapped():
    choices = "Choices: .*Uniform"
    for sampler in (AllItems(), Hard(), FalseNegatives(), "AllItems", {"name": "Hard"}):
        with pytest.raises(ValueError, match=f"Unknown sampler to wrap '.*' ?.*{choices}"):
            FalseNegatives(sampler)
    with pytest.raises(TypeError, match=r"'sampler' must be a Sampler object, .* \(got 64\)"):
        FalseNegatives(64)
    with pytest.raises(ValueError, match=r"'num_negatives' goes with .* by name \(got 3\)"):
        FalseNegatives(Uniform(3), 3)
    with pytest.raises(ValueError, match=r"'num_negatives' does not go with 'InBatch'"):
        FalseNegatives("InBatch", 3)

    class Whole(AllItems):
        pass

    with pytest.raises(ValueError, match=r"whose negatives are a list of draws"):
        FalseNegatives(Whole()).sample(any_batch("user"), train())


def test_bad_options_are_errors():
    with pytest.raises(ValueError, match=r"'probability' must be in \[0, 1\] \(got 1.5\)"):
        FalseNegatives(probability=1.5)
    with pytest.raises(ValueError, match=r"'share' must be above 0 and at most 1 \(got 0\)"):
        FalseNegatives(share=0)
