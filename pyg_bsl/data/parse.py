"""The formats of the published files, read strictly and fast."""

from __future__ import annotations

import numpy as np

from pyg_bsl.data.errors import DataError
from pyg_bsl.data.integers import Ids, read_adjacency, read_integers, shown

CURE = "the file is not the published one: delete it and load again"


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
    lists = read_adjacency(text, path, CURE)
    if lists.items.size == 0:
        raise _broken("the file has no pairs", path)
    return np.stack((lists.users.repeat(lists.counts), lists.items))


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
        raise _broken(f"the header must be {' '.join(header)!r} (got {shown(head)})", path, 1)
    ids, lines = read_integers(body, path, CURE, first_line=2)
    if ids.size == 0:
        raise _broken("the file has no pairs", path)
    even = ids.size % 2 == 0 and (lines[::2] == lines[1::2]).all()
    if not even or (np.diff(lines[::2]) == 0).any():
        numbers, counts = np.unique(lines, return_counts=True)
        line = int(numbers[counts != 2][0])
        got = shown(body.split(b"\n")[line - 2])
        raise _broken(f"a line must be a user id and an item id (got {got})", path, line)
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
    if tuple(lines[0].split("\t")) != header:
        raise _broken(f"the header must be {' '.join(header)!r} (got {lines[0]!r})", path, 1)
    ids: dict[int, str] = {}
    for number, line in enumerate(lines[1:], start=2):
        raw, _, index = line.rpartition("\t")
        if not raw or not index.isdecimal():
            raise _broken(
                f"a line must be a raw id, a tab and an integer (got {line!r})", path, number
            )
        if int(index) in ids:
            raise _broken(f"the id {index} stands twice", path, number)
        ids[int(index)] = raw
    if ids and max(ids) != len(ids) - 1:
        raise _broken(f"the {len(ids)} ids must be 0 ... {len(ids) - 1} (got {max(ids)})", path)
    return [ids[index] for index in range(len(ids))]


def _broken(message: str, path: str, line: int | None = None) -> DataError:
    return DataError(f"{message}: {CURE}", path, line)
