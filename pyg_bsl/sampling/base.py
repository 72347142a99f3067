"""What every sampler is."""

from __future__ import annotations

import inspect
from abc import ABC, abstractmethod
from typing import ClassVar, Literal

import torch
from torch import Generator, Tensor

from pyg_bsl.types import Batch, Negatives, Ragged, UserItems


class Sampler(ABC):
    """Chooses the negatives of a batch.

    Constructor arguments are kept as attributes of the same names.
    """

    batch_by: ClassVar[Literal["user", "pair"]] = "user"
    """Batches the sampler is best used with: all positives of some users, or single pairs."""

    @property
    def needs_seen(self) -> bool:
        """Whether the batches must carry the training items of their users."""
        return False

    @abstractmethod
    def sample(
        self, batch: Batch, train: UserItems, generator: Generator | None = None
    ) -> Negatives:
        """Negatives of ``batch``, on the batch's device.

        Args:
            batch: The positives.
            train: All training interactions, on the same device.
            generator: Source of randomness, on the same device.
        """

    def __repr__(self) -> str:
        names = inspect.signature(type(self)).parameters
        args = ", ".join(f"{name}={getattr(self, name)}" for name in names)
        return f"{type(self).__name__}({args})"


def seen_of(batch: Batch) -> Ragged:
    """The training items of the batch's users.

    Raises:
        ValueError: If the batch does not carry them.
    """
    if batch.seen is None:
        raise ValueError(
            "The sampler needs the users' training items in the batch: make the loader with "
            "with_seen=True"
        )
    return batch.seen


def seen_mask(seen: Ragged, items: Tensor) -> Tensor:
    """Where shared negatives are items that a query has seen: boolean ``[Q, N]``.

    Args:
        seen: Items that each of the ``Q`` queries has seen.
        items: Negative items shared by all, ``[N]``; they may repeat.
    """
    ordered = items.sort().values
    count = items.numel()
    at = torch.searchsorted(ordered, seen.col)
    hit = ordered[at.clamp(max=count - 1)] == seen.col
    hole = torch.zeros(seen.num_rows, count + 1, dtype=torch.bool, device=items.device)
    yes = torch.ones((), dtype=torch.bool, device=items.device)
    # A spare column takes the seen items that are not among the negatives.
    hole.index_put_((seen.row, torch.where(hit, at, count)), yes)
    return hole[:, torch.searchsorted(ordered, items)]
