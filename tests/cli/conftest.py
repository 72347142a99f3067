"""Commands leave the process as it was; a finished run to look at."""

import logging
import signal

import pytest
import torch

from pyg_bsl.cli import main
from tests.cli.commands import QUICK
from tests.planted import write_folder


@pytest.fixture(autouse=True)
def leave_no_trace(monkeypatch):
    """Puts back what the command sets for the process, as is right for a command."""
    root, own, threads = logging.getLogger(), logging.getLogger("pyg_bsl"), torch.get_num_threads()
    levels, handlers = (root.level, own.level), root.handlers[:]
    on_term = signal.getsignal(signal.SIGTERM)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.setenv("COLUMNS", "100")
    yield
    assert signal.getsignal(signal.SIGTERM) is on_term
    root.handlers[:] = handlers
    root.setLevel(levels[0])
    own.setLevel(levels[1])
    torch.set_num_threads(threads)


@pytest.fixture(scope="session")
def data(tmp_path_factory):
    return write_folder(tmp_path_factory.mktemp("data") / "own")


@pytest.fixture(scope="session")
def run(data, tmp_path_factory):
    """The output folder of a finished run."""
    output = tmp_path_factory.mktemp("runs") / "run"
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    flags = "--loss BSL --loss.tau1 0.5 --loss.tau2 0.4 --backbone.embedding_dim 8 --seed 4"
    assert (
        main(["train", "--data", str(data), "--output", str(output), *f"{QUICK} {flags}".split()])
        == 0
    )
    root.handlers[:] = handlers
    root.setLevel(level)
    return output


@pytest.fixture
def here(tmp_path, monkeypatch):
    """An empty folder to stand in."""
    monkeypatch.chdir(tmp_path)
    return tmp_path
