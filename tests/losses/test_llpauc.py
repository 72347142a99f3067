import pytest
import torch
from torch import Tensor

from pyg_bsl.losses import LLPAUC
from tests.losses import naive
from tests.losses.naive import Row, assert_equals_naive
from tests.losses.ready import make


def soft(x: Tensor) -> Tensor:
    return (1 + (5 * x).exp()).log() / 5


@pytest.mark.parametrize("ascent", [True, False])
@pytest.mark.parametrize(("alpha", "beta"), [(0.7, 0.01), (1.0, 1.0)])
@pytest.mark.parametrize("scale", [1.0, 30.0])
def test_equals_the_formula_and_is_raised_over_gamma_and_s_pos(
    alpha: float, beta: float, scale: float, ascent: bool
) -> None:
    loss = make("LLPAUC", alpha=alpha, beta=beta, ascent=ascent).double()

    def formula(row: Row) -> Tensor:
        x, y, gamma = row.pos.sigmoid(), row.neg.sigmoid(), loss.gamma
        gain = (x - loss.a) ** 2 - 2 * (1 + gamma) * x
        cost = (y - loss.b) ** 2 + 2 * (1 + gamma) * y
        positives = loss.s_pos + soft(-gain - loss.s_pos) / alpha
        negatives = loss.s_neg + naive.mean(soft(cost - loss.s_neg), row.weight) / beta
        return (negatives if len(row.neg) else 0) - positives - gamma**2

    raised = ("gamma", "s_pos") if ascent else ()
    assert_equals_naive(loss, formula, scale=scale, raised=raised)


def test_step_goes_down_over_a_b_s_neg_and_up_over_gamma_and_s_pos() -> None:
    loss = make("LLPAUC", alpha=0.5, beta=0.1).double()
    pos, neg = torch.tensor([0.3, -0.2]).double(), torch.tensor([[0.1, -0.4], [0.5, 0.2]]).double()
    before = loss(pos, neg)
    before.backward()
    for name, p in loss.named_parameters():
        with torch.no_grad():
            held = p.clone()
            p -= 1e-4 * p.grad.sign()
            change = loss(pos, neg) - before
            p.copy_(held)
        assert change > 0 if name in ("gamma", "s_pos") else change < 0, name


def test_everything_is_put_back_into_its_range() -> None:
    loss = LLPAUC()
    for p, value in zip(loss.parameters(), (3.0, -2.0, 9.0, -9.0, -5.0), strict=True):
        p.data.fill_(value)  # a, b, s_pos, s_neg, gamma
    loss.after_step()
    assert [p.item() for p in loss.parameters()] == [1, 0, 4, 0, -1]
    for a, b, least in ((0.25, 0.5, -0.25), (0.75, 0.75, -0.25), (1.0, 0.0, -1.0)):
        loss.a.data.fill_(a), loss.b.data.fill_(b), loss.gamma.data.fill_(-1)
        loss.after_step()
        assert loss.gamma.item() == least
    loss.gamma.data.fill_(2)
    loss.after_step()
    assert loss.gamma.item() == 1


def test_learning_rates_are_the_authors() -> None:
    loss = LLPAUC()
    slow, fast = loss.parameter_groups(0.1)
    assert (slow["lr"], fast["lr"]) == (0.1, 0.2)
    assert {*slow["params"], *fast["params"]} == {*loss.parameters()}


@pytest.mark.parametrize("value", [0.0, 1.5, -0.1])
def test_shares_are_shares(value: float) -> None:
    for name in ("alpha", "beta"):
        with pytest.raises(ValueError, match=rf"'{name}' must be above 0 and at most 1 \(got"):
            LLPAUC(**{name: value})
