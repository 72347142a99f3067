"""C code that walks over all tiles of a thread, whatever is made of the scores of a row."""

from __future__ import annotations

_OWN = r"""
#define ROOM(rows, dim) (PADDED(rows) * PANEL * sizeof(T))
static void add_gradients(int64_t rows, int64_t num_keys, int64_t dim, const T *slope,
                          int64_t stride, const void *key, const T *query, T *grad_query,
                          T *grad_key, void *room)
{
    gradients(rows, num_keys, dim, slope, stride, key, query, grad_query, grad_key, room);
}
"""

_LOW = r"""
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

_WALK = r"""
// Puts slopes in the place of the scores of some rows, the first of which is number `first` of what
// `state` points to, and finds what each row's slopes are to be multiplied by.
typedef void MakeSlopes(int64_t first, int64_t rows, int64_t num_keys, T *tile, int64_t stride,
                        T *const *state, T *share);

// Slopes and gradients of queries, `height` at a time; the gradient to a query is still to be
// multiplied by its share. Scores are dropped by a mask, or by rows, ascending, and columns; NULL
// is none.
void walk(int64_t num_queries, int64_t num_keys, int64_t dim, int64_t height, const T *query,
          const T *packed, const void *key, T *tile, int64_t stride, const char *mask,
          int64_t num_drops, const int64_t *drop_row, const int64_t *drop_col, MakeSlopes *make,
          T *const *state, T *share, T *grad_query, T *grad_key)
{
    T *scaled = aligned_alloc(64, PADDED(height) * dim * sizeof(T));
    void *room = aligned_alloc(64, ROOM(height, dim));
    for (int64_t first = 0; first < num_queries; first += height) {
        const int64_t rows = least(height, num_queries - first);
        scores(rows, num_keys, dim, query, packed, tile, stride);
        for (; num_drops > 0 && *drop_row < first + rows; num_drops--)
            tile[(*drop_row++ - first) * stride + *drop_col++] = -INFINITY;
        if (mask)
            for (int64_t r = 0; r < rows; r++)
                for (int64_t j = 0; j < num_keys; j++)
                    if (mask[(first + r) * num_keys + j]) tile[r * stride + j] = -INFINITY;
        make(first, rows, num_keys, tile, stride, state, share + first);
        for (int64_t r = 0; r < rows; r++)
            for (int64_t k = 0; k < dim; k++)
                scaled[r * dim + k] = share[first + r] * query[r * dim + k];
        add_gradients(rows, num_keys, dim, tile, stride, key, scaled, grad_query, grad_key, room);
        query += rows * dim;
        grad_query += rows * dim;
    }
    free(scaled);
    free(room);
}
"""


def walk_code(low: bool) -> str:
    """The code, for what :mod:`pyg_bsl.ops.native_tiles` defines before it.

    Args:
        low: Whether gradients are products of bfloat16 numbers.
    """
    return (_LOW if low else _OWN) + _WALK
