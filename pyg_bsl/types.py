"""Plain data that the layers hand to one another."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Literal

import torch
from torch import Tensor


@dataclass(frozen=True)
class UserItems:
    """The items of each user, in compressed rows; the items of a user ascend.

    Args:
        ptr: Row boundaries, ``[num_users + 1]``, int64: the items of user ``u`` are
            ``items[ptr[u]:ptr[u + 1]]``.
        items: Item ids, ``[num_pairs]``, int64.
        num_items: Size of the catalogue.
    """

    ptr: Tensor
    items: Tensor
    num_items: int

    @classmethod
    def from_pairs(cls, users: Tensor, items: Tensor, num_users: int, num_items: int) -> UserItems:
        """Sort pairs ``(users[e], items[e])``, each ``[num_pairs]``, into rows."""
        key = (users * num_items + items).sort().values
        ptr = torch.zeros(num_users + 1, dtype=torch.long, device=users.device)
        torch.cumsum(torch.bincount(users, minlength=num_users), 0, out=ptr[1:])
        return cls(ptr, key % max(num_items, 1), num_items)

    @property
    def num_users(self) -> int:
        """Number of rows."""
        return self.ptr.numel() - 1

    @property
    def num_pairs(self) -> int:
        """Number of user-item pairs."""
        return self.items.numel()

    @cached_property
    def counts(self) -> Tensor:
        """Number of items of each user, ``[num_users]``."""
        return self.ptr.diff()

    @cached_property
    def item_counts(self) -> Tensor:
        """Number of users of each item, ``[num_items]``."""
        zeros = torch.zeros(self.num_items, dtype=torch.long, device=self.ptr.device)
        return zeros.scatter_add_(0, self.items, torch.ones_like(self.items))

    @cached_property
    def users(self) -> Tensor:
        """User of each pair, ``[num_pairs]``, beside :attr:`items`."""
        ids = torch.arange(self.num_users, device=self.ptr.device)
        return ids.repeat_interleave(self.counts, output_size=self.num_pairs)

    @cached_property
    def keys(self) -> Tensor:
        """``user * num_items + item`` of each pair, ascending, ``[num_pairs]``."""
        return self.users * self.num_items + self.items

    def contains(self, users: Tensor, items: Tensor) -> Tensor:
        """Whether each pair is there: boolean, of the broadcast shape of the arguments."""
        key = users * self.num_items + items
        if self.num_pairs == 0:
            return torch.zeros_like(key, dtype=torch.bool)
        at = torch.searchsorted(self.keys, key).clamp_(max=self.num_pairs - 1)
        return self.keys[at] == key

    def select(self, users: Tensor) -> UserItems:
        """The rows of ``users`` ``[Q]``, in their order, as rows ``0 .. Q - 1``."""
        counts = self.counts[users]
        ptr = torch.zeros(users.numel() + 1, dtype=torch.long, device=users.device)
        torch.cumsum(counts, 0, out=ptr[1:])
        shift = (self.ptr[users] - ptr[:-1]).repeat_interleave(counts)
        at = shift + torch.arange(shift.numel(), device=users.device)
        return UserItems(ptr, self.items[at], self.num_items)

    def unseen(self, users: Tensor, rank: Tensor) -> Tensor:
        """The item that stands at place ``rank`` among those that the user does not have.

        Args:
            users: ``[B, 1]`` (or any shape that broadcasts with ``rank``).
            rank: Places from 0 to ``num_items - counts[user] - 1``.
        """
        stride = self.num_items + 1
        at = torch.searchsorted(self._unseen_before, users * stride + rank, right=True)
        return rank + at - self.ptr[users]

    @cached_property
    def _unseen_before(self) -> Tensor:
        """For each pair, ascending: user * (num_items + 1) + number of unseen items before it."""
        place = torch.arange(self.num_pairs, device=self.ptr.device) - self.ptr[self.users]
        return self.users * (self.num_items + 1) + self.items - place

    def to(self, device: torch.device | str) -> UserItems:
        """The same rows on ``device``."""
        return UserItems(self.ptr.to(device), self.items.to(device), self.num_items)


@dataclass(frozen=True)
class Embeddings:
    """What a backbone gives: one vector for every user and every item.

    Args:
        user: ``[num_users, D]``.
        item: ``[num_items, D]``.
        similarity: Scores to rank by: ``"cosine"``, ``"dot"``, or :obj:`None` where that is not
            known.
    """

    user: Tensor
    item: Tensor
    similarity: Literal["cosine", "dot"] | None = field(default=None, kw_only=True)

    def detach(self) -> Embeddings:
        """The same vectors without gradients."""
        return Embeddings(self.user.detach(), self.item.detach(), similarity=self.similarity)

    def to(self, device: torch.device | str) -> Embeddings:
        """The same vectors on ``device``."""
        return Embeddings(self.user.to(device), self.item.to(device), similarity=self.similarity)


@dataclass(frozen=True)
class BipartiteGraph:
    """Users, items and who met what, ready for training and evaluation.

    Args:
        train: Interactions that are trained and propagated on.
        valid: Held-out interactions on which epochs and models are chosen, if any.
        test: Held-out interactions on which the chosen model is reported, if any.
        adjacency: Symmetrically normalised adjacency of users followed by items,
            ``[num_users + num_items, num_users + num_items]``, sparse CSR (or a
            ``torch_sparse.SparseTensor``).
        name: Name of the data set.
        digest: Digest of all interactions, the same for the same data and split.
        user_ids: Raw id of each user, where the data has them.
        item_ids: Raw id of each item, where the data has them.
    """

    train: UserItems
    valid: UserItems | None
    test: UserItems | None
    adjacency: Tensor
    name: str = "unnamed"
    digest: str = ""
    user_ids: Sequence[str] | None = None
    item_ids: Sequence[str] | None = None

    @property
    def num_users(self) -> int:
        """Number of users."""
        return self.train.num_users

    @property
    def num_items(self) -> int:
        """Number of items."""
        return self.train.num_items

    def split(self, name: str) -> UserItems:
        """The interactions called ``"train"``, ``"valid"`` or ``"test"``.

        Raises:
            ValueError: If the name is unknown or the graph has no such interactions.
        """
        if name not in ("train", "valid", "test"):
            raise ValueError(f"'split' must be one of 'train', 'valid', 'test' (got {name!r})")
        rows: UserItems | None = getattr(self, name)
        if rows is None:
            raise ValueError(
                f"The data set '{self.name}' has no {name} interactions: hold some out first "
                "(pyg_bsl.data.HoldoutValidation), or choose another split"
            )
        return rows

    def to(self, device: torch.device | str) -> BipartiteGraph:
        """The same graph on ``device``."""
        return replace(
            self,
            train=self.train.to(device),
            valid=None if self.valid is None else self.valid.to(device),
            test=None if self.test is None else self.test.to(device),
            adjacency=self.adjacency.to(device),
        )


@dataclass(frozen=True)
class Ragged:
    """Rows of uneven length laid end to end, with boundaries that the host knows.

    Because the boundaries are plain numbers, a step can walk over blocks of rows without
    reading anything back from the device.

    Args:
        bounds: Row boundaries, ``num_rows + 1`` numbers: row ``q`` is ``bounds[q]:bounds[q + 1]``.
        row: Row of each element, ``[M]``, ascending.
        col: Column (an item or a position) of each element, ``[M]``.
    """

    bounds: tuple[int, ...]
    row: Tensor
    col: Tensor

    @property
    def num_rows(self) -> int:
        """Number of rows."""
        return len(self.bounds) - 1

    def counts(self) -> Tensor:
        """Length of each row, ``[num_rows]``, on the device."""
        ptr = torch.tensor(self.bounds)
        return ptr.diff().to(self.row.device, non_blocking=True)

    @classmethod
    def of(cls, rows: UserItems) -> Ragged:
        """The rows of ``rows`` (on the CPU, or this reads back)."""
        return cls(tuple(rows.ptr.tolist()), rows.users, rows.items)

    def to(self, device: torch.device | str) -> Ragged:
        """The same rows on ``device``."""
        row, col = (x.to(device, non_blocking=True) for x in (self.row, self.col))
        return Ragged(self.bounds, row, col)


@dataclass(frozen=True)
class Batch:
    """Positive pairs of one step.

    Args:
        queries: The users whose scores the negatives need, ``[Q]``: each user once in a
            user-major batch, the user of each pair in a pair-major one.
        positives: Positive items of each query; its elements are the ``B`` rows of the loss.
        seen: All training items of each query, where the sampler asks for them; the same object
            as ``positives`` in a user-major batch.
    """

    queries: Tensor
    positives: Ragged
    seen: Ragged | None = None

    @property
    def users(self) -> Tensor:
        """User of each row, ``[B]``."""
        return self.queries[self.positives.row]

    @property
    def items(self) -> Tensor:
        """Positive item of each row, ``[B]``."""
        return self.positives.col

    def to(self, device: torch.device | str) -> Batch:
        """The same batch on ``device``."""
        positives = self.positives.to(device)
        seen = self.seen
        if seen is not None:
            seen = positives if seen is self.positives else seen.to(device)
        return Batch(self.queries.to(device, non_blocking=True), positives, seen)


@dataclass(frozen=True)
class Negatives:
    """Negative items of a batch.

    Args:
        items: ``[N]`` when all rows share them, ``[B, N]`` when each row has its own,
            :obj:`None` for the whole catalogue.
        drop: Positions along N that are no negatives: ``[Q, N]`` boolean or ragged rows of the
            queries, or ``[B, N]`` boolean when each row has its own negatives.
        log_weight: Log of each negative's weight in means and sums, ``[N]``, or ``[B, N]`` when
            each row has its own negatives.
        keep_hardest: How many of them each row is to keep, those that score highest; :obj:`None`
            keeps all.
    """

    items: Tensor | None
    drop: Ragged | Tensor | None = None
    log_weight: Tensor | None = None
    keep_hardest: int | None = None
