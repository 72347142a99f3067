"""``python -m benchmarks.tracking``: what recording a run in MLflow costs.

The same ``pyg-bsl train`` command, with tracking in a local store and without, in turns: off, on,
on, off, ... Time and processor time are those of the whole process, start and end included; the
first run with tracking makes the database too, which the means hold.
"""

from __future__ import annotations

import argparse
import os
import shlex
import statistics
import subprocess
import tempfile
import time
from collections.abc import Mapping, Sequence

from benchmarks.measure import Table

COMMAND = (
    "pyg-bsl train --dataset amazon-electronic --loss SL --loss.tau 0.25 --epochs 40 --threads 1"
)


def seconds(command: Sequence[str]) -> tuple[float, float]:
    """Wall and processor seconds of a command.

    Raises:
        subprocess.CalledProcessError: If it fails.
    """
    start, before = time.perf_counter(), os.times()
    subprocess.run(command, check=True, capture_output=True)
    after = os.times()
    used = after.children_user - before.children_user + after.children_system
    return time.perf_counter() - start, used - before.children_system


def in_turns(ways: Mapping[str, Sequence[str]], pairs: int) -> dict[str, list[tuple[float, float]]]:
    """:func:`seconds` of each way; every other pair in the opposite order."""
    found: dict[str, list[tuple[float, float]]] = {name: [] for name in ways}
    for pair in range(pairs):
        for name in list(ways)[:: 1 if pair % 2 == 0 else -1]:
            found[name].append(seconds(ways[name]))
    return found


def table(command: str, found: Mapping[str, Sequence[tuple[float, float]]]) -> Table:
    """Medians and means without and with tracking."""
    off, on = found.values()
    rows = []
    for number, what in enumerate(("wall", "processor")):
        for mean in (statistics.median, statistics.mean):
            one, two = (mean(run[number] for run in runs) for runs in (off, on))
            label = f"{what}, {mean.__name__}"
            rows.append([label, f"{one:.2f}", f"{two:.2f}", f"{100 * (two / one - 1):+.1f} %"])
    head = ["seconds", "without", "with tracking", "more"]
    return Table(head, rows, f"`{command}`, {len(off)} pairs.")


def main(argv: list[str] | None = None) -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.tracking", description=__doc__)
    parser.add_argument("--command", default=COMMAND)
    parser.add_argument("--pairs", type=int, default=6)
    args = parser.parse_args(argv)
    with tempfile.TemporaryDirectory() as folder:
        words = [*shlex.split(args.command), "--quiet", "--output", f"{folder}/run"]
        ways = {
            "off": [*words, "--no-tracking"],
            "on": [*words, "--store", f"{folder}/store"],
        }
        print(table(args.command, in_turns(ways, args.pairs)).markdown())
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
