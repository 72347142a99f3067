"""Pairs as adjacency lists: a line has a user and all of the user's items."""

from __future__ import annotations

import logging
import re

import numpy as np
from numpy.typing import NDArray

from pyg_bsl.data.errors import DataError
from pyg_bsl.data.integers import read_adjacency
from pyg_bsl.data.reading.pairs import Pairs
from pyg_bsl.data.reading.text import Text

log = logging.getLogger("pyg_bsl")


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
    cure = "put it right; or if the file holds pairs of text ids, pass layout='pairs'"
    lists = read_adjacency(text.single_spaces(), text.path, cure)
    without = np.flatnonzero(lists.counts == 0)
    if without.size and not lonely:
        raise DataError(
            f"the user {lists.users[without[0]]} has no train items: give the user items, or leave "
            "the line out",
            text.path,
            int(lists.lines[without[0]]),
        )
    if lists.items.size == 0:
        raise DataError("the file is empty: it holds users without items", text.path)
    log.info("%s: each line is a user with all items of the user", text.path)
    _warn_of_a_table(text, lists.counts)
    user_ids, user = np.unique(lists.users.repeat(lists.counts), return_inverse=True)
    item_ids, item = np.unique(lists.items, return_inverse=True)
    line = lists.lines.repeat(lists.counts)
    return Pairs(
        path=text.path,
        user=user,
        item=item,
        user_ids=[str(each) for each in user_ids],
        item_ids=[str(each) for each in item_ids],
        row=np.arange(user.size),
        line_of=lambda row: int(line[row]),
    )


def _warn_of_a_table(text: Text, counts: NDArray[np.int64]) -> None:
    """Say so where lists may as well be pairs with a rating or a time, one pair a user."""
    if counts.size > 1 and (counts == counts[0]).all() and counts[0] in (2, 3):
        log.warning(
            "%s: every line has %d numbers, read as a user and %d items: if they are a user, an "
            "item and a rating or time, pass layout='pairs'",
            text.path,
            counts[0] + 1,
            counts[0],
        )
