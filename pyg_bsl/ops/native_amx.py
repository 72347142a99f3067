"""C code of a tile's products for processors with matrix units (Intel's AMX).

They multiply bfloat16 numbers some ten times as fast as vector units do float32 ones. Gradients
take the slopes and vectors rounded. A score is not to be: a number is the sum of two bfloat16 ones
but for a part in 2^17, and the product of two such sums is three products, as the fourth is no
larger than that.
"""

from __future__ import annotations

from functools import cache
from typing import Any

from pyg_bsl.ops.compiler import compiled, processor_has
from pyg_bsl.ops.native_vector import PAIRS_CODE

AMX_DIM = 32
"""Numbers of a row of a matrix unit's register: vectors must fill them."""

_PERMIT = r"""
#include <sys/syscall.h>
#include <unistd.h>

// Linux wants to be asked for the registers (ARCH_REQ_XCOMP_PERM of XTILEDATA), once a process.
int permit(void) { return syscall(SYS_arch_prctl, 0x1023, 18) == 0; }
"""

AMX_CODE = (
    PAIRS_CODE
    + r"""

#define UNIT 256       // pairs of a register, 16 rows of 16: 1 KiB

// What rounding took from the first and the second of the pairs.
static inline __m512i rest_along(__m512 first, __m512 second, __m512i rounded)
{
    const __m512i low = _mm512_cvtepu16_epi32(_mm512_castsi512_si256(rounded));
    const __m512i high = _mm512_cvtepu16_epi32(_mm512_extracti64x4_epi64(rounded, 1));
    first = _mm512_sub_ps(first, _mm512_castsi512_ps(_mm512_slli_epi32(low, 16)));
    second = _mm512_sub_ps(second, _mm512_castsi512_ps(_mm512_slli_epi32(high, 16)));
    return pairs_along(first, second);
}

static void configure(void)
{
    struct { uint8_t palette, first_row, reserved[14]; uint16_t bytes[16]; uint8_t rows[16]; }
    __attribute__((aligned(64))) registers = {.palette = 1};
    for (int n = 0; n < 8; n++) registers.bytes[n] = 64, registers.rows[n] = 16;
    _tile_loadconfig(&registers);
}

static inline void clear(void) { _tile_zero(0); _tile_zero(1); _tile_zero(2); _tile_zero(3); }

static inline void load(const float *c, int64_t row)
{
    _tile_loadd(0, c, 4 * row);
    _tile_loadd(1, c + 16, 4 * row);
    _tile_loadd(2, c + 16 * row, 4 * row);
    _tile_loadd(3, c + 16 * row + 16, 4 * row);
}

static inline void store(float *c, int64_t row)
{
    _tile_stored(0, c, 4 * row);
    _tile_stored(1, c + 16, 4 * row);
    _tile_stored(2, c + 16 * row, 4 * row);
    _tile_stored(3, c + 16 * row + 16, 4 * row);
}

// To 32 x 32 sums, the product of two registers below one another and two beside one another.
static inline void lefts(const uint32_t *a, int64_t row)
{
    _tile_loadd(4, a, 4 * row);
    _tile_loadd(5, a + 16 * row, 4 * row);
}

static inline void rights(const uint32_t *b, int64_t row, int64_t next)
{
    _tile_loadd(6, b, 4 * row);
    _tile_loadd(7, b + next, 4 * row);
}

static inline void multiply(void)
{
    _tile_dpbf16ps(0, 4, 6);
    _tile_dpbf16ps(1, 4, 7);
    _tile_dpbf16ps(2, 5, 6);
    _tile_dpbf16ps(3, 5, 7);
}

// 32 keys after the other: for each 32 components four registers, the rounded and the rest of 16
// keys and of 16 more.
void pack(int64_t num_keys, int64_t dim, const float *key, float *packed)
{
    uint32_t *to = (uint32_t *)packed;
    const int64_t padded = (num_keys + PANEL - 1) / PANEL * PANEL;
    for (int64_t start = 0; start < padded; start += 32)
        for (int64_t k = 0; k < dim; k += 32, to += 4 * UNIT)
            for (int64_t half = 0; half < 2; half++) {
                __m512i rounded[16], rest[16];
                for (int64_t j = 0; j < 16; j++) {
                    const int64_t at = start + 16 * half + j;
                    const __mmask16 there = at < num_keys ? 0xffff : 0;
                    const float *x = key + (there ? at : 0) * dim + k;
                    const __m512 one = _mm512_maskz_loadu_ps(there, x);
                    const __m512 two = _mm512_maskz_loadu_ps(there, x + 16);
                    rounded[j] = pairs_along(one, two);
                    rest[j] = rest_along(one, two, rounded[j]);
                }
                transpose(rounded);
                transpose(rest);
                memcpy(to + half * UNIT, rounded, sizeof(rounded));
                memcpy(to + (2 + half) * UNIT, rest, sizeof(rest));
            }
}

void scores(int64_t rows, int64_t num_keys, int64_t dim, const float *query, const float *packed,
            float *tile, int64_t stride)
{
    const int64_t padded = (rows + 31) / 32 * 32, row = dim / 2, steps = dim / 32;
    uint32_t *left = aligned_alloc(64, 2 * padded * row * sizeof(uint32_t));
    uint32_t *left_rest = left + padded * row;
    memset(left, 0, 2 * padded * row * sizeof(uint32_t));
    for (int64_t n = 0; n < rows * row; n += 16) {
        const __m512 one = _mm512_loadu_ps(query + 2 * n);
        const __m512 two = _mm512_loadu_ps(query + 2 * n + 16);
        const __m512i rounded = pairs_along(one, two);
        _mm512_storeu_si512(left + n, rounded);
        _mm512_storeu_si512(left_rest + n, rest_along(one, two, rounded));
    }
    configure();
    float whole[32 * 32];
    const uint32_t *right = (const uint32_t *)packed;
    for (int64_t j = 0; j < num_keys; j += 32, right += 4 * UNIT * steps) {
        const int64_t cols = least(32, num_keys - j);
        for (int64_t r = 0; r < rows; r += 32) {
            const uint32_t *a = left + r * row, *a_rest = left_rest + r * row, *b = right;
            clear();
            for (int64_t k = 0; k < steps; k++, a += 16, a_rest += 16, b += 4 * UNIT) {
                lefts(a_rest, row);
                rights(b, 16, UNIT);
                multiply();
                lefts(a, row);
                multiply();
                rights(b + 2 * UNIT, 16, UNIT);
                multiply();
            }
            float *to = tile + r * stride + j;
            if (r + 32 <= rows && cols == 32) {
                store(to, stride);
                continue;
            }
            store(whole, 32);
            for (int64_t i = 0; i < least(32, rows - r); i++)
                memcpy(to + i * stride, whole + 32 * i, cols * sizeof(float));
        }
    }
    _tile_release();
    free(left);
}

// Rows r and r + 1 of x as pairs, [rows / 2, dim], where rows end at a multiple of 32.
void pair_rows(int64_t rows, int64_t dim, const float *x, uint32_t *pairs)
{
    for (int64_t r = 0; r < (rows + 31) / 32 * 32; r += 2, x += 2 * dim)
        for (int64_t d = 0; d < dim; d += 16, pairs += 16) {
            const __m512 one = _mm512_maskz_loadu_ps(r < rows ? 0xffff : 0, x + d);
            const __m512 two = _mm512_maskz_loadu_ps(r + 1 < rows ? 0xffff : 0, x + dim + d);
            _mm512_storeu_si512(pairs, pairs_across(one, two));
        }
}

// c += a b, 32 rows and columns of c at a time; a and b end at multiples of 32.
static void low_product(int64_t rows, int64_t cols, int64_t depth, const uint32_t *a, int64_t a_row,
                        const uint32_t *b, float *c)
{
    for (int64_t r = 0; r < rows; r += 32)
        for (int64_t d = 0; d < cols; d += 32) {
            float whole[32 * 32] = {0}, *to = c + r * cols + d;
            const int64_t some = least(32, rows - r);
            if (some == 32) {
                load(to, cols);
            } else {
                for (int64_t i = 0; i < some; i++)
                    memcpy(whole + 32 * i, to + i * cols, 32 * sizeof(float));
                load(whole, 32);
            }
            for (int64_t k = 0; k < depth; k += 32) {
                lefts(a + r * a_row + k / 2, a_row);
                rights(b + k / 2 * cols + d, cols, 16);
                multiply();
            }
            if (some == 32) {
                store(to, cols);
                continue;
            }
            store(whole, 32);
            for (int64_t i = 0; i < some; i++)
                memcpy(to + i * cols, whole + 32 * i, 32 * sizeof(float));
        }
}

// grad_query += slope key, grad_key += slope^T query, key and query as pairs of rows.
void low_gradients(int64_t rows, int64_t num_keys, int64_t dim, const float *slope, int64_t stride,
                   const uint32_t *key, const uint32_t *query, float *grad_query, float *grad_key,
                   uint32_t *piece)
{
    const int64_t padded = (rows + 31) / 32 * 32;
    uint32_t *along = piece, *across = piece + padded * LOW_PANEL / 2;
    configure();
    for (int64_t start = 0; start < num_keys; start += LOW_PANEL) {
        const int64_t count = least(LOW_PANEL, num_keys - start), depth = (count + 31) / 32 * 32;
        for (int64_t r = 0; r < padded; r += 32)
            for (int64_t j = 0; j < depth; j += 32) {
                const int64_t some = count - j;
                const __mmask16 near = some < 16 ? (1 << some) - 1 : 0xffff;
                const __mmask16 far = some < 32 ? (some > 16 ? (1 << (some - 16)) - 1 : 0) : 0xffff;
                __m512i first[16], second[16];
                for (int64_t i = 0; i < 16; i++) {
                    const int64_t at = r + 2 * i;
                    const float *one = slope + at * stride + start + j, *two = one + stride;
                    const __mmask16 has = at < rows ? 0xffff : 0, both = at + 1 < rows ? 0xffff : 0;
                    const __m512 a = _mm512_maskz_loadu_ps(near & has, one);
                    const __m512 b = _mm512_maskz_loadu_ps(far & has, one + 16);
                    const __m512 c = _mm512_maskz_loadu_ps(near & both, two);
                    const __m512 d = _mm512_maskz_loadu_ps(far & both, two + 16);
                    _mm512_storeu_si512(along + (at * LOW_PANEL + j) / 2, pairs_along(a, b));
                    _mm512_storeu_si512(along + ((at + 1) * LOW_PANEL + j) / 2, pairs_along(c, d));
                    first[i] = pairs_across(a, c);
                    second[i] = pairs_across(b, d);
                }
                transpose(first);
                transpose(second);
                for (int64_t i = 0; i < 16; i++) {
                    _mm512_storeu_si512(across + (j + i) * padded / 2 + r / 2, first[i]);
                    _mm512_storeu_si512(across + (j + 16 + i) * padded / 2 + r / 2, second[i]);
                }
            }
        low_product(rows, dim, depth, along, LOW_PANEL / 2, key + start / 2 * dim, grad_query);
        low_product(count, dim, padded, across, padded / 2, query, grad_key + start * dim);
    }
    _tile_release();
}
"""
)


@cache
def has_amx() -> bool:
    """Whether the processor has matrix units for bfloat16 numbers that we are let use."""
    if not processor_has("amx_bf16", "avx512_bf16", "avx512_bw"):
        return False
    library: Any = compiled(_PERMIT)
    return library is not None and bool(library.permit())
