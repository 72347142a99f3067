"""Walking over all tiles of lazy scores on several threads."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import torch
from torch import Tensor

from pyg_bsl.ops.compiler import processor_has
from pyg_bsl.ops.native_tiles import LOW_ROWS
from pyg_bsl.ops.scores import LazyScores
from pyg_bsl.ops.tiles import TileScores, tile_size
from pyg_bsl.ops.workers import num_workers, share

T = TypeVar("T")

MOST_KEYS = 1 << 16
"""More keys are not taken whole, but a block of them at a time."""

LEAST_QUERIES = 48
"""Queries of a tile of all keys, at least: the sum of the keys' gradient passes through memory once
for each tile, which fewer would not be worth."""

MATRIX_UNITS = 2
"""So many times as many with matrix units, which are done before the rest has come from memory."""

KEYS_PER_TILE = 2048

MOST_SUMS = 1 << 26
"""Numbers that the threads' own sums of the keys' gradient may take together: 256 MiB."""


def fits_whole_rows(scores: LazyScores) -> bool:
    """Whether a tile of all keys, and a sum of the keys' gradient a thread, is small (CPU only)."""
    return scores.query.device.type == "cpu" and scores.key.size(0) <= MOST_KEYS


def walk_rows(
    scores: LazyScores,
    visit: Callable[[slice, Tensor, TileScores, Tensor], None],
    visit_all: Callable[[slice, TileScores, Tensor], bool] = lambda *_: False,
) -> Tensor:
    """Gradient of the keys, ``[N, D]``, to which ``visit`` adds for each block of queries.

    Blocks are shared among threads, each with a tile and a sum of its own. ``visit`` gets the
    queries, their scores against all keys (overwritten by the next block), what made them, and the
    sum. Before it ``visit_all`` is asked to do all blocks of a thread: it gets their queries.
    """
    num_queries, num_keys = max(1, scores.query.size(0)), scores.key.size(0)
    device = scores.query.device
    size = tile_size(device)
    # Half a tile is worth a thread. A sum of its own costs it as much memory as the keys.
    workers = min(2 * num_queries * num_keys // size, MOST_SUMS // scores.key.numel())
    workers = num_workers(max(1, min(workers, num_queries)), device)
    on_cpu = device.type == "cpu"
    if on_cpu and scores.gemm == torch.bfloat16 and processor_has("amx_bf16"):
        size *= MATRIX_UNITS
    most = max(LEAST_QUERIES, size // num_keys)
    num_blocks = -(-num_queries // (most * workers)) * workers  # as many for each thread
    most = -(-num_queries // num_blocks)
    if scores.gemm is not None:
        most = -(-most // LOW_ROWS) * LOW_ROWS
    num_blocks = -(-num_queries // most)

    def work(blocks: range) -> Tensor:
        grad_key = torch.zeros_like(scores.key)
        tiles = TileScores(scores, most, num_keys)
        queries = range(scores.query.size(0))[blocks.start * most : blocks.stop * most]
        if visit_all(slice(queries.start, queries.stop), tiles, grad_key):
            return grad_key
        for q0 in queries[::most]:
            q1 = min(q0 + most, queries.stop)
            visit(slice(q0, q1), tiles(q0, q1, 0, num_keys), tiles, grad_key)
        return grad_key

    total, *others = share(work, num_blocks, workers)
    for other in others:
        total += other
    return total


def walk_keys(
    scores: LazyScores,
    start: Callable[[], T],
    visit: Callable[[slice, slice, Tensor, TileScores, T], None],
) -> list[T]:
    """What ``start`` made on each thread, after ``visit`` has seen all tiles of its keys.

    Each thread has keys of its own, so that what belongs to keys needs no sum over threads.
    ``visit`` gets the queries and the keys of a tile, the tile (overwritten by the next), what made
    it, and what ``start`` made.
    """
    num_queries, num_keys = scores.query.size(0), scores.key.size(0)
    device = scores.query.device
    size = tile_size(device)
    workers = num_workers(-(-num_keys // KEYS_PER_TILE), device)
    width = min(num_keys, KEYS_PER_TILE if device.type == "cpu" else size // 256)
    num_blocks = -(-num_keys // (width * workers)) * workers  # as many for each thread
    width = -(-num_keys // num_blocks)
    height = max(1, size // width)

    def work(blocks: range) -> T:
        made = start()
        tiles = TileScores(scores, height, width)
        for c0 in range(blocks.start * width, min(blocks.stop * width, num_keys), width):
            c1 = min(c0 + width, num_keys)
            for q0 in range(0, num_queries, height):
                q1 = min(q0 + height, num_queries)
                visit(slice(q0, q1), slice(c0, c1), tiles(q0, q1, c0, c1), tiles, made)
        return made

    return share(work, num_blocks, workers)


def same_weight(grad: Tensor) -> float | None:
    """The weight of every row if it is the same for all of them, else None."""
    weight = float(grad.sum()) / max(grad.numel(), 1)
    rtol = 1e-5 if grad.dtype == torch.float32 else 1e-12
    same = torch.allclose(grad, grad.new_full((), weight).expand_as(grad), rtol=rtol, atol=0)
    return weight if same else None
