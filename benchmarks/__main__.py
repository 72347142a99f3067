"""``python -m benchmarks``: measure, print, and write the tables of ``benchmarks/README.md``."""

from __future__ import annotations

import argparse
import re
import time
from pathlib import Path

from benchmarks.measure import KEEP_BLOCKS, Options, in_fresh_process, section

SUBJECTS = ("training_step", "propagation", "evaluation", "memory", "growth")
README = Path(__file__).with_name("README.md")


def replace_section(text: str, subject: str, new: str) -> str:
    """``text`` with ``new`` between the marks of ``subject``; the prose stays."""
    start, end = f"<!-- {subject} -->", f"<!-- end of {subject} -->"
    pattern = re.compile(f"{re.escape(start)}.*?{re.escape(end)}", re.DOTALL)
    found, count = pattern.subn(lambda _: f"{start}\n\n{new}\n\n{end}", text)
    if count != 1:
        raise ValueError(f"The marks '{start}' ... '{end}' must stand there once (got {count})")
    return found


def main(argv: list[str] | None = None) -> int:
    """Run the subjects that are asked for."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks",
        description="Times and memory of the library beside the usual ways, in medians of rounds "
        "taken in turns. Results go into benchmarks/README.md.",
    )
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", nargs="+", choices=SUBJECTS, default=SUBJECTS)
    parser.add_argument("--dataset", help="propagate and evaluate on this data set, not generated")
    parser.add_argument("--quick", action="store_true", help="tiny sizes, results only printed")
    args = parser.parse_args(argv)
    options = Options(args.threads, args.rounds, args.quick, args.dataset)
    for subject in args.only:
        started = time.perf_counter()
        env = {"OMP_NUM_THREADS": str(args.threads)}
        if subject != "memory":
            env |= KEEP_BLOCKS
        text = in_fresh_process(section, subject, options, env=env)
        seconds = time.perf_counter() - started
        print(f"## {subject} ({seconds:.0f} s)\n\n{text}\n", flush=True)
        if not args.quick:
            README.write_text(replace_section(README.read_text(), subject, text))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
