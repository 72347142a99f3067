import sys
from collections.abc import Callable

import pytest
import torch

from benchmarks import memory
from tests.benchmarks.tables import QUICK, check_well_formed

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")


def prepare(before: int, during: int) -> Callable[[], object]:
    held = torch.ones(before, 1 << 18)  # MiB
    return lambda: held + 1 if before == during else torch.ones(during, 1 << 18)


@pytest.mark.parametrize("before", [0, 96, 300])
def test_the_peak_is_that_of_the_step_alone(before: int) -> None:
    assert memory.peak(prepare, (1, 1), (before, 96)) == pytest.approx(96, abs=8)


def run_once(prepare: Callable[..., memory.Step], _: object, full: tuple[object, ...]) -> float:
    prepare(*full)()
    return 0.0


def test_every_way_runs_and_has_its_row(monkeypatch: pytest.MonkeyPatch) -> None:
    # Without a process of its own for each of many tiny steps, nor their peaks.
    monkeypatch.setattr(memory, "in_own_process", run_once)
    check_well_formed(memory.run(QUICK), names=2)
