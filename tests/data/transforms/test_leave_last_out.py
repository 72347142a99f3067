import pytest

from pyg_bsl.data.transforms import LeaveLastOut
from tests.data.transforms.helpers import by_user, named, random_data, rows


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("n", [1, 2, 5])
def test_equals_sorting_each_user_by_time(seed, n):
    data = random_data(seed, share=0.3)
    out = LeaveLastOut(n)(data)
    expected = set()
    for pairs in by_user(rows(data)).values():
        in_time = sorted(pairs, key=lambda row: row[3])  # stable: ties keep the data's order
        expected |= {row[:2] for row in in_time[max(1, len(in_time) - n) :]}
    assert set(named(out, "edge_label_index")) == expected
    assert set(named(out)) == set(named(data)) - expected
    assert out["user"].num_nodes == data["user"].num_nodes


def test_n_must_be_at_least_one():
    with pytest.raises(ValueError, match="'n' must be at least 1"):
        LeaveLastOut(0)
