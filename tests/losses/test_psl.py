import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from pyg_bsl.losses import PSL, SL
from tests.losses.plain import assert_equals_plain, batch, mean

SIGMA: dict[str, Callable[[float], float]] = {
    "relu": lambda d: max(d + 1, 0.0),
    "tanh": lambda d: math.tanh(d) + 1,
    "atan": lambda d: math.atan(d) + 1,
    "exp": math.exp,
    "softplus": lambda d: math.exp(d) + 1,
}
SLOPE: dict[str, Callable[[Tensor], Tensor]] = {
    "relu": torch.ones_like,
    "tanh": lambda d: 1 - d.tanh() ** 2,
    "atan": lambda d: 1 / (1 + d**2),
    "exp": torch.exp,
    "softplus": torch.exp,
}
EVERY = pytest.mark.parametrize("activation", SIGMA)


def sigma(name: str, d: Tensor) -> Tensor:
    values = [SIGMA[name](x) for x in d.flatten().tolist()]
    return torch.tensor(values, dtype=torch.float64).view_as(d)


def full_batch(seed: int = 0) -> tuple[Tensor, Tensor]:
    pos, neg, _ = batch(seed)
    return pos, neg.masked_fill(neg == -torch.inf, 0.3)


@EVERY
@pytest.mark.parametrize("tau", [0.1, 0.3])
def test_equals_plain_loops(activation: str, tau: float) -> None:
    def row(s: float, neg: list[float], weights: list[float]) -> float:
        if not neg:  # nothing to average; SL's positive term stands apart
            return -s / (2 * tau) if activation == "exp" else 0.0
        powers = [SIGMA[activation]((x - s) / 2) ** (1 / tau) for x in neg]
        return math.log(mean(powers, weights))

    assert_equals_plain(PSL(tau, activation), row)


@pytest.mark.parametrize("tau", [0.05, 0.2])
def test_psl_with_exp_equals_sl_at_twice_the_temperature(tau: float) -> None:
    pos, neg, log_weight = batch(0)
    psl, sl = (
        loss(pos, neg, log_weight=log_weight, reduction="none")
        for loss in (PSL(tau, "exp"), SL(2 * tau))
    )
    torch.testing.assert_close(psl, sl)


def test_tanh_plus_one_is_twice_a_sigmoid() -> None:
    # log(tanh(d) + 1) = log 2 + logsigmoid(2 d); at d = -1 the left side has lost digits already
    d = torch.linspace(-1, 1, 101, dtype=torch.float64)
    loss = PSL(1.0, "tanh")(-d, d[:, None], reduction="none")
    torch.testing.assert_close(loss, (d.tanh() + 1).log())
    torch.testing.assert_close(loss, math.log(2) - (1 + (-2 * d).exp()).log())


@EVERY
@pytest.mark.parametrize("tau", [0.05, 0.3])
def test_gradient_weight_of_a_pair_is_that_of_the_paper(activation: str, tau: float) -> None:
    # sigma'(d) sigma(d)^(1 / tau - 1) / tau over the sum of sigma(d)^(1 / tau)
    pos, neg = full_batch()
    p, n = pos.clone().requires_grad_(), neg.clone().requires_grad_()
    PSL(tau, activation)(p, n, reduction="sum").backward()
    d = (neg - pos[:, None]) / 2
    value = sigma(activation, d)
    weight = SLOPE[activation](d) * value ** (1 / tau - 1) / tau
    weight = weight / (value ** (1 / tau)).sum(1, keepdim=True)
    torch.testing.assert_close(n.grad, weight / 2, rtol=1e-10, atol=1e-12)
    torch.testing.assert_close(p.grad, -weight.sum(1) / 2, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("activation", ["relu", "tanh", "atan"])
@pytest.mark.parametrize("tau", [0.05, 0.3])
def test_is_at_most_sl(activation: str, tau: float) -> None:
    for seed in range(5):
        pos, neg = full_batch(seed)
        psl = PSL(tau, activation)(pos, neg, reduction="none")
        assert (psl <= SL(2 * tau)(pos, neg, reduction="none") + 1e-12).all()


@EVERY
@pytest.mark.parametrize("tau", [0.05, 0.3])
def test_sum_form_over_all_items_bounds_minus_log_dcg(activation: str, tau: float) -> None:
    generator = torch.Generator().manual_seed(0)
    for num_positives in (1, 3, 8):
        scores = torch.rand(50, generator=generator, dtype=torch.float64) * 2 - 1
        pos = scores[:num_positives]
        rank = (scores[None] >= pos[:, None]).sum(1).double()
        dcg = (1 / (1 + rank).log2()).sum()
        mean_form = PSL(tau, activation)(pos, scores.expand(num_positives, -1))
        sum_form = mean_form + math.log(50) - math.log(num_positives)
        assert -dcg.log() <= sum_form


@EVERY
@pytest.mark.parametrize("tau", [0.05, 0.3])
def test_is_at_most_the_log_of_bpr_by_jensen(activation: str, tau: float) -> None:
    for seed in range(5):
        pos, neg = full_batch(seed)
        bpr = (sigma(activation, (neg - pos[:, None]) / 2) ** (1 / tau)).mean()
        assert PSL(tau, activation)(pos, neg) <= bpr.log() + 1e-12


@EVERY
def test_halves_full_cosines_itself(activation: str) -> None:
    loss = PSL(0.5, activation)(torch.tensor([1.0]), torch.tensor([[0.5]]))
    assert loss.item() == pytest.approx(2 * math.log(SIGMA[activation](-0.25)), rel=1e-5)


@pytest.mark.parametrize("tau", [1.0, 0.1, 0.07, 0.005])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.float16, torch.bfloat16])
def test_relu_at_minus_one_has_zero_gradient_and_no_nan(tau: float, dtype: torch.dtype) -> None:
    pos = torch.ones(1, dtype=dtype, requires_grad=True)
    neg = torch.full((1, 3), -1, dtype=dtype, requires_grad=True)
    loss = PSL(tau)(pos, neg)
    assert loss.isfinite()
    assert [g.abs().sum().item() for g in torch.autograd.grad(loss, (pos, neg))] == [0, 0]


def test_relu_at_minus_one_leaves_the_other_negatives_alone() -> None:
    pos, neg = torch.ones(1), torch.tensor([[-1.0, 0.2, -1.0]], requires_grad=True)
    (grad,) = torch.autograd.grad(PSL(0.1)(pos, neg), neg)
    other = torch.tensor([[0.2]], requires_grad=True)
    (expected,) = torch.autograd.grad(PSL(0.1)(pos, other), other)
    torch.testing.assert_close(grad, torch.tensor([[0.0, expected.item(), 0.0]]))


def test_temperature_is_positive() -> None:
    with pytest.raises(ValueError, match=r"'tau' must be positive and finite \(got 0\)"):
        PSL(0)


def test_unknown_activation_names_the_nearest_and_all() -> None:
    with pytest.raises(
        ValueError,
        match=r"Unknown activation 'tan'; did you mean 'tanh'\? "
        "Choices: atan, exp, relu, softplus, tanh",
    ):
        PSL(activation="tan")  # type: ignore[arg-type]


def test_prints_its_arguments() -> None:
    assert str(PSL(0.1, "tanh")) == "PSL(tau=0.1, activation=tanh, temperature=outside)"


def test_the_search_space_stays_where_one_pass_a_user_is_enough() -> None:
    values = PSL.search_space["tau"].values
    assert all(PSL(tau=tau).per_user for tau in values)
    assert {0.025, 0.05, 0.1, 0.2} <= {*values}


@pytest.mark.parametrize("activation", ["relu", "tanh", "atan", "exp", "softplus"])
@pytest.mark.parametrize("tau", [0.3, 0.7])
def test_with_the_temperature_inside_equals_plain_loops(activation: str, tau: float) -> None:
    tiny = 2.0**-1022
    sigma = {
        "relu": lambda d: max(1 + d, tiny),
        "tanh": lambda d: math.tanh(d) + 1,
        "atan": lambda d: max(math.atan(d) + 1, tiny),
        "exp": math.exp,
        "softplus": lambda d: math.exp(d) + 1,
    }[activation]

    def row(s: float, neg: list[float], w: list[float]) -> float:
        if not neg:  # the mean of nothing
            return -s / (2 * tau) if activation == "exp" else 0.0
        return math.log(mean([sigma((x - s) / (2 * tau)) for x in neg], w))

    assert_equals_plain(PSL(tau, activation, temperature="inside"), row)


def test_inside_and_outside_meet_at_a_temperature_of_1_and_for_exp() -> None:
    pos, neg = torch.rand(4).double(), torch.rand(4, 6).double()
    for activation in ("relu", "tanh", "atan", "softplus"):
        inside, outside = (PSL(1.0, activation, temperature=t) for t in ("inside", "outside"))
        torch.testing.assert_close(inside(pos, neg), outside(pos, neg))
    inside, outside = (PSL(0.2, "exp", temperature=t) for t in ("inside", "outside"))
    assert torch.equal(inside(pos, neg), outside(pos, neg))
    assert not PSL(0.1, temperature="inside").per_user
