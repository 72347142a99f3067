import pytest
import torch

from pyg_bsl.losses import CCL
from tests.losses import naive
from tests.losses.naive import Row, assert_equals_naive


@pytest.mark.parametrize(("margin", "weight"), [(0.4, 150.0), (-0.9, 1.0), (0.9, 0.0)])
def test_equals_the_formula(margin: float, weight: float) -> None:
    def formula(row: Row) -> torch.Tensor:
        over = (row.neg - margin).clamp(min=0)
        return 1 - row.pos + weight * naive.mean(over, row.weight)

    assert_equals_naive(CCL(margin, weight), formula)


@pytest.mark.parametrize("margin", [-1.1, 1.5, float("nan")])
def test_margin_is_a_cosine(margin: float) -> None:
    with pytest.raises(ValueError, match=rf"'margin' must be a cosine, .* \(got {margin}\)"):
        CCL(margin)
