"""Batches of positive pairs."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

import torch
from torch import Generator

from pyg_bsl.checks import check_count
from pyg_bsl.types import Batch, Ragged, UserItems


class BatchLoader:
    """Goes through all training pairs once an epoch, in random order.

    Batches of an epoch are as large as one another, give or take one: a few users left over would
    make a step as long as the others from next to nothing. They are laid out on the CPU, where row
    boundaries are plain numbers, and moved to the device whole.

    Args:
        train: Training interactions, on the CPU.
        batch_size: Most users (or pairs) of a batch; :obj:`None`: 2048, or a twelfth of all if that
            is less, so that an epoch has several steps on small data too.
        by: ``"user"``: a batch is ``batch_size`` users with all their items; ``"pair"``:
            ``batch_size`` single pairs.
        with_seen: Whether batches of pairs carry all training items of their users; batches of
            users do so anyway.

    Raises:
        ValueError: If the size is below 1, ``by`` is neither, or there are no pairs.
    """

    def __init__(
        self,
        train: UserItems,
        batch_size: int | None = None,
        by: Literal["user", "pair"] = "user",
        with_seen: bool = True,
    ) -> None:
        if by not in ("user", "pair"):
            raise ValueError(f"'batch_by' must be 'user' or 'pair' (got {by!r})")
        if train.num_pairs == 0:
            raise ValueError("There is nothing to train on: the data has no training pairs")
        self.train = train
        self.by = by
        self.with_seen = with_seen
        self._active = train.counts.nonzero().squeeze(1)
        if batch_size is None:
            batch_size = max(1, min(2048, self._total // 12))
        self.batch_size = check_count("batch_size", batch_size)

    def __len__(self) -> int:
        """Batches of an epoch."""
        return -(-self._total // self.batch_size)

    @property
    def _total(self) -> int:
        return self._active.numel() if self.by == "user" else self.train.num_pairs

    def epoch(self, generator: Generator) -> Iterator[Batch]:
        """The batches of one epoch, on the CPU."""
        if self.by == "user":
            order = torch.randperm(self._active.numel(), generator=generator)
            for queries in self._active[order].tensor_split(len(self)):
                seen = Ragged.of(self.train.select(queries))
                yield Batch(queries, seen, seen)
            return
        users, items = self.train.users, self.train.items
        order = torch.randperm(items.numel(), generator=generator)
        for at in order.tensor_split(len(self)):
            queries, count = users[at], at.numel()
            positives = Ragged(tuple(range(count + 1)), torch.arange(count), items[at])
            items_of = Ragged.of(self.train.select(queries)) if self.with_seen else None
            yield Batch(queries, positives, items_of)
