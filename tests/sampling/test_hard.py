import pytest
import torch

from pyg_bsl.sampling import Hard, Shared
from tests.sampling.rows import seeded, train, user_batch


def test_the_pool_is_that_of_shared_negatives():
    batch = user_batch([0, 2, 1])
    hard = Hard(2, pool=5).sample(batch, train(), seeded(4))
    pool = Shared(5).sample(batch, train(), seeded(4))
    assert torch.equal(hard.items, pool.items) and torch.equal(hard.drop, pool.drop)
    assert (hard.keep_hardest, pool.keep_hardest) == (2, None)
    assert Hard(2, pool=5, avoid_seen=False).sample(batch, train(), seeded(4)).drop is None


def test_a_wrong_number_is_an_error():
    for name in ("num_negatives", "pool"):
        with pytest.raises(ValueError, match=f"'{name}' must be a whole number of at least 1"):
            Hard(**{name: 0})
