"""Streamed reductions in compiled code, where GCC is at hand.

A kernel's :class:`~pyg_bsl.ops.formula.Formula` is put into the loops below and compiled by the
system's GCC when it is first used on much data, and kept. Value, derivative and exponential of a
score are then made in registers, a row at a time, where PyTorch writes the result of every
operation to memory and reads it for the next.
"""

from __future__ import annotations

from string import Template

import torch
from torch import Tensor

from pyg_bsl.ops.compiler import call, compiled, pays
from pyg_bsl.ops.formula import Formula, formula
from pyg_bsl.ops.reduction import Reduce, Reduction
from pyg_bsl.ops.tiles import RowBlock

_LOOPS = Template(r"""
#include <math.h>
#include <stdint.h>

typedef $type T;
#define F(name) name$suffix

#ifdef __clang__
#error "It would call the functions below number by number, slower than PyTorch: GCC with glibc"
#endif
#define VECTOR(name) extern __attribute__((simd("notinbranch"))) T F(name)(T);
VECTOR(exp) VECTOR(expm1) VECTOR(log) VECTOR(log1p) VECTOR(tanh) VECTOR(atan)

#define CHUNK 1024  // keys whose sum is taken in T; the sum of chunks is taken in double

// Reduces rows whose scores are rows of `tile`, -INFINITY where dropped. Unless `scale` is NULL,
// adds the gradients by the scores to `grad`, which lies as `tile` does.
void reduce(int64_t num_rows, int64_t num_keys, int64_t stride, const T *tile, T *grad,
            const int64_t *query, const T *arg, const T *weight, const T *constant,
            const T *scale, T *out, T *grad_arg, T *scratch)
{
    T *restrict value = scratch;
    $locals
    for (int64_t r = 0; r < num_rows; r++, arg += $num_args, grad_arg += $num_args) {
        const T *restrict score = tile + query[r] * stride;
        T *restrict g = grad + query[r] * stride;
        $arguments
        T top = -INFINITY;
        #pragma omp simd reduction(max : top)
        for (int64_t j = 0; j < num_keys; j++) {
            const int dropped = $dropped;
            const T s = dropped ? 0 : score[j];
            $formula
            const T x = dropped ? $nothing : $value;
            top = x > top ? x : top;
            value[j] = x;
            $slopes
        }
        top = top == -INFINITY ? 0 : top;
        double sum = 0$zeros;
        for (int64_t start = 0; start < num_keys; start += CHUNK) {
            const int64_t end = start + CHUNK < num_keys ? start + CHUNK : num_keys;
            T part = 0$part_zeros;
            #pragma omp simd reduction(+ : part$part_names)
            for (int64_t j = start; j < end; j++) {
                const T e = $measure;
                part += $summand;
                slope0[j] *= e;
                $sum_parts
            }
            sum += part;
            $sum_chunks
        }
        out[r] = sum == 0 ? 0 : (T)($result);
        if (!scale) continue;
        const double factor = sum == 0 ? 0 : (double)scale[r] / $divisor;
        $grad_args
        const T times = (T)factor;
        #pragma omp simd
        for (int64_t j = 0; j < num_keys; j++) g[j] += times * slope0[j];
    }
}
""")


def _source(form: Formula, dtype: torch.dtype, log: bool, weighted: bool) -> str:
    args = range(1, len(form.slopes))
    double = dtype == torch.float64

    def each(line: str) -> str:
        return " ".join(line.replace("#", str(n)) for n in args)

    dropped = "(score[j] == -INFINITY" + (" || weight[j] == 0)" if weighted else ")")
    weight = "weight[j]" if weighted else "1"
    return _LOOPS.substitute(
        type="double" if double else "float",
        suffix="" if double else "##f",
        num_args=len(args),
        locals=" ".join(
            [f"const T c{n} = constant[{n}];" for n in range(len(form.constants))]
            + [f"T *restrict slope{n} = scratch + {n + 1} * num_keys;" for n in (0, *args)]
        ),
        arguments=" ".join(f"const T a{n - 1} = arg[{n - 1}];" for n in args),
        dropped=dropped,
        nothing="-INFINITY" if log else "0",
        formula=form.text,
        value=form.value,
        slopes=" ".join(
            f"slope{n}[j] = dropped ? 0 : {name};" for n, name in enumerate(form.slopes)
        ),
        zeros=each(", sum#= 0"),
        part_zeros=each(", part# = 0"),
        part_names=each(", part#"),
        measure=f"F(exp)(value[j] - top) * {weight}" if log else f"{dropped} ? 0 : {weight}",
        summand="e" if log else "e * value[j]",
        sum_parts=each("part# += e * slope#[j];"),
        sum_chunks=each("sum# += part#;"),
        result="log(sum) + top" if log else "sum",
        divisor="sum" if log else "1",
        grad_args=each("grad_arg[# - 1] = (T)(factor * sum#);"),
    )


def native(task: Reduction) -> Reduce | None:
    """The reduction in compiled code; None where that does not pay or cannot be had.

    Raises:
        ValueError: If the setting is none that is known.
    """
    arg, num_keys = task.arg, task.scores.key.size(0)
    if not pays(arg, arg.size(0) * num_keys):
        return None
    form = formula(task.kernel, arg.size(1), arg.dtype)
    if form is None:
        return None
    library = compiled(_source(form, arg.dtype, task.log, task.weight is not None))
    if library is None:
        return None
    constant = torch.tensor(form.constants, dtype=arg.dtype)

    def reduce(block: RowBlock, tile: Tensor, grad: Tensor) -> None:
        b = slice(block.b0, block.b1)
        num_rows = block.b1 - block.b0
        query = task.query[b] - block.q0
        scale = None if task.scale is None else task.scale[b]
        scratch = arg.new_empty((2 + arg.size(1)) * num_keys)
        inputs = tile, grad, query, arg[b], task.weight, constant, scale
        tensors = *inputs, task.out[b], task.grad_arg[b], scratch
        call(library.reduce, num_rows, num_keys, tile.stride(0), *tensors)

    return reduce
