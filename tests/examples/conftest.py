"""Scripts are programs: what they set for their process is put back after each test."""

import logging
from collections.abc import Iterator

import pytest
import torch


@pytest.fixture(autouse=True)
def own_process() -> Iterator[None]:
    """Handlers and levels of the log, and threads, are afterwards what they were."""
    root, own, threads = logging.getLogger(), logging.getLogger("pyg_bsl"), torch.get_num_threads()
    levels, handlers = (root.level, own.level), root.handlers[:]
    yield
    root.setLevel(levels[0])
    own.setLevel(levels[1])
    root.handlers[:] = handlers
    torch.set_num_threads(threads)
