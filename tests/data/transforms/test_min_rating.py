import pytest

from pyg_bsl.data.errors import DataError
from pyg_bsl.data.transforms import MinRating
from tests.data.transforms.helpers import assert_consistent, random_data, rows


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("least", [1, 3, 4.5, 5])
def test_keeps_exactly_the_pairs_rated_so_well(seed, least):
    data = random_data(seed, share=0.1)
    out = MinRating(least)(data)
    assert rows(out) == [row for row in rows(data) if row[2] >= least]
    assert set(out["user"].raw_id) == {user for user, *_ in rows(out)}
    assert set(out["item"].raw_id) == {item for _, item, *_ in rows(out)}
    assert_consistent(out)


def test_nothing_left_names_the_best_rating():
    with pytest.raises(DataError, match=r"rated 6 or better \(the best is 5\)"):
        MinRating(6)(random_data(0))
