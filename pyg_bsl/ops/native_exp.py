"""C code of the exponentials of tiles of logits, and of the slopes of their log-sums."""

from __future__ import annotations

_HEAD = r"""
#define CHUNK 1024  // numbers whose sum is taken in T; that of chunks is in double

#ifdef __clang__
#error "It would call exp number by number: GCC with glibc"
#endif
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

_SLOPES = r"""
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

// Slopes of log-sums, for the walk over tiles. `state` has what is added to the scores of each key,
// or NULL; of each row the weight of its log-sum; and where to write the sum of its exponentials,
// and the top that is taken off, or NULL to take nothing off.
void log_sum_slopes(int64_t first, int64_t rows, int64_t num_keys, T *tile, int64_t stride,
                    T *const *state, T *share)
{
    const T *log_weight = state[0], *weight = state[1] + first;
    T *total = state[2] + first, *top = state[3] ? state[3] + first : 0;
    for (int64_t r = 0; r < rows; r++) {
        T *x = tile + r * stride;
        if (log_weight)
            for (int64_t j = 0; j < num_keys; j++) x[j] += log_weight[j];
        if (top) top[r] = less_top(num_keys, x);
    }
    exponentials(rows, num_keys, tile, stride, total);
    for (int64_t r = 0; r < rows; r++) share[r] = total[r] == 0 ? 0 : weight[r] / total[r];
}
"""


def exp_code(double: bool) -> str:
    """The code, for what :mod:`pyg_bsl.ops.native_tiles` defines before it.

    Args:
        double: Whether numbers are of 64 bits.
    """
    return _HEAD + (_EXP_DOUBLE if double else _EXP_FLOAT) + _SLOPES
