"""C code of a tile's products for processors with vectors of 512 bits (AVX-512).

Of numbers as they are, or of 16 bits, twice as many at a time (AVX512-BF16 and AVX512-VNNI, on
AMD's). Gradients take the slopes and vectors rounded to bfloat16, as they do on matrix units. For a
score a vector is rounded to integers, in steps so small that sums of products just fit into 32
bits: its length is some 46,340 of them. A score is then off by 1e-5 of the vectors' lengths (root
mean square, whatever their size; 5e-5 is the most in millions), and a log-mean of exponentials by
that over its temperature.
"""

from __future__ import annotations

from string import Template

PAIRS_CODE = r"""
#include <immintrin.h>

// Two numbers as bfloat16 ones, the first in the lower bits, of 32 numbers in a row.
static inline __m512i pairs_along(__m512 first, __m512 second)
{
    return (__m512i)_mm512_cvtne2ps_pbh(second, first);
}

// The same of two rows, pairs one below the other.
static inline __m512i pairs_across(__m512 one, __m512 two)
{
    const __m512i zip = _mm512_set_epi16(
        31, 15, 30, 14, 29, 13, 28, 12, 27, 11, 26, 10, 25, 9, 24, 8, 23, 7, 22, 6, 21, 5, 20, 4,
        19, 3, 18, 2, 17, 1, 16, 0);
    return _mm512_permutexvar_epi16(zip, pairs_along(one, two));
}

static inline void transpose(__m512i *x)
{
    __m512i y[16];
    #pragma GCC unroll 8
    for (int i = 0; i < 8; i++) {
        y[2 * i] = _mm512_unpacklo_epi32(x[2 * i], x[2 * i + 1]);
        y[2 * i + 1] = _mm512_unpackhi_epi32(x[2 * i], x[2 * i + 1]);
    }
    #pragma GCC unroll 4
    for (int i = 0; i < 16; i += 4) {
        x[i] = _mm512_unpacklo_epi64(y[i], y[i + 2]);
        x[i + 1] = _mm512_unpackhi_epi64(y[i], y[i + 2]);
        x[i + 2] = _mm512_unpacklo_epi64(y[i + 1], y[i + 3]);
        x[i + 3] = _mm512_unpackhi_epi64(y[i + 1], y[i + 3]);
    }
    #pragma GCC unroll 4
    for (int i = 0; i < 4; i++) {
        y[i] = _mm512_shuffle_i32x4(x[i], x[i + 4], 0x88);
        y[i + 4] = _mm512_shuffle_i32x4(x[i], x[i + 4], 0xdd);
        y[i + 8] = _mm512_shuffle_i32x4(x[i + 8], x[i + 12], 0x88);
        y[i + 12] = _mm512_shuffle_i32x4(x[i + 8], x[i + 12], 0xdd);
    }
    #pragma GCC unroll 4
    for (int i = 0; i < 4; i++) {
        x[i] = _mm512_shuffle_i32x4(y[i], y[i + 8], 0x88);
        x[i + 4] = _mm512_shuffle_i32x4(y[i + 4], y[i + 12], 0x88);
        x[i + 8] = _mm512_shuffle_i32x4(y[i], y[i + 8], 0xdd);
        x[i + 12] = _mm512_shuffle_i32x4(y[i + 4], y[i + 12], 0xdd);
    }
}
"""

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

_BLOCKS = r"""
#define BLOCK(R, V, NAME)                                                              \
    case R * 8 + V:                                                                    \
        NAME##_block(R, V, depth, left, a_row, a_col, b, b_row, to, c_row, add);       \
        break;
#define BLOCKS(R, NAME) BLOCK(R, 1, NAME) BLOCK(R, 2, NAME) BLOCK(R, 3, NAME) BLOCK(R, 4, NAME)
"""

_PLAIN = r"""
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
"""

_LOW_TYPES = r"""
#include <float.h>

typedef uint32_t Pairs __attribute__((vector_size(64)));
typedef uint32_t UnalignedPairs __attribute__((vector_size(64), aligned(4), may_alias));
"""

_LOW = r"""
// A vector as pairs of integers, and what one of their steps is worth so that they come closest to
// it: of a vector of equal numbers, where all are rounded the same way, nothing is lost. Where a
// vector is not finite, that is NaN or infinite.
static float integers(int64_t dim, const float *x, uint32_t *pairs)
{
    __m512d squares = _mm512_setzero_pd(), own = squares, theirs = squares;
    __m512 tops = _mm512_setzero_ps();
    for (int64_t k = 0; k < dim; k += 8) {
        const __m512d exact = _mm512_cvtps_pd(_mm256_loadu_ps(x + k));
        squares = _mm512_fmadd_pd(exact, exact, squares);
    }
    for (int64_t k = 0; k < dim; k += 16)
        tops = _mm512_max_ps(tops, _mm512_abs_ps(_mm512_loadu_ps(x + k)));
    // Less than 46,340 by what rounding may add to a length.
    const double length = fmax(sqrt(_mm512_reduce_add_pd(squares)), FLT_MIN);
    const double largest = fmax(_mm512_reduce_max_ps(tops), FLT_MIN);
    const double times = fmin((46340 - sqrt(dim)) / length, 32767 / largest);
    for (int64_t k = 0; k < dim; k += 8) {
        const __m512d exact = _mm512_cvtps_pd(_mm256_loadu_ps(x + k));
        const __m256i whole = _mm512_cvtpd_epi32(_mm512_mul_pd(exact, _mm512_set1_pd(times)));
        const __m512d rounded = _mm512_cvtepi32_pd(whole);
        own = _mm512_fmadd_pd(rounded, rounded, own);
        theirs = _mm512_fmadd_pd(rounded, exact, theirs);
        _mm_storeu_si128((__m128i *)(pairs + k / 2), _mm256_cvtsepi32_epi16(whole));
    }
    const double square = _mm512_reduce_add_pd(own);
    return square ? _mm512_reduce_add_pd(theirs) / square : 0;
}

// Keys as columns of pairs, PANEL keys after the other, and what their steps are worth; behind the
// last key zeros.
void pack(int64_t num_keys, int64_t dim, const float *key, float *packed)
{
    const int64_t half = dim / 2;
    uint32_t pairs[16 * half], *to = (uint32_t *)packed;
    for (int64_t start = 0; start < num_keys; start += PANEL, to += PANEL * (half + 1))
        for (int64_t j = 0; j < PANEL; j += 16) {
            float step[16] = {0};
            memset(pairs, 0, sizeof(pairs));
            for (int64_t i = 0; i < least(16, num_keys - start - j); i++)
                step[i] = integers(dim, key + (start + j + i) * dim, pairs + i * half);
            for (int64_t k = 0; k < half; k += 8) {
                __m512i columns[16];
                for (int64_t i = 0; i < 16; i++)
                    columns[i] = _mm512_maskz_loadu_epi32(0xff, pairs + i * half + k);
                transpose(columns);
                for (int64_t i = 0; i < 8; i++)
                    _mm512_storeu_si512(to + (k + i) * PANEL + j, columns[i]);
            }
            memcpy(to + half * PANEL + j, step, sizeof(step));
        }
}

// Where vector v of `count` numbers ends.
static inline __mmask16 within(int64_t count, int v)
{
    count -= 16 * v;
    return count < 16 ? (count < 1 ? 0 : (1 << count) - 1) : 0xffff;
}

void scores(int64_t rows, int64_t num_keys, int64_t dim, const float *query, const float *packed,
            float *tile, int64_t stride)
{
    const int64_t half = dim / 2;
    uint32_t *left = malloc(rows * half * sizeof(uint32_t));
    float *step = malloc(rows * sizeof(float)), sums[ROWS * PANEL];
    for (int64_t r = 0; r < rows; r++)
        step[r] = integers(dim, query + r * dim, left + r * half);
    const uint32_t *right = (const uint32_t *)packed;
    for (int64_t start = 0; start < num_keys; start += PANEL, right += PANEL * (half + 1))
        for (int64_t r = 0; r < rows; r += ROWS) {
            const int64_t some = least(ROWS, rows - r);
            const uint32_t *a = left + r * half;
            whole_product(some, PANEL, half, a, half, 1, right, PANEL, sums, PANEL, 0);
            for (int64_t i = 0; i < some; i++)
                for (int v = 0; v < VECTORS; v++) {
                    const __m512i sum = _mm512_loadu_si512(sums + i * PANEL + 16 * v);
                    const __m512 own = _mm512_set1_ps(step[r + i]);
                    const __m512 key_step = _mm512_loadu_ps(right + half * PANEL + 16 * v);
                    const __m512 score =
                        _mm512_mul_ps(_mm512_mul_ps(_mm512_cvtepi32_ps(sum), own), key_step);
                    _mm512_mask_storeu_ps(tile + (r + i) * stride + start + 16 * v,
                                          within(num_keys - start, v), score);
                }
        }
    free(left);
    free(step);
}

// Rows r and r + 1 of x as pairs, [(rows + 1) / 2, dim].
void pair_rows(int64_t rows, int64_t dim, const float *x, uint32_t *pairs)
{
    for (int64_t r = 0; r < rows; r += 2, x += 2 * dim)
        for (int64_t d = 0; d < dim; d += 16, pairs += 16) {
            const __m512 two = _mm512_maskz_loadu_ps(r + 1 < rows ? 0xffff : 0, x + dim + d);
            _mm512_storeu_si512(pairs, pairs_across(_mm512_loadu_ps(x + d), two));
        }
}

// As gradients() of bfloat16 numbers, key and query as pairs of rows.
void low_gradients(int64_t rows, int64_t num_keys, int64_t dim, const float *slope, int64_t stride,
                   const uint32_t *key, const uint32_t *query, float *grad_query, float *grad_key,
                   uint32_t *piece)
{
    uint32_t *along = piece, *across = piece + rows * LOW_PANEL / 2;  // pairs of keys, of rows
    for (int64_t start = 0; start < num_keys; start += LOW_PANEL) {
        const int64_t count = least(LOW_PANEL, num_keys - start), ahead = start + LOW_PANEL;
        for (int64_t r = 0; r < rows; r += 2) {
            const float *one = slope + r * stride + start, *two = one + stride;
            const __mmask16 both = r + 1 < rows ? 0xffff : 0;
            uint32_t *first = along + r * LOW_PANEL / 2, *second = first + LOW_PANEL / 2;
            #pragma GCC unroll 4
            for (int v = 0; v < 8; v += 2) {
                const __mmask16 near = within(count, v), far = within(count, v + 1);
                const __m512 a = _mm512_maskz_loadu_ps(near, one + 16 * v);
                const __m512 b = _mm512_maskz_loadu_ps(far, one + 16 * v + 16);
                const __m512 c = _mm512_maskz_loadu_ps(near & both, two + 16 * v);
                const __m512 d = _mm512_maskz_loadu_ps(far & both, two + 16 * v + 16);
                _mm512_storeu_si512(first + 8 * v, pairs_along(a, b));
                if (both) _mm512_storeu_si512(second + 8 * v, pairs_along(c, d));
                _mm512_storeu_si512(across + r / 2 * LOW_PANEL + 16 * v, pairs_across(a, c));
                _mm512_storeu_si512(across + r / 2 * LOW_PANEL + 16 * v + 16, pairs_across(b, d));
            }
        }
        low_product(rows, dim, (count + 1) / 2, along, LOW_PANEL / 2, 1, key + start / 2 * dim, dim,
                    grad_query, dim, 1);
        for (int64_t n = ahead * dim; n < least(ahead + LOW_PANEL, num_keys) * dim; n += LANES)
            __builtin_prefetch(grad_key + n, 1);
        low_product(count, dim, (rows + 1) / 2, across, 1, LOW_PANEL, query, dim,
                    grad_key + start * dim, dim, 1);
    }
}
"""


def _pairs_product(name: str, instruction: str) -> str:
    """The product of pairs of 16-bit numbers by an instruction that adds theirs to 32-bit sums."""
    return _PRODUCT.substitute(
        name=name,
        factor="uint32_t",
        vector="Pairs",
        many="const Pairs many = left - (Pairs){0};",
        multiply=f'__asm__("{instruction} %2, %1, %0" : "+v"(sum[r][v]) : "v"(right[v]), '
        '"v"(many))',
    )


_OWN = {"factor": "T", "vector": "Vector", "many": "", "multiply": "sum[r][v] += left * right[v]"}

VECTOR_CODE = _BLOCKS + _PRODUCT.substitute(_OWN, name="product") + _PLAIN

LOW_VECTOR_CODE = (
    _BLOCKS
    + PAIRS_CODE
    + _LOW_TYPES
    + _pairs_product("whole_product", "vpdpwssd")
    + _pairs_product("low_product", "vdpbf16ps")
    + _LOW
)
