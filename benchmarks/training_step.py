"""Cost of a training step a positive: exact over the catalogue, against sampled the literal way.

Sizes are those of Amazon-Electronic (13,455 users, 8,360 items, d = 64) with random vectors and
users of 13.6 positives on average. All ways run in this process, in turns; the figures are medians
of forward and backward.

- *literal*: 1024 pairs, 1000 sampled negatives each, gathered as [1024, 1000, 64], cosine
  similarity, log-sum-exp: what the papers' released code does, written anew from its description.
- *plain*: 1024 pairs, all items, one matrix product, held in full, plain autograd.
- *exact*: 1024 users with all their positives, all items, as the library trains.
- *exact, pairs*: 1024 pairs, all items, as the library does it.

Run it with `MALLOC_MMAP_THRESHOLD_=4294967296 MALLOC_TRIM_THRESHOLD_=-1 python
benchmarks/training_step.py --threads 1`: the allocator then keeps the literal way's large blocks,
in its favour.
"""

import argparse
import os
import statistics
import time
from collections.abc import Callable

import torch
import torch.nn.functional as F

from pyg_bsl.losses import BSL, PSL, SL, Loss
from pyg_bsl.sampling import AllItems, BatchLoader
from pyg_bsl.training.result import machine
from pyg_bsl.training.scoring import score
from pyg_bsl.types import Embeddings, UserItems

USERS, ITEMS, DIM, BATCH, NEGATIVES = 13_455, 8_360, 64, 1_024, 1_000
LOSSES: dict[str, Loss] = {
    "SL": SL(tau=0.2),
    "BSL": BSL(tau1=0.2, tau2=0.2, weight=1.3),
    "PSL-relu": PSL(tau=0.1),
}


def make_data() -> UserItems:
    generator = torch.Generator().manual_seed(0)
    counts = torch.empty(USERS).geometric_(1 / 13.6, generator=generator).long().clamp(max=500)
    users = torch.arange(USERS).repeat_interleave(counts)
    items = torch.randint(ITEMS, (users.numel(),), generator=generator)
    keys = (users * ITEMS + items).unique()
    return UserItems.from_pairs(keys // ITEMS, keys % ITEMS, USERS, ITEMS)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=7)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    torch.manual_seed(0)
    train = make_data()
    user = torch.randn(USERS, DIM, requires_grad=True)
    item = torch.randn(ITEMS, DIM, requires_grad=True)
    generator = torch.Generator().manual_seed(0)
    by_user = next(BatchLoader(train, BATCH, "user").epoch(generator))
    by_pair = next(BatchLoader(train, BATCH, "pair").epoch(generator))

    def literal(loss: Loss) -> int:
        negatives = torch.randint(ITEMS, (BATCH, NEGATIVES))
        mine = user[by_pair.users]
        pos = F.cosine_similarity(mine, item[by_pair.items])
        neg = F.cosine_similarity(mine[:, None], item[negatives], dim=2)
        loss(pos, neg).backward()
        return BATCH

    def plain(loss: Loss) -> int:
        mine, all_items = F.normalize(user[by_pair.users]), F.normalize(item)
        scores = mine @ all_items.t()
        loss(scores.gather(1, by_pair.items[:, None])[:, 0], scores).backward()
        return BATCH

    def exact(loss: Loss, batch=by_user) -> int:
        negatives = AllItems().sample(batch, train)
        pos, neg = score(Embeddings(user, item), batch, negatives)
        loss(pos, neg).backward()
        return batch.items.numel()

    ways: dict[str, Callable[[Loss], int]] = {
        "literal": literal,
        "plain": plain,
        "exact, pairs": lambda loss: exact(loss, by_pair),
        "exact": exact,
    }
    facts = machine()
    mmap = os.environ.get("MALLOC_MMAP_THRESHOLD_", "default")
    print(f"{facts['processor']}, {options.threads} thread(s), torch {torch.__version__}")
    print(f"MALLOC_MMAP_THRESHOLD_={mmap}; medians of {options.rounds} rounds\n")
    print("| loss | way | positives | ms a step | us a positive | times the literal way |")
    print("|---|---|---|---|---|---|")
    for name, loss in LOSSES.items():
        times: dict[str, list[float]] = {way: [] for way in ways}
        positives = {way: run(loss) for way, run in ways.items()}  # warm
        for _ in range(options.rounds):
            for way, run in ways.items():
                user.grad = item.grad = None
                start = time.perf_counter()
                run(loss)
                times[way].append(time.perf_counter() - start)
        cost = {way: statistics.median(times[way]) for way in ways}
        base = cost["literal"] / positives["literal"]
        for way, seconds in cost.items():
            each = seconds / positives[way]
            print(
                f"| {name} | {way} | {positives[way]:,} | {1e3 * seconds:.1f} | {1e6 * each:.2f} "
                f"| {base / each:.1f} |"
            )


if __name__ == "__main__":
    main()
