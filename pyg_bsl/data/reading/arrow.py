"""Pairs from the columns of an Arrow table."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from pyg_bsl.data.errors import DataError
from pyg_bsl.data.reading.pairs import Pairs
from pyg_bsl.data.reading.values import BadValueError, ids, numbers, times


def pairs_of(
    path: Path, columns: Mapping[str, Any], line_of: Callable[[int], int], unit: str = "line"
) -> Pairs:
    """The pairs of a table.

    Args:
        path: The file, for messages.
        columns: Arrow chunked arrays: ``user``, ``item``, perhaps ``rating`` and ``time``.
        line_of: The line, from 1, of a row from 0.
        unit: What ``line_of`` counts.

    Raises:
        DataError: If an id is missing, or a rating or time is not a number.
    """
    try:
        user, user_ids = ids(columns["user"], "user")
        item, item_ids = ids(columns["item"], "item")
        rating = numbers(columns["rating"], "rating") if "rating" in columns else None
        time = times(columns["time"]) if "time" in columns else None
    except BadValueError as bad:
        raise DataError(str(bad), path, line_of(bad.row), unit) from None
    row = np.arange(len(user))
    return Pairs(path, user, item, user_ids, item_ids, row, line_of, unit, rating, time)
