"""The downloaded data sets of the table."""

from __future__ import annotations

import logging
import os
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch_geometric.data import HeteroData

from pyg_bsl.data.datasets.archives import read_tar, read_zip
from pyg_bsl.data.datasets.published import PublishedDataset, Transform
from pyg_bsl.data.download import check_file, fetch
from pyg_bsl.data.errors import DataError
from pyg_bsl.data.hetero import make_hetero
from pyg_bsl.data.integers import Ids
from pyg_bsl.data.parse import parse_adjacency, parse_pairs, parse_raw_ids
from pyg_bsl.data.table import DATASETS
from pyg_bsl.names import pick

log = logging.getLogger("pyg_bsl")


class BenchmarkDataset(PublishedDataset):
    """A published data set with its published train and test split.

    The LightGCN splits (`"LightGCN" <https://arxiv.org/abs/2002.02126>`_), those of the BSL
    authors (`"BSL" <https://arxiv.org/abs/2312.12882>`_) and the IR-Benchmark collection of the
    PSL authors (`"PSL" <https://arxiv.org/abs/2411.00163>`_), each a row of
    :data:`pyg_bsl.data.table.DATASETS`. Checksums, where known, and counts are checked.

    Args:
        root: Folder of all data sets.
        name: Name of the data set.
        transform: Applied at each access.
        pre_transform: Applied once, before the graph is kept.

    Raises:
        ValueError: If there is no such data set.
        DataError: If a file is broken or not the published one; the message says which and where.
    """

    def __init__(
        self,
        root: str | os.PathLike[str],
        name: str,
        transform: Transform | None = None,
        pre_transform: Transform | None = None,
    ) -> None:
        rows = {key: row for key, row in DATASETS.items() if row.files}
        super().__init__(pick("data set", name, rows), root, transform, pre_transform)

    @property
    def raw_file_names(self) -> list[str]:
        """The files to fetch."""
        return [file.name for file in self.row.files]

    def download(self) -> None:
        """Fetch the files that are missing, unless the graph is there already."""
        if self.force_reload or not os.path.exists(self.processed_paths[0]):
            for file in self.row.files:
                fetch(file, self.raw_dir)

    def read(self) -> HeteroData:
        """The graph, from the fetched files."""
        for path, file in zip(self.raw_paths, self.row.files, strict=True):
            check_file(path, file)
        if self.row.format == "ir-benchmark":
            parsed = _read_ir_benchmark(self.raw_paths[0])
        else:
            parsed = _read_adjacency(self.raw_paths)
        if parsed.num_users * parsed.num_items >= 2**63:  # then the keys of pairs would wrap
            raise DataError(
                f"The ids of '{self.row.name}' go up to user {parsed.num_users - 1} and item "
                f"{parsed.num_items - 1}: the files are not the published ones; delete the 'raw' "
                "folder of the data set and load again"
            )
        train = _keys(parsed.train, parsed.num_items, f"{self.row.name}, train")
        test = _keys(parsed.test, parsed.num_items, f"{self.row.name}, test")
        both = np.intersect1d(train, test, assume_unique=True)
        if both.size:
            user, item = divmod(int(both[0]), parsed.num_items)
            raise DataError(
                f"{both.size} test pairs of '{self.row.name}' are training pairs too (the first: "
                f"user {user}, item {item}), so a test on them is void: the files are not the "
                "published ones; delete the 'raw' folder of the data set and load again, or read "
                "them as your own data with from_files(..., overlap='drop')"
            )
        return make_hetero(
            _pairs(train, parsed.num_items),
            parsed.num_users,
            parsed.num_items,
            test=_pairs(test, parsed.num_items),
            user_ids=parsed.user_ids,
            item_ids=parsed.item_ids,
            name=self.row.name,
        )

    def __repr__(self) -> str:
        return f"BenchmarkDataset({self.row.name})"


class _Parsed(NamedTuple):
    """What the files say: pairs ``[2, E]``, sizes and raw ids."""

    train: Ids
    test: Ids
    num_users: int
    num_items: int
    user_ids: list[str] | None = None
    item_ids: list[str] | None = None


def _read_adjacency(paths: list[str]) -> _Parsed:
    """The two adjacency lists, on their own or in one tar archive."""
    names = ("train.txt", "test.txt")
    if len(paths) == 1:
        texts = read_tar(paths[0], names)
        places = [f"{paths[0]}/{name}" for name in names]
    else:
        texts = {name: Path(path).read_bytes() for name, path in zip(names, paths, strict=True)}
        places = paths
    train, test = (
        parse_adjacency(texts[name], place) for name, place in zip(names, places, strict=True)
    )
    num_users, num_items = np.maximum(train.max(1), test.max(1)) + 1
    return _Parsed(train, test, int(num_users), int(num_items))


def _read_ir_benchmark(path: str) -> _Parsed:
    """The members of the zip."""
    names = ("train.tsv", "test.tsv", "user_list.tsv", "item_list.tsv")
    texts = read_zip(path, names)
    users = parse_raw_ids(
        texts["user_list.tsv"], f"{path}/user_list.tsv", ("user_orgid", "user_procid")
    )
    items = parse_raw_ids(
        texts["item_list.tsv"], f"{path}/item_list.tsv", ("item_orgid", "item_procid")
    )
    parts = []
    for name in names[:2]:
        pairs = parse_pairs(texts[name], f"{path}/{name}", ("user_procid", "item_procid"))
        for node, ids, size in (("user", pairs[0], len(users)), ("item", pairs[1], len(items))):
            if ids.max() >= size:
                raise DataError(
                    f"the {node} {ids.max()} is not in {node}_list.tsv, which ends at {size - 1}",
                    f"{path}/{name}",
                )
        parts.append(pairs)
    return _Parsed(parts[0], parts[1], len(users), len(items), users, items)


def _keys(pairs: Ids, num_items: int, what: str) -> Ids:
    """``user * num_items + item`` of each pair, ascending, repeats dropped with a word."""
    keys = np.unique(pairs[0] * num_items + pairs[1])
    if keys.size < pairs.shape[1]:
        log.warning("%s: dropped %d duplicate pairs", what, pairs.shape[1] - keys.size)
    return keys


def _pairs(keys: Ids, num_items: int) -> Tensor:
    """The pairs ``[2, E]`` of their keys."""
    return torch.from_numpy(np.stack(np.divmod(keys, num_items)))
