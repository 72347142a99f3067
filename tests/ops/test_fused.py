import math
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from pyg_bsl.ops import LazyScores, fused, log_mean_exp, log_mean_exp_map, log_mean_power
from pyg_bsl.ops import power_sums as sums
from tests.ops.cases import (
    BOTH_TYPES,
    EVERY_KIND,
    LargestTensor,
    NoReadBack,
    assert_near,
    assert_same,
    calls_of,
    lazy_scores,
    per_row,
    ragged,
    tiny_tiles,  # noqa: F401
)

TAUS = [0.005, 1 / 60, 0.1, 2.0]
POWERS = [1.0, 2.0, 10.0, 20.0, 40.0]


@pytest.fixture(params=["one pass", "two passes"])
def passes(request, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both ways of walking over scores, which the number of keys chooses otherwise."""
    most = 1 << 16 if request.param == "one pass" else 0
    monkeypatch.setattr("pyg_bsl.ops.walk.MOST_KEYS", most)


BOTH_WAYS = pytest.mark.usefixtures("passes")


def cosines(values: list[float], dtype: torch.dtype = torch.float32) -> LazyScores:
    """One query whose scores against the keys are ``values``."""
    key = torch.tensor([[v, math.sqrt(max(0.0, 1 - v * v))] for v in values], dtype=dtype)
    query = torch.tensor([[1.0, 0.0]], dtype=dtype)
    return LazyScores(query.requires_grad_(), key.requires_grad_(), bounded=True)


@EVERY_KIND
@BOTH_TYPES
@BOTH_WAYS
@pytest.mark.usefixtures("tiny_tiles")
def test_fused_log_mean_exp_equals_dense(rows, drop, weighted, dtype) -> None:
    for seed, tau in enumerate(TAUS):
        scores = lazy_scores(seed, rows, drop, weighted, dtype)
        # A score over tau is off by that much more in float32, in either way.
        tol = 1e-10 if dtype == torch.float64 else 1e-5 * max(1, 0.02 / tau)
        assert_same(lambda s, tau=tau: log_mean_exp(s, tau), scores, tol=tol)


@EVERY_KIND
@BOTH_TYPES
@BOTH_WAYS
@pytest.mark.usefixtures("tiny_tiles")
def test_fused_log_mean_power_equals_dense(rows, drop, weighted, dtype) -> None:
    for seed, power in enumerate(POWERS):
        scores = lazy_scores(seed, rows, drop, weighted, dtype)
        pos = per_row(scores, seed)
        assert_same(lambda s, p=pos, m=power: log_mean_power(s, p, m), scores, [pos])


@BOTH_WAYS
@pytest.mark.usefixtures("tiny_tiles")
def test_gradients_agree_with_finite_differences() -> None:
    scores = lazy_scores(1, "ragged", "ragged", num_queries=4, num_keys=9)
    rows = ragged([[0, 0], [], [0], [0, 0, 0]])
    pos = torch.linspace(-0.9, 0.8, 6, dtype=torch.float64).requires_grad_()

    def lazy(query: Tensor, key: Tensor) -> LazyScores:
        return LazyScores(query, key, rows, scores.drop, None, True)

    leaves = scores.query, scores.key
    for mean in (False, True):  # the mean goes by the guess, single rows by the second pass

        def reduce(*x: Tensor, mean: bool = mean) -> Tensor:
            out = log_mean_exp(lazy(*x), 0.3)
            return out.mean() if mean else out

        def power(*x: Tensor, mean: bool = mean) -> Tensor:
            out = log_mean_power(lazy(*x[:2]), x[2], 4.0)
            return out.mean() if mean else out

        assert torch.autograd.gradcheck(reduce, leaves)
        # Finite differences leave the unit sphere: the relu must not act on the way.
        inner = tuple(x.detach().mul(0.9).requires_grad_() for x in (*leaves, pos))
        assert torch.autograd.gradcheck(power, inner)


@pytest.mark.parametrize("rows", ["one", "ragged"])
def test_scores_are_walked_once_when_rows_weigh_the_same(
    monkeypatch: pytest.MonkeyPatch, rows
) -> None:
    scores = lazy_scores(0, rows)
    pos = per_row(scores, 0)
    for file, out in (
        (fused, log_mean_exp(scores, 0.1)),
        (sums, log_mean_power(scores, pos, 10.0)),
    ):
        for upstream, passes in ((torch.ones_like(out), 0), (torch.arange(1.0, 1 + len(out)), 1)):
            path = f"{file.__name__}._gradients"
            with calls_of(monkeypatch, path, file._gradients) as calls:
                out.backward(upstream.to(out), retain_graph=True)
            assert len(calls) == passes


def test_unlike_rows_cost_no_gradient_beside_the_value(monkeypatch: pytest.MonkeyPatch) -> None:
    scores = lazy_scores(0)
    path = "pyg_bsl.ops.fused._sums_and_gradients"
    with calls_of(monkeypatch, path, fused._sums_and_gradients) as calls:
        out = log_mean_exp(scores, 0.1, alike=False)
    assert not calls
    same = log_mean_exp(scores, 0.1)
    torch.testing.assert_close(out, same)
    leaves = scores.query, scores.key
    for ours, theirs in zip(
        torch.autograd.grad(out.square().sum(), leaves),
        torch.autograd.grad(same.square().sum(), leaves),
        strict=True,
    ):
        torch.testing.assert_close(ours, theirs)


def test_a_very_heavy_user_does_not_cost_a_second_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    # The weights of 5000 rows, added up in float32, are no longer 5000 times one of them.
    scores = lazy_scores(0, dtype=torch.float32, num_queries=3)
    scores = replace(scores, rows=ragged([[0], [0] * 5000, [0] * 7]))
    query, key = (x.detach().double().requires_grad_() for x in (scores.query, scores.key))
    expected = log_mean_exp(replace(scores, query=query, key=key).dense(), 0.1)
    with calls_of(monkeypatch, "pyg_bsl.ops.fused._gradients", fused._gradients) as calls:
        log_mean_exp(scores, 0.1).mean().backward()
    assert not calls
    (wanted,) = torch.autograd.grad(expected.mean(), query)
    assert scores.query.grad is not None
    assert_near(scores.query.grad, wanted, 1e-5)


@BOTH_WAYS
def test_no_rows_at_all_give_no_gradient() -> None:
    scores = replace(lazy_scores(0, num_queries=3), rows=ragged([[], [], []]))
    pos = per_row(scores, 0)
    out = log_mean_exp(scores, 0.1) + log_mean_power(scores, pos, 5.0)
    assert out.shape == (0,)
    out.sum().backward()
    assert scores.query.grad is not None
    assert torch.equal(scores.query.grad, torch.zeros_like(scores.query))


@BOTH_WAYS
def test_no_queries_at_all_give_no_gradient() -> None:
    query, key = torch.zeros(0, 4).requires_grad_(), torch.rand(5, 4).requires_grad_()
    scores = LazyScores(query, key, bounded=True)
    out = log_mean_exp(scores, 0.1) + log_mean_power(scores, torch.zeros(0), 5.0)
    assert out.shape == (0,)
    (grad,) = torch.autograd.grad(out.sum(), key)
    assert torch.equal(grad, torch.zeros_like(key))


@BOTH_WAYS
def test_zero_gradient_from_above_gives_zero() -> None:
    scores = lazy_scores(0, "ragged")
    (0 * log_mean_exp(scores, 0.1)).sum().backward()
    assert scores.query.grad is not None
    assert torch.equal(scores.query.grad, torch.zeros_like(scores.query))


@BOTH_WAYS
@pytest.mark.usefixtures("tiny_tiles")
def test_all_dropped_gives_zero_without_gradient() -> None:
    scores = lazy_scores(0, "ragged", "all")
    pos = per_row(scores, 0)
    for out in (log_mean_exp(scores, 0.005), log_mean_power(scores, pos, 20.0)):
        assert torch.equal(out, torch.zeros_like(out))
        grads = torch.autograd.grad(out.sum(), (scores.query, scores.key, pos), allow_unused=True)
        assert all(g is None or torch.equal(g, torch.zeros_like(g)) for g in grads)


@BOTH_WAYS
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_reduced_in_float32(dtype: torch.dtype) -> None:
    full = lazy_scores(0, "ragged", "ragged", dtype=torch.float32, num_keys=20)
    query, key = (x.detach().to(dtype).requires_grad_() for x in (full.query, full.key))
    half = LazyScores(query, key, full.rows, full.drop, None, True)
    same = LazyScores(query.float(), key.float(), full.rows, full.drop, None, True)
    pos = per_row(full, 0).detach().to(dtype)
    for a, b in (
        (log_mean_exp(half, 0.1), log_mean_exp(same, 0.1)),
        (log_mean_power(half, pos, 10.0), log_mean_power(same, pos.float(), 10.0)),
    ):
        assert a.dtype == torch.float32
        assert torch.equal(a, b)
        assert torch.autograd.grad(a.mean(), key)[0].dtype == dtype


@BOTH_WAYS
@pytest.mark.parametrize("tau", [0.0166, 1 / 60, 0.017, 0.02])  # 1/60: from here on, no shift
@pytest.mark.parametrize("low", [-1.0, 0.0, 0.99])
def test_float32_is_accurate_with_and_without_a_shift(tau: float, low: float) -> None:
    generator = torch.Generator().manual_seed(0)
    values = low + (1 - low) * torch.rand(5000, generator=generator)
    scores = cosines([-1.0 if low < 0 else 1.0, *values.tolist()])
    out = log_mean_exp(scores, tau)
    grads = torch.autograd.grad(out.sum(), (scores.query, scores.key))
    wide = [x.detach().double().requires_grad_() for x in (scores.query, scores.key)]
    expected = (wide[0] @ wide[1].t() / tau).logsumexp(1) - math.log(5001)
    assert_near(out, expected, 1e-6)
    for got, wanted in zip(grads, torch.autograd.grad(expected.sum(), wide), strict=True):
        assert_near(got, wanted, 1e-5)


@BOTH_WAYS
@pytest.mark.parametrize("tau", [0.005, 0.0118, 0.0166, 1 / 60, 0.017, 0.1])
@pytest.mark.parametrize("value", [-1.0, 1.0])
def test_extreme_scores_of_very_many_rows_stay_finite(tau: float, value: float) -> None:
    # One user with 10,000 rows and a single item: the weight of the rows over the sum of
    # exponentials, 1e4 exp(1 / tau) / tau, is what the shift must keep from overflowing.
    one = cosines([value])
    scores = LazyScores(one.query, one.key, ragged([[0] * 10_000]), bounded=True)
    out = log_mean_exp(scores, tau)
    torch.testing.assert_close(out, torch.full((10_000,), value / tau))
    grad_query, grad_key = torch.autograd.grad(out.mean(), (one.query, one.key))
    torch.testing.assert_close(grad_query, one.key / tau)
    torch.testing.assert_close(grad_key, one.query / tau)


@BOTH_WAYS
@BOTH_TYPES
@pytest.mark.parametrize("power", POWERS)
def test_power_where_every_relu_is_dead_is_finite_without_gradient(power, dtype) -> None:
    scores = cosines([-1.0, -1.0, -1.0], dtype)
    pos = torch.ones(1, dtype=dtype, requires_grad=True)
    out = log_mean_power(scores, pos, power)
    torch.testing.assert_close(out, log_mean_power(scores.dense(), pos, power))
    torch.testing.assert_close(out.item(), power * math.log(torch.finfo(dtype).tiny))
    for grad in torch.autograd.grad(out.sum(), (scores.query, scores.key, pos)):
        assert torch.equal(grad, torch.zeros_like(grad))


@BOTH_WAYS
@pytest.mark.parametrize("power", POWERS[1:])  # relu itself has no slope at 0 to agree on
@pytest.mark.parametrize(
    ("pos", "values"),
    [
        (1.0, [-1.0, -0.99, -0.995]),  # (1 + d)^40 down to 1e-104: far below float32
        (0.999, [-0.999]),
        (1.0, [-1.0, 1.0]),
        (-1.0, [1.0, 1.0]),
        (-1.0, [-1.0]),
        (1.0, [1.0]),
    ],
)
def test_power_is_exact_at_the_ends_of_the_range(power, pos, values) -> None:
    scores = cosines(values)
    p = torch.tensor([pos], requires_grad=True)
    out = log_mean_power(scores, p, power)
    grads = torch.autograd.grad(out.sum(), (scores.key, p))
    s = scores.key.detach()[:, 0].double().requires_grad_()
    q = p.detach().double().requires_grad_()
    expected = (1 + (s - q) / 2).relu().pow(power).mean().log()[None]
    assert_near(out, expected, 1e-5)
    slope, slope_pos = torch.autograd.grad(expected.sum(), (s, q))
    assert_near(grads[0][:, 0], slope, 1e-5)
    assert_near(grads[1], slope_pos, 1e-5)


def test_second_derivatives_are_refused_and_not_silently_wrong() -> None:
    scores = lazy_scores(0)
    pos = per_row(scores, 0)
    for out in (log_mean_exp(scores, 0.1), log_mean_power(scores, pos, 10.0)):
        (grad,) = torch.autograd.grad(out.square().sum(), scores.query, create_graph=True)
        with pytest.raises(RuntimeError, match="once_differentiable"):
            grad.sum().backward()


@BOTH_WAYS
@pytest.mark.parametrize("rows", ["one", "ragged"])
def test_threads_agree_with_one_thread_and_with_themselves(rows, threads) -> None:
    results = []
    for num_threads in (1, 3, 3):
        threads(num_threads)
        scores = lazy_scores(0, rows, "ragged", num_queries=50, num_keys=5000)
        pos = per_row(scores, 0)
        out = log_mean_exp(scores, 0.1) + log_mean_power(scores, pos, 10.0)
        grads = torch.autograd.grad(out.square().sum(), (scores.query, scores.key, pos))
        results.append((out.detach(), *grads))
    for one, three, again in zip(*results, strict=True):
        assert_near(three, one, 1e-12)
        assert torch.equal(three, again)


def test_other_devices_read_nothing_back() -> None:
    leaves = [torch.zeros(n, 4, device="meta", requires_grad=True) for n in (3, 5)]
    rows, drop = ragged([[0, 0], [], [0]], "meta"), ragged([[1], [], [0, 4]], "meta")
    scores = LazyScores(*leaves, rows, drop, torch.zeros(5, device="meta"), True)
    pos = torch.zeros(3, device="meta", requires_grad=True)
    with NoReadBack():
        (log_mean_exp(scores, 0.1) + log_mean_power(scores, pos, 10.0)).mean().backward()


def test_streamed_form_gives_the_same() -> None:
    scores = lazy_scores(0, "ragged", "ragged", True)
    torch.testing.assert_close(
        log_mean_exp(scores, 0.1), log_mean_exp_map(scores, lambda x: x / 0.1)
    )


def test_a_huge_catalogue_takes_memory_like_its_keys_and_not_like_all_scores() -> None:
    num_queries, num_keys, dim = 20, 200_000, 8
    generator = torch.Generator().manual_seed(0)
    query, key = (
        F.normalize(torch.randn(n, dim, generator=generator), dim=1).requires_grad_()
        for n in (num_queries, num_keys)
    )
    scores = LazyScores(query, key, bounded=True)
    pos = per_row(scores, 0)
    largest = LargestTensor()
    with largest:
        (log_mean_exp(scores, 0.1) + log_mean_power(scores, pos, 5.0)).mean().backward()
    assert largest.numel <= num_keys * dim


@pytest.mark.parametrize("lowest", [0.0, -5.0, -54.0, -56.0, -200.0])
def test_weights_of_any_size_are_summed_safely(lowest: float) -> None:
    generator = torch.Generator().manual_seed(0)
    query, key = (F.normalize(torch.randn(n, 3, generator=generator), dim=1) for n in (5, 12))
    log_weight = torch.linspace(lowest, 0, 12)
    log_weight[3] = -torch.inf
    drop = torch.zeros(5, 12, dtype=torch.bool)
    drop[0, 1:] = True  # the least of all weights is alone
    lazy = LazyScores(query, key, drop=drop, log_weight=log_weight, bounded=True)
    torch.testing.assert_close(log_mean_exp(lazy, 0.2), log_mean_exp(lazy.dense(), 0.2))
