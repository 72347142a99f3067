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

PANEL_BYTES = 256  # four vectors of 512 bits
LINE_BYTES = 64
LOW_PANEL = 128  # most keys of a piece of the tile in bfloat16
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

_PRODUCTS = Template(r"""
#define BLOCK(R, V, NAME)                                                              \
    case R * 8 + V:                                                                    \
        NAME##_block(R, V, depth, left, a_row, a_col, b, b_row, to, c_row, add);       \
        break;
#define BLOCKS(R, NAME) BLOCK(R, 1, NAME) BLOCK(R, 2, NAME) BLOCK(R, 3, NAME) BLOCK(R, 4, NAME)
$product
$low

// Keys as columns, PANEL keys after the other; behind the last key zeros.
void pack(int64_t num_keys, int64_t dim, const T *key, T *packed)
{
    for (int64_t start = 0; start < num_keys; start += PANEL) {
        const int64_t count = least(PANEL, num_keys - start);
        for (int64_t k = 0; k < dim; k++)
            for (int64_t j = 0; j < PANEL; j++)
                *packed++ = j < count ? key[(start + j) * dim + k] : 0;
    }
}

void scores(int64_t rows, int64_t num_keys, int64_t dim, const T *query, const T *packed, T *tile,
            int64_t stride)
{
    T last[ROWS * PANEL];
    for (int64_t start = 0; start < num_keys; start += PANEL, packed += PANEL * dim) {
        const int64_t count = least(PANEL, num_keys - start);
        if (count == PANEL) {
            product(rows, PANEL, dim, query, dim, 1, packed, PANEL, tile + start, stride, 0);
            continue;
        }
        for (int64_t r = 0; r < rows; r++) {
            product(1, PANEL, dim, query + r * dim, dim, 1, packed, PANEL, last, PANEL, 0);
            memcpy(tile + r * stride + start, last, count * sizeof(T));
        }
    }
}

// grad_query += slope key, grad_key += slope^T query
void gradients(int64_t rows, int64_t num_keys, int64_t dim, const T *slope, int64_t stride,
               const T *key, const T *query, T *grad_query, T *grad_key, T *piece)
{
    for (int64_t start = 0; start < num_keys; start += PANEL) {
        const int64_t count = least(PANEL, num_keys - start), ahead = start + PANEL;
        for (int64_t r = 0; r < rows; r++)
            memcpy(piece + r * PANEL, slope + r * stride + start, count * sizeof(T));
        product(rows, dim, count, piece, PANEL, 1, key + start * dim, dim, grad_query, dim, 1);
        for (int64_t n = ahead * dim; n < least(ahead + PANEL, num_keys) * dim; n += LANES)
            __builtin_prefetch(grad_key + n, 1);
        product(count, dim, rows, piece, 1, PANEL, query, dim, grad_key + start * dim, dim, 1);
    }
}
$low_gradients
""")

_PRODUCT = Template(r"""
// c += a b (or c = a b), of `rows` rows and `vectors` vectors that stay in registers.
static inline __attribute__((always_inline)) void
${name}_block(const int rows, const int vectors, int64_t depth, const $factor *a, int64_t a_row,
      int64_t a_col, const $factor *b, int64_t b_row, T *c, int64_t c_row, int add)
{
    Vector sum[ROWS][VECTORS];
    #pragma GCC unroll 8
    for (int r = 0; r < rows; r++)
        #pragma GCC unroll 8
        for (int v = 0; v < vectors; v++) {
            sum[r][v] = (Vector){0};
            if (add) sum[r][v] = *(const UnalignedVector *)(c + r * c_row + v * LANES);
        }
    for (int64_t k = 0; k < depth; k++) {
        ${vector} right[VECTORS];
        #pragma GCC unroll 8
        for (int v = 0; v < vectors; v++)
            right[v] = *(const Unaligned$vector *)(b + k * b_row + v * LANES);
        #pragma GCC unroll 8
        for (int r = 0; r < rows; r++) {
            const $factor left = a[r * a_row + k * a_col];
            $many
            #pragma GCC unroll 8
            for (int v = 0; v < vectors; v++) $multiply;
        }
    }
    #pragma GCC unroll 8
    for (int r = 0; r < rows; r++)
        #pragma GCC unroll 8
        for (int v = 0; v < vectors; v++)
            *(UnalignedVector *)(c + r * c_row + v * LANES) = sum[r][v];
}

// The same for any number of rows, and columns that fill vectors.
static void $name(int64_t rows, int64_t cols, int64_t depth, const $factor *a, int64_t a_row,
                  int64_t a_col, const $factor *b, int64_t b_row, T *c, int64_t c_row, int add)
{
    for (; cols > 0; cols -= PANEL, b += PANEL, c += PANEL) {
        const int64_t vectors = cols < PANEL ? cols / LANES : VECTORS;
        for (int64_t r = 0; r < rows; r += ROWS) {
            const int64_t some = rows - r < ROWS ? rows - r : ROWS;
            const $factor *left = a + r * a_row;
            T *to = c + r * c_row;
            switch (some * 8 + vectors) {
                BLOCKS(1, $name) BLOCKS(2, $name) BLOCKS(3, $name)
                BLOCKS(4, $name) BLOCKS(5, $name) BLOCKS(6, $name)
            }
        }
    }
}
""")

_MANY = "const Pairs many = left - (Pairs){0};"

_LOW = r"""
#define LOW_PANEL (PANEL / 2)

typedef uint32_t Pairs __attribute__((vector_size(64)));
typedef uint32_t UnalignedPairs __attribute__((vector_size(64), aligned(4), may_alias));

// Two numbers rounded to bfloat16 (halves away from 0), the first in the lower bits.
static inline uint32_t pair(float a, float b)
{
    uint32_t low, high;
    memcpy(&low, &a, 4);
    memcpy(&high, &b, 4);
    return (low + 0x8000) >> 16 | ((high + 0x8000) & 0xffff0000);
}
"""

_LOW_GRADIENTS = r"""
// Rows r and r + 1 of x as pairs, [(rows + 1) / 2, dim].
void pair_rows(int64_t rows, int64_t dim, const float *x, uint32_t *pairs)
{
    for (int64_t r = 0; r < rows; r += 2, x += 2 * dim, pairs += dim)
        for (int64_t d = 0; d < dim; d++) pairs[d] = pair(x[d], r + 1 < rows ? x[dim + d] : 0);
}

// As gradients() of bfloat16 numbers, key and query as pairs of rows.
void low_gradients(int64_t rows, int64_t num_keys, int64_t dim, const float *slope, int64_t stride,
                   const uint32_t *key, const uint32_t *query, float *grad_query, float *grad_key,
                   uint32_t *piece)
{
    uint32_t *along = piece, *across = piece + rows * LOW_PANEL;  // pairs of keys, pairs of rows
    float last[2 * PANEL];
    for (int64_t start = 0; start < num_keys; start += PANEL) {
        const int64_t count = least(PANEL, num_keys - start), ahead = start + PANEL;
        for (int64_t r = 0; r < rows; r += 2) {
            const float *one = slope + r * stride + start, *two = one + stride;
            if (count < PANEL || r + 1 == rows) {
                memset(last, 0, sizeof(last));
                memcpy(last, one, count * sizeof(float));
                if (r + 1 < rows) memcpy(last + PANEL, two, count * sizeof(float));
                one = last, two = last + PANEL;
            }
            for (int64_t j = 0; j < PANEL; j++) across[r / 2 * PANEL + j] = pair(one[j], two[j]);
            for (int64_t j = 0; j < LOW_PANEL; j++)
                along[r * LOW_PANEL + j] = pair(one[2 * j], one[2 * j + 1]);
            if (r + 1 < rows)
                for (int64_t j = 0; j < LOW_PANEL; j++)
                    along[(r + 1) * LOW_PANEL + j] = pair(two[2 * j], two[2 * j + 1]);
        }
        low_product(rows, dim, (count + 1) / 2, along, LOW_PANEL, 1, key + start / 2 * dim, dim,
                    grad_query, dim, 1);
        for (int64_t n = ahead * dim; n < least(ahead + PANEL, num_keys) * dim; n += LANES)
            __builtin_prefetch(grad_key + n, 1);
        low_product(count, dim, (rows + 1) / 2, across, 1, PANEL, query, dim,
                    grad_key + start * dim, dim, 1);
    }
}
"""


class NativeTiles(NamedTuple):
    """Operations on tiles ``[q, n]`` whose rows lie ``stride(0)`` apart.

    Args:
        library: What was compiled.
        low: Whether it multiplies bfloat16 numbers. :mod:`pyg_bsl.ops.native_amx` then makes the
            scores of them too, to within 2^-16 of the vectors' lengths.
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
    low = low and has_bfloat16_dot()
    library = compiled(_source(query.dtype, low, amx=False))
    return None if library is None else NativeTiles(library, low)


def has_bfloat16_dot() -> bool:
    """Whether the processor multiplies twice as many bfloat16 numbers as float32 ones (AMD's do).

    Intel's instruction of that name takes as long for its pairs as two of float32.
    """
    capabilities: dict[str, object] = getattr(torch.cpu, "get_capabilities", dict)()
    amd = str(capabilities.get("cpu_name", "")).startswith("AMD")
    return amd and processor_has("avx512_bf16")


def _up(count: int, step: int) -> int:
    return -(-count // step) * step


@cache
def _source(dtype: torch.dtype, low: bool, amx: bool) -> str:
    double = dtype == torch.float64
    return _CODE.substitute(
        type="double" if double else "float",
        exp=_EXP_DOUBLE if double else _EXP_FLOAT,
        products=AMX_CODE if amx else _products(low),
    )


def _products(low: bool) -> str:
    plain = {"factor": "T", "vector": "Vector", "multiply": "sum[r][v] += left * right[v]"}
    pairs = {
        "factor": "uint32_t",
        "vector": "Pairs",
        "multiply": '__asm__("vdpbf16ps %2, %1, %0" : "+v"(sum[r][v]) : "v"(right[v]), "v"(many))',
    }
    return _PRODUCTS.substitute(
        product=_PRODUCT.substitute(plain, name="product", many=""),
        low=_LOW + _PRODUCT.substitute(pairs, name="low_product", many=_MANY) if low else "",
        low_gradients=_LOW_GRADIENTS if low else "",
    )
