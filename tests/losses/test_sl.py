import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from pyg_bsl.losses import SL
from pyg_bsl.ops import DenseScores, LazyScores, log_mean_exp
from tests.losses import plain
from tests.losses.plain import assert_equals_plain
from tests.ops.cases import LargestTensor, assert_near, lazy_scores


def random_scores(seed: int = 0, size: int = 40) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    scores = torch.rand(1, size, generator=generator, dtype=torch.float64) * 2 - 1
    return scores, torch.randn(size, generator=generator, dtype=torch.float64)


@pytest.mark.parametrize("tau", [0.1, 0.5])
def test_equals_plain_loops(tau: float) -> None:
    assert_equals_plain(
        SL(tau), lambda s, neg, w: plain.log_mean_exp([x / tau for x in neg], w) - s / tau
    )


@pytest.mark.parametrize("tau", [0.1, 0.5])
def test_with_the_positive_in_the_denominator_equals_plain_loops(tau: float) -> None:
    assert_equals_plain(
        SL(tau, include_positive=True),
        lambda s, neg, w: plain.log_mean_exp([x / tau for x in [*neg, s]], [*w, 1.0]) - s / tau,
    )


def test_with_the_positive_is_cross_entropy_up_to_the_log_of_the_number_of_terms() -> None:
    pos, neg = torch.randn(5).double(), torch.randn(5, 7).double()
    logits = torch.cat([pos[:, None], neg], 1) / 0.2
    expected = F.cross_entropy(logits, torch.zeros(5, dtype=torch.long)) - math.log(8)
    torch.testing.assert_close(SL(0.2, include_positive=True)(pos, neg), expected)


def test_value_does_not_drift_with_the_number_of_negatives() -> None:
    pos, neg = torch.rand(4).double(), torch.rand(4, 6).double()
    torch.testing.assert_close(SL()(pos, neg), SL()(pos, neg.repeat(1, 10)))


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("tau", [0.05, 0.2, 1.0])
def test_is_distributionally_robust_optimisation_over_negatives(tau: float, weighted: bool) -> None:
    # tau LME(s / tau) = max_Q E_Q[s] - tau KL(Q || P), reached at Q proportional to P exp(s / tau)
    scores, log_weight = random_scores()
    prior = (log_weight if weighted else torch.zeros_like(log_weight)).softmax(0)
    value = tau * log_mean_exp(DenseScores(scores, prior.log()), tau)

    def objective(q: Tensor) -> Tensor:
        return (q * scores).sum() - tau * (q * (q / prior).log()).sum()

    worst = (prior.log() + scores[0] / tau).softmax(0)
    torch.testing.assert_close(objective(worst), value[0])
    generator = torch.Generator().manual_seed(1)
    for scale in (0.01, 0.1, 1.0, 10.0):
        for _ in range(20):
            noise = scale * torch.randn(worst.shape, generator=generator, dtype=torch.float64)
            assert objective((worst.log() + noise).softmax(0)) <= value + 1e-12
    assert objective(prior) <= value


@pytest.mark.parametrize("tau", [0.05, 0.2, 1.0])
def test_gradient_weights_are_the_worst_case_distribution(tau: float) -> None:
    scores, log_weight = random_scores()
    scores.requires_grad_()
    SL(tau)(torch.zeros(1).double(), scores, log_weight=log_weight).backward()
    assert scores.grad is not None
    torch.testing.assert_close(tau * scores.grad[0], (log_weight + scores[0] / tau).softmax(0))


def test_robustness_radius_follows_temperature_for_small_variance() -> None:
    # eta = KL(Q* || P) and tau ~ sqrt(Var / (2 eta))
    scores, _ = random_scores(size=1000)
    scores = 0.01 * scores
    for tau in (0.5, 1.0):
        worst = (scores[0] / tau).softmax(0)
        radius = (worst * (worst * 1000).log()).sum()
        estimate = (scores.var(correction=0) / (2 * radius)).sqrt()
        torch.testing.assert_close(estimate.item(), tau, rtol=1e-2, atol=0)


def test_penalises_the_variance_of_negative_scores() -> None:
    # tau LME(s / tau) = mean + Var / (2 tau) + O(1 / tau^2)
    scores, _ = random_scores()
    gaps = []
    for tau in (10.0, 100.0, 1000.0):
        value = tau * log_mean_exp(DenseScores(scores), tau)
        expansion = scores.mean() + scores.var(correction=0) / (2 * tau)
        gaps.append(float((value - expansion).abs()) * tau**2)
    third = float(((scores - scores.mean()) ** 3).mean()) / 6
    assert gaps == pytest.approx([abs(third)] * 3, rel=0.2, abs=1e-3)


def test_larger_variance_at_the_same_mean_costs_more() -> None:
    scores, _ = random_scores()
    wide = scores.mean() + 1.5 * (scores - scores.mean())
    pos = torch.zeros(1).double()
    assert SL(0.3)(pos, wide) > SL(0.3)(pos, scores)


def test_exact_over_a_catalogue_makes_no_matrix_of_all_scores() -> None:
    num_users, num_items, dim = 256, 200_000, 4
    generator = torch.Generator().manual_seed(0)
    query, key = (
        F.normalize(torch.randn(n, dim, generator=generator), dim=1).requires_grad_()
        for n in (num_users, num_items)
    )
    largest = LargestTensor()
    with largest:
        pos = (query * key[:num_users]).sum(1)
        SL(0.1)(pos, LazyScores(query, key, bounded=True)).backward()
    assert largest.numel <= 8 * (num_items + 1)  # 32 times less than all scores
    assert query.grad is not None
    some = torch.arange(3)
    exact = (query[some].double() @ key.double().t() / 0.1).logsumexp(1) - math.log(num_items)
    assert_near(
        SL(0.1)(pos[some], LazyScores(query[some], key, bounded=True), reduction="none"),
        exact - pos[some].double() / 0.1,
        1e-5,
    )


def test_temperature_of_0_005_is_exact_in_float32() -> None:
    scores = lazy_scores(0, dtype=torch.float32)
    pos = torch.rand(scores.num_rows)
    expected = SL(0.005)(pos.double(), scores.dense().values.double())
    torch.testing.assert_close(SL(0.005)(pos, scores).double(), expected, rtol=1e-5, atol=0)


@pytest.mark.parametrize("tau", [0.0, -0.1, math.nan, math.inf])
def test_temperature_is_positive(tau: float) -> None:
    with pytest.raises(ValueError, match=rf"'tau' must be positive and finite \(got {tau}\)"):
        SL(tau)


def test_prints_its_arguments() -> None:
    assert str(SL(0.2)) == "SL(tau=0.2)"
    assert str(SL(include_positive=True)) == "SL(tau=0.1, include_positive=True)"


@pytest.mark.parametrize("include_positive", [False, True])
def test_log_popularity_correction_makes_popular_negatives_the_catalogue(
    include_positive: bool,
) -> None:
    # All pairs as one batch: each item is a negative as often as it was met. With one over its
    # popularity for a weight, the popularities cancel and every item counts the same.
    counts = torch.tensor([1, 5, 2, 12])
    items = torch.arange(4).repeat_interleave(counts)
    scores, pos = torch.rand(3, 4).double(), torch.rand(3).double()
    loss = SL(0.2, include_positive=include_positive)
    log_weight = -counts.double().log()[items]
    corrected = loss(pos, scores[:, items], log_weight=log_weight)
    torch.testing.assert_close(corrected, loss(pos, scores))
    taken_off = ((scores[:, items] / 0.2 - counts.double().log()[items]).logsumexp(1)).mean()
    gap = SL(0.2)(pos, scores[:, items], log_weight=log_weight) - (taken_off - (pos / 0.2).mean())
    torch.testing.assert_close(gap, torch.tensor(-math.log(4)).double())
    assert not torch.isclose(loss(pos, scores[:, items]), loss(pos, scores))
