"""``python -m benchmarks.published``: our runs beside the papers' tables.

Amazon-Electronic, split and protocol of the PSL paper (``psl-iid``): epoch and settings chosen on
validation data. Every run is ``examples/amazon_electronic.py`` with a loss and a backbone, nothing
else; what it found is a line of ``benchmarks/published.csv`` as soon as it ends. Runs that have a
line are not run again. The table of ``benchmarks/README.md`` is made of the lines.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterable
from pathlib import Path

from benchmarks.__main__ import README, replace_section
from benchmarks.ledger import Line, by_recipe, facts, mean, read, run_missing, train
from benchmarks.measure import Table

LINES = Path(__file__).with_name("published.csv")
SCRIPT = "examples/amazon_electronic.py"

PUBLISHED = {
    "MF BPR": (0.0816, 0.0527),
    "MF LLPAUC": (0.0821, 0.0499),
    "MF SL": (0.0821, 0.0529),
    "MF AdvInfoNCE": (0.0829, 0.0527),
    "MF BSL-paper": (0.0834, 0.0530),
    "MF PSL-tanh": (0.0832, 0.0535),
    "MF PSL-atan": (0.0832, 0.0535),
    "MF PSL": (0.0838, 0.0541),
    "MF SLatK": (0.0901, 0.0590),
    "MF BSL": None,
    "LightGCN SL": (0.0823, 0.0526),
    "LightGCN BSL-paper": (0.0823, 0.0526),
    "LightGCN PSL": (0.0830, 0.0536),
    "LightGCN BSL": None,
    "XSimGCL SL": (0.0772, 0.0490),
    "XSimGCL BSL-paper": (0.0800, 0.0507),
    "XSimGCL PSL": (0.0801, 0.0507),
    "XSimGCL BSL": None,
}
"""Recall@20 and NDCG@20 on Amazon-Electronic: Table 1 of the PSL paper (arXiv 2411.00163), SL@20
from Table 2 of SL@K's (arXiv 2508.05673). ``BSL-paper`` is the form without a weight of its own,
``BSL`` that of the authors' released code, which neither table has."""


def table(lines: Iterable[Line]) -> str:
    """Ours beside theirs."""
    lines, rows = list(lines), []
    for recipe, runs in by_recipe(lines).items():
        ours = mean(runs, "recall@20", 4), mean(runs, "ndcg@20", 4)
        theirs, ratio = PUBLISHED[recipe], ""
        if theirs is not None:
            found = sum(float(run["ndcg@20"]) for run in runs) / len(runs)
            ratio = f"{100 * (found / theirs[1] - 1):+.1f} %"
        shown = ["", ""] if theirs is None else [f"{x:.4f}" for x in theirs]
        rows.append([recipe, str(len(runs)), *ours, *shown, ratio])
    head = ("backbone, loss", "seeds", "Recall@20", "NDCG@20", "published R", "published N", "NDCG")
    return Table(head, rows, facts(lines)).markdown()


def main(argv: list[str] | None = None) -> int:
    """Run what is missing and write the table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.published", description=__doc__)
    parser.add_argument("--only", nargs="+", choices=PUBLISHED, default=list(PUBLISHED))
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--threads", type=int, default=2)
    args = parser.parse_args(argv)

    def run(recipe: str, seed: int) -> Line:
        backbone, loss = recipe.split()
        command = f"python {SCRIPT} --backbone {backbone} --loss {loss}"
        return train(recipe, command, seed, args.threads)

    run_missing(LINES, args.only, args.seeds, run)
    README.write_text(replace_section(README.read_text(), "published", table(read(LINES))))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
