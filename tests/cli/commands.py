"""Calling commands, in process or in a process of its own."""

import json
import os
import subprocess
import sys
from pathlib import Path

from pyg_bsl.cli import main

QUICK = "--no-tracking --quiet --epochs 3 --k 5,10 --metric ndcg@5 --eval-every 2"


def read(output):
    return json.loads((Path(output) / "result.json").read_text())


def call(line, *more):
    return main([*line.split(), *map(str, more)])


def command(*words):
    return subprocess.Popen(
        [sys.executable, "-m", "pyg_bsl", *map(str, words)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])},
    )
