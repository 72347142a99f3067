"""Which column of a table holds what."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import astuple, dataclass, fields
from pathlib import Path

from pyg_bsl.data.errors import DataError
from pyg_bsl.names import suggest

KNOWN = {
    "user": (
        *("userid", "user", "users", "uid", "userprocid", "useridx", "username", "uuid"),
        *("reviewerid", "customerid", "visitorid", "memberid", "accountid"),
    ),
    "item": (
        *("itemid", "item", "items", "iid", "itemprocid", "itemidx", "parentasin", "asin"),
        *("movieid", "productid", "bookid", "isbn", "songid", "trackid", "artistid", "businessid"),
        *("locationid", "venueid", "gameid", "appid", "newsid", "articleid", "videoid"),
    ),
    "rating": ("rating", "ratings", "ratingvalue", "stars", "score", "overall"),
    "time": ("timestamp", "time", "ts", "unixtimestamp", "unixreviewtime", "unixtime", "datetime"),
}
"""Names by which the columns are recognised, lower case, letters and digits only; first wins.

Bare nouns such as ``book`` are not among them: they may well be values of the first row."""


@dataclass(frozen=True)
class Columns:
    """Which columns the caller asks for, each by name or by position from 0.

    Args:
        user: Column of the user ids.
        item: Column of the item ids.
        rating: Column of the ratings.
        time: Column of the times.
    """

    user: str | int | None = None
    item: str | int | None = None
    rating: str | int | None = None
    time: str | int | None = None

    @property
    def any_named(self) -> bool:
        """Whether some column is asked for by name."""
        return any(isinstance(asked, str) for asked in astuple(self))

    @property
    def any_asked(self) -> bool:
        """Whether some column is asked for."""
        return any(asked is not None for asked in astuple(self))

    def find(self, path: Path, width: int, names: Sequence[str] | None) -> dict[str, int]:
        """Position of ``user``, ``item`` and, where there are such, ``rating`` and ``time``.

        What is not asked for is recognised by :data:`KNOWN` names. Where neither user nor item is
        known by name, they are the first two of the other columns.

        Args:
            path: The file, for messages.
            width: Number of columns.
            names: Their names, or :obj:`None` when the file has no header.

        Raises:
            DataError: If a column does not exist, or it is not clear which it is.
        """
        found = {}
        for field in fields(self):
            asked = getattr(self, field.name)
            at = _known(field.name, names) if asked is None else None
            if asked is not None:
                at = _asked(path, field.name, asked, width, names)
            if at is not None:
                found[field.name] = at
        free = [at for at in range(width) if at not in found.values()]
        lacking = [role for role in ("user", "item") if role not in found]
        if len(free) < len(lacking) or (len(lacking) == 1 and len(free) > 1 and names is not None):
            choices = "" if names is None else f": {', '.join(names)}"
            raise DataError(
                f"it is not clear which column holds the {lacking[0]} ids; say {lacking[0]}=... "
                f"(one of {width} columns{choices})",
                path,
            )
        found.update(zip(lacking, free, strict=False))
        twice = [role for role in found if list(found.values()).count(found[role]) > 1]
        if twice:
            raise DataError(f"{' and '.join(twice)} must be different columns", path)
        return found


def is_known(name: str) -> bool:
    """Whether a header would call the users or the items ``name``."""
    return _plain(name) in (*KNOWN["user"], *KNOWN["item"])


def _plain(name: str) -> str:
    """``userid`` for ``User_ID``, ``userId`` and ``user_id:token``."""
    return "".join(filter(str.isalnum, name.split(":")[0].lower()))


def _known(role: str, names: Sequence[str] | None) -> int | None:
    plain = [_plain(name) for name in names or ()]
    return next((plain.index(known) for known in KNOWN[role] if known in plain), None)


def _asked(path: Path, role: str, asked: str | int, width: int, names: Sequence[str] | None) -> int:
    if isinstance(asked, int):
        if not 0 <= asked < width:
            raise DataError(
                f"{role}={asked} must be a position from 0 to {width - 1}: the file has {width} "
                "columns",
                path,
            )
        return asked
    if names is None:
        raise DataError(
            f"{role}='{asked}' needs a header, and the file has none: give the position of the "
            "column, from 0",
            path,
        )
    if asked not in names:
        near = suggest(asked, dict.fromkeys(names))
        raise DataError(f"{role}='{asked}' is not a column{near} Columns: {', '.join(names)}", path)
    return list(names).index(asked)
