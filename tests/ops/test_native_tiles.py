"""Tiles in compiled code, where the processor has what they are written for."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from pyg_bsl.ops import LazyScores, log_mean_exp, log_mean_power
from pyg_bsl.ops.native_amx import has_amx
from pyg_bsl.ops.native_tiles import NativeTiles, has_pair_products, native_tiles
from tests.ops.cases import (
    BOTH_TYPES,
    EVERY_KIND,
    always,  # noqa: F401
    assert_same,
    lazy_scores,
    needs_compiler,
    per_row,
    ragged,
    tiny_tiles,  # noqa: F401
)

pytestmark = [
    needs_compiler,
    pytest.mark.skipif(torch.backends.cpu.get_cpu_capability() != "AVX512", reason="needs AVX-512"),
    pytest.mark.usefixtures("always"),
]


def operations(query: Tensor, key: Tensor) -> NativeTiles:
    native = native_tiles(query, key)
    assert native is not None, "did not compile"
    return native


def normal(*shape: int, dtype: torch.dtype, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


@BOTH_TYPES
@pytest.mark.parametrize("dim", [16, 48, 64, 80, 144])
@pytest.mark.parametrize(("rows", "count"), [(1, 1), (5, 63), (6, 64), (7, 65), (13, 200)])
def test_products_are_those_of_pytorch(dtype, dim, rows, count) -> None:
    query, key = normal(rows, dim, dtype=dtype), normal(count, dim, dtype=dtype, seed=1)
    native, wide = operations(query, key), torch.full((rows, count + 3), 7.0, dtype=dtype)
    tile = wide[:, :count]
    rtol = 1e-5 if dtype == torch.float32 else 1e-12
    native.scores(query, native.pack(key), tile)
    torch.testing.assert_close(tile, query @ key.t(), rtol=rtol, atol=10 * rtol)
    assert (wide[:, count:] == 7).all()  # what stands beside the tile is left alone

    grad_query, grad_key = normal(rows, dim, dtype=dtype, seed=2), torch.ones_like(key)
    wanted = grad_query + tile @ key, grad_key + tile.t() @ query
    native.add_gradients(tile, query, key, grad_query, grad_key)
    for ours, theirs in zip((grad_query, grad_key), wanted, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=rtol, atol=rtol * float(theirs.abs().max()))


@BOTH_TYPES
@pytest.mark.parametrize("count", [1, 1000, 3000])
def test_exponentials_and_their_sums(dtype, count) -> None:
    tile = 20 * normal(3, count, dtype=dtype)
    tile[0, 0] = -torch.inf
    tile[1] = -torch.inf
    exact = tile.double().exp()
    vectors = tile.new_zeros(1, 16)
    sums = operations(vectors, vectors).exponentials(tile)
    rtol = 1e-6 if dtype == torch.float32 else 1e-14
    torch.testing.assert_close(tile.double(), exact, rtol=rtol, atol=0)
    torch.testing.assert_close(sums.double(), exact.sum(1), rtol=rtol, atol=0)


def filled(scores: LazyScores) -> LazyScores:
    """With components that fill vectors of the processor: zeros change no score."""
    query, key = (
        torch.nn.functional.pad(x.detach(), (0, 16 - x.size(1))).requires_grad_()
        for x in (scores.query, scores.key)
    )
    operations(query, key)
    return replace(scores, query=query, key=key)


@EVERY_KIND
@BOTH_TYPES
@pytest.mark.parametrize("num_threads", [1, 3])
@pytest.mark.usefixtures("tiny_tiles")
def test_losses_equal_dense_ones(rows, drop, weighted, dtype, num_threads, threads) -> None:
    threads(num_threads)
    for seed in range(2):
        num_keys = (None, 20)[seed]  # 20 are enough for three threads
        scores = filled(lazy_scores(seed, rows, drop, weighted, dtype, 9, num_keys))
        assert_same(lambda s: log_mean_exp(s, 0.1), scores)
        shifted = 1e-10 if dtype == torch.float64 else 2e-5  # scores times 100
        assert_same(lambda s: log_mean_exp(s, 0.01), scores, tol=shifted)
        pos = per_row(scores, seed)
        assert_same(lambda s, p=pos: log_mean_power(s, p, 5.0), scores, [pos])


def test_drops_may_have_indices_of_32_bits() -> None:
    scores = filled(lazy_scores(0, drop="ragged"))
    few = replace(scores.drop, row=scores.drop.row.int(), col=scores.drop.col.int())
    pos = per_row(scores, 0)
    for reduce in (lambda s: log_mean_exp(s, 0.1), lambda s: log_mean_power(s, pos, 5)):
        found, expected = (reduce(replace(scores, drop=drop)) for drop in (few, scores.drop))
        assert torch.equal(found, expected)


@pytest.mark.parametrize("rows", [None, ragged([[0], [0, 0]])], ids=["one", "ragged"])
@pytest.mark.parametrize("even", [True, False])
@pytest.mark.parametrize("setting", ["always", "never"])
def test_rows_whose_keys_weigh_nothing_pass_no_gradient(rows, even, setting, monkeypatch) -> None:
    monkeypatch.setenv("PYG_BSL_COMPILE", setting)
    query = torch.eye(2, 16, dtype=torch.float64).requires_grad_()
    key = normal(4, 16, dtype=torch.float64).requires_grad_()
    weight = torch.tensor([0, -41, -200, -200], dtype=torch.float64)  # 1 - (1 + e^-41) is 0
    scores = LazyScores(query, key, rows, ragged([[0], []]), weight, bounded=True)
    pos = torch.zeros(scores.num_rows, dtype=torch.float64)
    for out in (log_mean_exp(scores, 0.2), log_mean_power(scores, pos, 5)):
        upstream = torch.ones_like(out) if even else torch.arange(1, len(out) + 1).to(out)
        (grad,) = torch.autograd.grad(out, query, upstream)
        assert out[0] == 0 and not grad[0].any() and grad[1].any()


def test_numbers_of_different_types_are_refused() -> None:
    query, key = torch.eye(4, 16), torch.eye(4, 16, dtype=torch.float64)
    with pytest.raises(RuntimeError, match="dtype"):
        log_mean_exp(LazyScores(query, key, bounded=True), 0.1)


@BOTH_TYPES
def test_powers_of_dead_and_of_dropped_rows_have_no_gradient(dtype) -> None:
    query = torch.eye(3, 16, dtype=dtype).requires_grad_()
    key = -query.detach()[:1].repeat(20, 1).requires_grad_()
    operations(query, key)
    drop = torch.zeros(3, 20, dtype=torch.bool)
    drop[1] = True
    pos = torch.tensor([1.0, torch.nan, 0.5], dtype=dtype).requires_grad_()
    scores = LazyScores(query, key, drop=drop, bounded=True)
    out = log_mean_power(scores, pos, 5)
    grads = torch.autograd.grad(out.sum(), (query, key, pos))
    assert out.isfinite().all() and out[1] == 0 and out[0] < -50
    assert all(grad.isfinite().all() for grad in grads)
    assert not grads[0][:2].any() and not grads[2][:2].any()
    assert grads[0][2].any() and grads[1].any() and grads[2][2] != 0


def test_vectors_that_do_not_fit_are_left_to_pytorch() -> None:
    wide = torch.randn(20, 64)
    assert native_tiles(wide, wide) is not None
    for key in (wide[:, :32], torch.randn(20, 20), torch.randn(20, 0)):
        assert native_tiles(key, key) is None


def test_few_scores_are_not_compiled(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYG_BSL_COMPILE", "auto")
    few, many = torch.zeros(1000, 16), torch.zeros(1 << 12, 16)
    assert native_tiles(few, few) is None
    assert native_tiles(many, many) is not None
    monkeypatch.setenv("PYG_BSL_COMPILE", "never")
    assert native_tiles(many, many) is None


def test_exponentials_at_the_ends_of_what_there_is() -> None:
    tile = torch.tensor([[torch.nan, torch.inf, 89.0, 0.0, -200.0, -torch.inf]])
    vectors = tile.new_zeros(1, 16)
    operations(vectors, vectors).exponentials(tile)
    wanted = torch.tensor([[torch.nan, torch.inf, torch.inf, 1.0, 0.0, 0.0]])
    torch.testing.assert_close(tile, wanted, rtol=0, atol=0, equal_nan=True)


def low_operations(query: Tensor, key: Tensor) -> NativeTiles:
    native = native_tiles(query, key, low=True)
    assert native is not None
    if not native.low:
        pytest.skip("needs AVX512-BF16 of AMD or AMX")
    return native


@pytest.mark.parametrize("dim", [16, 64, 96, 144])
@pytest.mark.parametrize(
    ("rows", "count"), [(1, 1), (5, 63), (6, 64), (7, 65), (31, 17), (33, 31), (62, 1000)]
)
def test_products_of_bfloat16_numbers_are_those_of_rounded_ones(dim, rows, count) -> None:
    query, key = normal(rows, dim, dtype=torch.float32), normal(count, dim, dtype=torch.float32)
    wide = torch.full((rows, count + 3), torch.nan)
    slope = wide[:, :count].copy_(normal(rows, count, dtype=torch.float32, seed=1))
    native = low_operations(query, key)
    grad_query, grad_key = torch.ones_like(query), torch.ones_like(key)
    native.add_low_gradients(slope, query, native.pair_rows(key), grad_query, grad_key)
    low_slope, low_query, low_key = (x.bfloat16().double() for x in (slope, query, key))
    for ours, theirs in (
        (grad_query, 1 + low_slope @ low_key),
        (grad_key, 1 + low_slope.t() @ low_query),
    ):
        assert (ours - theirs).norm() <= 1e-4 * theirs.norm()  # halves may be rounded either way


def low_scores(query: Tensor, key: Tensor) -> Tensor:
    """Scores as they are made where gradients are products of bfloat16 numbers."""
    native = low_operations(query, key)
    wide = torch.full((len(query), len(key) + 3), 7.0)
    native.scores(query, native.pack(key), wide[:, :-3])
    assert (wide[:, -3:] == 7).all()
    return wide[:, :-3].double()


@pytest.mark.parametrize("dim", [32, 64, 160])
@pytest.mark.parametrize(
    ("rows", "count"), [(1, 1), (5, 63), (32, 64), (33, 65), (31, 17), (62, 1000)]
)
def test_scores_beside_low_gradients_are_nearly_exact(dim, rows, count) -> None:
    query = normal(rows, dim, dtype=torch.float32)
    key = normal(count, dim, dtype=torch.float32, seed=1)
    # Lengths far apart: errors go by the lengths of both.
    long, wide = torch.logspace(-6, 3, rows)[:, None], torch.logspace(4, -7, count)[:, None]
    query, key = (torch.nn.functional.normalize(x) for x in (query, key))
    exact = query.double() @ key.double().t()
    error = (low_scores(query * long, key * wide) / long / wide.t() - exact).abs()
    assert error.max() < (2**-16 if has_amx() else 2**-14)
    assert error.square().mean().sqrt() < 1.1e-5 * (1 + 5 / error.numel())
    if error.numel() > 1000:
        rounded = query.bfloat16().double() @ key.bfloat16().double().t()
        assert 20 * error.max() < (rounded - exact).abs().max()


@pytest.mark.parametrize("dim", [32, 64, 160, 1024])
def test_scores_at_the_ends_of_what_there_is(dim) -> None:
    even, one, mixed = torch.ones(dim), torch.eye(dim)[3], normal(dim, dtype=torch.float32)
    alike = torch.stack([even, -even, one, -one, mixed, -mixed, 1e-10 * even, 1e15 * mixed])
    length = alike.double().norm(dim=1)
    exact = alike.double() @ alike.double().t()
    got = low_scores(alike, alike)  # of vectors in one direction, so the largest sums there are
    assert ((got - exact).abs() <= 5e-5 * length[:, None] * length).all()

    broken = torch.stack([even, 0 * even, torch.nan * one, torch.inf * (one + 1), -even])
    got = low_scores(broken, broken[[0, 1, 4]])
    assert (got[1] == 0).all() and (got[[0, 4]].isfinite()).all()
    assert got[2].isnan().all()
    assert not got[3].isfinite().any()
    for wrong in (torch.nan, torch.inf, -torch.inf):
        within = torch.where(one == 1, wrong, mixed)[None]
        assert not low_scores(within, alike[:6]).isfinite().any()

    one, other = torch.eye(dim)[:2]
    short, long = 1e-18 * torch.stack([one, one + other]), 2e24 * torch.stack([other, -one])
    torch.testing.assert_close(low_scores(short, short)[0], torch.tensor([1e-36, 1e-36]).double())
    assert (low_scores(long, long[:1]) == torch.tensor([[torch.inf], [0]])).all()


def test_a_compiler_that_does_not_know_pair_products_makes_the_others(monkeypatch) -> None:
    if not (has_pair_products() and not has_amx()):
        pytest.skip("needs AVX512-BF16 of AMD")
    monkeypatch.setenv("CC", "gcc -mno-avx512bf16 -mno-avx512vnni")
    native = native_tiles(normal(20, 64, dtype=torch.float32), torch.zeros(20, 64), low=True)
    assert native is not None and not native.low


@pytest.mark.parametrize("tau", [0.05, 0.2, 1.0])
def test_losses_by_low_scores_are_off_by_a_rounding_over_the_temperature(tau) -> None:
    query, key = (
        torch.nn.functional.normalize(normal(size, 64, dtype=torch.float32, seed=size))
        for size in (100, 3000)
    )
    low_operations(query, key)
    scores = LazyScores(query, key, bounded=True, gemm=torch.bfloat16)
    pos = torch.linspace(-0.5, 0.5, 100)
    for reduce, times in (
        (lambda s: log_mean_exp(s, tau), 1 / tau),
        (lambda s: log_mean_power(s, pos, 1 / tau), 0.5 / tau),
    ):
        low, full = reduce(scores), reduce(replace(scores, gemm=None))
        assert 0 < (low - full).abs().max() < 1e-5 * times


@EVERY_KIND
@pytest.mark.parametrize("tau", [0.01, 0.2])
@pytest.mark.usefixtures("tiny_tiles")
def test_low_gradients_are_off_by_little(rows, drop, weighted, tau) -> None:
    few = lazy_scores(0, rows, drop, weighted, torch.float32, num_queries=70, num_keys=90)
    query, key = (
        torch.nn.functional.normalize(normal(size, 64, dtype=torch.float32, seed=size))
        for size in (70, 90)
    )
    low_operations(query, key)
    query.requires_grad_()
    key.requires_grad_()
    grads = []
    for gemm in (torch.bfloat16, None):
        out = log_mean_exp(replace(few, query=query, key=key, gemm=gemm), tau)
        grads.append(torch.autograd.grad(out.mean(), (query, key)))
    for low, full in zip(*grads, strict=True):
        assert (low - full).norm() <= 0.01 * full.norm()


def test_low_products_are_made_only_where_they_are_asked_for() -> None:
    x = torch.randn(20, 64)
    plain, low = native_tiles(x, x), native_tiles(x, x, low=True)
    assert plain is not None and low is not None
    assert not plain.low
    assert low.low == (has_amx() or has_pair_products())
    double = native_tiles(x.double(), x.double(), low=True)
    assert double is not None and not double.low
