r"""All layers of a propagation in compiled code, a slab of columns after the other.

A layer adds up, for each node, the rows of its neighbours, which lie anywhere: the time goes into
fetching them. Columns do not meet one another in a propagation, so that 16 of them are taken
through all layers before the next 16: a slab of the rows of one side of the graph is small enough
for the caches of the processors, which work on it together. Weights :math:`1/\sqrt{d_u d_i}` need
not be read: the rows are scaled by :math:`1/\sqrt{d}` before and after they are added. Neither need
indices have more than 16 bits where each side has fewer nodes than that counts.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from string import Template
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from pyg_bsl.ops.compiler import call, compiled
from pyg_bsl.ops.workers import share

LANES = 16  # columns of a slab: a cache line of float32
BLOCK = 4  # neighbours that `sum` adds at a time; lists of neighbours are filled up to a multiple
AHEAD = 64  # rows that are fetched before they are needed

_CODE = Template(r"""
#include <sched.h>
#include <stdint.h>
#ifdef __AVX512F__
#include <immintrin.h>
#endif

typedef $index Index;
typedef float Vector __attribute__((vector_size(64)));
typedef float UnalignedVector __attribute__((vector_size(64), aligned(4), may_alias));

typedef struct {
    int64_t first, last;  // its nodes to work on
    const int64_t *order;
    const float *scale;
    const int64_t *ptr;
    const Index *col;
    const float *x;
    float *out;
} Side;

// Layer 0, scaled.
static void enter(const Side *side, int64_t width, int64_t dim, Vector *to)
{
    for (int64_t i = side->first; i < side->last; i++) {
        __builtin_prefetch(side->x + side->order[i + $ahead] * dim);
        const float *from = side->x + side->order[i] * dim;
        Vector row = {0};
        if (width == $lanes) row = *(const UnalignedVector *)from;
        else for (int64_t j = 0; j < width; j++) row[j] = from[j];
        to[i] = row * side->scale[i];
    }
}

// Sum of the rows of a node's neighbours.
static inline Vector sum(const Side *side, int64_t node, const Vector *from)
{
    const Index *col = side->col + side->ptr[node], *end = side->col + side->ptr[node + 1];
    Vector a = {0}, b = a, c = a, d = a;
    for (; col < end; col += 4) {
        a += from[col[0]];
        b += from[col[1]];
        c += from[col[2]];
        d += from[col[3]];
    }
    return (a + b) + (c + d);
}

// A layer between, scaled.
static void layer(const Side *side, const Vector *start, const Vector *from, Vector *to)
{
    for (int64_t i = side->first; i < side->last; i++)
        to[i] = sum(side, i, from) * (side->scale[i] * side->scale[i]) + start[i];
}

// The last layer. It is written past the cache, as it is not read again here.
static void leave(const Side *side, int64_t width, int64_t dim, const Vector *start,
                  const Vector *from, float times)
{
    for (int64_t i = side->first; i < side->last; i++) {
        Vector row = sum(side, i, from) * side->scale[i];
        if (start) row += start[i] / side->scale[i];
        row *= times;
        float *to = side->out + side->order[i] * dim;
#ifdef __AVX512F__
        if (dim % $lanes == 0) {
            _mm512_stream_ps(to, (__m512)row);
            continue;
        }
#endif
        if (width == $lanes) *(UnalignedVector *)to = row;
        else for (int64_t j = 0; j < width; j++) to[j] = row[j];
    }
#ifdef __AVX512F__
    _mm_sfence();
#endif
}

// First node of one of some parts with about as many neighbours each, or behind the last part.
static int64_t cut(int64_t size, const int64_t *ptr, int64_t part, int64_t parts)
{
    int64_t low = 0, high = size;
    if (part == parts) return size;  // behind those without neighbours
    while (low < high) {
        const int64_t middle = (low + high) / 2;
        if (ptr[middle] < ptr[size] * part / parts) low = middle + 1;
        else high = middle;
    }
    return low;
}

// All layers, by one of some threads that work on the same slab: what one has fetched is near for
// the others. In each step of a slab they take parts as they come, usually one each, and go on when
// all are done: none waits for a thread that has not started. `taken` and `done` count, from 0, the
// parts of each step of each slab. The memory holds layer 0 and two that take turns, each of both
// sides, with a row of zeros behind either.
void propagate(int64_t num_layers, int64_t mean, int64_t dim, Vector *memory,
               int64_t parts, int64_t *taken, int64_t *done,
               int64_t size0, const int64_t *order0, const float *scale0, const int64_t *ptr0,
               const Index *col0, const float *x0, float *out0,
               int64_t size1, const int64_t *order1, const float *scale1, const int64_t *ptr1,
               const Index *col1, const float *x1, float *out1)
{
    const int64_t second = size0 + 1, stride = second + size1 + 1;
    for (int64_t column = 0; column < dim; column += $lanes) {
        const int64_t width = dim - column < $lanes ? dim - column : $lanes;
        for (int64_t step = 0; step <= num_layers; step++, taken++, done++) {
            const Vector *from = memory + (step > 1 ? 1 + step % 2 : 0) * stride;
            Vector *to = memory + (1 + (step + 1) % 2) * stride;
            for (int64_t n; (n = __atomic_fetch_add(taken, 1, __ATOMIC_RELAXED)) < parts;) {
                const Side sides[2] = {
                    {cut(size0, ptr0, n, parts), cut(size0, ptr0, n + 1, parts), order0, scale0,
                     ptr0, col0, x0 + column, out0 + column},
                    {cut(size1, ptr1, n, parts), cut(size1, ptr1, n + 1, parts), order1, scale1,
                     ptr1, col1, x1 + column, out1 + column}};
                for (int s = 0; s < 2; s++) {
                    const int64_t own = s ? second : 0, other = s ? 0 : second;
                    if (step == 0) enter(sides + s, width, dim, memory + own);
                    else if (step < num_layers)
                        layer(sides + s, memory + own, from + other, to + own);
                    else leave(sides + s, width, dim, mean ? memory + own : 0, from + other,
                               mean ? 1 / (float)(num_layers + 1) : 1);
                }
                __atomic_fetch_add(done, 1, __ATOMIC_RELEASE);
            }
            while (__atomic_load_n(done, __ATOMIC_ACQUIRE) < parts) sched_yield();
        }
    }
}
""")


class Side(NamedTuple):
    r"""The users, or the items, of a graph.

    They are numbered by cluster, and within one from many neighbours to few: what is added together
    lies together, and equally long loops follow one another.

    Args:
        order: The row of each node, ``[N]``, and ``AHEAD`` times row 0.
        scale: :math:`1/\sqrt{d}` of each node, ``[N]``.
        ptr: Where the neighbours of each node start, ``[N + 1]``.
        col: Numbers of the neighbours on the other side, and of a row of zeros behind its last
            where a list is filled up.
    """

    order: Tensor
    scale: Tensor
    ptr: Tensor
    col: Tensor

    @classmethod
    def of(
        cls,
        order: Tensor,
        counts: Tensor,
        first: Tensor,
        neighbours: Tensor,
        zeros: int,
        index: torch.dtype,
    ) -> Side:
        """Lists of neighbours in another order, filled up.

        Args:
            order: As above, ``[N]``.
            counts: Number of neighbours of each row, ``[N]``.
            first: Where those of each row start, ``[N]``.
            neighbours: The numbers of all neighbours, ``[E]``.
            zeros: Number of the row of zeros.
            index: Type of a number.
        """
        counts, first = counts[order], first[order]
        ptr = F.pad(((counts + BLOCK - 1) // BLOCK * BLOCK).cumsum(0), (1, 0))
        before = (counts.cumsum(0) - counts).repeat_interleave(counts)
        step = torch.arange(before.numel(), device=before.device) - before
        col = neighbours.new_full((int(ptr[-1]),), zeros)
        col[ptr[:-1].repeat_interleave(counts) + step] = neighbours[
            first.repeat_interleave(counts) + step
        ]
        return cls(F.pad(order, (0, AHEAD)), _scale(counts), ptr, col.to(index))


def _scale(counts: Tensor) -> Tensor:
    r""":math:`1/\sqrt{d}`; 1 for nodes without neighbours."""
    return counts.clamp(min=1).double().rsqrt().float()


class NativeLayers(NamedTuple):
    """A normalised bipartite adjacency, and code to propagate on it.

    Args:
        sides: Users and items.
        library: What was compiled.
        spare: Memory to use again, which is in the cache: new memory would take as long as a layer.
    """

    sides: tuple[Side, Side]
    library: Any
    spare: list[Tensor]

    @classmethod
    @torch.no_grad()
    def of(
        cls,
        ptr: Tensor,
        col: Tensor,
        value: Tensor,
        num_users: int | None = None,
        cluster: Tensor | None = None,
    ) -> NativeLayers | None:
        r"""Prepare a symmetric matrix; None where it is another or there is no compiler.

        Args:
            ptr: Row boundaries, ``[V + 1]``.
            col: Columns, ``[E]``.
            value: Values, ``[E]``: with :math:`d` entries in a row they have to be
                :math:`1/\sqrt{d_u d_i}`.
            num_users: Number of nodes on the first side; looked for where it is not given.
            cluster: Cluster of each node, ``[V]``.
        """
        if not col.numel():
            return None
        counts, col = ptr.diff(), col.int() if ptr.numel() <= 2**31 else col
        size = counts.numel()
        row = torch.arange(size, dtype=col.dtype, device=col.device).repeat_interleave(counts)
        scale = _scale(counts)
        error = scale[row].mul_(scale[col]).sub_(value).abs_().sub_(1e-6 * value)
        if not (error < 0).all():
            return None
        above = col > row
        cut = num_users
        if cut is None:
            cut = int(col[above].min()) if above.any() else 0
        if not (torch.equal(row < cut, above) and torch.equal(col >= cut, above)):
            return None
        del row, error, above
        small = max(cut, size - cut) < 2**16
        library = compiled(
            _CODE.substitute(index="uint16_t" if small else "int32_t", lanes=LANES, ahead=AHEAD)
        )
        if library is None:
            return None

        blocks = (counts + BLOCK - 1) // BLOCK
        key = blocks.max() - blocks
        if cluster is not None:
            key += cluster * (key.max() + 1)
        halves = slice(0, cut), slice(cut, size)
        orders = [key[half].argsort(stable=True) for half in halves]
        numbers = torch.cat([order.argsort() for order in orders]).to(col.dtype)[col]
        fill = [size - cut, cut]
        index = torch.uint16 if small else torch.int32
        sides = [
            Side.of(order, counts[half], ptr[:-1][half], numbers, zeros, index)
            for half, order, zeros in zip(halves, orders, fill, strict=True)
        ]
        return cls((sides[0], sides[1]), library, [])

    def propagate(self, tables: Sequence[Tensor], num_layers: int, mean: bool) -> Tensor:
        r"""The last of some layers, or the mean of all, ``[V, D]``.

        Args:
            tables: float32 rows of users and of items, ``[N, D]`` each.
            num_layers: Number of layers, 1 or more.
            mean: :math:`\sum_{k=0}^K \mathbf{A}^k \mathbf{x} / (K + 1)`, otherwise
                :math:`\mathbf{A} \mathbf{x}`, of one layer.
        """
        tables, sizes = [table.contiguous() for table in tables], [len(table) for table in tables]
        dim = tables[0].size(1)
        whole = tables[0].new_empty(sum(sizes), dim)
        if not whole.numel():
            return whole
        out = whole.split(sizes)
        workers = torch.get_num_threads()
        memory, num_steps = self._take(), -(-dim // LANES) * (num_layers + 1)
        taken, done = torch.zeros(2, num_steps, dtype=torch.int64, device="cpu")
        args: list[int | Tensor] = [num_layers, mean, dim, memory, workers, taken, done]
        for side, table, rows in zip(self.sides, tables, out, strict=True):
            args += [len(side.scale), *side, table, rows]
        share(lambda _: call(self.library.propagate, *args), workers, workers)
        self.spare.append(memory)
        return whole

    def _take(self) -> Tensor:
        """Memory for three layers of a slab, with a row of zeros behind either side."""
        with suppress(IndexError):
            return self.spare.pop()
        sizes = [len(side.scale) + 1 for side in self.sides]
        memory = torch.empty(3, sum(sizes), LANES, dtype=torch.float32, device="cpu")
        memory[:, torch.tensor(sizes).cumsum(0) - 1] = 0
        return memory
