"""Cost of a loss, forward and backward: the literal way, plain PyTorch, and the library.

Sizes are those of Amazon-Electronic. Ways with the same batch compute the same number, which is
checked before they are timed; only the first two sample:

- *literal*: 1,024 pairs, 1,000 sampled negatives each, gathered as ``[1024, 1000, 64]``,
  ``F.cosine_similarity``, the loss: what the papers' released code does.
- *gathered, normalised before*: the same with rows normalised once and a batched product.
- *plain, pairs*: 1,024 pairs and all items; one matrix product held in full, autograd.
- *F.linear_cross_entropy, pairs*: the same in chunks of 128 rows, the fastest of 16 to 512. Its
  cross-entropy is SL over all items, the positive among them, plus ``log(items)``.
- *library, pairs*: the same.
- *plain, users*: 1,024 users with all their positives, one log-sum-exp a user.
- *library, users*: the same.
- *library, as trained*: the trainer's own choice: users with all their positives, which are no
  negatives; all items, or 1,024 sampled ones shared by the batch for losses that need a row of
  negatives for every positive. Such losses over all items cost with users what they cost with
  pairs, a positive, and are timed with pairs only; so is the plain way of PSL-relu.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from benchmarks.data import planted
from benchmarks.measure import Options, Table, medians
from pyg_bsl.losses import BPR, BSL, PSL, SL, Loss
from pyg_bsl.sampling import AllItems, BatchLoader, Sampler, Shared
from pyg_bsl.training.scoring import score
from pyg_bsl.training.trainer import has_bfloat16_units
from pyg_bsl.types import Batch, Embeddings

ALL = slice(None)
Plain = Callable[..., Tensor]


@dataclass(frozen=True)
class Sizes:
    """Sizes of a step."""

    users: int = 13_455
    items: int = 8_360
    pairs: int = 230_000
    batch: int = 1_024
    negatives: int = 1_000
    dim: int = 64


@dataclass(frozen=True)
class Way:
    """A way to the loss: its kind (ways of a kind agree), its rows, and the loss itself."""

    kind: str
    positives: int
    loss: Callable[[], Tensor]


def softmax(tau1: float, tau2: float, weight: float) -> Plain:
    """SL and BSL: one log-sum for all positives of a user."""

    def rows(pos: Tensor, neg: Tensor, row: Tensor | slice = ALL) -> Tensor:
        total = torch.logsumexp(neg / tau2, 1) - math.log(neg.size(1))
        return weight * total[row] - pos / tau1

    return rows


def of_gap(kernel: Callable[[Tensor], Tensor]) -> Plain:
    """A loss of the gap between negatives and positive: a row of negatives for each positive."""
    return lambda pos, neg, row=ALL: kernel(neg[row] - pos[:, None])


LOSSES: dict[str, tuple[Loss, Plain]] = {
    "SL": (SL(tau=0.2), softmax(0.2, 0.2, 1.0)),
    "BSL": (BSL(tau1=0.2, tau2=0.15, weight=1.3), softmax(0.2, 0.15, 1.3)),
    "PSL-relu": (PSL(tau=0.1), of_gap(lambda d: F.relu(d / 2 + 1).pow(10).mean(1).log())),
    "PSL-tanh": (
        PSL(tau=0.1, activation="tanh"),
        of_gap(lambda d: (torch.tanh(d / 2) + 1).pow(10).mean(1).log()),
    ),
    "BPR": (BPR(), of_gap(lambda d: F.softplus(d).mean(1))),
}


def ways(
    name: str, sizes: Sizes, dtype: torch.dtype = torch.float32
) -> tuple[Embeddings, dict[str, Way]]:
    """The vectors that the loss called ``name`` is a function of, and the ways to it."""
    loss, plain = LOSSES[name]
    train = planted(sizes.users, sizes.items, sizes.pairs).train
    generator = torch.Generator().manual_seed(0)
    user, item = (
        torch.randn(size, sizes.dim, generator=generator, dtype=dtype).requires_grad_()
        for size in (sizes.users, sizes.items)
    )
    pairs = next(BatchLoader(train, sizes.batch, "pair").epoch(generator))
    users = next(BatchLoader(train, sizes.batch, "user").epoch(generator))
    shape = pairs.items.numel(), sizes.negatives
    drawn = torch.randint(sizes.items, shape, generator=generator)
    cosine = loss.similarity == "cosine"

    def unit(x: Tensor) -> Tensor:
        return F.normalize(x, dim=1) if cosine else x

    def literal() -> Tensor:
        mine = user[pairs.users]
        positive, negatives = item[pairs.items], item[drawn]  # [B, D], [B, N, D]
        if cosine:
            pos = F.cosine_similarity(mine, positive)
            neg = F.cosine_similarity(mine[:, None], negatives, dim=2)
        else:
            pos, neg = (mine * positive).sum(1), (mine[:, None] * negatives).sum(2)
        return plain(pos, neg).mean()

    def gathered() -> Tensor:
        mine, all_items = unit(user[pairs.users]), unit(item)
        neg = (all_items[drawn] @ mine[:, :, None]).squeeze(2)
        return plain((mine * all_items[pairs.items]).sum(1), neg).mean()

    def in_full(batch: Batch) -> Tensor:
        scores = unit(user[batch.queries]) @ unit(item).t()
        row = ALL if batch is pairs else batch.positives.row
        return plain(scores[batch.positives.row, batch.items], scores, row).mean()

    def chunked() -> Tensor:
        query = unit(user[pairs.users]) / loss.tau
        options = torch.nn.LinearCrossEntropyOptions(batch_chunk_size=128)
        return F.linear_cross_entropy(query, unit(item), pairs.items, options=options)

    def library(batch: Batch, sampler: Sampler, gemm: torch.dtype | None = None) -> Tensor:
        negatives = sampler.sample(batch, train)
        return loss(*score(Embeddings(user, item), batch, negatives, loss.similarity, gemm))

    every = AllItems(avoid_seen=False)
    own = AllItems() if loss.per_user else Shared(1_024)

    usual = torch.bfloat16 if has_bfloat16_units(torch.device("cpu")) else None

    few, many = pairs.items.numel(), users.items.numel()
    out = {
        "literal": Way("sampled", few, literal),
        "gathered, normalised before": Way("sampled", few, gathered),
        "plain, pairs": Way("pairs", few, lambda: in_full(pairs)),
        "F.linear_cross_entropy, pairs": Way("pairs", few, chunked),
        "library, pairs": Way("pairs", few, lambda: library(pairs, every)),
        "library, pairs, bfloat16": Way(
            "bfloat16 pairs", few, lambda: library(pairs, every, torch.bfloat16)
        ),
        "plain, users": Way("users", many, lambda: in_full(users)),
        "library, users": Way("users", many, lambda: library(users, every)),
        "library, users, bfloat16": Way(
            "bfloat16", many, lambda: library(users, every, torch.bfloat16)
        ),
        "library, as trained": Way("as trained", many, lambda: library(users, own, usual)),
    }
    if name != "SL" or not hasattr(F, "linear_cross_entropy"):
        del out["F.linear_cross_entropy, pairs"]
    return Embeddings(user, item), out


def gradients(emb: Embeddings, way: Way) -> Tensor:
    """Gradients with respect to all vectors, ``[users + items, D]``."""
    return torch.cat(torch.autograd.grad(way.loss(), (emb.user, emb.item)))


def disagreement(emb: Embeddings, ways: dict[str, Way]) -> float:
    """Largest relative difference, in norm, between the gradients of exact ways of one kind."""
    first: dict[str, Tensor] = {}
    worst = 0.0
    for way in ways.values():
        if way.kind not in ("pairs", "users"):
            continue
        grad = gradients(emb, way)
        oracle = first.setdefault(way.kind, grad)
        worst = max(worst, float((grad - oracle).norm() / oracle.norm()))
    return worst


def run(options: Options) -> list[Table]:
    """Time a step of every loss."""
    sizes = Sizes(300, 200, 3_000, 32, 50, 16) if options.quick else Sizes()
    rows, worst = [], 0.0
    for name in LOSSES:
        emb, every = ways(name, sizes)
        if name not in ("SL", "BSL"):
            del every["plain, users"]
        if not LOSSES[name][0].per_user:
            del every["library, users"], every["library, users, bfloat16"]
        worst = max(worst, disagreement(emb, every))
        if worst > 0.02:
            raise AssertionError(f"Ways to {name} differ in gradient by {worst:.1%}")

        def step(way: Way, emb: Embeddings = emb) -> None:
            emb.user.grad = emb.item.grad = None
            way.loss().backward()

        seconds = medians({key: lambda way=way: step(way) for key, way in every.items()}, options)
        base = seconds["literal"] / every["literal"].positives
        for key, way in every.items():
            each = seconds[key] / way.positives
            figures = f"{1e3 * seconds[key]:.1f}", f"{1e6 * each:.2f}", f"{base / each:.1f}"
            rows.append([name, key, f"{way.positives:,}", *figures])
    note = (
        f"{sizes.users:,} users, {sizes.items:,} items, d = {sizes.dim}; "
        f"{sizes.negatives:,} sampled negatives or all items. Gradients of ways to the same "
        f"number differ by at most {worst:.0e} in relative norm."
    )
    head = ["loss", "way", "positives", "ms a step", "µs a positive", "times literal, a positive"]
    return [Table(head, rows, note)]
