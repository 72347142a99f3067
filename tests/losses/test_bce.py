import math

import pytest
import torch
import torch.nn.functional as F

from pyg_bsl.losses import BCE
from tests.losses.plain import assert_equals_plain, mean


def softplus(x: float) -> float:
    return math.log1p(math.exp(x))


@pytest.mark.parametrize("weight", [0.0, 1.0, 30.0])
def test_equals_plain_loops(weight: float) -> None:
    assert_equals_plain(
        BCE(weight),
        lambda s, neg, w: softplus(-s) + weight * mean([softplus(x) for x in neg], w),
        scale=3,
    )


def test_equals_the_cross_entropy_of_labels() -> None:
    pos, neg = torch.randn(5), torch.randn(5, 7)
    expected = F.binary_cross_entropy_with_logits(pos, torch.ones(5))
    expected += F.binary_cross_entropy_with_logits(neg, torch.zeros(5, 7))
    torch.testing.assert_close(BCE()(pos, neg), expected)


def test_huge_inner_products_stay_finite() -> None:
    pos = torch.tensor([-1e4, 1e4], requires_grad=True)
    neg = torch.tensor([[1e4, 0.0], [-1e4, -1e4]], requires_grad=True)
    loss = BCE()(pos, neg, reduction="none")
    torch.testing.assert_close(loss, torch.tensor([1e4 + (1e4 + math.log(2)) / 2, 0.0]))
    loss.sum().backward()
    assert pos.grad is not None
    assert pos.grad.tolist() == [-1, 0]


def test_weight_is_at_least_zero() -> None:
    with pytest.raises(ValueError, match=r"'weight' must be at least 0 and finite \(got nan\)"):
        BCE(weight=math.nan)


def test_prints_its_arguments() -> None:
    assert str(BCE()) == "BCE(weight=1)"
