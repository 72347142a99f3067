"""Sharing the blocks of a streamed reduction among CPU threads.

Each thread walks over blocks of its own with single-threaded operations, and the threads meet once
at the end. Threads that meet within every small operation would spend their time waiting for one
another, all the more on a machine that is busy with something else.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from itertools import pairwise
from threading import Barrier
from typing import TypeVar

import torch

T = TypeVar("T")


def num_workers(most: int, device: torch.device | None = None) -> int:
    """Threads to share work among: those PyTorch may use, and at most ``most``.

    A device that is not the CPU is driven by one.
    """
    if device is not None and device.type != "cpu":
        return 1
    return max(1, min(torch.get_num_threads(), most))


def share(work: Callable[[range], T], size: int, workers: int) -> list[T]:
    """``work`` on each of ``workers`` nearly equal parts of ``range(size)``, side by side.

    The parts depend on the numbers alone, so that sums over them are the same every time.

    Example:
        >>> share(sum, 10, 2)
        [10, 35]
    """
    cuts = [size * n // workers for n in range(workers + 1)]
    parts = [range(a, b) for a, b in pairwise(cuts)]
    if workers == 1:
        return [work(parts[0])]

    inference = torch.is_inference_mode_enabled()

    def alone(part: range) -> T:
        # The modes of the calling thread are not passed on.
        with torch.inference_mode(inference), torch.no_grad():
            return work(part)

    futures = [_pool(workers).submit(alone, part) for part in parts]
    return [future.result() for future in futures]


@cache
def _pool(workers: int) -> ThreadPoolExecutor:
    """Threads whose own operations are single-threaded."""
    threads = torch.get_num_threads()
    all_there = Barrier(workers)

    def start() -> None:
        torch.set_num_threads(1)
        torch.get_num_threads()  # else the first operation would take the caller's setting anew
        all_there.wait()  # none is idle before all have started

    pool = ThreadPoolExecutor(workers, "pyg_bsl", initializer=start)
    for future in [pool.submit(torch.get_num_threads) for _ in range(workers)]:
        future.result()
    torch.set_num_threads(threads)  # the last setting counts for the caller too
    return pool


if hasattr(os, "register_at_fork"):  # not on Windows, where nothing is forked
    os.register_at_fork(after_in_child=_pool.cache_clear)  # a child has no threads of its parent
