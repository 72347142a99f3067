from collections import Counter

import pytest
import torch

from pyg_bsl.data.errors import DataError
from pyg_bsl.data.hetero import make_hetero
from pyg_bsl.data.transforms import KCore
from tests.data.transforms.helpers import assert_consistent, named, random_data


def slow_core(pairs, k, item_k):
    """Take away one poor user or item at a time."""
    pairs = list(pairs)
    while True:
        users, items = Counter(u for u, _ in pairs), Counter(i for _, i in pairs)
        poor = [u for u in users if users[u] < k][:1] or [i for i in items if items[i] < item_k][:1]
        if not poor:
            return pairs
        pairs = [pair for pair in pairs if poor[0] not in pair]


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize(("k", "item_k"), [(1, None), (2, None), (3, None), (2, 4), (4, 1)])
def test_equals_removing_one_at_a_time(seed, k, item_k):
    data = random_data(seed, share=0.3)
    expected = slow_core(named(data), k, item_k or k)
    if not expected:
        with pytest.raises(DataError, match="Nothing of 'random' is left"):
            KCore(k, item_k)(data)
        return
    out = KCore(k, item_k)(data)
    assert named(out) == expected
    assert set(out["user"].raw_id) == {user for user, _ in expected}
    assert_consistent(out)


def test_a_chain_unravels_from_its_end():
    steps = torch.arange(50)
    chain = make_hetero(torch.stack([steps.repeat(2), torch.cat([steps, steps + 1])]), 50, 51)
    with pytest.raises(DataError, match="every user has 2 and every item 2 pairs"):
        KCore(2)(chain)


@pytest.mark.parametrize(("k", "item_k", "name"), [(0, None, "k"), (-1, 2, "k"), (2, 0, "item_k")])
def test_k_must_be_at_least_one(k, item_k, name):
    with pytest.raises(ValueError, match=f"'{name}' must be at least 1"):
        KCore(k, item_k)
