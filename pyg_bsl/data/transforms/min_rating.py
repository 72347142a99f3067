"""Keep the pairs a user rated well."""

from __future__ import annotations

import logging
from dataclasses import dataclass

from torch_geometric.data import HeteroData
from torch_geometric.transforms import BaseTransform

from pyg_bsl.data.errors import DataError
from pyg_bsl.data.hetero import keep_train, name_of
from pyg_bsl.data.transforms._pairs import drop_lonely_nodes, require_column, require_unsplit

log = logging.getLogger("pyg_bsl")


@dataclass(frozen=True)
class MinRating(BaseTransform):
    """Keeps the pairs rated at least ``min_rating``, and the users and items they name.

    Comes before a split.

    Args:
        min_rating: The lowest rating that counts as a positive.

    Raises:
        DataError: If the data has no ratings, is split already, or no pair is rated so well.

    Example:
        >>> MinRating(3.0)
        MinRating(min_rating=3.0)
    """

    min_rating: float

    def forward(self, data: HeteroData) -> HeteroData:
        """A copy of ``data`` without the pairs rated below ``min_rating``."""
        require_unsplit(data, "MinRating")
        rating = require_column(data, "rating", "MinRating")
        keep = rating >= self.min_rating
        if not keep.any():
            best = f" (the best is {rating.max().item():g})" if rating.numel() else ""
            raise DataError(
                f"No pair of '{name_of(data)}' is rated {self.min_rating:g} or better{best}: "
                "lower 'min_rating'"
            )
        log.info("MinRating: %d of %d pairs kept", int(keep.sum()), keep.numel())
        return drop_lonely_nodes(keep_train(data, keep))
