"""Turning the columns of an Arrow table into ids and numbers."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

MISSING = frozenset(("", "nan", "NaN", "<NA>"))
"""What stands for a missing id."""


class BadValueError(Exception):
    """A value that breaks a rule, and the row it stands in.

    Args:
        row: The row, from 0.
        message: The rule and the value.
    """

    def __init__(self, row: int, message: str) -> None:
        super().__init__(message)
        self.row = row


def ids(column: Any, role: str) -> tuple[NDArray[np.int64], list[str]]:
    """Ids as positions in a list of names.

    Spaces around an id do not belong to it. Whole floats are written as integers, for that is what
    they were before a missing value made them floats.

    Args:
        column: Arrow chunked array.
        role: ``"user"`` or ``"item"``.

    Raises:
        BadValueError: If an id is missing, or is neither text on one line nor a whole number.
    """
    import pyarrow as pa

    rule = f"{role} ids must be text on one line or whole numbers"
    if pa.types.is_nested(column.type):
        raise BadValueError(0, f"{rule} (got {column[0].as_py()!r})")
    if not pa.types.is_dictionary(column.type):
        column = column.dictionary_encode()
    chunks = column.unify_dictionaries().chunks
    codes = np.concatenate([chunk.indices.fill_null(-1).to_numpy() for chunk in chunks])
    values = chunks[0].dictionary.to_pylist()
    positions: dict[str, int] = {}
    at = np.full(len(values) + 1, -1)  # the last is for code -1
    for code, value in enumerate(values):
        name = _name(value)
        if name is None or "\n" in name or "\r" in name:
            row = int((codes == code).argmax())
            raise BadValueError(row, f"{rule} (got {value!r})")
        if name not in MISSING:
            at[code] = positions.setdefault(name, len(positions))
    out = at[codes]
    if (out < 0).any():
        row = int((out < 0).argmax())
        raise BadValueError(
            row, f"the {role} id is missing: give every pair one, or leave the pair out"
        )
    return out, list(positions)


def _name(value: Any) -> str | None:
    if isinstance(value, str):
        return value.strip()
    if isinstance(value, float):
        return "" if value != value else str(int(value)) if value.is_integer() else None
    if isinstance(value, bytes):
        return value.decode(errors="replace").strip()
    return str(value) if isinstance(value, int) else "" if value is None else None


def numbers(column: Any, role: str) -> NDArray[np.float64]:
    """The numbers of a column.

    Args:
        column: Arrow chunked array.
        role: ``"rating"`` or ``"time"``.

    Raises:
        BadValueError: If a value is not a finite number.
    """
    import pyarrow as pa

    column = _trim(column)
    cast = _complete(column, pa.float64())
    if cast is None:
        row = _first_bad(column, pa.float64())
        value = column[row].as_py()
        raise BadValueError(
            row,
            f"the {role} must be a number (got {value!r}): put it right, leave the pair out, or "
            f"rename the column so that it is not taken for a {role}",
        )
    out: NDArray[np.float64] = cast.to_numpy()
    return out


def times(column: Any) -> NDArray[np.int64] | NDArray[np.float64]:
    """The times of a column: numbers as they are, dates (ISO 8601) as seconds since 1970.

    Args:
        column: Arrow chunked array.

    Raises:
        BadValueError: If a value is neither.
    """
    import pyarrow as pa

    column = _trim(column)
    first = column[:1]
    if pa.types.is_temporal(column.type) or _cast(first, pa.float64()) is None:
        for kind in (pa.timestamp("ns"), pa.timestamp("ns", "UTC")):
            if _cast(first, kind) is not None:
                return _seconds(column, kind)
    floats = numbers(column, "time")
    integers = _cast(column, pa.int64())
    if integers is not None:
        exact: NDArray[np.int64] = integers.to_numpy()
        return exact
    return floats.astype(np.int64) if (floats == np.trunc(floats)).all() else floats


def _seconds(column: Any, kind: Any) -> NDArray[np.int64] | NDArray[np.float64]:
    """Dates as seconds since 1970."""
    import pyarrow as pa

    dates = _complete(column, kind)
    if dates is None:
        row = _first_bad(column, kind)
        value = column[row].as_py()
        raise BadValueError(row, f"the time must be a date like the first (got {value!r})")
    nanoseconds: NDArray[np.int64] = dates.cast(pa.int64()).to_numpy()
    exact = not (nanoseconds % 10**9).any()
    return nanoseconds // 10**9 if exact else nanoseconds / 1e9


def _trim(column: Any) -> Any:
    import pyarrow as pa
    import pyarrow.compute as pc

    if pa.types.is_dictionary(column.type):
        column = column.cast(column.type.value_type)
    text = pa.types.is_string(column.type) or pa.types.is_large_string(column.type)
    return pc.utf8_trim_whitespace(column) if text else column


def _cast(column: Any, kind: Any) -> Any:
    """The column as another type, or :obj:`None` where that cannot be."""
    import pyarrow as pa

    try:
        return column.cast(kind)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
        return None


def _complete(column: Any, kind: Any) -> Any:
    """The column as another type, or :obj:`None` where that leaves a gap."""
    import pyarrow as pa
    import pyarrow.compute as pc

    out = _cast(column, kind)
    if out is None or out.null_count:
        return None
    gaps = pa.types.is_floating(kind) and not pc.all(pc.is_finite(out), min_count=0).as_py()
    return None if gaps else out


def _first_bad(column: Any, kind: Any) -> int:
    """The first row that leaves a gap as another type, by halving."""
    low, high = 0, len(column)
    while high - low > 1:
        middle = (low + high) // 2
        good = _complete(column[low:middle], kind) is not None
        low, high = (middle, high) if good else (low, middle)
    return low
