import math

import torch
import torch.nn.functional as F

from pyg_bsl.losses import BPR
from tests.losses.plain import assert_equals_plain, mean


def test_equals_plain_loops() -> None:
    assert_equals_plain(
        BPR(), lambda s, neg, w: mean([math.log1p(math.exp(x - s)) for x in neg], w), scale=3
    )


def test_with_one_negative_is_minus_log_sigmoid_of_the_gap() -> None:
    pos, neg = torch.randn(5), torch.randn(5)
    torch.testing.assert_close(BPR()(pos, neg[:, None]), -F.logsigmoid(pos - neg).mean())


def test_does_not_change_when_all_scores_shift() -> None:
    pos, neg = torch.randn(5).double(), torch.randn(5, 3).double()
    torch.testing.assert_close(BPR()(pos + 7, neg + 7), BPR()(pos, neg))


def test_huge_inner_products_stay_finite() -> None:
    pos = torch.tensor([-1e4, 1e4], requires_grad=True)
    neg = torch.tensor([[1e4], [-1e4]])
    loss = BPR()(pos, neg, reduction="none")
    assert loss.tolist() == [2e4, 0]
    loss.sum().backward()
    assert pos.grad is not None
    assert pos.grad.tolist() == [-1, 0]


def test_prints_its_arguments() -> None:
    assert str(BPR()) == "BPR()"
