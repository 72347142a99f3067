import math
from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from pyg_bsl.ops import (
    DenseScores,
    LazyScores,
    Scores,
    log_mean_exp,
    log_mean_exp_map,
    log_mean_power,
    mean_map,
)
from tests.ops.cases import EVERY_KIND, LargestTensor, calls_of, lazy_scores, per_row

B, N = 4, 6


def slow_mean(values: list[float], weights: list[float]) -> float:
    total = sum(w for v, w in zip(values, weights, strict=True) if v > -math.inf)
    if total == 0:
        return 0.0
    return sum(v * w for v, w in zip(values, weights, strict=True) if v > -math.inf) / total


def dense(seed: int, weight: str, dtype: torch.dtype = torch.float64) -> DenseScores:
    """Scores in [-1, 1], a third of them dropped, one row with none left and one with one left."""
    generator = torch.Generator().manual_seed(seed)
    values = torch.rand(B, N, generator=generator, dtype=dtype) * 2 - 1
    gone = torch.rand(B, N, generator=generator) < 1 / 3
    gone[0], gone[1] = True, torch.arange(N) != 4
    sizes = {"none": None, "shared": (N,), "per row": (B, N)}[weight]
    log_weight = None if sizes is None else torch.randn(sizes, generator=generator, dtype=dtype)
    return DenseScores(values.masked_fill(gone, -torch.inf).requires_grad_(), log_weight)


def weights_of(scores: DenseScores) -> list[list[float]]:
    if scores.log_weight is None:
        return [[1.0] * N] * B
    return scores.log_weight.exp().expand(B, N).tolist()


REDUCTIONS: dict[str, tuple[Callable[[Scores, Tensor], Tensor], Callable[[float, float], float]]]
REDUCTIONS = {  # the function, and what it averages in plain numbers (then a log, if it is a log)
    "mean_map": (
        lambda s, p: mean_map(s, lambda x, y: F.softplus(x - y), p),
        lambda s, p: math.log1p(math.exp(s - p)),
    ),
    "mean_map alone": (lambda s, p: mean_map(s, lambda x: x * x), lambda s, p: s * s),
    "log_mean_exp": (lambda s, p: log_mean_exp(s, 0.1), lambda s, p: math.exp(s / 0.1)),
    "log_mean_exp_map": (
        lambda s, p: log_mean_exp_map(s, lambda x, y: -F.softplus(y - x) / 0.3, p),
        lambda s, p: (1 / (1 + math.exp(p - s))) ** (1 / 0.3),
    ),
    "log_mean_power": (
        lambda s, p: log_mean_power(s, p, 12.5),
        lambda s, p: max(1 + (s - p) / 2, 0.0) ** 12.5,
    ),
}


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("weight", ["none", "shared", "per row"])
@pytest.mark.parametrize("name", REDUCTIONS)
def test_dense_equals_plain_loops(name: str, weight: str, seed: int) -> None:
    reduce, kernel = REDUCTIONS[name]
    scores = dense(seed, weight)
    pos = torch.linspace(-1, 1, B, dtype=torch.float64)
    expected = []
    for row, weights, p in zip(
        scores.values.tolist(), weights_of(scores), pos.tolist(), strict=True
    ):
        mapped = [kernel(s, p) if s > -math.inf else s for s in row]
        mean = slow_mean(mapped, weights)
        kept = any(s > -math.inf for s in row)
        expected.append((math.log(mean) if kept else 0.0) if name.startswith("log") else mean)
    torch.testing.assert_close(
        reduce(scores, pos), torch.tensor(expected, dtype=torch.float64), rtol=1e-10, atol=1e-12
    )


@pytest.mark.parametrize("weight", ["none", "shared", "per row"])
@pytest.mark.parametrize("name", REDUCTIONS)
def test_dense_gradients_agree_with_finite_differences(name: str, weight: str) -> None:
    reduce, _ = REDUCTIONS[name]
    scores = dense(0, weight)
    gone = scores.values.detach() == -torch.inf
    pos = torch.linspace(-0.9, 0.9, B, dtype=torch.float64).requires_grad_()

    def of(values: Tensor, pos: Tensor, *log_weight: Tensor) -> Tensor:
        values = values.masked_fill(gone, -torch.inf)
        return reduce(DenseScores(values, *log_weight), pos)

    inputs = [scores.values.detach().masked_fill(gone, 0).requires_grad_(), pos]
    if scores.log_weight is not None:
        inputs.append(scores.log_weight.requires_grad_())
    assert torch.autograd.gradcheck(of, inputs)


@pytest.mark.parametrize("name", REDUCTIONS)
def test_dropped_scores_get_no_gradient(name: str) -> None:
    scores = dense(0, "shared")
    pos = torch.zeros(B, dtype=torch.float64, requires_grad=True)
    REDUCTIONS[name][0](scores, pos).sum().backward()
    grad = scores.values.grad
    assert grad is not None
    assert grad.isfinite().all()
    assert not grad[scores.values == -torch.inf].any()


@pytest.mark.parametrize("name", REDUCTIONS)
def test_weight_of_zero_drops_a_negative(name: str) -> None:
    reduce, _ = REDUCTIONS[name]
    values, pos = torch.rand(3, 5), torch.rand(3)
    log_weight = torch.tensor([0.0, -torch.inf, 0.0, -torch.inf, 0.0])
    kept = reduce(DenseScores(values[:, ::2]), pos)
    torch.testing.assert_close(reduce(DenseScores(values, log_weight), pos), kept)


@pytest.mark.parametrize("name", REDUCTIONS)
def test_adding_to_all_log_weights_changes_nothing(name: str) -> None:
    reduce, _ = REDUCTIONS[name]
    scores, pos = dense(0, "shared"), torch.zeros(B, dtype=torch.float64)
    assert scores.log_weight is not None
    shifted = DenseScores(scores.values, scores.log_weight + 3)
    torch.testing.assert_close(reduce(shifted, pos), reduce(scores, pos))


@pytest.mark.parametrize("name", REDUCTIONS)
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_reduced_in_float32(name: str, dtype: torch.dtype) -> None:
    reduce, _ = REDUCTIONS[name]
    scores, pos = dense(0, "shared", torch.float32), torch.zeros(B)
    half = DenseScores(scores.values.detach().to(dtype).requires_grad_(), scores.log_weight)
    out = reduce(half, pos.to(dtype))
    assert out.dtype == torch.float32
    assert torch.equal(out, reduce(DenseScores(half.values.float(), scores.log_weight), pos))
    out.sum().backward()
    assert half.values.grad is not None
    assert half.values.grad.isfinite().all()


def test_log_mean_exp_of_a_million_scores_is_exact_in_float32() -> None:
    values = torch.rand(1, 1_000_000, generator=torch.Generator().manual_seed(0)) * 2 - 1
    out = log_mean_exp(DenseScores(values), 0.005)
    expected = (values.double() / 0.005).logsumexp(1) - math.log(1_000_000)
    torch.testing.assert_close(out.double(), expected, rtol=1e-6, atol=0)


@pytest.mark.parametrize("value", [-1.0, 1.0])
@pytest.mark.parametrize("tau", [0.005, 0.1])
def test_log_mean_exp_of_equal_scores_is_that_score(value: float, tau: float) -> None:
    out = log_mean_exp(DenseScores(torch.full((2, 50), value)), tau)
    torch.testing.assert_close(out, torch.full((2,), value / tau))


@pytest.mark.parametrize(
    ("power", "bounded", "weighted", "fused"),
    [
        (10.0, True, False, 1),
        (1 / 0.1, True, False, 1),
        (1 / 0.05, True, False, 1),
        (10.5, True, False, 0),
        (1 / 0.025, True, False, 1),
        (41.0, True, False, 0),
        (0.4, True, False, 0),
        (10.0, False, False, 0),
        (10.0, True, True, 1),
    ],
)
def test_powers_are_fused_just_where_the_binomial_sum_holds(
    monkeypatch: pytest.MonkeyPatch, power: float, bounded: bool, weighted: bool, fused: int
) -> None:
    from pyg_bsl.ops import reduce

    s = lazy_scores(0, weighted=weighted)
    scores = LazyScores(s.query, s.key, s.rows, s.drop, s.log_weight, bounded)
    pos = per_row(scores, 0)
    real = reduce.fused_log_mean_power
    with calls_of(monkeypatch, "pyg_bsl.ops.reduce.fused_log_mean_power", real) as calls:
        out = log_mean_power(scores, pos, power)
    assert len(calls) == fused
    torch.testing.assert_close(out, log_mean_power(scores.dense(), pos, power))


def test_a_query_is_reduced_once_for_all_its_rows() -> None:
    one = lazy_scores(0, num_queries=3, num_keys=2000)
    rows = lazy_scores(0, "ragged", num_queries=3).rows
    many = LazyScores(one.query, one.key, rows)
    sizes = []
    for scores in (one, many):
        with LargestTensor() as largest:
            mean_map(scores, lambda s: s * s)
        sizes.append(largest.numel)
    assert sizes[0] == sizes[1]


@EVERY_KIND
def test_reductions_without_a_positive_are_the_same_for_all_rows_of_a_query(
    rows, drop, weighted
) -> None:
    scores = lazy_scores(0, rows, drop, weighted)
    out = mean_map(scores, lambda s: s * s)
    per_query = LazyScores(scores.query, scores.key, None, scores.drop, scores.log_weight)
    assert torch.equal(out, scores.spread(mean_map(per_query, lambda s: s * s)))


@pytest.mark.parametrize("shift", [-110.0, 100.0, 1000.0])
@pytest.mark.parametrize("lazy", [False, True])
@pytest.mark.parametrize(
    "reduce",
    [
        lambda s, pos: mean_map(s, lambda x: x * x),
        lambda s, pos: log_mean_exp(s, 0.2),
        lambda s, pos: log_mean_power(s, pos, 5),
        lambda s, pos: log_mean_power(s, pos, 2.5),
    ],
)
def test_means_do_not_change_when_all_log_weights_move(shift, lazy, reduce) -> None:
    generator = torch.Generator().manual_seed(0)
    query, key = (F.normalize(torch.randn(n, 4, generator=generator), dim=1) for n in (6, 9))
    pos, log_weight = torch.rand(6, generator=generator), torch.randn(9, generator=generator)
    values = [LazyScores(query, key, log_weight=log_weight + c, bounded=True) for c in (0.0, shift)]
    one, other = (reduce(s if lazy else s.dense(), pos) for s in values)
    torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("shape", [(1,), (4,), (3, 1)])
def test_power_needs_one_positive_score_a_row(shape) -> None:
    lazy = LazyScores(torch.eye(3), torch.eye(3), bounded=True)
    for scores in (lazy, lazy.dense()):
        with pytest.raises(ValueError, match="one score for each of the 3 rows"):
            log_mean_power(scores, torch.zeros(shape), 5)
