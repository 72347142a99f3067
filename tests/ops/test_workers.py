"""Threads that share blocks of a reduction."""

from __future__ import annotations

import multiprocessing
import subprocess
import sys

import pytest
import torch

from pyg_bsl.ops.workers import num_workers, share

pytestmark = pytest.mark.usefixtures("threads")


@pytest.mark.parametrize("size", [1, 2, 7, 100])
@pytest.mark.parametrize("workers", [1, 2, 3])
def test_every_index_is_worked_on_once_and_in_order(size, workers):
    parts = share(list, size, workers)
    assert len(parts) == workers
    assert [index for part in parts for index in part] == list(range(size))


def test_workers_run_single_threaded_and_leave_the_callers_threads_alone():
    torch.set_num_threads(2)
    assert share(lambda _: torch.get_num_threads(), 2, 2) == [1, 1]
    assert torch.get_num_threads() == 2
    assert num_workers(8) == 2
    assert num_workers(1) == 1


def test_workers_work_in_the_callers_inference_mode():
    assert share(lambda _: torch.is_inference_mode_enabled(), 2, 2) == [False, False]
    with torch.inference_mode():
        out = torch.zeros(2)
        assert share(lambda part: out[part.start].add_(1).item(), 2, 2) == [1, 1]


def test_imports_where_nothing_can_be_forked():
    code = "import os, torch; del os.register_at_fork; import pyg_bsl.losses"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_workers_record_no_gradients():
    x = torch.ones(3, requires_grad=True)
    assert [y.requires_grad for y in share(lambda _: x * 2, 2, 2)] == [False, False]


def test_an_error_in_a_worker_reaches_the_caller():
    with pytest.raises(ZeroDivisionError):
        share(lambda part: 1 // (part.start - 1), 2, 2)


def _in_child(queue) -> None:
    queue.put(share(sum, 10, 2))


def test_a_forked_child_has_workers_of_its_own():
    assert share(sum, 10, 2) == [10, 35]  # the parent's threads are running
    context = multiprocessing.get_context("fork")
    queue = context.SimpleQueue()
    child = context.Process(target=_in_child, args=(queue,))
    child.start()
    child.join(30)
    assert child.exitcode == 0
    assert queue.get() == [10, 35]
