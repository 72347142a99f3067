"""People's own data: files of interactions."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from torch import Tensor
from torch_geometric.data import HeteroData
from torch_geometric.transforms import BaseTransform

from pyg_bsl.data.errors import DataError
from pyg_bsl.data.hetero import make_hetero
from pyg_bsl.data.reading.clean import (
    Policy,
    keep_apart,
    keep_known,
    keep_latest,
    keep_rated,
    number_ids,
)
from pyg_bsl.data.reading.columns import Columns
from pyg_bsl.data.reading.delimited import read_delimited
from pyg_bsl.data.reading.folder import find_files, stem, suffix
from pyg_bsl.data.reading.lists import look_like_lists, read_lists
from pyg_bsl.data.reading.pairs import Pairs
from pyg_bsl.data.reading.parquet import read_parquet
from pyg_bsl.data.reading.text import Header, Text
from pyg_bsl.data.transforms import GlobalTimeSplit, LeaveLastOut, RandomSplit
from pyg_bsl.names import pick

Layout = Literal["auto", "pairs", "lists"]
SPLITS: Mapping[str, type[BaseTransform]] = {
    "random": RandomSplit,
    "leave-last-out": LeaveLastOut,
    "global-time": GlobalTimeSplit,
}


def from_files(
    path: str | os.PathLike[str],
    *,
    split: BaseTransform | str | None = None,
    user: str | int | None = None,
    item: str | int | None = None,
    rating: str | int | None = None,
    time: str | int | None = None,
    min_rating: float | None = None,
    overlap: Policy = "error",
    unknown: Policy = "error",
    header: Header = "auto",
    layout: Layout = "auto",
    name: str | None = None,
) -> HeteroData:
    r"""The interactions in a folder or file.

    **Files.** A folder holds ``train``, and where there are such ``valid`` and ``test``, as
    ``.tsv``, ``.csv``, ``.txt`` (each also packed, ``.gz``) or ``.parquet``; or it holds one file
    of any name. A single file is split by ``split``; without it all pairs are training pairs.

    **Pairs.** A row has a user, an item and whatever else; where a header or the caller says
    which, a rating and a time (numbers, or ISO dates, which become seconds since 1970). Without a
    header the first two columns are user and item. The first row is a header if columns are asked
    for by name, if it holds a common name of a user or item column (``user_id``, ``movieId``), or
    if neither of its first two fields has a digit but all those of the next 100 rows do.

    **Adjacency lists.** A line has a user and all of the user's items, integers from 0. The
    ``.txt`` files are read so if in none of them two lines begin with the same user, each begins
    with an integer, and some line has more than two fields; ``layout`` says it outright.

    **Ids.** Ids are text: ``007`` is not ``7``. Users and items are numbered in the order of
    their sorted ids (by value where all ids are plain integers, so that ids that count from 0
    without gaps stay as they are), whatever the order of the rows. ``data["user"].raw_id`` and
    ``data["item"].raw_id`` keep the ids.

    **What is dropped.** Of equal pairs the latest is kept (the last row where there are no
    times), then pairs rated below ``min_rating`` go. What is dropped is counted in the log.

    Args:
        path: The folder or file.
        split: How to split a single file: ``"random"``, ``"leave-last-out"``, ``"global-time"``,
            or a transform.
        user: Column of the users: name, or position from 0.
        item: Column of the items.
        rating: Column of the ratings.
        time: Column of the times.
        min_rating: The lowest rating that counts as a positive.
        overlap: What to do with a held-out pair that also stands in train (or a validation pair
            that stands in test): ``"error"``, or ``"drop"`` it from the held-out pairs.
        unknown: What to do with held-out pairs whose user or item has no training pair:
            ``"error"``, or ``"drop"`` them.
        header: Whether the first row names the columns, or ``"auto"``.
        layout: Whether ``.txt`` files hold ``"pairs"`` or adjacency ``"lists"``, or ``"auto"``.
        name: Name of the data set; by default that of the folder or file.

    Returns:
        Interactions as :func:`~pyg_bsl.data.hetero.make_hetero` gives them.

    Raises:
        DataError: If the data breaks a rule; the message names file, line and cure.
        ValueError: If an argument is not one of its choices.

    Example:
        >>> from tempfile import TemporaryDirectory
        >>> with TemporaryDirectory() as folder:
        ...     text = "user,item\nann,tea\nann,milk\nbob,tea\nbob,milk\nbob,rum\n"
        ...     _ = Path(folder, "likes.csv").write_text(text)
        ...     data = from_files(folder, split="random")
        >>> data["user"].raw_id, data["user", "rates", "item"].edge_label_index.shape
        (['ann', 'bob'], torch.Size([2, 2]))
    """
    path = Path(path)
    for argument, value in (("overlap", overlap), ("unknown", unknown)):
        pick(f"value of '{argument}'", value, {"error": None, "drop": None})
    pick("layout", layout, {"auto": None, "pairs": None, "lists": None})
    if header not in (True, False, "auto"):
        raise ValueError(f"'header' must be True, False or 'auto' (got {header!r})")
    rule = pick("split rule", split, SPLITS)() if isinstance(split, str) else split
    columns = Columns(user, item, rating, time)
    files = find_files(path, split=split is not None)
    parts = _read(files, columns, header, layout)
    parts = {role: keep_rated(keep_latest(each), min_rating) for role, each in parts.items()}
    train = number_ids(parts["train"])
    valid, test = (
        keep_apart(keep_known(parts[role], train, unknown), train, overlap)
        if role in parts
        else None
        for role in ("valid", "test")
    )
    if valid is not None and test is not None:
        valid = keep_apart(valid, test, overlap)
    data = make_hetero(
        _tensor(train),
        len(train.user_ids),
        len(train.item_ids),
        test=None if test is None else _tensor(test),
        valid=None if valid is None else _tensor(valid),
        user_ids=train.user_ids,
        item_ids=train.item_ids,
        name=name or (path.resolve().name if path.is_dir() else stem(path) or path.name),
        rating=None if train.rating is None else torch.tensor(train.rating).float(),
        time=None if train.time is None else torch.tensor(train.time),
    )
    return data if rule is None else rule(data)


def _read(
    files: Mapping[str, Path], columns: Columns, header: Header, layout: Layout
) -> dict[str, Pairs]:
    """The pairs of each file."""
    texts = {role: Text.read(file) for role, file in files.items() if suffix(file) != ".parquet"}
    plain = {role: text for role, text in texts.items() if suffix(text.path) == ".txt"}
    lists = layout == "lists"
    if layout == "auto" and plain and header is not True and not columns.any_asked:
        lists = look_like_lists(list(plain.values()))
    parts = {}
    for role, file in files.items():
        if layout == "lists" and role not in plain:
            raise DataError("layout='lists' is for .txt files: rename it, or leave it out", file)
        if lists and role in plain:
            if columns.any_asked:
                raise DataError("adjacency lists have no columns to choose from", file)
            parts[role] = read_lists(plain[role], lonely=role != "train")
        elif role in texts:
            parts[role] = read_delimited(texts[role], columns, header)
        else:
            parts[role] = read_parquet(file, columns)
    return parts


def _tensor(pairs: Pairs) -> Tensor:
    return torch.from_numpy(np.stack([pairs.user, pairs.item]))
