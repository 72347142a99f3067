"""Walking over lazy scores in tiles that stay in cache."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from pyg_bsl.ops.native_tiles import LINE_BYTES, RowGradients, Slopes, native_tiles
from pyg_bsl.ops.scores import LazyScores

CPU_TILE = 1 << 19
"""Elements of a tile on the CPU: 2 MiB of float32, about what a core caches."""

DEVICE_TILE = 1 << 24
"""Elements of a tile elsewhere: enough to fill a GPU."""


@dataclass(frozen=True)
class RowBlock:
    """Queries ``q0:q1`` and the rows ``b0:b1`` of the loss that they stand for."""

    q0: int
    q1: int
    b0: int
    b1: int


def tile_size(device: torch.device) -> int:
    """Elements of one tile on ``device``."""
    return CPU_TILE if device.type == "cpu" else DEVICE_TILE


class TileScores:
    """Scores of a block of queries against a block of keys, in one reused buffer.

    Dropped scores are set to a fill value. A spare column takes the drops that belong to other
    blocks of keys, so that no size depends on the data; rows start at lines of the cache. The
    products of the gradients take :attr:`LazyScores.gemm <pyg_bsl.ops.LazyScores.gemm>` numbers;
    scores and sums over several tiles are of the queries' type. All of it is done in compiled code
    where that pays.

    A block of keys is laid out for the product once and serves until another one is asked for:
    walk over keys outside and queries inside.

    Args:
        scores: The lazy scores to walk over.
        most_queries: Largest number of queries in a block.
        most_keys: Largest number of keys in a block.
    """

    def __init__(self, scores: LazyScores, most_queries: int, most_keys: int) -> None:
        self.scores = scores
        self.width = min(most_keys, scores.key.size(0))
        height = min(most_queries, scores.query.size(0))
        line = LINE_BYTES // scores.query.element_size()
        self._stride = -(-(self.width + 1) // line) * line
        self._buffer = scores.query.new_empty(height, self._stride)
        self._low = scores.gemm is not None and scores.query.dtype == torch.float32
        self._low_key = (0, 0), scores.key[:0]
        low = self._low and scores.gemm == torch.bfloat16
        self._native = native_tiles(scores.query, scores.key, low)
        self._columns = (0, 0), scores.key[:0]
        if self._low and (self._native is None or not self._native.low):
            self._low_slope = scores.query.new_empty(height * self.width, dtype=scores.gemm)

    def fill(self, tile: Tensor, q0: int, q1: int, c0: int, c1: int, value: float) -> None:
        """Write ``value`` where the scores of queries ``q0:q1`` and keys ``c0:c1`` are dropped.

        ``tile`` is what the call returned, or a tensor like it from :meth:`like`.
        """
        drop = self.scores.drop
        if isinstance(drop, Tensor):
            tile.masked_fill_(drop[q0:q1, c0:c1], value)
        elif drop is not None and drop.bounds[q0] < drop.bounds[q1]:
            part = slice(drop.bounds[q0], drop.bounds[q1])
            row, col = drop.row[part] - q0, drop.col[part]
            if c1 - c0 < self.scores.key.size(0):
                inside = (col >= c0) & (col < c1)
                col = torch.where(inside, col - c0, self.width)
            whole = tile.as_strided((q1 - q0, self.width + 1), (self._stride, 1))
            whole.index_put_((row, col), tile.new_full((), value))

    def like(self, tile: Tensor) -> Tensor:
        """An uninitialised tensor of the tile's shape with the spare column behind it."""
        return tile.new_empty(tile.size(0), self._stride)[:, : tile.size(1)]

    def __call__(self, q0: int, q1: int, c0: int, c1: int, fill: float = -torch.inf) -> Tensor:
        """Scores of queries ``q0:q1`` against keys ``c0:c1``; overwritten by the next call."""
        tile = self._buffer[: q1 - q0, : c1 - c0]
        query, columns = self.scores.query[q0:q1], self._key(c0, c1)
        if self._native is not None:
            self._native.scores(query, columns, tile)
        else:
            torch.mm(query, columns, out=tile)
        self.fill(tile, q0, q1, c0, c1, fill)
        return tile

    def add_gradients(
        self,
        slope: Tensor,
        query: Tensor,
        c0: int,
        c1: int,
        grad_query: Tensor,
        grad_key: Tensor,
    ) -> None:
        """Add ``slope @ key[c0:c1]`` to ``grad_query`` and ``slope.T @ query`` to ``grad_key``.

        Args:
            slope: Slopes of a tile, ``[q, c1 - c0]``.
            query: What the slopes meet for the keys' gradient, ``[q, D]``.
            c0: First key of the tile.
            c1: Key behind its last.
            grad_query: ``[q, D]``.
            grad_key: ``[c1 - c0, D]``.
        """
        key = self.scores.key[c0:c1]
        if not self._low:
            if self._native is not None:
                self._native.add_gradients(slope, query, key, grad_query, grad_key)
            else:
                grad_query.addmm_(slope, key)
                grad_key.addmm_(slope.t(), query)
            return
        native = self._native if self._native is not None and self._native.low else None
        if native is not None:
            native.add_low_gradients(slope, query, self._rounded(c0, c1), grad_query, grad_key)
            return
        low = self._low_slope[: slope.numel()].view(slope.shape).copy_(slope)
        grad_query += low @ self._rounded(c0, c1)
        grad_key += low.t() @ query.to(low.dtype)

    def exponentials(self, tile: Tensor) -> Tensor:
        """Exponentials of a tile in place; their sums over its rows, ``[q]``."""
        if self._native is not None:
            return self._native.exponentials(tile)
        return tile.exp_().sum(1)

    def log_sum_slopes(self, weight: Tensor, total: Tensor, top: Tensor | None) -> Slopes | None:
        """What makes slopes of the log-sums of some queries' logits for :meth:`walk`, if compiled.

        Logits are scores and log-weights.

        Args:
            weight: Weight of each log-sum, ``[q]``.
            total: Where to write the sums of the exponentials of logits less ``top``, ``[q]``.
            top: Where to write the largest logit of each query, ``[q]``, 0 where all are dropped;
                :obj:`None` to take nothing off.
        """
        if self._native is None:
            return None
        state = self.scores.log_weight, weight, total, top
        return Slopes(self._native.library.log_sum_slopes, state)

    def walk(self, part: slice, slopes: Slopes | None, grads: RowGradients) -> bool:
        """Slopes of all scores of some queries, and their gradients, a tile after the other.

        Args:
            part: The queries.
            slopes: What makes the slopes; :obj:`None` where that is not compiled.
            grads: Where to write what is found of these queries.

        Returns:
            Whether that was done: only compiled code does it.
        """
        native, drop = self._native, self.scores.drop
        if native is None or slopes is None or (self._low and not native.low):
            return False
        gone: Tensor | tuple[Tensor, Tensor] | None = None
        if isinstance(drop, Tensor):
            gone = drop[part].contiguous()
        elif drop is not None:
            cut = slice(drop.bounds[part.start], drop.bounds[part.stop])
            gone = drop.row[cut].long() - part.start, drop.col[cut].long().contiguous()
        every = 0, self.scores.key.size(0)
        native.walk(
            self.scores.query[part],
            self._key(*every),
            self._rounded(*every) if native.low else self.scores.key,
            self._buffer[:, : self.width],
            gone,
            slopes,
            grads,
        )
        return True

    def _rounded(self, c0: int, c1: int) -> Tensor:
        """Keys ``c0:c1`` as the products of the gradients take them, where that is rounded."""
        if self._low_key[0] != (c0, c1):
            key = self.scores.key[c0:c1]
            if self._native is not None and self._native.low:
                low_key = self._native.pair_rows(key)
            else:
                low_key = key.to(self.scores.gemm)
            self._low_key = (c0, c1), low_key
        return self._low_key[1]

    def _key(self, c0: int, c1: int) -> Tensor:
        """Keys ``c0:c1`` as columns: a product with them is the faster for it."""
        if self._columns[0] != (c0, c1):
            key = self.scores.key[c0:c1]
            packed = key.t().contiguous() if self._native is None else self._native.pack(key)
            self._columns = (c0, c1), packed
        return self._columns[1]
