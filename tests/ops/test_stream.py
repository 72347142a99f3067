import math
from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from pyg_bsl.losses import BCE, CCL, LLPAUC, MSE, DrRL, Loss
from pyg_bsl.ops import (
    LazyScores,
    Scores,
    log_mean_exp,
    log_mean_exp_map,
    log_mean_power,
    mean_map,
)
from pyg_bsl.ops.stream import _reduce, stream
from pyg_bsl.ops.tiles import TileScores
from pyg_bsl.types import UserItems
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

KERNELS: dict[str, Callable[..., Tensor]] = {
    "square": lambda s: s * s,
    "softplus of gap": lambda s, p: F.softplus(s - p),
    "log-sigmoid of gap": lambda s, p: -F.softplus(p - s) / 0.1,
    "two arguments": lambda s, p, m: (s - m).relu() * p,
}


def arguments(kernel: str, scores: LazyScores) -> list[Tensor]:
    count = KERNELS[kernel].__code__.co_argcount - 1
    return [per_row(scores, seed) for seed in range(count)]


@EVERY_KIND
@BOTH_TYPES
@pytest.mark.parametrize("reduce", [mean_map, log_mean_exp_map])
@pytest.mark.usefixtures("tiny_tiles")
def test_streamed_equals_dense(rows, drop, weighted, dtype, reduce) -> None:
    for seed, (name, kernel) in enumerate(KERNELS.items()):
        scores = lazy_scores(seed, rows, drop, weighted, dtype)
        args = arguments(name, scores)
        assert_same(lambda s, k=kernel, a=args: reduce(s, k, *a), scores, args)


@pytest.mark.parametrize("power", [1.0, 7.3, 40.0])
@EVERY_KIND
@pytest.mark.usefixtures("tiny_tiles")
def test_streamed_power_equals_dense_for_scores_of_any_size(rows, drop, weighted, power) -> None:
    # Unbounded, so that the relu acts and the power is streamed.
    scores = lazy_scores(2, rows, drop, weighted)
    scores = LazyScores(3 * scores.query.detach().requires_grad_(), *_rest(scores), bounded=False)
    pos = per_row(scores, 0, -3, 3)
    assert_same(lambda s: log_mean_power(s, pos, power), scores, [pos])


def _rest(scores: LazyScores) -> tuple:
    return scores.key, scores.rows, scores.drop, scores.log_weight


@pytest.mark.parametrize("log", [False, True])
@pytest.mark.usefixtures("tiny_tiles")
def test_gradients_agree_with_finite_differences(log: bool) -> None:
    scores = lazy_scores(1, "ragged", "ragged", True, num_queries=4, num_keys=9)
    rows = ragged([[0, 0], [], [0], [0, 0, 0]])
    pos = torch.linspace(-0.9, 0.8, 6, dtype=torch.float64).requires_grad_()

    def reduce(query: Tensor, key: Tensor, pos: Tensor) -> Tensor:
        lazy = LazyScores(query, key, rows, scores.drop, scores.log_weight)
        return stream(lazy, lambda s, p: -F.softplus(p - s) / 0.3, (pos,), log)

    assert torch.autograd.gradcheck(reduce, (scores.query, scores.key, pos))


@pytest.mark.usefixtures("tiny_tiles")
def test_many_queries_without_rows_do_not_overflow_a_tile() -> None:
    counts = [0] * 200 + [2] + [0] * 200 + [1]
    scores = lazy_scores(0, num_queries=len(counts), num_keys=23)
    scores = LazyScores(scores.query, scores.key, ragged([[0] * count for count in counts]))
    pos = per_row(scores, 0)
    assert_same(lambda s: mean_map(s, KERNELS["softplus of gap"], pos), scores, [pos])


@pytest.mark.parametrize("reduce", [mean_map, log_mean_exp_map])
@pytest.mark.usefixtures("tiny_tiles")
def test_nothing_kept_gives_zero_without_gradient(reduce: Callable[..., Tensor]) -> None:
    scores = lazy_scores(0, "ragged", "all")
    pos = per_row(scores, 0)
    out = reduce(scores, lambda s, p: (s - p) * 1e3, pos)  # a kernel that is large where dropped
    assert torch.equal(out, torch.zeros_like(out))
    for grad in torch.autograd.grad(out.sum(), (scores.query, scores.key, pos)):
        assert torch.equal(grad, torch.zeros_like(grad))


def test_log_mean_exp_of_huge_exponents_stays_exact() -> None:
    scores = lazy_scores(3, num_keys=30, dtype=torch.float32)
    out = stream(scores, lambda s: 1e4 * s, (), log=True)
    values = 1e4 * (scores.query.double() @ scores.key.double().t())
    expected = values.logsumexp(1) - math.log(values.size(1))
    assert_near(out, expected, 1e-5)
    assert all(g.isfinite().all() for g in torch.autograd.grad(out.sum(), [scores.query]))


@pytest.mark.usefixtures("tiny_tiles")
def test_a_first_tile_with_nothing_kept_does_not_hide_very_low_scores() -> None:
    scores = LazyScores(torch.ones(2, 1), -torch.ones(20, 1), drop=ragged([list(range(15)), []]))
    out = stream(scores, lambda s: 1e4 * s, (), log=True)
    assert out.tolist() == [-1e4, -1e4]


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_reduced_in_float32(dtype: torch.dtype) -> None:
    scores = lazy_scores(0, "ragged", "ragged", True, dtype=torch.float32)
    half = LazyScores(
        scores.query.detach().to(dtype).requires_grad_(),
        scores.key.detach().to(dtype),
        scores.rows,
        scores.drop,
        scores.log_weight,
    )
    full = LazyScores(half.query.float(), half.key.float(), *_rest(scores)[1:])
    pos = per_row(scores, 0).detach().to(dtype)
    out = mean_map(half, KERNELS["softplus of gap"], pos)
    assert out.dtype == torch.float32
    assert torch.equal(out, mean_map(full, KERNELS["softplus of gap"], pos.float()))
    assert torch.autograd.grad(out.sum(), half.query)[0].dtype == dtype


def test_nan_scores_give_nan_and_are_not_taken_for_drops() -> None:
    key = torch.tensor([[1.0], [float("nan")]])
    lazy = LazyScores(torch.ones(2, 1), key)
    for scores in (lazy, lazy.dense()):
        for reduce in (mean_map, log_mean_exp_map):
            assert reduce(scores, KERNELS["square"]).isnan().all()


def test_kernel_that_hides_a_gradient_is_refused() -> None:
    scale = torch.ones((), requires_grad=True)
    scores = lazy_scores(0)
    with pytest.raises(ValueError, match="must not close over a tensor that needs a gradient"):
        mean_map(scores, lambda s: scale * s)
    mean_map(scores.dense(), lambda s: scale * s).sum().backward()  # dense scores give it one
    assert scale.grad is not None


def test_second_derivatives_are_refused_and_not_silently_wrong() -> None:
    scores = lazy_scores(0)
    out = mean_map(scores, KERNELS["square"]).square().sum()
    (grad,) = torch.autograd.grad(out, scores.query, create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        grad.sum().backward()


def test_inputs_need_not_be_contiguous() -> None:
    base = lazy_scores(5, num_queries=6, num_keys=11)
    dim = base.query.size(1)
    query = base.query.detach().t().contiguous().t().requires_grad_()
    key = base.key.detach()[:1].requires_grad_()
    scores = LazyScores(query, key.expand(11, dim))
    assert_same(lambda s: mean_map(s, KERNELS["square"]), scores)


def large(device: str) -> tuple[LazyScores, Tensor]:
    num_queries, num_keys = 256, 20_000
    query, key = (torch.ones(n, 4, device=device, requires_grad=True) for n in (256, num_keys))
    drop = ragged([[q, q + 1] for q in range(num_queries)], device)
    pos = torch.zeros(num_queries, device=device, requires_grad=True)
    return LazyScores(query, key, drop=drop), pos


@pytest.mark.parametrize("reduce", [mean_map, log_mean_exp_map])
def test_stream_makes_no_matrix_of_all_scores(reduce: Callable[..., Tensor]) -> None:
    scores, pos = large("cpu")
    with LargestTensor() as largest:
        reduce(scores, KERNELS["softplus of gap"], pos).sum().backward()
    assert largest.numel <= 1_000_000 < 256 * 20_000 / 5


@pytest.mark.parametrize("reduce", [mean_map, log_mean_exp_map])
def test_stream_reads_nothing_back(reduce: Callable[..., Tensor]) -> None:
    # On the meta device a number that is read back fails. The CPU, which waits for nothing, reads.
    scores, pos = large("meta")
    with NoReadBack():
        reduce(scores, KERNELS["softplus of gap"], pos).sum().backward()
    assert scores.key.grad is not None


@pytest.mark.parametrize("num_threads", [1, 2])
@pytest.mark.parametrize("setting", ["always", "never"])
def test_equal_runs_give_equal_bits(
    monkeypatch: pytest.MonkeyPatch, setting: str, num_threads: int, threads
) -> None:
    monkeypatch.setenv("PYG_BSL_COMPILE", setting)
    scores = lazy_scores(0, "ragged", "ragged", num_queries=200, num_keys=9000)
    pos = per_row(scores, 0)
    threads(num_threads)
    runs = []
    for _ in range(3):
        out = log_mean_exp_map(scores, KERNELS["log-sigmoid of gap"], pos)
        grads = torch.autograd.grad(out.mean(), (scores.query, scores.key, pos))
        runs.append(torch.cat([out, *(grad.flatten() for grad in grads)]))
    assert torch.equal(runs[0], runs[1])
    assert torch.equal(runs[0], runs[2])


def of_losses() -> LazyScores:
    """Scores of users with unlike numbers of positives."""
    rows = ragged([list(range(count)) for count in (1, 5, 2, 9)])
    query, key = (torch.randn(n, 4).requires_grad_() for n in (4, 30))
    return LazyScores(query, key, rows, drop=rows)


@pytest.mark.parametrize(
    ("loss", "passes"),
    [(MSE(), 1), (BCE(), 1), (CCL(margin=0.0), 1), (LLPAUC(), 1), (DrRL(margin=0.0), 2)],
    ids=lambda x: str(x),
)
def test_a_step_makes_its_gradients_once(
    monkeypatch: pytest.MonkeyPatch, loss: Loss, passes: int
) -> None:
    scores = of_losses()
    rows = scores.rows
    assert rows is not None
    loss.setup(UserItems.from_pairs(rows.row, rows.col, 4, 30))
    where = "pyg_bsl.ops.stream._reduce", "pyg_bsl.ops.tiles.TileScores.add_gradients"
    with (
        calls_of(monkeypatch, where[0], _reduce) as reduced,
        calls_of(monkeypatch, where[1], TileScores.add_gradients) as products,
    ):
        loss(torch.zeros(17), scores, users=rows.row).backward()
    assert (len(reduced), len(products)) == (passes, 1)


@pytest.mark.parametrize(
    "reduce",
    [
        lambda s, pos: mean_map(s, KERNELS["softplus of gap"], pos),
        lambda s, pos: log_mean_exp(s, 0.1),
        lambda s, pos: log_mean_power(replace(s, bounded=True), pos, 3),
    ],
    ids=["stream", "fused", "powers"],
)
def test_no_gradients_are_made_where_none_is_asked_for(
    monkeypatch: pytest.MonkeyPatch, reduce: Callable[[LazyScores, Tensor], Tensor]
) -> None:
    scores, pos = large("cpu")
    made, values = [], []
    where = "pyg_bsl.ops.tiles.TileScores.add_gradients"
    for grad in (True, False):
        with (
            torch.set_grad_enabled(grad),
            calls_of(monkeypatch, where, TileScores.add_gradients) as products,
        ):
            values.append(reduce(scores, pos))
        made.append(len(products))
    assert made[0] > 0 and made[1] == 0
    torch.testing.assert_close(values[1], values[0].detach())


def plain(scores: Scores) -> Tensor:
    return log_mean_exp_map(scores, lambda s: s / 0.1)


@pytest.mark.parametrize("tile", [1, 50, 100_000])
def test_tile_sizes_do_not_change_the_result(monkeypatch: pytest.MonkeyPatch, tile: int) -> None:
    monkeypatch.setattr("pyg_bsl.ops.tiles.CPU_TILE", tile)
    monkeypatch.setattr("pyg_bsl.ops.walk.LEAST_QUERIES", 1)
    assert_same(plain, lazy_scores(4, "ragged", "ragged", num_keys=25))


def test_kernel_may_give_one_value_a_row_or_a_constant() -> None:
    scores = lazy_scores(0, "ragged", "ragged", True)
    pos = per_row(scores, 0)
    assert_same(lambda s: log_mean_exp_map(s, lambda x, p: p, pos), scores, [pos])
    constant = mean_map(scores, lambda s: torch.full_like(s, 3))
    torch.testing.assert_close(constant, 3 * (scores.mass() > 0).to(constant.dtype))
    assert not torch.autograd.grad(constant.sum(), scores.key)[0].any()
