"""How a training step of the library grows: users, items, dimensions, negatives, batch.

A whole step as the trainer takes it: negatives, scores, SL, backward, Adam, vectors put back to
length 1. One size grows at a time, from 1 to 16 times, on generated data. The exponent is the slope
of a line through the logarithms: 1 is linear growth, less where a part of the step does not grow.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import torch
import torch.nn.functional as F

from benchmarks.data import planted
from benchmarks.measure import Options, Table, medians
from pyg_bsl import Trainer
from pyg_bsl.losses import SL
from pyg_bsl.nn import MF
from pyg_bsl.sampling import AllItems, BatchLoader, Shared

FACTORS = (1, 2, 4, 8, 16)


@dataclass(frozen=True)
class Sizes:
    """Sizes of a step; ``negatives`` shared by the batch, 0 for all items."""

    users: int = 8_192
    items: int = 4_096
    dim: int = 32
    negatives: int = 0
    batch: int = 256


def step(sizes: Sizes) -> Callable[[], None]:
    """A training step of these sizes."""
    graph = planted(sizes.users, sizes.items, 12 * sizes.users)
    model = MF(sizes.users, sizes.items, embedding_dim=sizes.dim)
    sampler = Shared(sizes.negatives) if sizes.negatives else AllItems()
    trainer = Trainer(model, SL(tau=0.2), sampler)
    generator = torch.Generator().manual_seed(0)
    batch = next(BatchLoader(graph.train, sizes.batch).epoch(generator))
    optimizer = torch.optim.Adam(model.parameters(), lr=0.1, fused=True)

    def run() -> None:
        negatives = sampler.sample(batch, graph.train, generator)
        loss = trainer.step_loss(graph, batch, negatives)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        with torch.no_grad():
            for table in model.tables():
                F.normalize(table, dim=1, out=table)

    return run


def run(options: Options) -> list[Table]:
    """Time a step at every size."""
    base = Sizes(512, 256, 8, 0, 32) if options.quick else Sizes()
    shared = replace(base, items=16 * base.items, negatives=base.items)
    rows = []
    for label, start, field in (
        ("users", base, "users"),
        ("items", base, "items"),
        ("d", base, "dim"),
        ("N (shared negatives)", shared, "negatives"),
        ("batch (users)", base, "batch"),
    ):
        values = [factor * getattr(start, field) for factor in FACTORS]
        ways = {str(value): step(replace(start, **{field: value})) for value in values}
        seconds = list(medians(ways, options).values())
        slope = np.polyfit(np.log(FACTORS), np.log(seconds), 1)[0]
        rows.append([label, f"{values[0]:,}", *(f"{1e3 * s:.1f}" for s in seconds), f"{slope:.2f}"])
    note = (
        f"At 1x: {base.users:,} users of 12 interactions, {base.items:,} items, d = {base.dim}, "
        f"a batch of {base.batch} users with all their positives, all items as negatives; for N, "
        f"{shared.items:,} items. Milliseconds a step."
    )
    head = ["what grows", "from", *(f"{factor}x" for factor in FACTORS), "exponent"]
    return [Table(head, rows, note)]
