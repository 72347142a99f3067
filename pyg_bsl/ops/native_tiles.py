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
#include <math.h>
#include <stdint.h>
#include <stdlib.h>
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
#define PADDED(rows) (((rows) + $low_rows - 1) / $low_rows * $low_rows)
#define CHUNK 1024               // numbers whose sum is taken in T; that of chunks is in double

typedef T Vector __attribute__((vector_size(64)));
typedef T UnalignedVector __attribute__((vector_size(64), aligned(sizeof(T)), may_alias));

#ifdef __clang__
#error "It would call exp number by number: GCC with glibc"
#endif
$exp
static int64_t least(int64_t a, int64_t b) { return a < b ? a : b; }

$products
$gradients
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

// Numbers less the largest, which is returned; nothing is taken off where all are -infinity.
static T less_top(int64_t count, T *x)
{
    T top = -INFINITY;
    #pragma omp simd reduction(max : top)
    for (int64_t j = 0; j < count; j++) top = x[j] > top ? x[j] : top;
    if (top == -INFINITY) return 0;
    for (int64_t j = 0; j < count; j++) x[j] -= top;
    return top;
}

// Of queries, `height` at a time: the sums of the exponentials of their logits (less `top`), their
// weights over these, and the gradients of the weighted log-sums; that to a query is still to be
// multiplied by its share. What there is none of is NULL.
void log_sums(int64_t num_queries, int64_t num_keys, int64_t dim, int64_t height, const T *query,
              const T *packed, const void *key, T *tile, int64_t stride, const T *log_weight,
              const char *mask, int64_t num_drops, const int64_t *drop_row, const int64_t *drop_col,
              const T *weight, T *total, T *top, T *share, T *grad_query, T *grad_key)
{
    T *scaled = aligned_alloc(64, PADDED(height) * dim * sizeof(T));
    void *room = aligned_alloc(64, ROOM(height, dim));
    for (int64_t first = 0; first < num_queries; first += height) {
        const int64_t rows = least(height, num_queries - first);
        scores(rows, num_keys, dim, query, packed, tile, stride);
        for (; num_drops > 0 && *drop_row < first + rows; num_drops--)
            tile[(*drop_row++ - first) * stride + *drop_col++] = -INFINITY;
        for (int64_t r = 0; r < rows; r++) {
            T *x = tile + r * stride;
            if (mask)
                for (int64_t j = 0; j < num_keys; j++)
                    if (mask[(first + r) * num_keys + j]) x[j] = -INFINITY;
            if (log_weight)
                for (int64_t j = 0; j < num_keys; j++) x[j] += log_weight[j];
            if (top) top[first + r] = less_top(num_keys, x);
        }
        exponentials(rows, num_keys, tile, stride, total + first);
        for (int64_t r = 0; r < rows; r++) {
            const T sum = total[first + r], own = sum == 0 ? 0 : weight[first + r] / sum;
            share[first + r] = own;
            for (int64_t k = 0; k < dim; k++) scaled[r * dim + k] = own * query[r * dim + k];
        }
        add_gradients(rows, num_keys, dim, tile, stride, key, scaled, grad_query, grad_key, room);
        query += rows * dim;
        grad_query += rows * dim;
    }
    free(scaled);
    free(room);
}
""")

_GRADIENTS = r"""
#define ROOM(rows, dim) (PADDED(rows) * PANEL * sizeof(T))
static void add_gradients(int64_t rows, int64_t num_keys, int64_t dim, const T *slope,
                          int64_t stride, const void *key, const T *query, T *grad_query,
                          T *grad_key, void *room)
{
    gradients(rows, num_keys, dim, slope, stride, key, query, grad_query, grad_key, room);
}
"""

_LOW_GRADIENTS = r"""
#define ROOM(rows, dim) (PADDED(rows) * (LOW_PANEL + (dim) / 2) * sizeof(uint32_t))
static void add_gradients(int64_t rows, int64_t num_keys, int64_t dim, const T *slope,
                          int64_t stride, const void *key, const T *query, T *grad_query,
                          T *grad_key, void *room)
{
    uint32_t *pairs = room, *piece = pairs + PADDED(rows) * dim / 2;
    pair_rows(rows, dim, query, pairs);
    low_gradients(rows, num_keys, dim, slope, stride, key, pairs, grad_query, grad_key, piece);
}
"""

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

// e^x = 2^n 2^r with |r| <= 1/2, 2^r by the polynomial of degree 5 that is off by 1e-7 at most.
static inline __m512 exp_vector(__m512 x)
{
    x = _mm512_max_ps(_mm512_set1_ps(-104), _mm512_min_ps(_mm512_set1_ps(89), x));  // NaN stays
    const __m512 per_bit = _mm512_set1_ps(1.44269502f);
    const __m512 n = _mm512_roundscale_ps(_mm512_mul_ps(x, per_bit), 8);
    __m512 r = _mm512_fmsub_ps(x, per_bit, n);
    r = _mm512_fmadd_ps(x, _mm512_set1_ps(1.92596299e-8f), r);  // the rest of 1 / log(2)
    __m512 e = _mm512_set1_ps(1.32647273e-3f);
    e = _mm512_fmadd_ps(e, r, _mm512_set1_ps(9.67151299e-3f));
    e = _mm512_fmadd_ps(e, r, _mm512_set1_ps(5.55073358e-2f));
    e = _mm512_fmadd_ps(e, r, _mm512_set1_ps(2.40222424e-1f));
    e = _mm512_fmadd_ps(e, r, _mm512_set1_ps(6.93147004e-1f));
    e = _mm512_fmadd_ps(e, r, _mm512_set1_ps(1));
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


class LogSums(NamedTuple):
    """Sums of exponentials over rows of logits, and what the gradient of their weighted logs needs.

    Args:
        total: The sums, ``[q]``, of logits less :attr:`top`.
        top: Largest logit of each row, ``[q]``, 0 where all are dropped; :obj:`None` to take
            nothing off.
        share: The weight of each row over its sum, ``[q]``; 0 where all are dropped.
        grad_query: Gradient to the queries over their shares, ``[q, D]``; it is added to.
    """

    total: Tensor
    top: Tensor | None
    share: Tensor
    grad_query: Tensor

    def of(self, part: slice) -> LogSums:
        """Those of some queries."""
        top = None if self.top is None else self.top[part]
        return LogSums(self.total[part], top, self.share[part], self.grad_query[part])


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

    def log_sums(
        self,
        query: Tensor,
        packed: Tensor,
        key: Tensor,
        tile: Tensor,
        log_weight: Tensor | None,
        gone: Tensor | tuple[Tensor, Tensor] | None,
        weight: Tensor,
        sums: LogSums,
        grad_key: Tensor,
    ) -> None:
        """Log-sums of exponentials and their gradients, a tile of queries after the other.

        Args:
            query: Queries, ``[q, D]``.
            packed: Keys, as :meth:`pack` lays them out.
            key: Keys ``[n, D]``, or what :meth:`pair_rows` makes of them if :attr:`low`.
            tile: Room for the scores of as many queries as are taken at once.
            log_weight: What is added to the scores of each key, ``[n]``.
            gone: Scores that do not count: boolean ``[q, n]``, or rows, ascending, and columns.
            weight: Weight of each log-sum, ``[q]``.
            sums: Where to write what is found.
            grad_key: The gradient to the keys is added to it, ``[n, D]``.
        """
        mask = gone if isinstance(gone, Tensor) else None
        row, col = gone if isinstance(gone, tuple) else (None, None)
        call(
            self.library.log_sums,
            *(query.size(0), tile.size(1), query.size(1), tile.size(0)),
            *(query, packed, key, tile, tile.stride(0), log_weight, mask),
            *(0 if row is None else row.numel(), row, col),
            *(weight, sums.total, sums.top, sums.share, sums.grad_query, grad_key),
        )


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
        low_rows=LOW_ROWS,
        gradients=_LOW_GRADIENTS if low else _GRADIENTS,
        products=AMX_CODE if amx else LOW_VECTOR_CODE if low else VECTOR_CODE,
    )
