"""``python -m benchmarks``: measure, print, and write the tables of ``benchmarks/README.md``."""

from __future__ import annotations

import argparse
import re
import time
from pathlib import Path

from benchmarks.measure import KEEP_BLOCKS, Options, in_fresh_process, section

SUBJECTS = ("training_step", "propagation", "evaluation", "memory", "growth")
ROUNDS = 3
README = Path(__file__).with_name("README.md")
ALLOCATORS: dict[str, list[tuple[str, dict[str, str]]]] = {
    "memory": [("", {})],
    "propagation": [
        ("With large blocks kept by the allocator:", KEEP_BLOCKS),
        ("With the allocator as it is by default:", {}),
    ],
}
"""Under what settings subjects are measured, where not with blocks kept alone."""


def replace_section(text: str, subject: str, new: str) -> str:
    """``text`` with ``new`` between the marks of ``subject``; the prose stays."""
    start, end = f"<!-- {subject} -->", f"<!-- end of {subject} -->"
    pattern = re.compile(f"{re.escape(start)}.*?{re.escape(end)}", re.DOTALL)
    found, count = pattern.subn(lambda _: f"{start}\n\n{new}\n\n{end}", text)
    if count != 1:
        raise ValueError(f"The marks '{start}' ... '{end}' must stand there once (got {count})")
    return found


def command(subject: str, args: argparse.Namespace) -> str:
    """The command that measures a subject again."""
    words = f"python -m benchmarks --only {subject} --threads {args.threads}"
    rounds = "" if args.rounds == ROUNDS else f" --rounds {args.rounds}"
    return words + rounds + ("" if args.dataset is None else f" --dataset {args.dataset}")


def main(argv: list[str] | None = None) -> int:
    """Run the subjects that are asked for."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks",
        description="Times and memory of the library beside the usual ways, in medians of rounds "
        "taken in turns. Results go into benchmarks/README.md.",
    )
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--only", nargs="+", choices=SUBJECTS, default=SUBJECTS)
    parser.add_argument("--dataset", help="propagate and evaluate on this data set, not generated")
    parser.add_argument("--quick", action="store_true", help="tiny sizes, results only printed")
    args = parser.parse_args(argv)
    options = Options(args.threads, args.rounds, args.quick, args.dataset)
    for subject in args.only:
        started = time.perf_counter()
        parts = []
        for title, allocator in ALLOCATORS.get(subject, [("", KEEP_BLOCKS)]):
            env = {"OMP_NUM_THREADS": str(args.threads), **allocator}
            parts += [title, in_fresh_process(section, subject, options, env=env)]
        text = "\n\n".join(filter(None, [f"`{command(subject, args)}`", *parts]))
        seconds = time.perf_counter() - started
        print(f"## {subject} ({seconds:.0f} s)\n\n{text}\n", flush=True)
        if not args.quick:
            README.write_text(replace_section(README.read_text(), subject, text))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
