"""From the pairs of files to pairs that can be learned and tested on."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from pyg_bsl.data.errors import DataError
from pyg_bsl.data.reading.pairs import Pairs

log = logging.getLogger("pyg_bsl")

Policy = Literal["error", "drop"]


def keep_latest(pairs: Pairs) -> Pairs:
    """One of each set of equal pairs: the latest, and of those the last in the file."""
    key = _key(pairs)
    ordered = np.sort(key)
    if (ordered[1:] != ordered[:-1]).all():
        return pairs
    order = key.argsort(kind="stable") if pairs.time is None else np.lexsort((pairs.time, key))
    last = np.ones(len(pairs), dtype=bool)
    last[order[:-1]] = key[order[:-1]] != key[order[1:]]
    log.warning("%s: %d duplicate pairs dropped", pairs.path, len(pairs) - int(last.sum()))
    return pairs.keep(last)


def keep_rated(pairs: Pairs, min_rating: float | None) -> Pairs:
    """The pairs rated at least ``min_rating``.

    Raises:
        DataError: If there are no ratings, or none so good.
    """
    if min_rating is None:
        if pairs.rating is not None:
            log.info(
                "%s: rated %g to %g, and every pair counts as a positive: say min_rating=... if "
                "low ratings should not",
                pairs.path,
                pairs.rating.min(),
                pairs.rating.max(),
            )
        return pairs
    if pairs.rating is None:
        raise DataError(
            f"min_rating={min_rating:g} needs ratings, and the file has no column for them: say "
            "rating=..., or leave 'min_rating' out",
            pairs.path,
        )
    good = pairs.rating >= min_rating
    if not good.any():
        raise DataError(
            f"no pair is rated {min_rating:g} or better (the best is {pairs.rating.max():g}): "
            "lower 'min_rating'",
            pairs.path,
        )
    log.info(
        "%s: %d of %d pairs rated %g or better", pairs.path, good.sum(), len(pairs), min_rating
    )
    return pairs.keep(good)


def number_ids(pairs: Pairs) -> Pairs:
    """The same pairs, numbered by the sorted ids of the users and items they have."""
    user_ids, user = _sorted(pairs.user_ids, pairs.user)
    item_ids, item = _sorted(pairs.item_ids, pairs.item)
    return replace(pairs, user=user, item=item, user_ids=user_ids, item_ids=item_ids)


def _sorted(ids: Sequence[str], codes: NDArray[np.int64]) -> tuple[list[str], NDArray[np.int64]]:
    used = np.bincount(codes, minlength=len(ids)).nonzero()[0].tolist()
    plain = all(ids[at].isascii() and ids[at].isdecimal() for at in used)
    plain = plain and not any(ids[at].startswith("0") and ids[at] != "0" for at in used)
    used.sort(key=lambda at: int(ids[at]) if plain else ids[at])
    position = np.empty(len(ids), dtype=np.int64)
    position[used] = np.arange(len(used))
    return [ids[at] for at in used], position[codes]


def keep_known(held: Pairs, train: Pairs, policy: Policy) -> Pairs:
    """Held-out pairs in the numbers of ``train``: those whose user and item it has.

    Raises:
        DataError: If there are others and the policy is ``"error"``, or nothing is left.
    """
    user, new_users = _renumber(held.user_ids, held.user, train.user_ids)
    item, new_items = _renumber(held.item_ids, held.item, train.item_ids)
    strange = (user < 0) | (item < 0)
    held = replace(held, user=user, item=item, user_ids=train.user_ids, item_ids=train.item_ids)
    if not strange.any():
        return held
    counts = (
        f"{strange.sum()} of {strange.size} pairs have users or items without train pairs: "
        f"{_some(new_users, 'users')}, {_some(new_items, 'items')}"
    )
    if policy == "error":
        cure = "give them train pairs, or pass unknown='drop' to leave these pairs out"
        raise held.error(strange, f"{counts}; {cure}")
    if strange.all():
        raise DataError(f"no pair is left to hold out: {counts}", held.path)
    log.warning("%s: dropped, as %s", held.path, counts)
    return held.keep(~strange)


def _renumber(
    ids: Sequence[str], codes: NDArray[np.int64], known: Sequence[str]
) -> tuple[NDArray[np.int64], list[str]]:
    """Codes as positions in ``known``, -1 where unknown, and the ids that are unknown."""
    position = {name: at for at, name in enumerate(known)}
    at = np.array([position.get(name, -1) for name in ids], dtype=np.int64)[codes]
    return at, [ids[code] for code in dict.fromkeys(codes[at < 0].tolist())]


def _some(names: Sequence[str], what: str) -> str:
    shown = ", ".join(repr(name) for name in names[:3]) + (", ..." if len(names) > 3 else "")
    return f"{len(names)} {what}" + (f" ({shown})" if names else "")


def keep_apart(held: Pairs, other: Pairs, policy: Policy) -> Pairs:
    """The held-out pairs that do not stand in another file too; ids numbered alike.

    Raises:
        DataError: If some do and the policy is ``"error"``, or nothing is left.
    """
    twice = np.isin(_key(held), _key(other))
    if not twice.any():
        return held
    counts = f"{twice.sum()} of {twice.size} pairs stand in '{other.path.name}' too"
    if policy == "error":
        first = int(twice.argmax())
        user, item = held.user_ids[held.user[first]], held.item_ids[held.item[first]]
        raise held.error(
            twice,
            f"{counts}, first user {user!r} with item {item!r}: remove them from one file, or "
            "pass overlap='drop' to leave them out here",
        )
    if twice.all():
        raise DataError(f"no pair is left to hold out: {counts}", held.path)
    log.warning("%s: dropped, as %s", held.path, counts)
    return held.keep(~twice)


def _key(pairs: Pairs) -> NDArray[np.int64]:
    return pairs.user * len(pairs.item_ids) + pairs.item
