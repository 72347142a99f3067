"""Pairs as adjacency lists: a line has a user and all of the user's items."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np

from pyg_bsl.data.errors import DataError
from pyg_bsl.data.reading.pairs import Pairs
from pyg_bsl.data.reading.text import Text

MAX_DIGITS = 18


def look_like_lists(texts: list[Text]) -> bool:
    """Whether files are adjacency lists rather than pairs.

    They are if in no file two lines begin alike, each begins with an integer, has its fields apart
    by spaces or tabs, and some line has more than two fields.
    """
    longer = False
    for text in texts:
        if not re.match(r"\s*\d+(\s|$)", text.first):
            return False
        seen = set()
        for line in text.body.split(b"\n"):
            fields = line.split(None, 2)
            if fields and fields[0] in seen:
                return False
            seen.update(fields[:1])
            longer |= len(fields) > 2
    return longer


def read_lists(text: Text, *, lonely: bool) -> Pairs:
    """The pairs of adjacency lists.

    Args:
        text: The file.
        lonely: Whether a user may have no items.

    Raises:
        DataError: If an id is not an integer, a user has no items where one must, or none has.
    """
    body = text.single_spaces()
    lines = body.split(b"\n")
    if re.search(rb"[^0-9 \n]|[0-9]{%d}" % (MAX_DIGITS + 1), body):
        raise _not_integer(text.path, lines)
    sizes = np.array([line.count(b" ") if line else -1 for line in lines])
    if not lonely and (sizes == 0).any():
        first = int((sizes == 0).argmax())
        raise DataError(
            f"the user {lines[first].decode()} has no train items: give the user items, or leave "
            "the line out",
            text.path,
            first + 1,
        )
    if not (sizes > 0).any():
        raise DataError("the file is empty: it holds users without items", text.path)
    at = np.flatnonzero(sizes >= 0)
    sizes = sizes[at]
    flat = np.fromstring(body.decode(), dtype=np.int64, sep=" ")
    heads = np.cumsum(sizes + 1) - (sizes + 1)
    is_item = np.ones(flat.size, dtype=bool)
    is_item[heads] = False
    user_ids, user = np.unique(flat[heads].repeat(sizes), return_inverse=True)
    item_ids, item = np.unique(flat[is_item], return_inverse=True)
    line = at.repeat(sizes) + 1
    return Pairs(
        path=text.path,
        user=user,
        item=item,
        user_ids=[str(each) for each in user_ids],
        item_ids=[str(each) for each in item_ids],
        row=np.arange(user.size),
        line_of=lambda row: int(line[row]),
    )


def _not_integer(path: Path, lines: list[bytes]) -> DataError:
    """The error that names the first id that is not an integer."""
    at, field = next(
        (at, field)
        for at, line in enumerate(lines, 1)
        for field in line.decode().split(" ")
        if line and not re.fullmatch(f"[0-9]{{1,{MAX_DIGITS}}}", field)
    )
    return DataError(
        f"the ids of adjacency lists must be integers from 0 (got {field!r}), with spaces between "
        "them; if the file holds pairs of text ids, pass layout='pairs'",
        path,
        at,
    )
