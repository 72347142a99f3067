import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from pyg_bsl.losses import SL, SLatK
from pyg_bsl.ops import LazyScores
from pyg_bsl.types import Embeddings, UserItems
from tests.losses import naive
from tests.losses.naive import Row, assert_equals_naive
from tests.losses.ready import make, train


def embeddings(num_users: int = 7, num_items: int = 13) -> Embeddings:
    generator = torch.Generator().manual_seed(0)
    user, item = (torch.randn(n, 4, generator=generator) for n in (num_users, num_items))
    return Embeddings(F.normalize(user, dim=1), F.normalize(item, dim=1))


@pytest.mark.parametrize(("tau", "tau_weight"), [(0.2, 2.25), (0.1, 0.5), (0.005, 0.005)])
def test_equals_the_formula(tau: float, tau_weight: float) -> None:
    loss = make("SLatK", tau=tau, tau_weight=tau_weight).double()

    def formula(row: Row) -> Tensor:
        weight = 1 / (1 + ((loss.threshold[row.user] - row.pos) / tau_weight).exp())
        log_sum = naive.log_mean_exp(row.neg / tau, row.weight)
        if len(row.neg):
            log_sum = log_sum + math.log(1000)
        return weight * (log_sum - row.pos / tau)

    assert_equals_naive(loss, formula)


def test_over_1000_negatives_the_sum_is_a_sum_and_over_a_catalogue_it_stands_for_one() -> None:
    loss = make("SLatK", tau=0.5).double()
    pos, neg = torch.rand(3).double(), torch.rand(3, 1000).double()
    users = torch.tensor([0, 4, 4])
    weight = torch.sigmoid((pos - loss.threshold[users]) / 2.25)
    expected = weight * ((neg / 0.5).logsumexp(1) - pos / 0.5)
    torch.testing.assert_close(loss(pos, neg, users=users, reduction="none"), expected)
    catalogue = neg.repeat(1, 3)
    shifted = (catalogue / 0.5).logsumexp(1) - math.log(3000 / 1000)
    expected = weight * (shifted - pos / 0.5)
    torch.testing.assert_close(loss(pos, catalogue, users=users, reduction="none"), expected)


@pytest.mark.parametrize("k", [1, 5, 13, 40])
def test_threshold_is_the_kth_largest_score_over_the_whole_catalogue(k: int) -> None:
    loss, emb = SLatK(k=k), embeddings()
    loss.setup(train())
    loss.refresh(emb)
    scores = (emb.user @ emb.item.t()).sort(dim=1, descending=True).values
    torch.testing.assert_close(loss.threshold, scores[:, min(k, 13) - 1])


def test_thresholds_are_refreshed_at_the_first_epoch_and_every_so_often() -> None:
    loss, calls = SLatK(every=3), []
    loss.setup(train())
    for epoch in range(1, 9):

        def run(epoch: int = epoch) -> Embeddings:
            calls.append(epoch)
            return embeddings()

        loss.on_epoch_start(epoch, train(), run)
    assert calls == [1, 4, 7]


def test_setup_keeps_thresholds_that_fit_and_refresh_changes_them_in_place() -> None:
    loss = SLatK()
    loss.setup(train())
    held = loss.threshold
    loss.refresh(embeddings())
    assert held is loss.threshold
    assert held.any()
    loss.setup(train())
    assert loss.threshold is held
    loss.setup(UserItems.from_pairs(torch.tensor([0]), torch.tensor([0]), 2, 2))
    assert loss.threshold.tolist() == [0, 0]


def test_flat_weight_is_sl_up_to_the_constant_of_the_sum() -> None:
    loss = make("SLatK", tau=0.2, tau_weight=1e9, num_negatives=1).double()
    pos, neg, users = torch.rand(4).double(), torch.rand(4, 9).double(), torch.arange(4)
    torch.testing.assert_close(2 * loss(pos, neg, users=users), SL(0.2)(pos, neg))


def test_one_reduction_serves_all_positives_of_a_user() -> None:
    assert SLatK().per_user


def test_what_is_missing_is_said() -> None:
    pos, neg = torch.zeros(2), torch.zeros(2, 3)
    with pytest.raises(ValueError, match=r"SLatK needs 'users': hand them over"):
        make("SLatK")(pos, neg)
    lazy = LazyScores(torch.ones(2, 1), torch.ones(3, 1))
    with pytest.raises(ValueError, match=r"'threshold' of SLatK depend on the data: call its setu"):
        SLatK()(pos, lazy, users=torch.arange(2))


@pytest.mark.parametrize("argument", ["k", "every", "num_negatives"])
def test_numbers_are_whole(argument: str) -> None:
    with pytest.raises(ValueError, match=rf"'{argument}' must be a whole number .* \(got 0\)"):
        SLatK(**{argument: 0})
