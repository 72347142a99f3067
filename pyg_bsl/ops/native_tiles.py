"""Operations on tiles, and the walk over them, in compiled code for processors with AVX-512.

A tile is flat: some queries against many keys of few components. Libraries' products pack such
matrices anew at every call, and each takes the tile through memory once more. Here keys are packed
once, both gradients are made of a piece of the tile while it is in the nearest cache, and an
exponential costs less than half of what it does in PyTorch.
"""

from __future__ import annotations

from functools import cache
from string import Template
from typing import Any, NamedTuple

import torch
from torch import Tensor

from pyg_bsl.ops.compiler import call, compiled, pays, pointers, processor_has
from pyg_bsl.ops.native_amx import AMX_CODE, AMX_DIM, has_amx
from pyg_bsl.ops.native_exp import exp_code
from pyg_bsl.ops.native_rows import walk_code
from pyg_bsl.ops.native_vector import LOW_VECTOR_CODE, VECTOR_CODE

PANEL_BYTES = 256  # four vectors of 512 bits
LINE_BYTES = 64
LOW_PANEL = 128  # keys of a piece of the slopes where these are rounded
LOW_ROWS = 32  # its rows end at a multiple

_CODE = Template(r"""
#include <math.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#ifndef __AVX512F__
#error "Written for 32 registers of 512 bits: with others PyTorch is faster"
#endif

typedef $type T;
#define LANES ((int64_t)(64 / sizeof(T)))
#define VECTORS 4
#define PANEL (VECTORS * LANES)  // keys of a piece of the tile
#define ROWS 6                   // with VECTORS, as many sums as leave registers for the factors
#define LOW_PANEL $low_panel
#define PADDED(rows) (((rows) + $low_rows - 1) / $low_rows * $low_rows)

typedef T Vector __attribute__((vector_size(64)));
typedef T UnalignedVector __attribute__((vector_size(64), aligned(sizeof(T)), may_alias));

static int64_t least(int64_t a, int64_t b) { return a < b ? a : b; }

$products
$exponentials
$walk""")


class Slopes(NamedTuple):
    """Compiled code that makes slopes of the scores of rows, in their place.

    Args:
        function: Of the C type ``MakeSlopes`` of :mod:`pyg_bsl.ops.native_rows`.
        state: Where it finds what it needs and writes what it finds.
    """

    function: Any
    state: tuple[Tensor | None, ...]


class RowGradients(NamedTuple):
    """Where to write what is found of queries whose slopes are made.

    Args:
        share: What the slopes of each query are to be multiplied by, ``[q]``; overwritten.
        grad_query: Gradient to the queries over their shares, ``[q, D]``; it is added to.
        grad_key: Gradient to the keys, ``[n, D]``; it is added to.
    """

    share: Tensor
    grad_query: Tensor
    grad_key: Tensor


class NativeTiles(NamedTuple):
    """Operations on tiles ``[q, n]`` whose rows lie ``stride(0)`` apart.

    Args:
        library: What was compiled.
        low: Whether gradients are products of bfloat16 numbers. Scores are then made of rounded
            numbers too, off by about 1e-5 of the vectors' lengths.
    """

    library: Any
    low: bool

    def pack(self, key: Tensor) -> Tensor:
        """Keys ``[n, D]`` laid out for :meth:`scores`."""
        count, dim = key.shape
        panel = PANEL_BYTES // key.element_size()
        packed = key.new_empty(_up(count, panel) * dim)
        call(self.library.pack, count, dim, key, packed)
        return packed

    def scores(self, query: Tensor, packed: Tensor, tile: Tensor) -> None:
        """``tile = query @ key.T``, from queries ``[q, D]`` and packed keys."""
        rows, count = tile.shape
        call(self.library.scores, rows, count, query.size(1), query, packed, tile, tile.stride(0))

    def add_gradients(
        self, slope: Tensor, query: Tensor, key: Tensor, grad_query: Tensor, grad_key: Tensor
    ) -> None:
        """Add ``slope @ key`` to ``grad_query`` and ``slope.T @ query`` to ``grad_key``."""
        rows, count = slope.shape
        piece = slope.new_empty(rows * PANEL_BYTES // slope.element_size())
        sizes = rows, count, key.size(1), slope, slope.stride(0)
        call(self.library.gradients, *sizes, key, query, grad_query, grad_key, piece)

    def pair_rows(self, x: Tensor) -> Tensor:
        """Rows ``[R, D]`` in bfloat16 for :meth:`add_low_gradients`."""
        rows, dim = x.shape
        pairs = torch.empty(_up(rows, LOW_ROWS) // 2 * dim, dtype=torch.int32)
        call(self.library.pair_rows, rows, dim, x, pairs)
        return pairs

    def add_low_gradients(
        self, slope: Tensor, query: Tensor, pairs: Tensor, grad_query: Tensor, grad_key: Tensor
    ) -> None:
        """:meth:`add_gradients` by products of bfloat16 numbers, from the keys as pairs of rows."""
        rows, count = slope.shape
        piece = torch.empty(_up(rows, LOW_ROWS) * LOW_PANEL, dtype=torch.int32)
        sizes = rows, count, query.size(1), slope, slope.stride(0)
        low_query = self.pair_rows(query)
        call(self.library.low_gradients, *sizes, pairs, low_query, grad_query, grad_key, piece)

    def exponentials(self, tile: Tensor) -> Tensor:
        """Exponentials of a tile in place; their sums over its rows, ``[q]``."""
        sums = tile.new_empty(tile.size(0))
        call(self.library.exponentials, *tile.shape, tile, tile.stride(0), sums)
        return sums

    def walk(
        self,
        query: Tensor,
        packed: Tensor,
        key: Tensor,
        tile: Tensor,
        gone: Tensor | tuple[Tensor, Tensor] | None,
        slopes: Slopes,
        grads: RowGradients,
    ) -> None:
        """Slopes of scores and their gradients, a tile of queries after the other.

        Args:
            query: Queries, ``[q, D]``.
            packed: Keys, as :meth:`pack` lays them out.
            key: Keys ``[n, D]``, or what :meth:`pair_rows` makes of them if :attr:`low`.
            tile: Room for the scores of as many queries as are taken at once.
            gone: Scores that do not count, and are set to ``-inf``: boolean ``[q, n]``, or rows,
                ascending, and columns.
            slopes: What puts slopes in their place.
            grads: Where to write what is found.
        """
        mask = gone if isinstance(gone, Tensor) else None
        row, col = gone if isinstance(gone, tuple) else (None, None)
        call(
            self.library.walk,
            *(query.size(0), tile.size(1), query.size(1), tile.size(0)),
            *(query, packed, key, tile, tile.stride(0), mask),
            *(0 if row is None else row.numel(), row, col),
            *(slopes.function, pointers(slopes.state), *grads),
        )


def native_tiles(query: Tensor, key: Tensor, low: bool = False) -> NativeTiles | None:
    """The operations for queries ``[Q, D]`` and keys ``[N, D]``; None where they do not pay.

    Nor where they do not fit: rows must fill vectors of the processor and lie one after the other.

    Args:
        query: Queries.
        key: Keys.
        low: Whether products of bfloat16 numbers are wanted too, where the processor has them.

    Raises:
        ValueError: If the setting that forbids or demands compiled code is none that is known.
    """
    if not processor_has("avx512_f") or not pays(query, query.size(0) * key.size(0)):
        return None
    if query.dtype != key.dtype:
        return None  # PyTorch says what is wrong
    fills = key.size(1) * key.element_size() % LINE_BYTES == 0 and key.size(1) > 0
    if not (fills and query.is_contiguous() and key.is_contiguous()):
        return None
    low = low and query.dtype == torch.float32
    if low and key.size(1) % AMX_DIM == 0 and has_amx():
        library = compiled(_source(query.dtype, low=True, amx=True))
        if library is not None:  # a compiler may be older than the processor
            return NativeTiles(library, low=True)
    if low and has_pair_products():
        library = compiled(_source(query.dtype, low=True, amx=False))
        if library is not None:
            return NativeTiles(library, low=True)
    library = compiled(_source(query.dtype, low=False, amx=False))
    return None if library is None else NativeTiles(library, low=False)


def has_pair_products() -> bool:
    """Whether the processor multiplies twice as many 16-bit numbers as float32 ones (AMD's do).

    Intel's instruction for bfloat16 takes as long for its pairs as two of float32.
    """
    capabilities: dict[str, object] = getattr(torch.cpu, "get_capabilities", dict)()
    amd = str(capabilities.get("cpu_name", "")).startswith("AMD")
    return amd and processor_has("avx512_bf16", "avx512_vnni")


def _up(count: int, step: int) -> int:
    return -(-count // step) * step


@cache
def _source(dtype: torch.dtype, low: bool, amx: bool) -> str:
    double = dtype == torch.float64
    return _CODE.substitute(
        type="double" if double else "float",
        low_panel=LOW_PANEL,
        low_rows=LOW_ROWS,
        exponentials=exp_code(double),
        walk=walk_code(low),
        products=AMX_CODE if amx else LOW_VECTOR_CODE if low else VECTOR_CODE,
    )
