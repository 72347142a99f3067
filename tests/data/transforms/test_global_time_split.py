import logging

import pytest
import torch

from pyg_bsl.data.errors import DataError
from pyg_bsl.data.hetero import make_hetero
from pyg_bsl.data.transforms import GlobalTimeSplit
from tests.data.transforms.helpers import assert_consistent, named, random_data, rows


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("share", [0.1, 0.5, 0.9])
def test_equals_cutting_the_sorted_times(seed, share, caplog):
    data = random_data(seed, share=0.15)
    every = rows(data)
    latest = max(1, int(share * len(every) + 1e-9))
    moment = sorted(row[3] for row in every)[-latest]
    train = [row for row in every if row[3] < moment]
    users, items = {row[0] for row in train}, {row[1] for row in train}
    late = [row for row in every if row[3] >= moment]
    test = [row[:2] for row in late if row[0] in users and row[1] in items]
    if not train or not test:
        with pytest.raises(DataError):
            GlobalTimeSplit(share)(data)
        return
    with caplog.at_level(logging.WARNING, logger="pyg_bsl"):
        out = GlobalTimeSplit(share)(data)
    assert rows(out) == train
    assert named(out, "edge_label_index") == test
    assert (set(out["user"].raw_id), set(out["item"].raw_id)) == (users, items)
    assert_consistent(out)
    if len(test) < len(late):
        assert f"{len(late) - len(test)} of {len(late)} test pairs dropped" in caplog.text


def timed(users, items, time):
    pairs = torch.tensor([users, items])
    return make_hetero(pairs, max(users) + 1, max(items) + 1, time=torch.tensor(time), name="d")


def test_one_single_moment_cannot_be_split():
    with pytest.raises(DataError, match="No pair of 'd' is earlier than its latest 20%"):
        GlobalTimeSplit()(timed([0, 1, 2], [0, 1, 2], [7, 7, 7]))


def test_no_known_test_pair_is_an_error():
    with pytest.raises(DataError, match="No test pair of 'd' is left"):
        GlobalTimeSplit()(timed([0, 1, 2], [0, 1, 2], [1, 2, 3]))


def test_share_must_lie_between_zero_and_one():
    with pytest.raises(ValueError, match="'test' must lie between 0 and 1"):
        GlobalTimeSplit(1.0)
