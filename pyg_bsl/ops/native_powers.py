"""Powers, power sums and polynomials of a tile in compiled code, a row at a time."""

from __future__ import annotations

from collections.abc import Iterator
from string import Template
from typing import Any, NamedTuple

import torch
from torch import Tensor

from pyg_bsl.ops.compiler import call, compiled, pays
from pyg_bsl.ops.native_tiles import Slopes

_LOOPS = Template(r"""
#include <float.h>
#include <math.h>
#include <stddef.h>
#include <stdint.h>

typedef $type T;
#define M $power
#define LANES $lanes  // numbers of a vector: each has sums of its own
#define CHUNK 1024    // keys whose sums are taken in T; the sums of chunks are taken in double

// x = max(x + 1/2, 0) / top, where top becomes the largest of what it was and the row's numerators.
void shares(int64_t num_rows, int64_t num_keys, int64_t stride, T *x, T *top)
{
    for (int64_t r = 0; r < num_rows; r++, x += stride) {
        T high = top[r];
        #pragma omp simd reduction(max : high)
        for (int64_t j = 0; j < num_keys; j++) {
            const T share = x[j] + (T)0.5 < 0 ? 0 : x[j] + (T)0.5;  // NaN stays
            x[j] = share;
            high = share > high ? share : high;
        }
        const T scale = 1 / high;
        #pragma omp simd
        for (int64_t j = 0; j < num_keys; j++) x[j] *= scale;
        top[r] = high;
    }
}

static inline T lower_power(T x)  // x^(M - 1)
{
    T power = 1;
    $squares
    return power;
}

// The middle of gaps(), of a chunk.
static inline __attribute__((always_inline)) void
chunk_of_gaps(int64_t count, T *restrict x, const T *weight, T y, T scale, double *total,
              double *lower)
{
    T sum = 0, lower_sum = 0;
    #pragma omp simd reduction(+ : sum, lower_sum)
    for (int64_t j = 0; j < count; j++) {
        const T share = x[j] + (T)0.5 < 0 ? 0 : x[j] + (T)0.5;
        const T t = x[j] == -INFINITY ? 0 : (share + y) * scale;
        const T weighted = weight ? weight[j] * lower_power(t) : lower_power(t);
        const T power = x[j] == -INFINITY ? 0 : weighted;
        x[j] = power;
        lower_sum += power;
        sum += power * t;
    }
    *total += sum;
    *lower += lower_sum;
}

// For half a score x becomes weight[j] t^(M - 1) with t = (max(x + 1/2, 0) + y) / (top + y), where
// top becomes what it does in shares(), or 0 where x is -INFINITY. Their sums over rows, and those
// of weight[j] t^M.
void gaps(int64_t num_rows, int64_t num_keys, int64_t stride, T *x, const T *weight, const T *y,
          T *top, T *total, T *lower)
{
    for (int64_t r = 0; r < num_rows; r++, x += stride) {
        T high = top[r];
        #pragma omp simd reduction(max : high)
        for (int64_t j = 0; j < num_keys; j++) high = x[j] + (T)0.5 > high ? x[j] + (T)0.5 : high;
        const T scale = 1 / (high + y[r]);
        double sum = 0, lower_sum = 0;
        for (int64_t start = 0; start < num_keys; start += CHUNK) {
            const int64_t count = num_keys - start < CHUNK ? num_keys - start : CHUNK;
            if (weight)
                chunk_of_gaps(count, x + start, weight + start, y[r], scale, &sum, &lower_sum);
            else
                chunk_of_gaps(count, x + start, NULL, y[r], scale, &sum, &lower_sum);
        }
        top[r] = high;
        total[r] = (T)sum;
        lower[r] = (T)lower_sum;
    }
}

// Slopes of the logs of what gaps() sums, for the walk over tiles. `state` has its weights; of each
// row M, or 0 where its keys weigh nothing, and y; and where to write the rest, as there.
void gap_slopes(int64_t first, int64_t rows, int64_t num_keys, T *tile, int64_t stride,
                T *const *state, T *share)
{
    const T *weight = state[0], *times = state[1] + first, *y = state[2] + first;
    T *top = state[3] + first, *total = state[4] + first, *lower = state[5] + first;
    gaps(rows, num_keys, stride, tile, weight, y, top, total, lower);
    for (int64_t r = 0; r < rows; r++) {
        const T whole = y[r] + top[r];
        // None where even the largest 1 + d is 0, nor of an empty sum.
        share[r] = whole <= 2 * $tiny || total[r] == 0 ? 0 : times[r] / (total[r] * whole);
    }
}

// sums[r][k] = sum over j of weight[j] x[r][j]^(k + 1); equal weights where `weight` is NULL.
void power_sums(int64_t num_rows, int64_t num_keys, int64_t stride, const T *x, const T *weight,
                T *sums)
{
    for (int64_t r = 0; r < num_rows; r++, x += stride, sums += M) {
        double total[M] = {0};
        for (int64_t start = 0; start < num_keys; start += CHUNK) {
            const int64_t end = start + CHUNK < num_keys ? start + CHUNK : num_keys;
            T part[M][LANES] = {{0}};
            int64_t j = start;
            for (; j + LANES <= end; j += LANES) {
                T power[LANES];
                #pragma omp simd
                for (int l = 0; l < LANES; l++) power[l] = weight ? weight[j + l] : 1;
                #pragma GCC unroll 40
                for (int k = 0; k < M; k++) {
                    #pragma omp simd
                    for (int l = 0; l < LANES; l++) {
                        power[l] *= x[j + l];
                        part[k][l] += power[l];
                    }
                }
            }
            for (; j < end; j++) {
                T power = weight ? weight[j] : 1;
                for (int k = 0; k < M; k++) part[k][0] += power *= x[j];
            }
            for (int k = 0; k < M; k++)
                for (int l = 0; l < LANES; l++) total[k] += part[k][l];
        }
        for (int k = 0; k < M; k++) sums[k] = (T)total[k];
    }
}

// out[r][j] = weight[j] (c[r][0] + c[r][1] x[r][j] + ... + c[r][M - 1] x[r][j]^(M - 1))
void polynomial(int64_t num_rows, int64_t num_keys, int64_t stride, const T *x, const T *weight,
                const T *c, T *restrict out)
{
    for (int64_t r = 0; r < num_rows; r++, x += stride, out += stride, c += M) {
        #pragma omp simd
        for (int64_t j = 0; j < num_keys; j++) {
            T value = c[M - 1];
            #pragma GCC unroll 40
            for (int k = M - 2; k >= 0; k--) value = value * x[j] + c[k];
            out[j] = weight ? weight[j] * value : value;
        }
    }
}
""")


class NativePowers(NamedTuple):
    """The passes of :mod:`pyg_bsl.ops.power_sums` in compiled code.

    Args:
        library: What was compiled, for one power ``m``.
        m: The power.
    """

    library: Any
    m: int

    def shares(self, x: Tensor, least: Tensor) -> Tensor:
        """From half the scores to x over its largest in place; that, ``[R, 1]``, from ``least``."""
        top = least.clone()
        call(self.library.shares, *x.shape, x.stride(0), x, top)
        return top

    def gaps(
        self, x: Tensor, y: Tensor, weight: Tensor | None, least: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """As :meth:`PlainPowers.gaps <pyg_bsl.ops.power_sums.PlainPowers.gaps>`."""
        top, total, lower = least.clone(), torch.empty_like(least), torch.empty_like(least)
        call(self.library.gaps, *x.shape, x.stride(0), x, weight, y, top, total, lower)
        return top, total, lower

    def gap_slopes(
        self,
        weight: Tensor | None,
        times: Tensor,
        y: Tensor,
        top: Tensor,
        total: Tensor,
        lower: Tensor,
    ) -> Slopes:
        """What makes the slopes of all tiles by :meth:`gaps`; ``top`` holds what it is at least.

        Args:
            weight: Weight of each key, ``[N]``.
            times: ``m`` of each row, 0 where its keys weigh nothing, ``[R, 1]``.
            y: As there.
            top: What it returns, here and in the next two: ``[R, 1]`` each.
            total: Sums of powers ``m``.
            lower: Sums of powers ``m - 1``.
        """
        return Slopes(self.library.gap_slopes, (weight, times, y, top, total, lower))

    def sums(self, x: Tensor, weight: Tensor | None, scratch: Tensor) -> Tensor:
        """Sums over each row of the weighted powers 1 to ``m`` of ``x``, ``[R, m]``."""
        out = x.new_empty(x.size(0), self.m)
        call(self.library.power_sums, *x.shape, x.stride(0), x, weight, out)
        return out

    def polynomial(
        self, coefficient: Tensor, x: Tensor, weight: Tensor | None, out: Tensor
    ) -> None:
        """``out = weight * (c_0 + c_1 x + ...)`` with coefficients ``[R, m]`` of each row."""
        call(self.library.polynomial, *x.shape, x.stride(0), x, weight, coefficient, out)


def native_powers(m: int, like: Tensor, size: int) -> NativePowers | None:
    """The passes at power ``m`` for tiles of a tensor's type; None where that does not pay.

    Args:
        m: The power.
        like: A tensor of the type.
        size: Elements of all tiles together.

    Raises:
        ValueError: If the setting that forbids or demands compiled code is none that is known.
    """
    if not pays(like, size):
        return None
    double = like.dtype == torch.float64
    source = _LOOPS.substitute(
        type="double" if double else "float",
        power=m,
        lanes=8 if double else 16,
        tiny="DBL_MIN" if double else "FLT_MIN",
        squares=" ".join(_squares(m - 1)),
    )
    library = compiled(source)
    return None if library is None else NativePowers(library, m)


def _squares(m: int) -> Iterator[str]:
    """Statements that multiply ``power`` by ``x`` to the power of ``m``.

    One by one: GCC does not vectorize what is around a loop, though it unrolls it.
    """
    while m > 0:
        if m % 2:
            yield "power *= x;"
        m //= 2
        if m > 0:
            yield "x *= x;"
