r"""The best items of each query, in compiled code for processors that multiply bytes (AVX512-VNNI).

Vectors are rounded to bytes, :math:`\mathbf{q} \approx \sigma_q \hat{\mathbf{q}}` and
:math:`\mathbf{x} \approx \sigma_x \hat{\mathbf{x}}`, whose products cost a fraction of exact ones.
What rounding can do to a score is bounded,

.. math::
    |\mathbf{q}^\top \mathbf{x} - \sigma_q \sigma_x \hat{\mathbf{q}}^\top \hat{\mathbf{x}}|
    \leq \|\mathbf{q}\| \, \|\mathbf{x} - \sigma_x \hat{\mathbf{x}}\|
    + \|\mathbf{q} - \sigma_q \hat{\mathbf{q}}\| \, \|\sigma_x \hat{\mathbf{x}}\|
    \leq \epsilon_q ,

so that an item which is below the :math:`k`-th largest rounded score by more than
:math:`2 \epsilon_q` is none of the best :math:`k`. All others are scored exactly: the result is,
for every input, that of exact scores alone.
"""

from __future__ import annotations

import torch
from torch import Tensor

from pyg_bsl.ops.compiler import call, compiled, pays, processor_has
from pyg_bsl.ops.workers import num_workers, share
from pyg_bsl.types import UserItems

LANES = 16
PANEL = 64  # items whose products are made together
GROUP = 16  # items that share one maximum
ROWS = 12  # queries that pass over the items together
LARGEST_DIM = 1024  # below it a sum of products of bytes is exact in float32
GROUPS_PER_PLACE = 4  # fewer groups than this for each of the k places tell too little

_CODE = r"""
#include <immintrin.h>
#include <math.h>
#include <stdint.h>
#include <string.h>

#if !defined(__AVX512F__) || !defined(__AVX512VNNI__)
#error "Written for processors that multiply bytes"
#endif

#define PANEL 64
#define GROUP 16
#define BLOCK (GROUP * 16)  // lane l of 16 vectors in a row is group l of their block
#define ROWS 6

typedef struct { float score; int64_t item; } Entry;

static inline int worse(Entry a, Entry b)
{
    return a.score < b.score || (a.score == b.score && a.item > b.item);
}

// The worst of the k entries of a heap stands first.
static void sift(Entry *heap, int64_t k, int64_t at)
{
    for (;;) {
        int64_t child = 2 * at + 1;
        if (child >= k) return;
        if (child + 1 < k && worse(heap[child + 1], heap[child])) child++;
        if (!worse(heap[child], heap[at])) return;
        const Entry entry = heap[at];
        heap[at] = heap[child];
        heap[child] = entry;
        at = child;
    }
}

static inline void offer(Entry *heap, int64_t k, Entry entry)
{
    if (!worse(heap[0], entry)) return;
    heap[0] = entry;
    sift(heap, k, 0);
}

static void clear(Entry *heap, int64_t k)
{
    for (int64_t n = 0; n < k; n++) heap[n] = (Entry){-INFINITY, INT64_MAX};
}

static inline float dot(const float *a, const float *b, int64_t dim)
{
    __m512 sum = _mm512_setzero_ps();
    for (int64_t d = 0; d < dim; d += 16) {
        const __mmask16 some = dim - d < 16 ? (__mmask16)((1 << (dim - d)) - 1) : (__mmask16)-1;
        sum = _mm512_fmadd_ps(_mm512_maskz_loadu_ps(some, a + d),
                              _mm512_maskz_loadu_ps(some, b + d), sum);
    }
    return _mm512_reduce_add_ps(sum);
}

// Rounded scores of `rows` queries against a panel of items.
static inline __attribute__((always_inline)) void
round_scores(const int rows, int64_t quads, const int32_t *query, const uint8_t *packed,
             const float *scale, const int32_t *offset, float *tile, int64_t width)
{
    __m512i sum[ROWS][4];
    #pragma GCC unroll 8
    for (int r = 0; r < rows; r++)
        #pragma GCC unroll 4
        for (int v = 0; v < 4; v++) sum[r][v] = _mm512_set1_epi32(-offset[r]);
    for (int64_t q = 0; q < quads; q++, packed += 4 * PANEL) {
        __m512i item[4];
        #pragma GCC unroll 4
        for (int v = 0; v < 4; v++) item[v] = _mm512_loadu_si512(packed + 64 * v);
        #pragma GCC unroll 8
        for (int r = 0; r < rows; r++) {
            const __m512i four = _mm512_set1_epi32(query[r * quads + q]);
            #pragma GCC unroll 4
            for (int v = 0; v < 4; v++)  // the intrinsic costs GCC a copy of each sum
                __asm__("vpdpbusd %2, %1, %0" : "+v"(sum[r][v]) : "v"(item[v]), "v"(four));
        }
    }
    #pragma GCC unroll 8
    for (int r = 0; r < rows; r++)
        #pragma GCC unroll 4
        for (int v = 0; v < 4; v++)
            _mm512_storeu_ps(tile + r * width + 16 * v,
                             _mm512_mul_ps(_mm512_cvtepi32_ps(sum[r][v]),
                                           _mm512_loadu_ps(scale + 16 * v)));
}

// Best k items of queries `first` to `last`. Items are `width` with those that fill the last block.
void best(int64_t first, int64_t last, int64_t num_items, int64_t width, int64_t dim, int64_t quads,
          int64_t k, int64_t most, const float *query, const float *key, const int32_t *rounded,
          const int32_t *offset, const uint8_t *packed, const float *scale, const float *slack,
          const int64_t *ptr, const int64_t *seen, float *tile, float *top, void *memory,
          float *scores, int64_t *items)
{
    Entry *heap = memory;
    for (int64_t start = first; start < last; start += most) {
        const int64_t rows = last - start < most ? last - start : most;
        for (int64_t j = 0; j < width; j += PANEL)
            for (int64_t r = 0; r < rows; r += ROWS) {
                const int32_t *left = rounded + (start + r) * quads;
                const uint8_t *right = packed + j * 4 * quads;
                float *to = tile + r * width + j;
#define CASE(R)                                                                            \
    case R:                                                                                \
        round_scores(R, quads, left, right, scale + j, offset + start + r, to, width);     \
        break;
                switch (rows - r < ROWS ? rows - r : ROWS) {
                    CASE(1) CASE(2) CASE(3) CASE(4) CASE(5) CASE(6)
                }
            }
        for (int64_t r = 0; r < rows; r++) {
            const int64_t user = start + r;
            float *row = tile + r * width;
            for (int64_t j = num_items; j < width; j++) row[j] = -INFINITY;
            if (ptr)
                for (int64_t n = ptr[user]; n < ptr[user + 1]; n++) row[seen[n]] = -INFINITY;

            // The k-th largest maximum of a group: k rounded scores are at least that.
            clear(heap, k);
            for (int64_t j = 0; j < width; j += BLOCK) {
                __m512 high = _mm512_loadu_ps(row + j);
                for (int64_t v = 1; v < GROUP; v++)
                    high = _mm512_max_ps(high, _mm512_loadu_ps(row + j + 16 * v));
                _mm512_storeu_ps(top + j / GROUP, high);
                __mmask16 good =
                    _mm512_cmp_ps_mask(high, _mm512_set1_ps(heap[0].score), _CMP_GT_OQ);
                for (; good; good &= good - 1) {
                    const int64_t n = j / GROUP + __builtin_ctz(good);
                    offer(heap, k, (Entry){top[n], n});
                }
            }
            const float least = heap[0].score - slack[user];

            clear(heap, k);
            for (int64_t j = 0; j < width; j += BLOCK) {
                __mmask16 groups = _mm512_cmp_ps_mask(_mm512_loadu_ps(top + j / GROUP),
                                                      _mm512_set1_ps(least), _CMP_GE_OQ);
                if (!groups) continue;
                for (int64_t v = 0; v < GROUP; v++) {
                    __mmask16 good =
                        _mm512_mask_cmp_ps_mask(groups, _mm512_loadu_ps(row + j + 16 * v),
                                                _mm512_set1_ps(least), _CMP_GE_OQ);
                    for (; good; good &= good - 1) {
                        const int64_t item = j + 16 * v + __builtin_ctz(good);
                        if (row[item] == -INFINITY) continue;
                        const float score = dot(query + user * dim, key + item * dim, dim);
                        offer(heap, k, (Entry){score, item});
                    }
                }
            }
            // Worst first: take them out from the end of the list to its head.
            for (int64_t n = k - 1; n >= 0; n--) {
                scores[user * k + n] = heap[0].score;
                items[user * k + n] = heap[0].score == -INFINITY ? -1 : heap[0].item;
                heap[0] = heap[n];
                sift(heap, n, 0);
            }
        }
    }
}
"""


def native_topk(
    query: Tensor, key: Tensor, k: int, drop: UserItems | None
) -> tuple[Tensor, Tensor] | None:
    """Scores ``[Q, k]`` and items ``[Q, k]`` as :func:`~pyg_bsl.ops.topk.masked_topk` gives them.

    None where that does not pay, or scores are not those of float32 numbers of usual size.
    """
    (num_queries, dim), num_items = query.shape, key.size(0)
    width = -(-num_items // (GROUP * LANES)) * GROUP * LANES
    usual = query.dtype == torch.float32 and dim <= LARGEST_DIM and query.numel() * width > 0
    fast = processor_has("avx512_f", "avx512_vnni")
    enough = width >= GROUPS_PER_PLACE * GROUP * k
    if not (usual and fast and enough and pays(query, num_queries * num_items)):
        return None
    library = compiled(_CODE)
    if library is None:
        return None

    query, key = query.contiguous(), key.contiguous()
    rounded, unit, error = _bytes(query)
    key_bytes, key_unit, key_error = _bytes(key)
    # All in units of the query's bytes; twice the bound, and what float32 rounds.
    length, key_length = _lengths(query), _lengths(key).amax()
    float_error = 2e-7 * dim * length * key_length
    bound = length * key_error.amax() + error * (key_length + key_error.amax()) + float_error
    slack = (2.02 * bound / unit).float()
    largest = float(length.amax() * key_length)
    if not (slack.isfinite().all() and largest < torch.finfo(query.dtype).max):
        return None  # also where a number is NaN
    offset = 128 * rounded.sum(1, dtype=torch.int32)
    packed, scale = _pack(key_bytes, width), torch.zeros(width)
    scale[:num_items] = key_unit

    scores = query.new_empty(num_queries, k)
    items = torch.empty(num_queries, k, dtype=torch.long)
    ptr, seen = (None, None) if drop is None else (drop.ptr, drop.items)

    def work(blocks: range) -> None:
        first, last = blocks.start * ROWS, min(blocks.stop * ROWS, num_queries)
        tile, top = torch.empty(ROWS, width), torch.empty(width // GROUP)
        heap = torch.empty(2 * k, dtype=torch.long)
        sizes = first, last, num_items, width, dim, rounded.size(1) // 4, k, ROWS
        inputs = query, key, rounded, offset, packed, scale, slack, ptr, seen
        call(library.best, *sizes, *inputs, tile, top, heap, scores, items)

    num_blocks = -(-num_queries // ROWS)
    share(work, num_blocks, num_workers(num_blocks))
    return scores, items


def _bytes(x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Rows ``[R, D]`` as bytes ``[R, D']``, their units ``[R]`` and the lengths of the errors."""
    unit = (x.abs().amax(1) / 127).clamp_min(torch.finfo(x.dtype).tiny)
    whole = (x / unit[:, None]).round_()
    error = _lengths(x - whole * unit[:, None])
    whole = torch.nn.functional.pad(whole, (0, -x.size(1) % 4))
    return whole.to(torch.int8), unit, error


def _lengths(x: Tensor) -> Tensor:
    """Of rows, in float64: in float32 the square of a small number is 0."""
    return torch.linalg.vector_norm(x, dim=1, dtype=torch.double)


def _pack(key: Tensor, width: int) -> Tensor:
    """Bytes ``[I, D']`` above 0, four components of each item of a panel after the other."""
    above = torch.full((width, key.size(1)), 128, dtype=torch.uint8)
    above[: key.size(0)] = (key.short() + 128).to(torch.uint8)
    return above.view(-1, PANEL, key.size(1) // 4, 4).transpose(1, 2).contiguous()
