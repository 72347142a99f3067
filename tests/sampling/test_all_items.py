import pytest
import torch
import torch.nn.functional as F

from pyg_bsl.ops import LazyScores, log_mean_exp
from pyg_bsl.sampling import AllItems
from tests.sampling.rows import NUM_ITEMS, SEEN, holes, pair_batch, train, user_batch


def test_all_items_less_the_seen_ones():
    users = [1, 0, 3]
    for batch in (user_batch(users), pair_batch([(user, min(SEEN[user])) for user in users])):
        negatives = AllItems().sample(batch, train())
        assert negatives.items is None and negatives.log_weight is None
        expected = [[item in SEEN[user] for item in range(NUM_ITEMS)] for user in users]
        assert holes(negatives.drop, 3, NUM_ITEMS) == expected


def test_all_items():
    assert AllItems(avoid_seen=False).sample(user_batch([0]), train()).drop is None


@pytest.mark.parametrize("power", [1.0, 0.5, -0.5])
def test_items_weigh_a_power_of_their_interactions(power):
    rows = train()
    weight = AllItems(power=power).sample(user_batch([0]), rows).log_weight.exp().tolist()
    counts = [rows.items.tolist().count(item) for item in range(NUM_ITEMS)]
    if power < 0:
        counts = [max(1, count) for count in counts]
    total = sum(count**power for count in counts)
    expected = [NUM_ITEMS * count**power / total for count in counts]
    assert weight == pytest.approx(expected)


def test_all_items_by_popularity_are_what_in_batch_negatives_estimate():
    rows = train()
    emb = F.normalize(torch.randn(NUM_ITEMS, 3, generator=torch.Generator().manual_seed(0)), dim=1)
    query = emb[:2]
    every = AllItems(power=1, avoid_seen=False).sample(user_batch([0]), rows)
    exact = log_mean_exp(LazyScores(query, emb, log_weight=every.log_weight), 0.2)
    drawn = log_mean_exp(LazyScores(query, emb[rows.items]), 0.2)  # a batch of all pairs
    torch.testing.assert_close(exact, drawn)


def test_a_power_that_is_no_number_is_refused():
    with pytest.raises(ValueError, match=r"'power' must be finite \(got inf\)"):
        AllItems(power=float("inf"))
