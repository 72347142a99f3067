"""The pairs of one file, and where each stands in it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pyg_bsl.data.errors import DataError


@dataclass(frozen=True)
class Pairs:
    """The pairs of one file.

    Args:
        path: The file.
        user: Position of each pair's user in ``user_ids``, ``[E]``.
        item: Position of each pair's item in ``item_ids``, ``[E]``.
        user_ids: Raw id of each user, without repeats.
        item_ids: Raw id of each item, without repeats.
        row: Number of each pair in the file, from 0, ``[E]``.
        line_of: The line, from 1, on which the pair of a number stands.
        unit: ``"line"``, or ``"row"`` in files without lines.
        rating: Rating of each pair, ``[E]``.
        time: Time of each pair, ``[E]``.
    """

    path: Path
    user: NDArray[np.int64]
    item: NDArray[np.int64]
    user_ids: Sequence[str]
    item_ids: Sequence[str]
    row: NDArray[np.int64]
    line_of: Callable[[int], int]
    unit: str = "line"
    rating: NDArray[np.float64] | None = None
    time: NDArray[np.int64] | NDArray[np.float64] | None = None

    def __len__(self) -> int:
        return self.row.size

    def keep(self, at: NDArray[np.bool_]) -> Pairs:
        """The pairs where the mask ``at`` ``[E]`` holds."""
        return replace(
            self,
            user=self.user[at],
            item=self.item[at],
            row=self.row[at],
            rating=None if self.rating is None else self.rating[at],
            time=None if self.time is None else self.time[at],
        )

    def error(self, at: NDArray[np.bool_], message: str) -> DataError:
        """The error that names the first pair where the mask ``at`` ``[E]`` holds."""
        row = int(self.row[at.argmax()])
        return DataError(message, self.path, self.line_of(row), self.unit)
