import pytest
import torch

from pyg_bsl.losses import MSE
from tests.losses.plain import assert_equals_plain, mean


@pytest.mark.parametrize("weight", [0.0, 1.0, 30.0])
def test_equals_plain_loops(weight: float) -> None:
    assert_equals_plain(
        MSE(weight),
        lambda s, neg, w: (1 - s) ** 2 + weight * mean([x * x for x in neg], w),
    )


def test_is_zero_at_its_target() -> None:
    assert MSE()(torch.ones(3), torch.zeros(3, 4)).item() == 0


def test_weight_is_at_least_zero() -> None:
    with pytest.raises(ValueError, match=r"'weight' must be at least 0 and finite \(got -0.5\)"):
        MSE(weight=-0.5)


def test_prints_its_arguments() -> None:
    assert str(MSE(2.5)) == "MSE(weight=2.5)"
