"""Tiles in compiled code, where the processor has what they are written for."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from pyg_bsl.ops import log_mean_exp, log_mean_power
from pyg_bsl.ops.native_tiles import NativeTiles, native_tiles
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


@EVERY_KIND
@BOTH_TYPES
@pytest.mark.usefixtures("tiny_tiles")
def test_losses_equal_dense_ones(rows, drop, weighted, dtype) -> None:
    for seed in range(2):
        scores = lazy_scores(seed, rows, drop, weighted, dtype)
        # Components that fill vectors of the processor: zeros change no score.
        query, key = (
            torch.nn.functional.pad(x.detach(), (0, 16 - x.size(1))).requires_grad_()
            for x in (scores.query, scores.key)
        )
        scores = replace(scores, query=query, key=key)
        operations(query, key)
        assert_same(lambda s: log_mean_exp(s, 0.1), scores)
        pos = per_row(scores, seed)
        assert_same(lambda s, p=pos: log_mean_power(s, p, 5.0), scores, [pos])


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
