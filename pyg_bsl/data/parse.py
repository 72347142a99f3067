"""Strict and fast parsing of files that hold integer ids only."""

from __future__ import annotations

import re
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from pyg_bsl.data.errors import DataError

Ids: TypeAlias = NDArray[np.int64]

_DIGIT, _SPACE, _NEWLINE, _OTHER = range(4)
_KIND = np.full(256, _OTHER, dtype=np.uint8)
_KIND[list(b"0123456789")] = _DIGIT
_KIND[list(b" \t\r")] = _SPACE
_KIND[ord("\n")] = _NEWLINE
_MAX_DIGITS = 9  # so that user * num_items + item stays below 2^63


def parse_adjacency(text: bytes, path: str) -> Ids:
    r"""Pairs of an adjacency list: each line is a user id and then the ids of its items.

    A line with a user id alone is legal: a user without items. Blank lines are skipped.

    Args:
        text: Content of the file.
        path: Its name, for messages.

    Returns:
        Users and items, ``[2, E]``, in the order of the file.

    Raises:
        DataError: If the file has no pairs or an id is not a non-negative integer.

    Example:
        >>> parse_adjacency(b"0 5 7\n1\n2 5\n", "train.txt").tolist()
        [[0, 0, 2], [5, 7, 5]]
    """
    ids, lines = _parse_ids(text, path, first_line=1)
    is_user = np.diff(lines, prepend=0) > 0
    users = np.repeat(ids[is_user], np.diff(np.flatnonzero(is_user), append=ids.size))
    if users.size == is_user.sum():
        raise DataError("the file has no pairs", path)
    return np.stack((users[~is_user], ids[~is_user]))


def parse_pairs(text: bytes, path: str, header: tuple[str, str]) -> Ids:
    r"""Pairs of a file with a header and then a user id and an item id on each line.

    Args:
        text: Content of the file.
        path: Its name, for messages.
        header: Names of the two columns.

    Returns:
        Users and items, ``[2, E]``, in the order of the file.

    Raises:
        DataError: If the file has no pairs, the header differs, a line is not a pair or an id is
            not a non-negative integer.

    Example:
        >>> parse_pairs(b"user\titem\n0\t5\n2\t5\n", "train.tsv", ("user", "item")).tolist()
        [[0, 2], [5, 5]]
    """
    head, _, body = text.partition(b"\n")
    names = head.decode("utf-8", "replace").split()
    if names and names != list(header):
        raise DataError(f"the header must be {' '.join(header)!r} (got {_shown(head)})", path, 1)
    ids, lines = _parse_ids(body, path, first_line=2)
    if ids.size == 0:
        raise DataError("the file has no pairs", path)
    even = ids.size % 2 == 0 and (lines[::2] == lines[1::2]).all()
    if not even or (np.diff(lines[::2]) == 0).any():
        numbers, counts = np.unique(lines, return_counts=True)
        line = int(numbers[counts != 2][0])
        got = _shown(body.split(b"\n")[line - 2])
        raise DataError(f"a line must be a user id and an item id (got {got})", path, line)
    return np.ascontiguousarray(ids.reshape(-1, 2).T)


def parse_raw_ids(text: bytes, path: str, header: tuple[str, str]) -> list[str]:
    r"""Raw ids in the order of their numbers: a header, then a raw id, a tab and its number.

    Raises:
        DataError: If the header differs, a line is not a pair, or the numbers are not 0, 1, ...,
            each once.

    Example:
        >>> parse_raw_ids(b"raw\tid\nB00\t1\nA17\t0\n", "users.tsv", ("raw", "id"))
        ['A17', 'B00']
    """
    lines = text.decode("utf-8", "replace").rstrip("\r\n").replace("\r\n", "\n").split("\n")
    if not lines or tuple(lines[0].split("\t")) != header:
        got = repr(lines[0]) if lines else "nothing"
        raise DataError(f"the header must be {' '.join(header)!r} (got {got})", path, 1)
    ids: dict[int, str] = {}
    for number, line in enumerate(lines[1:], start=2):
        raw, _, index = line.rpartition("\t")
        if not raw or not index.isdecimal():
            raise DataError(
                f"a line must be a raw id, a tab and an integer (got {line!r})", path, number
            )
        if int(index) in ids:
            raise DataError(f"the id {index} stands twice", path, number)
        ids[int(index)] = raw
    if ids and max(ids) != len(ids) - 1:
        raise DataError(f"the {len(ids)} ids must be 0 ... {len(ids) - 1} (got {max(ids)})", path)
    return [ids[index] for index in range(len(ids))]


def _parse_ids(text: bytes, path: str, first_line: int) -> tuple[Ids, Ids]:
    """Every integer of ``text`` and the line on which it stands."""
    chars = np.frombuffer(text, dtype=np.uint8)
    kind = _KIND[chars]
    if (kind == _OTHER).any():
        _refuse(text, int((kind == _OTHER).argmax()), path, first_line)
    edges = np.flatnonzero(np.diff(kind == _DIGIT, prepend=False, append=False))
    starts, ends = edges[::2], edges[1::2]
    if starts.size and (ends - starts).max() > _MAX_DIGITS:
        _refuse(text, int(starts[(ends - starts).argmax()]), path, first_line)
    lines = np.searchsorted(np.flatnonzero(kind == _NEWLINE), starts) + first_line
    ids = np.fromstring(text.decode("ascii"), dtype=np.int64, sep=" ") if starts.size else starts
    return ids, lines


def _refuse(text: bytes, position: int, path: str, first_line: int) -> None:
    """Raise for the id at ``position``, which is not a non-negative integer."""
    line = text.count(b"\n", 0, position) + first_line
    start = max(text.rfind(mark, 0, position) for mark in (b" ", b"\t", b"\r", b"\n")) + 1
    token = re.split(rb"[ \t\r\n]", text[start : start + 200], maxsplit=1)[0]
    if re.fullmatch(rb"\d+", token):
        raise DataError(
            f"an id must have at most {_MAX_DIGITS} digits (got {_shown(token)})", path, line
        )
    kind = "negative" if re.fullmatch(rb"-\d+", token) else "non-integer"
    raise DataError(f"{kind} id {_shown(token)}: ids must be integers from 0 on", path, line)


def _shown(text: bytes) -> str:
    """``text`` for a message: quoted, and cut when long."""
    shown = text.decode("utf-8", "replace").rstrip("\r")
    return repr(shown if len(shown) <= 40 else shown[:40] + "...")
