"""Integers in text, each with its line: what adjacency lists and published files hold."""

from __future__ import annotations

import os
import re
from typing import NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from pyg_bsl.data.errors import DataError

Ids: TypeAlias = NDArray[np.int64]

MAX_DIGITS = 18
"""The most digits of an id: all integers of so many fit into an int64, not all of one more."""

_DIGIT, _SPACE, _NEWLINE, _OTHER = range(4)
_KIND = np.full(256, _OTHER, dtype=np.uint8)
_KIND[list(b"0123456789")] = _DIGIT
_KIND[list(b" \t\r")] = _SPACE
_KIND[ord("\n")] = _NEWLINE


class Adjacency(NamedTuple):
    """Adjacency lists: each line that is not blank is a user, then the user's items.

    Args:
        users: User of each line, ``[L]``.
        lines: Number of each line, from 1, ``[L]``.
        counts: Number of items of each line, ``[L]``.
        items: The items of all lines, ``[E]``.
    """

    users: Ids
    lines: Ids
    counts: Ids
    items: Ids


def read_adjacency(text: bytes, path: str | os.PathLike[str], cure: str) -> Adjacency:
    r"""The lines of adjacency lists.

    Args:
        text: Content of the file.
        path: Its name, for messages.
        cure: What to do about an id that is not an integer, for the message.

    Raises:
        DataError: If an id is not an integer from 0, or is too long.

    Example:
        >>> lists = read_adjacency(b"0 5 7\n\n1\n", "train.txt", "mend it")
        >>> lists.users.tolist(), lists.lines.tolist(), lists.counts.tolist(), lists.items.tolist()
        ([0, 1], [1, 3], [2, 0], [5, 7])
    """
    ids, lines = read_integers(text, path, cure)
    is_user = np.diff(lines, prepend=0) > 0
    counts = np.diff(np.flatnonzero(is_user), append=ids.size) - 1
    return Adjacency(ids[is_user], lines[is_user], counts, ids[~is_user])


def read_integers(
    text: bytes, path: str | os.PathLike[str], cure: str, first_line: int = 1
) -> tuple[Ids, Ids]:
    """Every integer of ``text``, and the line on which it stands.

    Args:
        text: What to read.
        path: Name of its file, for messages.
        cure: What to do about an id that is not an integer, for the message.
        first_line: The line of the file on which ``text`` begins.

    Raises:
        DataError: If something is not an integer from 0, or is too long.
    """
    kind = _KIND[np.frombuffer(text, dtype=np.uint8)]
    edges = np.flatnonzero(np.diff(kind == _DIGIT, prepend=False, append=False))
    starts, ends = edges[::2], edges[1::2]
    strange = np.flatnonzero(kind == _OTHER)
    long = starts[ends - starts > MAX_DIGITS]
    if strange.size or long.size:
        raise _not_integer(text, int(min((*strange[:1], *long[:1]))), path, cure, first_line)
    lines = np.searchsorted(np.flatnonzero(kind == _NEWLINE), starts) + first_line
    ids = np.fromstring(text.decode("ascii"), dtype=np.int64, sep=" ") if starts.size else starts
    return ids, lines


def shown(text: bytes) -> str:
    """``text`` for a message: quoted, and cut when long."""
    whole = text.decode("utf-8", "replace").rstrip("\r")
    return repr(whole if len(whole) <= 40 else whole[:40] + "...")


def _not_integer(
    text: bytes, position: int, path: str | os.PathLike[str], cure: str, first_line: int
) -> DataError:
    """The error that names the id at ``position``."""
    start = max(text.rfind(mark, 0, position) for mark in (b" ", b"\t", b"\r", b"\n")) + 1
    token = re.split(rb"[ \t\r\n]", text[start : start + 200], maxsplit=1)[0]
    line = text.count(b"\n", 0, position) + first_line
    long = token.isdigit()
    also = f"of at most {MAX_DIGITS} digits" if long else "with spaces between them"
    return DataError(
        f"ids must be integers from 0 (got {shown(token)}), {also}: {cure}", path, line
    )
