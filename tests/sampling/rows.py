"""Rows of users with extreme ones among them, and what samplers are checked with."""

import torch
from torch import Generator, Tensor

from pyg_bsl.sampling import BatchLoader
from pyg_bsl.types import Batch, Ragged, UserItems

NUM_ITEMS = 8
SEEN = [{0, 3, 4}, set(range(NUM_ITEMS)), {7}, set(range(NUM_ITEMS)) - {2}, {0}]
"""Training items of each user: user 1 has all of them, user 3 all but one."""


def train() -> UserItems:
    rows = [(user, item) for user, items in enumerate(SEEN) for item in sorted(items)]
    users, items = torch.tensor(rows).t().contiguous()
    return UserItems.from_pairs(users, items, len(SEEN), NUM_ITEMS)


def seeded(seed: int) -> Generator:
    return Generator().manual_seed(seed)


def user_batch(users: list[int]) -> Batch:
    """All items of some users."""
    positives = Ragged.of(train().select(torch.tensor(users)))
    return Batch(torch.tensor(users), positives, positives)


def pair_batch(pairs: list[tuple[int, int]], with_seen: bool = True) -> Batch:
    """Single pairs."""
    users, items = torch.tensor(pairs).t().contiguous()
    count = len(pairs)
    positives = Ragged(tuple(range(count + 1)), torch.arange(count), items)
    return Batch(users, positives, Ragged.of(train().select(users)) if with_seen else None)


def any_batch(by: str, seed: int = 0, size: int = 3) -> Batch:
    """The first batch of an epoch."""
    return next(BatchLoader(train(), size, by).epoch(seeded(seed)))


def holes(drop: Tensor | Ragged | None, num_rows: int, width: int) -> list[list[bool]]:
    """What is dropped, in full."""
    if drop is None:
        return [[False] * width] * num_rows
    if isinstance(drop, Tensor):
        return drop.tolist()
    out = [[False] * width for _ in range(num_rows)]
    for row, col in zip(drop.row.tolist(), drop.col.tolist(), strict=True):
        out[row][col] = True
    return out


def assert_uniform(counts: Tensor) -> None:
    """The counts of equally likely outcomes pass a chi-square test at about 1 in 10,000."""
    expected = counts.sum() / counts.numel()
    statistic = float(((counts - expected) ** 2 / expected).sum())
    freedom = counts.numel() - 1
    # Wilson and Hilferty's normal approximation of the quantile.
    limit = freedom * (1 - 2 / (9 * freedom) + 3.72 * (2 / (9 * freedom)) ** 0.5) ** 3
    assert statistic < limit, f"{counts.tolist()}: {statistic:.1f} is beyond {limit:.1f}"
