"""What holds for every transform."""

import pickle

import pytest
import torch

from pyg_bsl.data.errors import DataError
from pyg_bsl.data.hetero import RATES, make_hetero
from pyg_bsl.data.transforms import (
    GlobalTimeSplit,
    HoldoutValidation,
    KCore,
    LeaveLastOut,
    MinRating,
    PositiveNoise,
    RandomSplit,
)
from tests.data.transforms.helpers import assert_consistent, named, random_data, snapshot

FILTERS = [MinRating(3), KCore(2), KCore(3, item_k=1)]
SPLITS = [RandomSplit(0.3, seed=4), LeaveLastOut(), LeaveLastOut(2), GlobalTimeSplit(0.3)]
NOISE = PositiveNoise(0.3, seed=2)
EVERY = [*FILTERS, *SPLITS, HoldoutValidation(0.2, seed=1), NOISE]


@pytest.mark.parametrize("transform", EVERY, ids=repr)
def test_input_is_untouched_and_output_is_consistent(transform):
    data = random_data(0)
    before = snapshot(data)
    for out in (transform(data), transform.forward(data)):
        assert_consistent(out)
        assert out.name == "random"
    assert snapshot(data) == before


@pytest.mark.parametrize("transform", EVERY, ids=repr)
def test_same_transform_gives_same_result(transform):
    once, again = transform(random_data(3)), transform(random_data(3))
    assert snapshot(once) == snapshot(again)
    assert pickle.loads(pickle.dumps(transform)) == transform


@pytest.mark.parametrize("transform", EVERY, ids=repr)
def test_global_random_state_is_left_alone(transform):
    torch.manual_seed(0)
    expected = torch.rand(3)
    torch.manual_seed(0)
    transform(random_data(3))
    assert torch.rand(3).equal(expected)


@pytest.mark.parametrize("transform", [*FILTERS, *SPLITS], ids=repr)
@pytest.mark.parametrize("split", [RandomSplit(), HoldoutValidation()], ids=repr)
def test_filters_and_splits_refuse_split_data(transform, split):
    with pytest.raises(DataError, match="before any split"):
        transform(split(random_data(0)))


@pytest.mark.parametrize("transform", [*FILTERS, *SPLITS, NOISE], ids=repr)
def test_data_without_pairs_is_refused(transform):
    with pytest.raises(DataError, match="has none"):
        transform(make_hetero(torch.empty(2, 0, dtype=torch.long), 3, 3, name="void"))


@pytest.mark.parametrize(
    ("transform", "column"),
    [(MinRating(3), "rating"), (LeaveLastOut(), "time"), (GlobalTimeSplit(), "time")],
    ids=repr,
)
def test_missing_column_is_named(transform, column):
    data = make_hetero(torch.tensor([[0, 1], [0, 1]]), 2, 2, name="bare")
    with pytest.raises(DataError, match=f"needs the {column} of each pair.*'bare'"):
        transform(data)


def test_splits_work_without_ratings_times_or_raw_ids():
    data = make_hetero(torch.tensor([[0, 0, 0, 1], [0, 1, 2, 1]]), 2, 3)
    out = HoldoutValidation(0.5)(RandomSplit(0.5)(data))
    sizes = [
        out[RATES][key].size(1)
        for key in ("edge_index", "edge_label_index", "valid_edge_label_index")
    ]
    assert sizes == [2, 1, 1]


@pytest.mark.parametrize("seed", range(5))
def test_filter_split_and_validation_chain_keeps_every_pair_once(seed):
    core = KCore(2)(MinRating(2)(random_data(seed)))
    out = HoldoutValidation(0.2)(RandomSplit(0.2)(core))
    assert_consistent(out)
    keys = ("edge_index", "edge_label_index", "valid_edge_label_index")
    assert sorted(pair for key in keys for pair in named(out, key)) == sorted(named(core))


@pytest.mark.parametrize("transform", EVERY, ids=repr)
def test_data_need_no_name(transform):
    data = random_data(0)
    del data.name
    assert "name" not in transform(data)


@pytest.mark.parametrize(
    ("transform", "pairs"),
    [(RandomSplit(), 0), (KCore(9), 2), (MinRating(3), 2), (LeaveLastOut(), 2)],
    ids=repr,
)
def test_messages_about_data_without_a_name(transform, pairs):
    data = make_hetero(torch.arange(pairs).repeat(2, 1), 3, 3)
    del data.name
    with pytest.raises(DataError, match="'unnamed'"):
        transform(data)
    with pytest.raises(DataError, match="'unnamed' has validation pairs already"):
        data[RATES].valid_edge_label_index = data[RATES].edge_index
        HoldoutValidation()(data)
