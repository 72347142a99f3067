"""The matrix products and exponentials of a tile in compiled code, for processors with AVX-512.

A tile is flat: some queries against many keys of few components. Libraries' products pack such
matrices anew at every call, and each takes the tile through memory once more. Here keys are packed
once, both gradients are made of a piece of the tile while it is in the nearest cache, and an
exponential costs less than half of what it does in PyTorch.
"""

from __future__ import annotations

from functools import cache
from string import Template
from typing import Any, NamedTuple

import torch
from torch import Tensor

from pyg_bsl.ops.compiler import call, compiled, pays, processor_has
from pyg_bsl.ops.native_amx import AMX_CODE, AMX_DIM, has_amx
from pyg_bsl.ops.native_vector import LOW_VECTOR_CODE, VECTOR_CODE

PANEL_BYTES = 256  # four vectors of 512 bits
LINE_BYTES = 64
LOW_PANEL = 128  # keys of a piece of the slopes where these are rounded
LOW_ROWS = 32  # its rows end at a multiple

_CODE = Template(r"""
#include <stdint.h>
#include <string.h>

#ifndef __AVX512F__
#error "Written for 32 registers of 512 bits: with others PyTorch is faster"
#endif

typedef $type T;
#define LANES ((int64_t)(64 / sizeof(T)))
#define VECTORS 4
#define PANEL (VECTORS * LANES)  // keys of a piece of the tile
#define ROWS 6                   // with VECTORS, as many sums as leave registers for the factors
#define LOW_PANEL $low_panel
#define CHUNK 1024               // numbers whose sum is taken in T; that of chunks is in double

typedef T Vector __attribute__((vector_size(64)));
typedef T UnalignedVector __attribute__((vector_size(64), aligned(sizeof(T)), may_alias));

#ifdef __clang__
#error "It would call exp number by number: GCC with glibc"
#endif
$exp
static int64_t least(int64_t a, int64_t b) { return a < b ? a : b; }

$products
// The exponential of every number of the tile, and the sums over its rows.
void exponentials(int64_t rows, int64_t num_keys, T *tile, int64_t stride, T *sums)
{
    for (int64_t r = 0; r < rows; r++, tile += stride) {
        double sum = 0;
        for (int64_t start = 0; start < num_keys; start += CHUNK)
            sum += exp_chunk(least(CHUNK, num_keys - start), tile + start);
        sums[r] = (T)sum;
    }
}
""")

_EXP_DOUBLE = r"""
extern __attribute__((simd("notinbranch"))) double exp(double);

static double exp_chunk(int64_t count, double *x)
{
    double sum = 0;
    #pragma omp simd reduction(+ : sum)
    for (int64_t j = 0; j < count; j++) sum += x[j] = exp(x[j]);
    return sum;
}
"""

_EXP_FLOAT = r"""
#include <immintrin.h>

// 2^n e^r with |r| <= log(2) / 2, e^r by the polynomial of the Cephes library; off by 1.2e-7.
static inline __m512 exp_vector(__m512 x)
{
    x = _mm512_max_ps(_mm512_set1_ps(-104), _mm512_min_ps(_mm512_set1_ps(89), x));  // NaN stays
    const __m512 n = _mm512_roundscale_ps(_mm512_mul_ps(x, _mm512_set1_ps(1.44269504f)), 8);
    __m512 r = _mm512_fnmadd_ps(n, _mm512_set1_ps(0.693145752f), x);
    r = _mm512_fnmadd_ps(n, _mm512_set1_ps(1.42860677e-6f), r);
    __m512 e = _mm512_set1_ps(1.98756915e-4f);
    e = _mm512_fmadd_ps(e, r, _mm512_set1_ps(1.39819995e-3f));
    e = _mm512_fmadd_ps(e, r, _mm512_set1_ps(8.33345191e-3f));
    e = _mm512_fmadd_ps(e, r, _mm512_set1_ps(4.16657959e-2f));
    e = _mm512_fmadd_ps(e, r, _mm512_set1_ps(1.66666655e-1f));
    e = _mm512_fmadd_ps(e, r, _mm512_set1_ps(5.00000012e-1f));
    e = _mm512_fmadd_ps(e, _mm512_mul_ps(r, r), _mm512_add_ps(r, _mm512_set1_ps(1)));
    return _mm512_scalef_ps(e, n);
}

static double exp_chunk(int64_t count, float *x)
{
    __m512 sum = _mm512_setzero_ps(), other = sum;
    int64_t j = 0;
    for (; j + 32 <= count; j += 32) {
        const __m512 one = exp_vector(_mm512_loadu_ps(x + j));
        const __m512 two = exp_vector(_mm512_loadu_ps(x + j + 16));
        _mm512_storeu_ps(x + j, one);
        _mm512_storeu_ps(x + j + 16, two);
        sum = _mm512_add_ps(sum, one);
        other = _mm512_add_ps(other, two);
    }
    for (; j < count; j += 16) {
        const __mmask16 there = count - j < 16 ? (1 << (count - j)) - 1 : 0xffff;
        const __m512 last = exp_vector(_mm512_maskz_loadu_ps(there, x + j));
        _mm512_mask_storeu_ps(x + j, there, last);
        sum = _mm512_mask_add_ps(sum, there, sum, last);
    }
    return _mm512_reduce_add_ps(_mm512_add_ps(sum, other));
}
"""


class NativeTiles(NamedTuple):
    """Operations on tiles ``[q, n]`` whose rows lie ``stride(0)`` apart.

    Args:
        library: What was compiled.
        low: Whether gradients are products of bfloat16 numbers. Scores are then made of rounded
            numbers too, off by about 1e-5 of the vectors' lengths.
    """

    library: Any
    low: bool

    def pack(self, key: Tensor) -> Tensor:
        """Keys ``[n, D]`` laid out for :meth:`scores`."""
        count, dim = key.shape
        panel = PANEL_BYTES // key.element_size()
        packed = key.new_empty(_up(count, panel) * dim)
        call(self.library.pack, count, dim, key, packed)
        return packed

    def scores(self, query: Tensor, packed: Tensor, tile: Tensor) -> None:
        """``tile = query @ key.T``, from queries ``[q, D]`` and packed keys."""
        rows, count = tile.shape
        call(self.library.scores, rows, count, query.size(1), query, packed, tile, tile.stride(0))

    def add_gradients(
        self, slope: Tensor, query: Tensor, key: Tensor, grad_query: Tensor, grad_key: Tensor
    ) -> None:
        """Add ``slope @ key`` to ``grad_query`` and ``slope.T @ query`` to ``grad_key``."""
        rows, count = slope.shape
        piece = slope.new_empty(rows * PANEL_BYTES // slope.element_size())
        sizes = rows, count, key.size(1), slope, slope.stride(0)
        call(self.library.gradients, *sizes, key, query, grad_query, grad_key, piece)

    def pair_rows(self, x: Tensor) -> Tensor:
        """Rows ``[R, D]`` in bfloat16 for :meth:`add_low_gradients`."""
        rows, dim = x.shape
        pairs = torch.empty(_up(rows, LOW_ROWS) // 2 * dim, dtype=torch.int32)
        call(self.library.pair_rows, rows, dim, x, pairs)
        return pairs

    def add_low_gradients(
        self, slope: Tensor, query: Tensor, pairs: Tensor, grad_query: Tensor, grad_key: Tensor
    ) -> None:
        """:meth:`add_gradients` by products of bfloat16 numbers, from the keys as pairs of rows."""
        rows, count = slope.shape
        piece = torch.empty(_up(rows, LOW_ROWS) * LOW_PANEL, dtype=torch.int32)
        sizes = rows, count, query.size(1), slope, slope.stride(0)
        low_query = self.pair_rows(query)
        call(self.library.low_gradients, *sizes, pairs, low_query, grad_query, grad_key, piece)

    def exponentials(self, tile: Tensor) -> Tensor:
        """Exponentials of a tile in place; their sums over its rows, ``[q]``."""
        sums = tile.new_empty(tile.size(0))
        call(self.library.exponentials, *tile.shape, tile, tile.stride(0), sums)
        return sums


def native_tiles(query: Tensor, key: Tensor, low: bool = False) -> NativeTiles | None:
    """The operations for queries ``[Q, D]`` and keys ``[N, D]``; None where they do not pay.

    Nor where they do not fit: rows must fill vectors of the processor and lie one after the other.

    Args:
        query: Queries.
        key: Keys.
        low: Whether products of bfloat16 numbers are wanted too, where the processor has them.

    Raises:
        ValueError: If the setting that forbids or demands compiled code is none that is known.
    """
    if not processor_has("avx512_f") or not pays(query, query.size(0) * key.size(0)):
        return None
    fills = key.size(1) * key.element_size() % LINE_BYTES == 0 and key.size(1) > 0
    if not (fills and query.is_contiguous() and key.is_contiguous()):
        return None
    low = low and query.dtype == torch.float32
    if low and key.size(1) % AMX_DIM == 0 and has_amx():
        library = compiled(_source(query.dtype, low=True, amx=True))
        if library is not None:  # a compiler may be older than the processor
            return NativeTiles(library, low=True)
    if low and has_pair_products():
        library = compiled(_source(query.dtype, low=True, amx=False))
        if library is not None:
            return NativeTiles(library, low=True)
    library = compiled(_source(query.dtype, low=False, amx=False))
    return None if library is None else NativeTiles(library, low=False)


def has_pair_products() -> bool:
    """Whether the processor multiplies twice as many 16-bit numbers as float32 ones (AMD's do).

    Intel's instruction for bfloat16 takes as long for its pairs as two of float32.
    """
    capabilities: dict[str, object] = getattr(torch.cpu, "get_capabilities", dict)()
    amd = str(capabilities.get("cpu_name", "")).startswith("AMD")
    return amd and processor_has("avx512_bf16", "avx512_vnni")


def _up(count: int, step: int) -> int:
    return -(-count // step) * step


@cache
def _source(dtype: torch.dtype, low: bool, amx: bool) -> str:
    double = dtype == torch.float64
    return _CODE.substitute(
        type="double" if double else "float",
        exp=_EXP_DOUBLE if double else _EXP_FLOAT,
        low_panel=LOW_PANEL,
        products=AMX_CODE if amx else LOW_VECTOR_CODE if low else VECTOR_CODE,
    )
