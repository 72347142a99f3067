"""Who and what the rows of a batch are."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from pyg_bsl.ops import Scores, num_negatives


@dataclass(frozen=True)
class Context:
    """What is known of the rows of a batch beside their scores.

    A loss names what it cannot do without in :attr:`Loss.needs <pyg_bsl.losses.Loss.needs>`.

    Args:
        users: User of each row, ``[B]``.
        items: Positive item of each row, ``[B]``.
        negatives: Item of each negative, ``[N]`` or ``[B, N]``; :obj:`None` where the negatives
            are the whole catalogue in its order.
        user_vectors: Vector of each row's user, as the backbone gives it, ``[B, D]``.
        item_vectors: Vector of each row's positive item, ``[B, D]``.
    """

    users: Tensor | None = None
    items: Tensor | None = None
    negatives: Tensor | None = None
    user_vectors: Tensor | None = None
    item_vectors: Tensor | None = None

    def check(self, num_rows: int) -> None:
        """Check that there is one of each a row.

        Raises:
            ValueError: If there is not.
        """
        for name in ("users", "items"):
            ids = getattr(self, name)
            if ids is not None and ids.shape != (num_rows,):
                raise ValueError(
                    f"'{name}' must have shape [{num_rows}] as 'pos' (got {list(ids.shape)})"
                )
        for name in ("user_vectors", "item_vectors"):
            vectors = getattr(self, name)
            if vectors is not None and (vectors.dim() != 2 or vectors.size(0) != num_rows):
                raise ValueError(
                    f"'{name}' must have shape [{num_rows}, D] with a row for each of 'pos' "
                    f"(got {list(vectors.shape)})"
                )

    def of_negatives(self, table: Tensor, neg: Scores) -> Tensor:
        """Rows of a table of all items for the negatives: ``[N, ...]`` or ``[B, N, ...]``.

        Raises:
            ValueError: If the negatives are not told and cannot be the whole catalogue.
        """
        if self.negatives is not None:
            rows = table.index_select(0, self.negatives.flatten())
            return rows.view(*self.negatives.shape, *table.shape[1:])
        if num_negatives(neg) != table.size(0):
            raise ValueError(
                f"'negatives' must tell the item of each negative, [N] or [B, N], unless they are "
                f"the whole catalogue of {table.size(0)} items (got {num_negatives(neg)} negatives)"
            )
        return table
