"""Pairs in tables of text: tsv, csv, or columns apart by spaces."""

from __future__ import annotations

import logging
from functools import partial
from itertools import islice
from typing import Any

from pyg_bsl.data.errors import DataError
from pyg_bsl.data.reading.arrow import pairs_of
from pyg_bsl.data.reading.columns import Columns
from pyg_bsl.data.reading.folder import suffix
from pyg_bsl.data.reading.pairs import Pairs
from pyg_bsl.data.reading.text import NAMES, Header, Text

log = logging.getLogger("pyg_bsl")


def read_delimited(text: Text, columns: Columns, header: Header) -> Pairs:
    """The pairs of a table, fast; a second, careful pass finds the line of a fault.

    Args:
        text: The file.
        columns: The columns asked for.
        header: Whether there is a header, or ``"auto"``.

    Raises:
        DataError: If a line is not a pair, an id is missing, or a rating or time is not a number.
    """
    rows = list(islice(text.rows(), 2))
    line, first = rows[0]
    skip = int(text.has_header(header, named=columns.any_named))
    if len(first) < 2:
        raise DataError(_not_a_pair(text, first), text.path, line)
    names = [name.strip() for name in first] if skip else None
    found = columns.find(text.path, len(first), names)
    line_of = partial(_line_of, text, skip)
    log.info("%s: the first line %s", text.path, "names the columns" if skip else "is a pair")
    if len(rows) == skip:
        raise DataError("the file is empty: it has a header and no pairs", text.path)
    table = _parse(text, len(first), skip, found)
    chosen = {role: table[str(at)] for role, at in found.items()}
    return pairs_of(text.path, chosen, line_of)


def _parse(text: Text, width: int, skip: int, found: dict[str, int]) -> Any:
    """The columns found, as an Arrow table with positions for names."""
    import pyarrow as pa
    from pyarrow import csv

    body = text.single_spaces() if text.delimiter == " " else text.body
    id_type = pa.dictionary(pa.int32(), pa.string())
    types = {str(at): pa.string() for at in found.values()}
    types |= {str(found[role]): id_type for role in ("user", "item")}
    try:
        table = csv.read_csv(
            pa.BufferReader(body.lstrip(b"\r\n")),
            # No threads: one that still ends when Python exits aborts it (apache/arrow#43604).
            read_options=csv.ReadOptions(
                column_names=[str(at) for at in range(width)], skip_rows=skip, use_threads=False
            ),
            parse_options=csv.ParseOptions(
                delimiter=text.delimiter,
                quote_char='"' if text.quoted else False,
                newlines_in_values=text.quoted,
            ),
            convert_options=csv.ConvertOptions(column_types=types, include_columns=list(types)),
        )
    except pa.ArrowInvalid as error:
        _check_rows(text, width)
        raise DataError(f"the file cannot be read ({error})", text.path) from None
    if text.quoted and b'"' in body and table.num_rows + skip != _count_lines(body):
        _check_rows(text, width)  # some field has a line break: is that meant?
    return table


def _count_lines(body: bytes) -> int:
    return sum(1 for line in body.split(b"\n") if line.strip(b"\r"))


def _check_rows(text: Text, width: int) -> None:
    """Raise for the first row that has not as many fields as the first."""
    for line, fields in text.rows():
        if len(fields) != width:
            raise DataError(_not_a_pair(text, fields, width), text.path, line)


def _not_a_pair(text: Text, fields: list[str], width: int | None = None) -> str:
    shown = text.delimiter.join(fields)
    shown = f"{shown[:60]}..." if len(shown) > 60 else shown
    rule = "two fields or more" if width is None else f"{width} fields, like the first line"
    message = (
        f"the line is not a pair: it must have {rule}, with {NAMES[text.delimiter]} between them "
        f"(got {len(fields)}: {shown!r})"
    )
    if suffix(text.path) == ".txt" and text.delimiter != ",":
        message += (
            "; if the file holds adjacency lists, give each user one line, or pass layout='lists'"
        )
    return message


def _line_of(text: Text, skip: int, row: int) -> int:
    """The line of a row, header not counted, in a second pass."""
    for at, (line, _) in enumerate(text.rows()):
        if at == row + skip:
            return line
    raise AssertionError(f"{text.path} has no row {row}")
