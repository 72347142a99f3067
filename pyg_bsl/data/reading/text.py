"""A text file in memory: its lines, how its fields are told apart, whether it has a header."""

from __future__ import annotations

import csv
import gzip
import io
import re
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import Literal

from pyg_bsl.data.errors import DataError
from pyg_bsl.data.reading.columns import is_known
from pyg_bsl.data.reading.folder import suffix

Header = bool | Literal["auto"]
NAMES = {"\t": "tabs", ",": "commas", ";": "semicolons", " ": "spaces"}


@dataclass(frozen=True)
class Text:
    """A text file, without byte order mark and without blank lines at its end.

    Args:
        path: The file.
        body: Its bytes, UTF-8.
    """

    path: Path
    body: bytes

    @classmethod
    def read(cls, path: Path) -> Text:
        """The text of a file, which may be packed (``.gz``).

        Raises:
            DataError: If the file is empty, is not text in UTF-8, or cannot be unpacked.
        """
        body = path.read_bytes()
        if path.suffix.lower() == ".gz":
            try:
                body = gzip.decompress(body)
            except (gzip.BadGzipFile, EOFError, zlib.error) as error:
                raise DataError(f"the file is not a whole gzip file ({error})", path) from None
        body = body.removeprefix(b"\xef\xbb\xbf").rstrip(b"\r\n ")
        if not body.strip():
            raise DataError("the file is empty: it must hold pairs of a user and an item", path)
        try:
            body.decode()
        except UnicodeDecodeError as error:
            line = body.count(b"\n", 0, error.start) + 1
            got = body[error.start : error.start + 1]
            raise DataError(
                f"the file must be text in UTF-8 (got the byte {got!r}): save it as UTF-8",
                path,
                line,
            ) from None
        return cls(path, body)

    @cached_property
    def first(self) -> str:
        """The first line that is not blank."""
        return self.body.lstrip(b"\r\n").split(b"\n", 1)[0].decode().rstrip("\r")

    @cached_property
    def delimiter(self) -> str:
        """What stands between fields: by the suffix, and in doubt by the first line."""
        if suffix(self.path) == ".tsv":
            return "\t"
        if suffix(self.path) == ".csv":
            return max(",;\t", key=self.first.count)
        return next((mark for mark in "\t," if mark in self.first), " ")

    @cached_property
    def quoted(self) -> bool:
        """Whether quotes enclose fields, and are not characters like others.

        Never between spaces; between tabs only if all quotes of the file are well-formed and
        none encloses a line break.
        """
        if self.delimiter != "\t" or b'"' not in self.body:
            return self.delimiter != " "
        lines = io.StringIO(self.body.decode(), newline="")
        reader = csv.reader(lines, delimiter="\t", strict=True)
        try:
            return all(reader.line_num == at for at, _ in enumerate(reader, 1))
        except csv.Error:
            return False

    def single_spaces(self) -> bytes:
        """The bytes with one space between fields and none around lines."""
        body = self.body.replace(b"\t", b" ").replace(b"\r\n", b"\n").replace(b"\r", b"\n")
        while b"  " in body:
            body = body.replace(b"  ", b" ")
        return body.replace(b" \n", b"\n").replace(b"\n ", b"\n").strip(b" ")

    def rows(self) -> Iterator[tuple[int, list[str]]]:
        """Line, from 1, and fields of each row; slow, and strict about quotes.

        Raises:
            DataError: If a quote is opened and not closed, or a field goes on after its quote.
        """
        lines = io.StringIO(self.body.decode(), newline="")
        if self.delimiter == " ":
            stripped = (line.strip(" \t\r\n") for line in lines)
            yield from (
                (at, re.split("[ \t]+", line)) for at, line in enumerate(stripped, 1) if line
            )
            return
        reader = csv.reader(
            lines,
            delimiter=self.delimiter,
            quoting=csv.QUOTE_MINIMAL if self.quoted else csv.QUOTE_NONE,
            strict=True,
        )
        line = 1
        try:
            for fields in reader:
                if fields:
                    yield line, fields
                line = reader.line_num + 1
        except csv.Error as error:
            raise DataError(
                f"the quotes of the line do not match ({error}): close each quote, and double a "
                "quote inside a field",
                self.path,
                line,
            ) from None

    def has_header(self, header: Header, *, named: bool) -> bool:
        """Whether the first row names the columns.

        It does if columns are asked for by name, if it holds a name that is known for users or
        items, or if neither of its first two fields has a digit, but both have one in each of the
        next rows (up to 100).

        Args:
            header: What the caller says: yes, no, or ``"auto"``.
            named: Whether the caller asks for columns by name.
        """
        if header != "auto" or named:
            return header is not False
        rows = [fields for _, fields in islice(self.rows(), 101)]
        if any(is_known(field) for field in rows[0]):
            return True
        digits = [[bool(re.search(r"\d", field)) for field in row[:2]] for row in rows]
        return len(rows) > 1 and not any(digits[0]) and all(map(all, digits[1:]))
