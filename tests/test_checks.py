import math

import pytest

from pyg_bsl.checks import (
    check_cosine,
    check_count,
    check_dropout,
    check_number,
    check_positive,
    check_positive_share,
    check_seed,
    check_share,
)

CASES = [
    (
        check_count,
        {},
        [1, 7, 3.0],
        [0, -1, 2.5, math.nan, math.inf, "3", None],
        "a whole number of",
    ),
    (check_positive, {}, [1e-9, 3], [0, -1.0, math.nan, math.inf, "1"], "positive and finite"),
    (check_number, {}, [-5, 0, 1e9], [math.nan, math.inf, -math.inf, "1"], "finite"),
    (check_number, {"least": 0}, [0, 2.5], [-0.1, math.nan, math.inf], "at least 0 and finite"),
    (check_number, {"above": 1}, [1.1], [1, -2, math.nan, math.inf], "above 1 and finite"),
    (check_cosine, {}, [-1, 0.5, 1], [-1.1, 2, math.nan, "1"], "a cosine, from -1 to 1"),
    (check_seed, {}, [0, 7], [-1, 2.5, 2**63, math.nan, "1"], "a whole number of at least 0 and"),
    (check_share, {}, [0, 0.5, 1], [-0.1, 1.1, math.nan, "1"], "in [0, 1]"),
    (check_positive_share, {}, [0.1, 1], [0, 1.1, math.nan, "1"], "above 0 and at most 1"),
    (check_dropout, {}, [0, 0.9], [-0.1, 1, math.nan, "0"], "in [0, 1)"),
]


@pytest.mark.parametrize(("check", "bounds", "good", "bad", "rule"), CASES)
def test_good_values_come_back_and_bad_ones_are_refused_with_rule_and_value(
    check, bounds, good, bad, rule
):
    for value in good:
        assert check("x", value, **bounds) == value
    for value in bad:
        with pytest.raises(ValueError) as error:
            check("x", value, **bounds)
        assert str(error.value).startswith(f"'x' must be {rule}")
        assert str(error.value).endswith(f" (got {value!r})")


def test_whole_numbers_become_integers():
    assert [type(check_count("x", value)) for value in (1e4, 5, True)] == [int, int, int]
