"""The matrix products and exponentials of a tile in compiled code, for processors with AVX-512.

A tile is flat: some queries against many keys of few components. Libraries' products pack such
matrices anew at every call, and each takes the tile through memory once more. Here keys are packed
once, both gradients are made of a piece of the tile while it is in the nearest cache, and an
exponential costs less than half of what it does in PyTorch.
"""

from __future__ import annotations

from string import Template
from typing import Any, NamedTuple

import torch
from torch import Tensor

from pyg_bsl.ops.compiler import call, compiled, pays

PANEL_BYTES = 256  # four vectors of 512 bits
LINE_BYTES = 64

_CODE = Template(r"""
#include <math.h>
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
typedef T Unaligned __attribute__((vector_size(64), aligned(sizeof(T)), may_alias));

#ifdef __clang__
#error "It would call the function below number by number: GCC with glibc"
#endif
extern __attribute__((simd("notinbranch"))) T exp$suffix(T);

// c += a b (or c = a b), of `rows` rows and `vectors` vectors that stay in registers.
static inline __attribute__((always_inline)) void
block(const int rows, const int vectors, int64_t depth, const T *a, int64_t a_row, int64_t a_col,
      const T *b, int64_t b_row, T *c, int64_t c_row, int add)
{
    Vector sum[ROWS][VECTORS];
    #pragma GCC unroll 8
    for (int r = 0; r < rows; r++)
        #pragma GCC unroll 8
        for (int v = 0; v < vectors; v++) {
            sum[r][v] = (Vector){0};
            if (add) sum[r][v] = *(const Unaligned *)(c + r * c_row + v * LANES);
        }
    for (int64_t k = 0; k < depth; k++) {
        Vector right[VECTORS];
        #pragma GCC unroll 8
        for (int v = 0; v < vectors; v++)
            right[v] = *(const Unaligned *)(b + k * b_row + v * LANES);
        #pragma GCC unroll 8
        for (int r = 0; r < rows; r++) {
            const T left = a[r * a_row + k * a_col];
            #pragma GCC unroll 8
            for (int v = 0; v < vectors; v++) sum[r][v] += left * right[v];
        }
    }
    #pragma GCC unroll 8
    for (int r = 0; r < rows; r++)
        #pragma GCC unroll 8
        for (int v = 0; v < vectors; v++)
            *(Unaligned *)(c + r * c_row + v * LANES) = sum[r][v];
}

#define BLOCK(R, V)                                                              \
    case R * 8 + V:                                                              \
        block(R, V, depth, left, a_row, a_col, b, b_row, to, c_row, add);        \
        break;
#define BLOCKS(R) BLOCK(R, 1) BLOCK(R, 2) BLOCK(R, 3) BLOCK(R, 4)

// The same for any number of rows, and columns that fill vectors.
static void product(int64_t rows, int64_t cols, int64_t depth, const T *a, int64_t a_row,
                    int64_t a_col, const T *b, int64_t b_row, T *c, int64_t c_row, int add)
{
    for (; cols > 0; cols -= PANEL, b += PANEL, c += PANEL) {
        const int64_t vectors = cols < PANEL ? cols / LANES : VECTORS;
        for (int64_t r = 0; r < rows; r += ROWS) {
            const int64_t some = rows - r < ROWS ? rows - r : ROWS;
            const T *left = a + r * a_row;
            T *to = c + r * c_row;
            switch (some * 8 + vectors) {
                BLOCKS(1) BLOCKS(2) BLOCKS(3) BLOCKS(4) BLOCKS(5) BLOCKS(6)
            }
        }
    }
}

static int64_t least(int64_t a, int64_t b) { return a < b ? a : b; }

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

// The exponential of every number of the tile, and the sums over its rows.
void exponentials(int64_t rows, int64_t num_keys, T *tile, int64_t stride, T *sums)
{
    for (int64_t r = 0; r < rows; r++, tile += stride) {
        double sum = 0;
        for (int64_t start = 0; start < num_keys; start += CHUNK) {
            const int64_t end = least(start + CHUNK, num_keys);
            T part = 0;
            #pragma omp simd reduction(+ : part)
            for (int64_t j = start; j < end; j++) {
                const T e = exp$suffix(tile[j]);
                tile[j] = e;
                part += e;
            }
            sum += part;
        }
        sums[r] = (T)sum;
    }
}
""")


class NativeTiles(NamedTuple):
    """Operations on tiles ``[q, n]`` whose rows lie ``stride(0)`` apart.

    Args:
        library: What was compiled.
    """

    library: Any

    def pack(self, key: Tensor) -> Tensor:
        """Keys ``[n, D]`` laid out for :meth:`scores`."""
        count, dim = key.shape
        panel = PANEL_BYTES // key.element_size()
        packed = key.new_empty(-(-count // panel) * panel * dim)
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

    def exponentials(self, tile: Tensor) -> Tensor:
        """Exponentials of a tile in place; their sums over its rows, ``[q]``."""
        sums = tile.new_empty(tile.size(0))
        call(self.library.exponentials, *tile.shape, tile, tile.stride(0), sums)
        return sums


def native_tiles(query: Tensor, key: Tensor) -> NativeTiles | None:
    """The operations for queries ``[Q, D]`` and keys ``[N, D]``; None where they do not pay.

    Nor where they do not fit: rows must fill vectors of the processor and lie one after the other.

    Raises:
        ValueError: If the setting that forbids or demands compiled code is none that is known.
    """
    if not pays(query, query.size(0) * key.size(0)):
        return None
    fills = key.size(1) * key.element_size() % LINE_BYTES == 0 and key.size(1) > 0
    if not (fills and query.is_contiguous() and key.is_contiguous()):
        return None
    double = query.dtype == torch.float64
    source = _CODE.substitute(type="double" if double else "float", suffix="" if double else "f")
    library = compiled(source)
    return None if library is None else NativeTiles(library)
