import pytest
import torch
from torch import Tensor

from pyg_bsl.losses import CCL, DrRL
from pyg_bsl.types import UserItems
from tests.losses import naive
from tests.losses.naive import Row, assert_equals_naive
from tests.losses.ready import make


@pytest.mark.parametrize(("omega", "weight"), [(2.0, 10.0), (1.2, 3.0), (150.0, 1.0)])
@pytest.mark.parametrize("margin", [0.7, -0.5])
def test_equals_the_formula(omega: float, weight: float, margin: float) -> None:
    loss = make("DrRL", omega=omega, weight=weight, margin=margin).double()
    power = omega / (omega - 1)

    def formula(row: Row) -> Tensor:
        over = row.neg - loss.margins[row.user]
        pull = (1 - row.pos).clamp(min=0) if row.pos < 1 else 0 * row.pos
        if not len(over):
            return pull
        if not (over > 0).any():
            return pull + loss.margins[row.user]
        norm = naive.mean(over.clamp(min=0) ** power, row.weight) ** (1 / power)
        return pull + weight * norm + loss.margins[row.user]

    assert_equals_naive(loss, formula)


def ready(num_users: int = 1, **args: float) -> DrRL:
    loss = DrRL(**args).double()
    ids = torch.arange(num_users)
    loss.setup(UserItems.from_pairs(ids, 0 * ids, num_users, 1))
    return loss.double()


@pytest.mark.parametrize("weight", [2.0, 5.0])
def test_lowest_over_the_margin_is_the_worst_mean_over_a_divergence_ball(weight: float) -> None:
    # For omega = 2: max of E_Q[s] over Q with E_P[(dQ/dP)^2] <= c^2 (and Q >= 0).
    generator = torch.Generator().manual_seed(0)
    scores = torch.rand(1, 30, generator=generator).double()
    loss = ready(omega=2.0, weight=weight)
    pos, user = torch.ones(1).double(), torch.zeros(1).long()

    def value(margin: float) -> float:
        loss.margins.data.fill_(margin)
        return loss(pos, scores, users=user).item()

    grid = torch.linspace(-1.5, 1, 501).tolist()
    best = min(grid, key=value)
    ratio = (scores[0] - best).clamp(min=0)  # the worst case is proportional to it
    q = ratio / ratio.sum()
    assert float((30 * q**2).sum()) == pytest.approx(weight**2, rel=5e-2)
    assert value(best) == pytest.approx(float((q * scores[0]).sum()), rel=1e-3)
    for _ in range(50):
        other = torch.rand(30, generator=generator).double() ** 3
        other = other / other.sum()
        if float((30 * other**2).sum()) <= weight**2:
            assert float((other * scores[0]).sum()) <= value(best) + 1e-9


def test_without_a_weight_above_1_the_margin_always_falls() -> None:
    loss = ready(weight=1.0, margin=0.2)
    generator = torch.Generator().manual_seed(0)
    for margin in (-2.0, 0.0, 0.5):
        loss.margins.data.fill_(margin)
        scores = torch.rand(1, 20, generator=generator).double()
        out = loss(torch.ones(1).double(), scores, users=torch.zeros(1).long())
        assert torch.autograd.grad(out, loss.margins)[0].item() > 0


def test_large_orders_give_ccl_with_a_learned_margin() -> None:
    loss = make("DrRL", omega=1e9, weight=7.0).double()
    loss.margins.data.fill_(0.4)
    pos, neg = torch.rand(4).double(), torch.rand(4, 9).double()
    out = loss(pos, neg, users=torch.arange(4))
    torch.testing.assert_close(out, CCL(0.4, 7.0)(pos, neg) + 0.4, rtol=1e-6, atol=0)


def test_margins_learn_at_their_own_rate() -> None:
    (group,) = make("DrRL", margin_lr=0.5).parameter_groups(0.1)
    assert group["lr"] == 0.5


@pytest.mark.parametrize(
    ("args", "message"),
    [({"omega": 1.0}, r"'omega' must be above 1"), ({"weight": 0.5}, r"'weight' must be at least")],
)
def test_arguments_out_of_range_are_errors(args: dict[str, float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        DrRL(**args)
