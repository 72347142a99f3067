"""Pairs in parquet files."""

from __future__ import annotations

from pathlib import Path

from pyg_bsl.data.errors import DataError
from pyg_bsl.data.reading.arrow import pairs_of
from pyg_bsl.data.reading.columns import Columns
from pyg_bsl.data.reading.pairs import Pairs


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
            # No threads: one that still ends when Python exits aborts it (apache/arrow#43604).
            table = file.read(columns=[names[at] for at in found.values()], use_threads=False)
    except pa.ArrowInvalid as error:
        raise DataError(f"the file is not a parquet file ({error})", path) from None
    if table.num_rows == 0:
        raise DataError("the file is empty: it must hold pairs of a user and an item", path)
    chosen = {role: table[names[at]] for role, at in found.items()}
    return pairs_of(path, chosen, lambda row: row + 1, "row")
