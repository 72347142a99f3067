from dataclasses import replace

import pytest
import torch
from torch import Tensor

from pyg_bsl.ops import log_mean_power
from pyg_bsl.ops.native_powers import native_powers
from pyg_bsl.ops.power_sums import PlainPowers
from tests.ops.cases import (
    BOTH_TYPES,
    EVERY_KIND,
    always,  # noqa: F401
    assert_same,
    lazy_scores,
    needs_compiler,
    per_row,
    tiny_tiles,  # noqa: F401
)

pytestmark = [needs_compiler, pytest.mark.usefixtures("always")]


def inputs(dtype: torch.dtype, num_keys: int, weighted: bool) -> tuple[Tensor, Tensor | None]:
    generator = torch.Generator().manual_seed(num_keys)
    wide = torch.rand(3, num_keys + 1, generator=generator, dtype=dtype)
    weight = torch.rand(num_keys, generator=generator, dtype=dtype) if weighted else None
    return wide[:, :num_keys], weight


@BOTH_TYPES
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("m", [1, 2, 10, 40])
@pytest.mark.parametrize("num_keys", [1, 15, 16, 17, 1023, 1024, 1025, 3000])
def test_compiled_passes_are_the_plain_ones(dtype, weighted, m, num_keys) -> None:
    x, weight = inputs(dtype, num_keys, weighted)
    passes, plain = native_powers(m, x, x.numel()), PlainPowers(m)
    scratch = torch.empty(3, num_keys + 1, dtype=dtype)[:, :num_keys]
    rtol = 1e-5 if dtype == torch.float32 else 1e-12
    expected = plain.sums(x, weight, scratch)
    torch.testing.assert_close(passes.sums(x, weight, scratch), expected, rtol=rtol, atol=0)
    coefficient = torch.rand(3, m, dtype=dtype)
    slope = torch.empty(3, num_keys + 1, dtype=dtype)[:, :num_keys]
    plain.polynomial(coefficient, x, weight, scratch)
    passes.polynomial(coefficient, x, weight, slope)
    torch.testing.assert_close(slope, scratch, rtol=rtol, atol=0)


@BOTH_TYPES
def test_shares_of_the_largest(dtype) -> None:
    halves = torch.tensor([[0.5, -0.5, -torch.inf, 0.25], [-torch.inf] * 4], dtype=dtype)
    least = torch.tensor([[0.125], [0.25]], dtype=dtype)
    for passes in (native_powers(3, halves, halves.numel()), PlainPowers(3)):
        x = halves.clone()
        assert passes.shares(x, least).tolist() == [[1.0], [0.25]]
        assert x.tolist() == [[1.0, 0.0, 0.0, 0.75], [0.0] * 4]


@BOTH_TYPES
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("m", [1, 2, 3, 10, 40])
@pytest.mark.parametrize("num_keys", [2, 16, 17, 1025, 3000])
def test_gaps_are_those_of_a_slow_way(dtype, weighted, m, num_keys) -> None:
    x, weight = inputs(dtype, num_keys, weighted)
    x -= 0.5
    x[0, 0], x[1] = -torch.inf, -torch.inf
    y, least = torch.tensor([[0.25], [0.5], [1e-3]], dtype=dtype), torch.full((3, 1), 0.1).to(x)
    top = torch.maximum(x.double().amax(1, keepdim=True) + 0.5, least.double())
    dropped = x == -torch.inf
    t = ((x.double() + 0.5 + y) / (top + y)).masked_fill(dropped, 0)
    lower = t ** (m - 1) * (~dropped) * (1.0 if weight is None else weight.double())
    tol = {"rtol": 1e-5, "atol": 1e-37} if dtype == torch.float32 else {"rtol": 1e-12, "atol": 0}
    for passes in (native_powers(m, x, x.numel()), PlainPowers(m)):
        tile = torch.full((3, num_keys + 1), 7, dtype=dtype)[:, :num_keys].copy_(x)
        found = passes.gaps(tile, y, weight, least)
        wanted = top, (lower * t).sum(1, keepdim=True), lower.sum(1, keepdim=True)
        for ours, theirs in zip((*found, tile), (*wanted, lower), strict=True):
            torch.testing.assert_close(ours.double(), theirs, **tol)


def test_what_is_not_finite_stays_so_and_reaches_no_dropped_row() -> None:
    x = torch.zeros(2, 40)
    x[0, 7], x[1] = torch.nan, -torch.inf
    y, least = torch.tensor([[0.5], [torch.nan]]), torch.full((2, 1), 0.1)
    for passes in (native_powers(3, x, x.numel()), PlainPowers(3)):
        tile = x.clone()
        _, *sums = passes.gaps(tile, y, None, least)
        for found in (*sums, tile.sum(1, keepdim=True)):
            assert found[0].isnan() and found[1] == 0


def test_sums_are_those_of_a_slow_loop() -> None:
    x, weight = inputs(torch.float64, 21, True)
    passes = native_powers(3, x, x.numel())
    expected = [
        [sum(float(w) * float(v) ** k for v, w in zip(row, weight, strict=True)) for k in (1, 2, 3)]
        for row in x
    ]
    torch.testing.assert_close(passes.sums(x, weight, x), torch.tensor(expected).double())


@EVERY_KIND
@BOTH_TYPES
@pytest.mark.usefixtures("tiny_tiles")
def test_compiled_psl_equals_dense(rows, drop, weighted, dtype) -> None:
    for seed in range(3):
        scores = replace(lazy_scores(seed, rows, drop, weighted, dtype), bounded=True)
        pos = per_row(scores, seed).detach().clamp(-1, 1).requires_grad_()
        assert_same(lambda s, p=pos: log_mean_power(s, p, 5), scores, [pos])


def test_small_tiles_are_not_compiled(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYG_BSL_COMPILE", "auto")
    assert native_powers(3, torch.zeros(1), 1000) is None
    assert native_powers(3, torch.zeros(1), 1 << 22) is not None
    monkeypatch.setenv("PYG_BSL_COMPILE", "never")
    assert native_powers(3, torch.zeros(1), 1 << 22) is None
