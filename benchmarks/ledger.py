"""Runs of commands on real data, a line of a CSV file each as soon as it ends."""

from __future__ import annotations

import csv
import json
import os
import shlex
import statistics
import subprocess
import sys
from collections.abc import Callable, Iterable, Mapping
from datetime import date
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

FIELDS = (
    "recipe", "seed", "command", "recall@20", "ndcg@20", "valid_ndcg@20", "best_epoch",
    "train_seconds", "total_seconds", "threads", "processor", "torch", "date",
)  # fmt: skip

Line = Mapping[str, Any]


def read(path: Path) -> list[dict[str, str]]:
    """All lines so far."""
    if not path.exists():
        return []
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def run_missing(
    path: Path, recipes: Iterable[str], seeds: int, run: Callable[[str, int], Line]
) -> None:
    """Add the lines that are not there yet, seed by seed."""
    for seed in range(seeds):
        for recipe in recipes:
            if any((x["recipe"], x["seed"]) == (recipe, str(seed)) for x in read(path)):
                continue
            line = run(recipe, seed)
            with path.open("a", newline="") as file:
                writer = csv.DictWriter(file, FIELDS)
                if file.tell() == 0:
                    writer.writeheader()
                writer.writerow(line)


def train(recipe: str, command: str, seed: int, threads: int) -> dict[str, object]:
    """Run a command in a process of its own and read the ``result.json`` that it leaves.

    Args:
        recipe: Name of the line.
        command: What a reader types, less the seed: ``pyg-bsl train ...`` or ``python SCRIPT ...``.
        seed: The seed.
        threads: Threads to run on.
    """
    first, *words = shlex.split(command)
    if first == "pyg-bsl":
        words = ["-m", "pyg_bsl", *words]
    with TemporaryDirectory() as folder:
        own = ["--seed", str(seed), "--output", folder, "--no-tracking"]
        words = [sys.executable, *words, *own]
        subprocess.run(words, check=True, env=os.environ | {"OMP_NUM_THREADS": str(threads)})
        result = json.loads(Path(folder, "result.json").read_text())
    test, valid = result["metrics"]["test"], result["metrics"].get("valid", {})
    return {
        "recipe": recipe,
        "seed": seed,
        "command": f"{command} --seed {seed}",
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


def mean(lines: Iterable[Line], field: str, digits: int) -> str:
    """``mean ± deviation`` of a column."""
    values = [float(line[field]) for line in lines]
    text = f"{statistics.mean(values):.{digits}f}"
    return f"{text} ± {statistics.stdev(values):.{digits}f}" if len(values) > 1 else text


def by_recipe(lines: Iterable[Line]) -> dict[str, list[Line]]:
    """Lines of each recipe, in the order of their first ones."""
    found: dict[str, list[Line]] = {}
    for line in lines:
        found.setdefault(line["recipe"], []).append(line)
    return found


def facts(lines: Iterable[Line]) -> str:
    """On what machines, as a note."""
    texts = {f"{x['processor']}, {x['threads']} threads, torch {x['torch']}" for x in lines}
    return f"*{'; '.join(sorted(texts))}.*"
