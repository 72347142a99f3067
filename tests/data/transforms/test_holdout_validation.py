import math

import pytest

from pyg_bsl.data.errors import DataError
from pyg_bsl.data.transforms import HoldoutValidation, RandomSplit
from tests.data.transforms.helpers import by_user, named, random_data


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("ratio", [0.1, 0.5, 0.9])
def test_each_user_gives_its_share_of_train_and_test_stays(seed, ratio):
    data = RandomSplit(0.3)(random_data(seed, share=0.3))
    out = HoldoutValidation(ratio, seed=seed)(data)
    assert named(out, "edge_label_index") == named(data, "edge_label_index")
    assert sorted(named(out) + named(out, "valid_edge_label_index")) == sorted(named(data))
    valid = by_user(named(out, "valid_edge_label_index"))
    for user, pairs in by_user(named(data)).items():
        n = len(pairs)
        assert len(valid[user]) == (min(max(1, math.floor(ratio * n)), n - 1) if n > 1 else 0)


def test_second_holdout_is_refused():
    with pytest.raises(DataError, match="has validation pairs already"):
        HoldoutValidation()(HoldoutValidation()(random_data(0)))


def test_ratio_must_lie_between_zero_and_one():
    with pytest.raises(ValueError, match="'ratio' must lie between 0 and 1"):
        HoldoutValidation(0)
