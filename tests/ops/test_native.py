import logging
import math
from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from pyg_bsl.losses import BCE, BPR, PSL, Loss
from pyg_bsl.ops import LazyScores, Scores, log_mean_exp_map, mean_map
from pyg_bsl.ops.compiler import _tell
from tests.ops.cases import (
    BOTH_TYPES,
    EVERY_KIND,
    always,  # noqa: F401
    assert_same,
    calls_of,
    lazy_scores,
    needs_compiler,
    per_row,
    tiny_tiles,  # noqa: F401
)


def gap(s: Tensor, p: Tensor) -> Tensor:
    return F.softplus((s - p) / 0.1)


@needs_compiler
@EVERY_KIND
@BOTH_TYPES
@pytest.mark.parametrize("reduce", [mean_map, log_mean_exp_map])
@pytest.mark.usefixtures("always", "tiny_tiles")
def test_compiled_equals_dense(rows, drop, weighted, dtype, reduce) -> None:
    for seed in range(3):
        scores = lazy_scores(seed, rows, drop, weighted, dtype)
        pos = per_row(scores, seed)
        assert_same(lambda s, p=pos: reduce(s, gap, p), scores, [pos])


# Every operation that has a form in C, each where its derivative is defined.
OPERATIONS: list[Callable[[Tensor, Tensor], Tensor]] = [
    lambda s, p: (s + 2).log() + s.exp() + s.expm1() + (s / 2).log1p() + s.tanh() + p.atan(),
    lambda s, p: s.sigmoid() * F.logsigmoid(p - s) + F.softplus(9 * (s - p), 2.0, 4.0),
    lambda s, p: (s - p).abs() + (s + 2).sqrt() + 1 / (p + 2) + (1 - s) + (s + 3).reciprocal(),
    lambda s, p: torch.maximum(s, p) * torch.minimum(s, 2 * p) + s.relu() + F.relu(p).neg(),
    lambda s, p: s.clamp(-0.5, 0.5) + p.clamp(max=0.1) + s.clamp_min(0.2) * s.clamp_max(0.7),
    lambda s, p: torch.where((s > p) & ~(p > 0.3), s * s, p) + s.masked_fill(s < 0, 2) * p,
    lambda s, p: s**2 + p**3 + (s + p) ** 4 + torch.zeros_like(s) + torch.ones_like(p) * s,
    lambda s, p: ((s >= p) | (s == 0)).to(s.dtype) * s + (s != p).to(s.dtype) * (s <= p),
    lambda s, p: torch.full_like(s, 2) * s + s.new_full((), 3) * p + s.sign() * (s - p).sgn(),
]


ONE, TWO = torch.tensor([1.0, 2.0], dtype=torch.float64).unbind()
MINUS_ZERO = torch.tensor(-0.0, dtype=torch.float64)
BITS_OF_ONE = torch.tensor(0x3FF0000000000000)  # as a float64

# Values that a place in memory, a number or a type alone would not tell apart.
ALIASES: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "two numbers of one storage": lambda s, p: (s + ONE.expand_as(s)) * TWO + p,
    "zeros of both signs": lambda s, p: (
        s * p.relu() + 0.0 + (torch.ones_like(s) / MINUS_ZERO).clamp(-5, 5) * s
    ),
    "the bits of another type": lambda s, p: s * BITS_OF_ONE.view(torch.float64) + p,
    "a number as a boolean": lambda s, p: s.bool() * s + (s.logical_and(p) & (s > p)) * p,
    "a sum of booleans": lambda s, p: ((s > p) + (s > -9)) * s,
    "a ratio of booleans": lambda s, p: (s > -9) / ((s > p) + 2.0) + (s > -9) / (p > -9) * p,
    "one over a boolean": lambda s, p: (s > p).reciprocal().clamp_max(3) + s,
    "a number written over": lambda s, p: (s * 2).add_(p).neg_() * p,
}


@needs_compiler
@pytest.mark.parametrize("name", ALIASES)
@pytest.mark.usefixtures("always")
def test_what_looks_alike_is_kept_apart(name: str) -> None:
    scores = lazy_scores(7, num_queries=9, num_keys=40)
    pos = per_row(scores, 3)
    assert_same(lambda s: mean_map(s, ALIASES[name], pos), scores, [pos])


@needs_compiler
@pytest.mark.parametrize("number", range(len(OPERATIONS)))
@pytest.mark.usefixtures("always")
def test_every_operation_equals_that_of_pytorch(number: int) -> None:
    scores = lazy_scores(7, num_queries=9, num_keys=40)
    pos = per_row(scores, 3)
    with_kernel = lambda s: mean_map(s, OPERATIONS[number], pos)  # noqa: E731
    assert_same(with_kernel, scores, [pos])


@needs_compiler
@pytest.mark.parametrize(
    "loss", [PSL(0.1, "tanh"), PSL(0.1, "atan"), PSL(0.15), BPR(), BCE()], ids=str
)
@pytest.mark.usefixtures("always")
def test_losses_equal_themselves_uncompiled(monkeypatch: pytest.MonkeyPatch, loss: Loss) -> None:
    scores = lazy_scores(0, "ragged", "ragged", dtype=torch.float32, num_keys=3000)
    pos, results = per_row(scores, 0), []
    for setting in ("always", "never"):
        monkeypatch.setenv("PYG_BSL_COMPILE", setting)
        out = loss(pos, scores)
        results.append((out, *torch.autograd.grad(out, (scores.query, scores.key, pos))))
    for compiled, plain in zip(*results, strict=True):
        assert (compiled - plain).norm() <= 1e-5 * plain.norm()


@needs_compiler
@pytest.mark.usefixtures("always")
def test_extremes_stay_exact_when_compiled() -> None:
    scores = lazy_scores(3, "ragged", "ragged", num_keys=5000, dtype=torch.float32)
    pos = per_row(scores, 0)

    def steep(s: Scores) -> Tensor:
        return log_mean_exp_map(s, lambda x, p: 1e4 * (x - p), pos)

    assert_same(steep, scores, [pos], tol=1e-4)
    key = torch.tensor([[1.0], [math.nan]])
    for reduce in (mean_map, log_mean_exp_map):
        assert reduce(LazyScores(torch.ones(2, 1), key), lambda s: s * s).isnan().all()


def test_small_reductions_are_not_compiled_and_large_ones_are(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    scores = lazy_scores(0, num_queries=5, num_keys=20)
    monkeypatch.delenv("PYG_BSL_COMPILE", raising=False)
    for least, expected in ((101, 0), (100, 1)):
        monkeypatch.setattr("pyg_bsl.ops.compiler.COMPILE_FROM", least)
        nothing = lambda source: None  # noqa: E731
        with calls_of(monkeypatch, "pyg_bsl.ops.native.compiled", nothing) as calls:
            mean_map(scores, lambda s: s * s)
        assert len(calls) == expected


@pytest.mark.parametrize("compiler", ["/no/such/compiler", "false"])
def test_without_a_working_compiler_the_result_is_the_same_and_a_line_is_logged(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, compiler: str
) -> None:
    scores = lazy_scores(0)
    expected = mean_map(scores, torch.tanh)
    monkeypatch.setenv("PYG_BSL_COMPILE", "always")
    monkeypatch.setenv("CC", compiler)
    _tell.cache_clear()
    with caplog.at_level(logging.INFO, "pyg_bsl"):
        for _ in range(2):
            assert torch.equal(mean_map(scores, torch.tanh), expected)
    assert sum("uncompiled" in message for message in caplog.messages) == 1


def test_unknown_setting_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYG_BSL_COMPILE", "alway")
    with pytest.raises(ValueError, match="Unknown PYG_BSL_COMPILE 'alway'; did you mean 'always'"):
        mean_map(lazy_scores(0), torch.tanh)
