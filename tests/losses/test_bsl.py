import math

import pytest
import torch

from pyg_bsl.losses import BSL, SL
from tests.losses import plain
from tests.losses.plain import assert_equals_plain, batch, differences
from tests.ops.cases import assert_same, lazy_scores, per_row

USERS = torch.tensor([9, 2, 9, 9])


def slow_pooled(pos: list[float], users: list[int], tau: float) -> list[float]:
    pulls = []
    for u in users:
        group = [s / tau for s, v in zip(pos, users, strict=True) if v == u]
        pulls.append(plain.log_mean_exp(group, [1.0] * len(group)))
    return pulls


@pytest.mark.parametrize(("tau1", "tau2"), [(0.1, 0.1), (0.3, 0.1), (0.1, 0.4)])
@pytest.mark.parametrize("weight", [None, 1.3])
def test_equals_plain_loops(tau1: float, tau2: float, weight: float | None) -> None:
    w = tau2 / tau1 if weight is None else weight
    assert_equals_plain(
        BSL(tau1, tau2, weight=weight),
        lambda s, neg, lw: w * plain.log_mean_exp([x / tau2 for x in neg], lw) - s / tau1,
    )


@pytest.mark.parametrize("weight", [None, 1.3])
def test_pooled_equals_plain_loops(weight: float | None) -> None:
    pos, neg, _ = batch(0)
    w = 0.2 / 0.3 if weight is None else weight

    def slow(x: torch.Tensor) -> list[float]:
        pulls = slow_pooled(x.tolist(), USERS.tolist(), 0.3)
        push = plain.slow_loss(
            lambda s, row, lw: w * plain.log_mean_exp([v / 0.2 for v in row], lw),
            x,
            neg,
            torch.zeros_like(neg),
        )
        return [a - b for a, b in zip(push, pulls, strict=True)]

    p = pos.clone().requires_grad_()
    rows = BSL(0.3, 0.2, weight=weight)(p, neg, users=USERS, reduction="none")
    torch.testing.assert_close(rows, torch.tensor(slow(pos), dtype=torch.float64))
    rows.sum().backward()
    wanted = differences(lambda x: sum(slow(x)), pos)
    torch.testing.assert_close(p.grad, wanted, rtol=1e-8, atol=1e-8)


@pytest.mark.parametrize("tau", [0.05, 0.2])
def test_bsl_equals_sl_when_temperatures_match(tau: float) -> None:
    pos, neg, log_weight = batch(0)
    bsl, sl = (
        loss(pos, neg, log_weight=log_weight, reduction="none") for loss in (BSL(tau, tau), SL(tau))
    )
    torch.testing.assert_close(bsl, sl)


def test_pooled_with_one_positive_per_user_equals_unpooled() -> None:
    pos, neg, _ = batch(0)
    loss = BSL(0.3, 0.1)
    torch.testing.assert_close(loss(pos, neg, users=torch.tensor([7, 1, 5, 3])), loss(pos, neg))


def test_pooling_takes_users_apart() -> None:
    pos, neg, _ = batch(0)
    loss = BSL(0.3, 0.1)
    assert not torch.allclose(loss(pos, neg, users=USERS), loss(pos, neg))


def test_pooled_over_lazy_scores_equals_dense() -> None:
    scores = lazy_scores(0, "ragged", "ragged")
    assert scores.rows is not None
    pos, users = per_row(scores, 0), scores.rows.row // 2
    loss = BSL(0.3, 0.1)
    assert_same(lambda s: loss(pos, s, users=users, reduction="none"), scores, [pos])


def test_paper_form_is_tau1_times_the_default() -> None:
    # L_u = -tau1 log E_P[exp(f / tau1)] + tau2 log E_N[exp(f / tau2)], one user at a time
    pos, neg, _ = batch(1)
    neg = neg[1].expand(4, -1)
    kept = [s for s in neg[0].tolist() if s > -math.inf]
    tau1, tau2 = 0.3, 0.1
    positives = sum(math.exp(s / tau1) for s in pos.tolist()) / 4
    negatives = sum(math.exp(s / tau2) for s in kept) / len(kept)
    paper = -tau1 * math.log(positives) + tau2 * math.log(negatives)
    loss = BSL(tau1, tau2)(pos, neg, users=torch.zeros(4, dtype=torch.long))
    assert tau1 * loss.item() == pytest.approx(paper, rel=1e-12)


@pytest.mark.parametrize("multi", [True, False], ids=["multi", "reweight"])
def test_authors_code_is_one_temperature_and_an_exponent(multi: bool) -> None:
    # exp, mean, power, log in the open, as their code has it
    t1, t2 = 0.3, 1.25
    pos, neg, _ = batch(1)
    neg = neg.masked_fill(neg == -torch.inf, 0.1)
    push = (neg / t1).exp().mean(1) ** t2
    pull = (pos / t1).exp()
    if multi:
        pull = torch.stack([pull[u == USERS].mean() for u in USERS])
    expected = -(pull / push).log()
    users = USERS if multi else None
    rows = BSL(t1, t1, weight=t2)(pos, neg, users=users, reduction="none")
    torch.testing.assert_close(rows, expected)


def test_psl_authors_form_differs_by_a_constant() -> None:
    # -s+ / tau1 + (tau2 / tau1) log sum_j exp(s- / tau2)
    tau1, tau2 = 0.3, 0.1
    pos, neg, _ = batch(1)
    neg = neg.masked_fill(neg == -torch.inf, 0.1)
    theirs = -pos / tau1 + tau2 / tau1 * (neg / tau2).logsumexp(1)
    ours = BSL(tau1, tau2)(pos, neg, reduction="none")
    constant = torch.full_like(pos, tau2 / tau1 * math.log(neg.size(1)))
    torch.testing.assert_close(theirs - ours, constant)


def test_with_one_positive_a_row_tau1_only_rescales() -> None:
    pos, neg, _ = batch(0)
    one, other = (t * BSL(t, 0.1)(pos, neg, reduction="none") for t in (0.2, 0.7))
    torch.testing.assert_close(one, other)


@pytest.mark.parametrize("weight", [0.8, 1.3])
def test_weight_scales_the_push_and_not_the_pull(weight: float) -> None:
    pos, neg, _ = batch(0)

    def gradients(loss: BSL) -> tuple[torch.Tensor, ...]:
        p, n = pos.clone().requires_grad_(), neg.clone().requires_grad_()
        return torch.autograd.grad(loss(p, n), (p, n))

    (pull, push), (pull_w, push_w) = (
        gradients(BSL(0.2, 0.2)),
        gradients(BSL(0.2, 0.2, weight=weight)),
    )
    torch.testing.assert_close(pull_w, pull)
    torch.testing.assert_close(push_w, weight * push)


def test_a_smaller_tau1_trusts_the_best_positives_more() -> None:
    pos, neg, _ = batch(0)
    shares = []
    for tau1 in (1.0, 0.1, 0.01):
        p = pos.clone().requires_grad_()
        (-tau1 * BSL(tau1, 0.1)(p, neg, users=torch.zeros(4, dtype=torch.long))).backward()
        assert p.grad is not None
        assert float(p.grad.sum()) == pytest.approx(1)
        shares.append(float(p.grad[pos.argmax()]))
    assert shares == sorted(shares)


@pytest.mark.parametrize("name", ["tau1", "tau2", "weight"])
def test_arguments_are_positive(name: str) -> None:
    with pytest.raises(ValueError, match=rf"'{name}' must be positive and finite \(got -0.1\)"):
        BSL(**{name: -0.1})


def test_weight_is_by_default_the_ratio_of_temperatures() -> None:
    pos, neg = torch.zeros(2), torch.rand(2, 5)
    assert torch.equal(BSL(0.2, 0.1)(pos, neg), BSL(0.2, 0.1, weight=0.5)(pos, neg))
    assert BSL(0.2, 0.1).weight is None  # as asked for: a description says that it is derived


def test_prints_its_arguments() -> None:
    assert str(BSL(0.2, 0.1)) == "BSL(tau1=0.2, tau2=0.1, weight=None)"


def test_unpooled_with_the_default_weight_it_is_a_multiple_of_sl() -> None:
    pos, neg = torch.rand(5, dtype=torch.float64), torch.rand(5, 9, dtype=torch.float64)
    bsl, sl = BSL(tau1=0.05, tau2=0.2), SL(tau=0.2)
    torch.testing.assert_close(bsl(pos, neg), 4 * sl(pos, neg))
    assert "tau1" not in BSL.search_space


@pytest.mark.parametrize("users", [None, torch.tensor([0, 0, 3])], ids=["reweight", "multi"])
def test_as_released_is_the_ratio_with_an_exponent(users: torch.Tensor | None) -> None:
    pos, neg = torch.rand(3).double(), torch.rand(3, 5).double()
    each = (pos / 0.2).exp()
    if users is not None:
        each = torch.stack([each[:2].sum(), each[:2].sum(), each[2]])
    ratio = each / ((neg / 0.2).exp().sum(1)) ** 1.3
    out = BSL.as_released(0.2, 1.3)(pos, neg, users=users, reduction="none")
    pooled = torch.tensor([2, 2, 1]).double() if users is not None else torch.ones(3).double()
    torch.testing.assert_close(out, -ratio.log() - 1.3 * math.log(5) + pooled.log())
    assert isinstance(BSL.as_released(0.2, 1.3), BSL)
