"""``python -m benchmarks.quality``: how good after how long, by the command line on real data.

Every recipe is a ``pyg-bsl train`` command; each run is a process of its own, and what it found is
a line of ``benchmarks/quality.csv`` as soon as it ends. Runs that have a line are not run again:
the same command goes on where it was stopped. The table of ``benchmarks/README.md`` is made of the
lines.

Electronic and Gowalla: the epoch is chosen on validation data. Settings were compared there too,
but with the test figures beside them: read the means as optimistic. Yelp2018's protocol has no
validation data: epoch and settings are chosen on the test set.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterable
from pathlib import Path

from benchmarks.__main__ import README, replace_section
from benchmarks.ledger import Line, by_recipe, facts, mean, read, run_missing, train
from benchmarks.measure import Table

LINES = Path(__file__).with_name("quality.csv")

ELECTRONIC = "--dataset amazon-electronic"
BSL_ELECTRONIC = "--loss BSL --loss.tau1 0.2 --loss.tau2 0.2 --loss.weight 1.3"
LARGER = "--backbone.init svd --batch-size 2048"
GOWALLA = f"--dataset gowalla-psl {LARGER} --lr 0.05"
YELP_MF = (
    f"--dataset yelp2018 {LARGER} --loss BSL --loss.weight 1.1 --loss.tau1 0.11 --loss.tau2 0.11 "
    "--backbone.dropout 0.1"
)
YELP_LIGHTGCN = (
    f"--dataset yelp2018 {LARGER} --loss BSL --loss.weight 1.3 --loss.tau1 0.15 --loss.tau2 0.15 "
    "--backbone LightGCN --sampler AllItems --sampler.power 1 --rank-by dot --lr 0.02 --epochs 12"
)
YELP_SMALL_STEPS = (
    "--dataset yelp2018 --backbone LightGCN --backbone.init svd --sampler ByPopularity "
    "--sampler.power 1 --sampler.num_negatives 4096 --rank-by dot --batch-size 256 --lr 0.004 "
    "--betas 0.9,0.999"
)
BSL_GOWALLA = "--loss BSL --loss.tau1 0.1 --loss.tau2 0.1 --loss.weight 1.2"
RECIPES = {
    "Electronic MF SL": f"{ELECTRONIC} --loss SL --loss.tau 0.25 --epochs 20",
    "Electronic MF PSL-relu": f"{ELECTRONIC} --loss PSL --loss.tau 0.125 --epochs 20",
    "Electronic MF BSL": f"{ELECTRONIC} {BSL_ELECTRONIC}",
    "Electronic LightGCN-2 BSL": f"{ELECTRONIC} --backbone LightGCN --backbone.num_layers 2 "
    f"--backbone.init svd {BSL_ELECTRONIC} --batch-size 2691 --lr 0.04",
    "Gowalla MF SL": f"{GOWALLA} --epochs 12 --loss SL --loss.tau 0.1",
    "Gowalla MF BSL": f"{GOWALLA} --epochs 12 {BSL_GOWALLA}",
    "Yelp2018 MF BSL": f"{YELP_MF} --lr 0.05 --epochs 11",
    "Yelp2018 LightGCN-3 BSL": YELP_LIGHTGCN,
    # With more time.
    "Electronic MF BSL, tuned": f"{ELECTRONIC} --loss BSL --loss.tau1 0.2517 --loss.tau2 0.2478 "
    "--loss.weight 1.239 --backbone.dropout 0.1 --lr 0.05747 --weight-decay 1e-05",
    "Electronic MF SL@20, tuned": f"{ELECTRONIC} --loss SLatK --loss.tau 0.2115 "
    "--loss.tau_weight 2.959 --lr 0.1289 --weight-decay 1e-05 --epochs 80",
    "Electronic MF SL@20, averaged": f"{ELECTRONIC} --loss SLatK --loss.tau 0.2086 "
    "--loss.tau_weight 2.791 --lr 0.171 --weight-decay 1e-06 --epochs 80 --average 0.3",
    "Gowalla MF BSL, longer": f"{GOWALLA} --epochs 40 {BSL_GOWALLA}",
    "Yelp2018 MF BSL, longer": f"{YELP_MF} --lr 0.03 --epochs 60",
    "Yelp2018 MF SL@20, longer": f"--dataset yelp2018 {LARGER} --loss SLatK --loss.tau 0.1 "
    "--loss.tau_weight 2 --backbone.dropout 0.1 --lr 0.03 --epochs 60",
    "Yelp2018 LightGCN-2 BSL": f"{YELP_LIGHTGCN} --backbone.num_layers 2",
    "Yelp2018 LightGCN-3 BSL, longer": f"{YELP_SMALL_STEPS} --loss BSL --loss.weight 1.4 "
    "--loss.tau1 0.15 --loss.tau2 0.15 --epochs 48",
    "Yelp2018 MF SL@20, smaller steps": "--dataset yelp2018 --backbone.init svd --loss SLatK "
    "--loss.tau 0.1 --loss.tau_weight 1.5 --backbone.dropout 0.3 --batch-size 1024 --lr 0.015 "
    "--betas 0.9,0.98 --epochs 60",
    "Yelp2018 LightGCN-3 SL@20": f"{YELP_SMALL_STEPS} --loss SLatK --loss.tau 0.14 "
    "--loss.tau_weight 1.2 --epochs 48",
}


def table(lines: Iterable[Line]) -> str:
    """Means over seeds, recipe by recipe, with the commands below."""
    rows, commands = [], []
    lines = list(lines)
    for recipe, runs in by_recipe(lines).items():
        figures = mean(runs, "recall@20", 4), mean(runs, "ndcg@20", 4)
        seconds = mean(runs, "train_seconds", 1), mean(runs, "total_seconds", 1)
        rows.append([recipe, str(len(runs)), *figures, *seconds])
        commands.append(f"# {recipe}\n{runs[0]['command'].rpartition(' --seed')[0]} --seed SEED")
    head = ("recipe", "seeds", "Recall@20", "NDCG@20", "s of training", "s in all")
    body = Table(head, rows, facts(lines)).markdown()
    return body + "\n\n```bash\n" + "\n".join(commands) + "\n```"


def main(argv: list[str] | None = None) -> int:
    """Run what is missing and write the table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.quality", description=__doc__)
    parser.add_argument("--only", nargs="+", choices=RECIPES, default=list(RECIPES))
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    args = parser.parse_args(argv)

    def run(recipe: str, seed: int) -> Line:
        command = f"pyg-bsl train {RECIPES[recipe]} --threads {args.threads}"
        return train(recipe, command, seed, args.threads)

    run_missing(LINES, args.only, args.seeds, run)
    README.write_text(replace_section(README.read_text(), "quality", table(read(LINES))))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
