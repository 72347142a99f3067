"""Pairs in parquet files."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from pyg_bsl.data.errors import DataError
from pyg_bsl.data.reading.columns import Columns
from pyg_bsl.data.reading.pairs import Pairs
from pyg_bsl.data.reading.values import BadValueError, ids, numbers, times


def read_parquet(path: Path, columns: Columns) -> Pairs:
    """The pairs of a parquet file.

    Args:
        path: The file.
        columns: The columns asked for.

    Raises:
        DataError: If the file is not parquet or is empty, an id is missing, or a rating or time is
            not a number.
    """
    import pyarrow as pa
    from pyarrow import parquet

    try:
        with parquet.ParquetFile(path) as file:
            names = file.schema_arrow.names
            found = columns.find(path, len(names), names)
            table = file.read(columns=[names[at] for at in found.values()])
    except pa.ArrowInvalid as error:
        raise DataError(f"the file is not a parquet file ({error})", path) from None
    if table.num_rows == 0:
        raise DataError("the file is empty: it must hold pairs of a user and an item", path)
    column = {role: table[names[at]] for role, at in found.items()}
    try:
        user, user_ids = ids(column["user"], "user")
        item, item_ids = ids(column["item"], "item")
        rating = numbers(column["rating"], "rating") if "rating" in column else None
        time = times(column["time"]) if "time" in column else None
    except BadValueError as bad:
        raise DataError(str(bad), path, bad.row + 1, "row") from None
    row = np.arange(len(user))
    return Pairs(
        path, user, item, user_ids, item_ids, row, lambda row: row + 1, "row", rating, time
    )
