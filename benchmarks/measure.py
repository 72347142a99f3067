"""What all benchmarks share: medians taken in turns, fresh processes, Markdown tables."""

from __future__ import annotations

import os
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from datetime import date
from functools import cache
from importlib import import_module
from multiprocessing import get_context
from typing import TypeVar

T = TypeVar("T")

KEEP_BLOCKS = {"MALLOC_MMAP_THRESHOLD_": str(1 << 32), "MALLOC_TRIM_THRESHOLD_": "-1"}
"""Settings with which glibc keeps large blocks that were freed instead of giving them back to the
system and faulting them in again every step; ways with large temporaries gain up to 5 times."""
KEPT_BYTES = 6 << 30
"""What is faulted in before anything is timed where blocks are kept: more than any way needs, so
that none is still growing the heap while it is timed."""


@dataclass(frozen=True)
class Options:
    """What the command line says.

    Args:
        threads: Threads that every way may use.
        rounds: Rounds of which the median is taken.
        quick: Tiny sizes, to see that everything runs.
        dataset: Name of a published data set to propagate and evaluate on instead of a generated
            graph of Yelp2018's size.
    """

    threads: int = 1
    rounds: int = 3
    quick: bool = False
    dataset: str | None = None

    @property
    def turn_seconds(self) -> float:
        """Least length of a turn.

        Where a way has waited for memory most of the time, a processor takes some 10 ms to come
        back to its full clock, which is much for a way that takes 30.
        """
        return 0.0 if self.quick else 0.5


@dataclass(frozen=True)
class Table:
    """A table and what must be known to read it."""

    head: Sequence[str]
    rows: Sequence[Sequence[str]]
    note: str

    def markdown(self) -> str:
        """The note and the table."""
        lines = [self.head, ["---"] * len(self.head), *self.rows]
        return "\n".join([self.note, "", *(f"| {' | '.join(line)} |" for line in lines)])


def medians(ways: Mapping[str, Callable[[], object]], options: Options) -> dict[str, float]:
    """Median seconds of each way, which run in turns; after one round to warm up.

    In each round every way runs once, or as often as fills its turn, and counts with the mean.
    """
    if KEEP_BLOCKS.items() <= os.environ.items() and not options.quick:
        _fault_in()
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(options.rounds + 1):
        for name, run in ways.items():
            count, start, passed = 0, time.perf_counter(), 0.0
            while count == 0 or passed < options.turn_seconds:
                run()
                count, passed = count + 1, time.perf_counter() - start
            seconds[name].append(passed / count)
    return {name: statistics.median(each[1:]) for name, each in seconds.items()}


@cache
def _fault_in() -> None:
    """Give the allocator pages to keep, once a process."""
    import torch

    blocks = [torch.ones(1 << 28) for _ in range(KEPT_BYTES >> 30)]
    del blocks


def in_fresh_process(function: Callable[..., T], *args: object, env: Mapping[str, str]) -> T:
    """``function(*args)`` in a new interpreter with ``env`` added to its environment."""
    before = dict(os.environ)
    os.environ.update(env)
    try:
        with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
            return pool.submit(function, *args).result()
    finally:
        os.environ.clear()
        os.environ.update(before)


def section(subject: str, options: Options) -> str:
    """The tables of a subject, ``benchmarks/{subject}.py``, with the machine they are of."""
    import torch

    from pyg_bsl.training.result import machine

    torch.set_num_threads(options.threads)
    torch.manual_seed(0)
    tables = import_module(f"benchmarks.{subject}").run(options)
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 2**30
    where = (
        f"{machine()['processor']} ({torch.backends.cpu.get_cpu_capability()}), {options.threads} "
        f"of {os.cpu_count()} processors, {memory:.0f} GiB, torch {torch.__version__}, "
        f"{date.today()}, medians of {options.rounds} rounds"
    )
    return "\n\n".join([f"*{where}.*", *(table.markdown() for table in tables)])
