"""Settings of the whole test run, and what all of it may use."""

import signal
from collections.abc import Callable, Iterator

import pytest
import torch

# The tensors of tests are small: threads would wait for one another more than they work.
torch.set_num_threads(1)

# Started in the background we ignore Ctrl-C, and so would children that tests send it to.
signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture
def threads() -> Iterator[Callable[[int], None]]:
    """Sets the number of threads."""
    before = torch.get_num_threads()
    yield torch.set_num_threads
    torch.set_num_threads(before)
