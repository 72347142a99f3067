import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from pyg_bsl.losses import BC, SL
from tests.losses.naive import Row, assert_equals_naive
from tests.losses.ready import make, train


@pytest.mark.parametrize(("tau", "weight"), [(0.2, 0.5), (0.07, 0.1), (0.005, 0.9)])
def test_equals_the_formula(tau: float, weight: float) -> None:
    loss = make("BC", tau=tau, weight=weight, popularity_dim=3).double()
    users, items = train().counts.tolist(), train().item_counts.tolist()

    def user_vector(user: int) -> Tensor:
        return loss.user_popularity[sorted(set(users)).index(users[user])]

    def item_vector(item: int) -> Tensor:
        return loss.item_popularity[sorted(set(items)).index(items[item])]

    def sl(pos: Tensor, neg: Tensor, tau: float, row: Row) -> Tensor:
        total = (row.weight * (neg / tau).exp()).sum() + (pos / tau).exp()
        return (total / (row.weight.sum() + 1)).log() - pos / tau

    def formula(row: Row) -> Tensor:
        p, q = user_vector(row.user), item_vector(row.item)
        angle = row.pos.acos()
        margin = min((1 - (p @ q).sigmoid()).item(), math.pi - angle.item())
        main = sl((angle + margin).cos(), row.neg, tau, row)
        own = [F.cosine_similarity(p, item_vector(j), dim=0) for j in row.negatives.tolist()]
        negatives = torch.stack(own) if own else row.neg
        side = sl(F.cosine_similarity(p, q, dim=0), negatives, 0.1, row)
        return (1 - weight) * main + weight * side

    # At a cosine of 1 the angle has no slope.
    assert_equals_naive(loss, formula, scale=0.98)


def test_main_term_is_sl_where_popularity_explains_the_pair() -> None:
    loss = make("BC", tau=0.2, weight=1e-12).double()
    with torch.no_grad():
        loss.user_popularity.fill_(30), loss.item_popularity.fill_(30)
    pos, neg = torch.rand(4).double(), torch.rand(4, 13).double()
    out = loss(pos, neg, users=torch.arange(4), items=torch.arange(4))
    torch.testing.assert_close(out, SL(0.2, include_positive=True)(pos, neg))


def test_margin_is_no_way_to_lower_the_main_term() -> None:
    loss = make("BC", weight=1e-12)
    pos, neg = torch.rand(4), torch.rand(4, 13)
    loss(pos, neg, users=torch.arange(4), items=torch.arange(4)).backward()
    assert loss.user_popularity.grad.abs().max() < 1e-9


def test_users_and_items_of_the_same_popularity_share_a_vector() -> None:
    loss = make("BC", popularity_dim=5)
    assert loss.user_popularity.shape == (len(set(train().counts.tolist())), 5)
    assert loss.item_popularity.shape == (len(set(train().item_counts.tolist())), 5)
    held = loss.user_popularity
    loss.setup(train())
    assert loss.user_popularity is held


def test_weight_is_below_1() -> None:
    with pytest.raises(ValueError, match=r"'weight' must be below 1 \(got 1.0\)"):
        BC(weight=1.0)
