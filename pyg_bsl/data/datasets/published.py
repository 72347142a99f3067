"""What all published data sets share: one graph, made once, checked and kept on disk."""

from __future__ import annotations

import logging
import os
from abc import abstractmethod
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext

from filelock import FileLock
from torch_geometric.data import HeteroData, InMemoryDataset

from pyg_bsl.atomic import atomic_path
from pyg_bsl.data.download import make_folder
from pyg_bsl.data.errors import DataError
from pyg_bsl.data.hetero import RATES
from pyg_bsl.data.table import DatasetRow

log = logging.getLogger("pyg_bsl")

Transform = Callable[[HeteroData], HeteroData]


class PublishedDataset(InMemoryDataset):
    """Base class of the published data sets.

    A subclass says where its data comes from by :meth:`read`, and by ``download`` and
    ``raw_file_names`` where there is something to fetch. The graph is kept under
    ``root/name/processed``. Several processes may open the same data set at once: one makes it,
    the others wait. What cannot be read is made anew.

    Args:
        row: What is known of the data set.
        root: Folder of all data sets.
        transform: Applied at each access.
        pre_transform: Applied once, before the graph is kept.
    """

    def __init__(
        self,
        row: DatasetRow,
        root: str | os.PathLike[str],
        transform: Transform | None = None,
        pre_transform: Transform | None = None,
    ) -> None:
        self.row = row
        self.root = os.path.abspath(os.path.expanduser(os.fspath(root)))
        with self._lock():
            is_kept = os.path.exists(self.processed_paths[0])
            try:
                super().__init__(self.root, transform, pre_transform, log=False)
                self.load(self.processed_paths[0], data_cls=HeteroData)
            except (DataError, OSError, Warning):
                raise
            except Exception as error:  # a file that was cut off can raise anything
                if not is_kept:
                    raise
                log.warning("%s: cannot be read (%s), so it is made anew", self.folder, error)
                super().__init__(self.root, transform, pre_transform, log=False, force_reload=True)
                self.load(self.processed_paths[0], data_cls=HeteroData)

    @property
    def folder(self) -> str:
        """The folder of this data set."""
        return os.path.join(self.root, self.row.name)

    @property
    def raw_dir(self) -> str:
        """The folder of the fetched files."""
        return os.path.join(self.folder, "raw")

    @property
    def processed_dir(self) -> str:
        """The folder of the graph."""
        return os.path.join(self.folder, "processed")

    @property
    def processed_file_names(self) -> str:
        """The file of the graph."""
        return "data.pt"

    @abstractmethod
    def read(self) -> HeteroData:
        """The graph, from the raw data."""

    def process(self) -> None:
        """Read the raw data, check its counts and keep the graph."""
        data = self.read()
        check_counts(data, self.row)
        if self.pre_transform is not None:
            data = self.pre_transform(data)
        with atomic_path(self.processed_paths[0]) as path:
            self.save([data], str(path))

    def _lock(self) -> AbstractContextManager[object]:
        """Keeps other processes off the folder; none is needed to read a finished one."""
        try:
            make_folder(self.folder)
        except PermissionError:
            if os.path.exists(self.processed_paths[0]):
                return nullcontext()
            raise
        return FileLock(os.path.join(self.folder, ".lock"))


def check_counts(data: HeteroData, row: DatasetRow) -> None:
    """Raise unless ``data`` has the published numbers of users, items and pairs.

    Raises:
        DataError: If one differs.
    """
    store = data[RATES]
    test = store.edge_label_index.size(1) if "edge_label_index" in store else 0
    counts = (
        ("users", row.num_users, data["user"].num_nodes),
        ("items", row.num_items, data["item"].num_nodes),
        ("train", row.num_train, store.edge_index.size(1)),
        ("test", row.num_test, test),
    )
    wrong = [
        f"{what} must be {published:,} (got {got:,})"
        for what, published, got in counts
        if got != published
    ]
    if wrong:
        raise DataError(
            f"The counts of '{row.name}' are not the published ones: {'; '.join(wrong)}. The "
            "files are another version: delete the 'raw' folder of the data set and load again, "
            "or read them as your own data with from_files"
        )
