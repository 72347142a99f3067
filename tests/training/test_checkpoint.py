import json
import logging
import resource
import signal
import subprocess
import sys
import time
from contextlib import contextmanager

import pytest
import torch
from safetensors.torch import load_file

from pyg_bsl.nn import Popularity
from pyg_bsl.training import NonFiniteLossError, checkpoint
from pyg_bsl.training.checkpoint import Checkpoint, load_run
from tests.planted import NUM_ITEMS, NUM_USERS, write_folder
from tests.training.parts import BestAt, Broken, Raises, Recorder, fit, new_mf, new_trainer


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def assert_same_weights(one, two):
    assert one.keys() == two.keys()
    assert all(torch.equal(one[key], two[key]) for key in one)


@contextmanager
def full_disk():
    """No file grows beyond 100 bytes: the system refuses, half-way through a write."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_run_reads_back(tmp_path):
    keeper = Checkpoint(tmp_path / "a" / "run")
    result = fit(new_trainer(callbacks=[keeper]), 2)
    content, weights = load_run(tmp_path / "a" / "run")
    assert content == json.loads(result.to_json()) and content["status"] == "finished"
    assert_same_weights(weights, result.state_dict)
    assert names(tmp_path / "a" / "run") == ["model.safetensors", "result.json"]
    assert keeper.saved


def test_weights_on_disk_are_the_best_so_far_at_every_epoch(tmp_path):
    seen = []

    class Look(Recorder):
        def on_epoch_end(self, trainer, record):
            super().on_epoch_end(trainer, record)
            seen.append(load_file(tmp_path / "model.safetensors"))
            results.append(json.loads((tmp_path / "result.json").read_text()))

    look, results = Look(), []
    result = fit(new_trainer(callbacks=[Checkpoint(tmp_path), look, BestAt(3)], lr=BestAt.lr), 5)
    for epoch, best in enumerate([1, 1, 3, 3, 3]):
        assert_same_weights(seen[epoch], look.weights[best - 1])
        assert results[epoch]["status"] == "running" and results[epoch]["best_epoch"] == best
        assert results[epoch]["metrics"] == {"valid": result.history[best - 1].valid}
        assert results[epoch]["epochs_run"] == best


def test_a_model_without_weights_reads_back(tmp_path):
    fit(new_trainer(Popularity(NUM_USERS, NUM_ITEMS), callbacks=[Checkpoint(tmp_path)]))
    content, weights = load_run(tmp_path)
    assert content["config"]["backbone"] == {"name": "Popularity"} and weights == {}


@pytest.mark.parametrize(
    ("error", "status"), [(RuntimeError("no"), "failed"), (KeyboardInterrupt(), "interrupted")]
)
def test_a_run_that_breaks_leaves_its_best_weights_and_says_so(tmp_path, error, status):
    callbacks = [Checkpoint(tmp_path), recorder := Recorder(), Raises("on_epoch_end", error, 3)]
    with pytest.raises(type(error)):
        fit(new_trainer(callbacks=callbacks))
    content, weights = load_run(tmp_path)
    assert content["status"] == status and content["epochs_run"] == 3
    assert_same_weights(weights, recorder.weights[content["best_epoch"] - 1])


def test_a_loss_that_turns_nan_leaves_the_last_good_weights(tmp_path):
    callbacks = [Checkpoint(tmp_path), recorder := Recorder()]
    with pytest.raises(NonFiniteLossError):
        fit(new_trainer(loss=Broken(at=8), eval_every=9, callbacks=callbacks))
    content, weights = load_run(tmp_path)
    assert content["status"] == "failed" and content["best_epoch"] == 0
    assert_same_weights(weights, recorder.weights[1])


def test_an_earlier_runs_files_do_not_pass_for_the_new_ones(tmp_path):
    fit(new_trainer(callbacks=[Checkpoint(tmp_path)]), 1)

    class Look(Recorder):
        def on_fit_start(self, trainer, graph, result):
            assert names(tmp_path) == ["earlier-1", "result.json"]
            assert json.loads((tmp_path / "result.json").read_text())["status"] == "running"
            super().on_fit_start(trainer, graph, result)

    fit(new_trainer(callbacks=[Checkpoint(tmp_path), look := Look()]), 1)
    assert look.calls[0] == "start"


def test_an_earlier_run_is_moved_aside_and_stays_readable(tmp_path, caplog):
    with caplog.at_level(logging.INFO, "pyg_bsl"):
        runs = [fit(new_trainer(callbacks=[Checkpoint(tmp_path)], seed=seed), 1) for seed in (1, 2)]
        with pytest.raises(NonFiniteLossError):
            fit(new_trainer(loss=Broken(at=1), callbacks=[Checkpoint(tmp_path)], seed=3))
    for run, place in zip(runs, ("earlier-1", "earlier-2"), strict=True):
        content, weights = load_run(tmp_path / place)
        assert content == json.loads(run.to_json())
        assert_same_weights(weights, run.state_dict)
    assert names(tmp_path) == ["earlier-1", "earlier-2", "result.json"]
    assert caplog.text.count("holds an earlier run: moved to") == 2
    with pytest.raises(FileNotFoundError, match=r"no weights .*: its status is 'failed'"):
        load_run(tmp_path)


@pytest.mark.parametrize("place", ["file", "file/below"])
def test_a_folder_that_cannot_be_written_to_is_told_before_training(tmp_path, caplog, place):
    (tmp_path / "file").write_text("in the way")
    trainer = new_trainer(callbacks=[recorder := Recorder(), Checkpoint(tmp_path / place)])
    with pytest.raises(OSError, match=r"Cannot write into the output folder '.*file.*: .*Choose"):
        fit(trainer)
    assert recorder.calls == ["start", "error"]
    assert not caplog.records  # one message is enough
    assert (tmp_path / "file").read_text() == "in the way"


def test_a_disk_that_is_full_at_the_start_is_told_before_training(tmp_path, caplog):
    trainer = new_trainer(callbacks=[recorder := Recorder(), keeper := Checkpoint(tmp_path)])
    with full_disk(), pytest.raises(OSError, match="Cannot write into the output folder"):
        fit(trainer)
    assert recorder.calls == ["start", "error"] and not keeper.saved
    assert names(tmp_path) == [] and not caplog.records


def test_a_disk_that_fills_up_costs_a_warning_and_not_the_training(tmp_path, caplog):
    class FillUp(Recorder):
        def on_epoch_end(self, trainer, record):
            super().on_epoch_end(trainer, record)
            if record.epoch == 1:
                disk = full_disk()
                disk.__enter__()
                undo.append(lambda: disk.__exit__(None, None, None))

    undo = []
    keeper = Checkpoint(tmp_path)
    with caplog.at_level(logging.WARNING, "pyg_bsl"):
        try:
            result = fit(new_trainer(callbacks=[keeper, fill := FillUp()]), 4)
        finally:
            undo.pop()()
    assert result.status == "finished" and result.epochs_run == 4
    assert not keeper.saved
    assert "Could not write" in caplog.text and "File too large" in caplog.text
    assert json.dumps(result.metrics) in caplog.text  # the result is not lost
    content, weights = load_run(tmp_path)  # what was whole before is whole still
    assert content["status"] == "running"
    assert_same_weights(weights, fill.weights[0])
    assert names(tmp_path) == ["model.safetensors", "result.json"]


def test_another_run_starts_with_a_clean_slate(tmp_path):
    keeper = Checkpoint(tmp_path)
    trainer = new_trainer(callbacks=[keeper])
    fit(trainer, 1)
    assert keeper.saved
    with full_disk(), pytest.raises(OSError):
        fit(trainer, 1)
    assert not keeper.saved


def test_a_kill_in_mid_training_leaves_whole_files(tmp_path):
    data, output = write_folder(tmp_path / "own"), tmp_path / "run"
    command = ["train", "--data", data, "--output", output, "--epochs", 10**6, "--eval-every", 1]
    child = subprocess.Popen(
        [sys.executable, "-m", "pyg_bsl", *map(str, command), "--no-tracking", "--quiet"],
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        patience = time.monotonic() + 60
        while not (output / checkpoint.WEIGHTS).exists():
            assert child.poll() is None and time.monotonic() < patience, child.communicate()
            time.sleep(0.01)
    finally:
        child.kill()
        child.communicate()
    assert child.returncode == -signal.SIGKILL
    content, weights = load_run(output)
    assert content["status"] == "running" and content["num_train"] == 120
    assert "valid" in content["metrics"] or content["best_epoch"] == 0  # killed between the two
    backbone = new_mf(embedding_dim=64)
    backbone.load_state_dict(weights)
    assert all(x.isfinite().all() for x in weights.values())


# Reading what is not there


@pytest.fixture
def run(tmp_path):
    fit(new_trainer(callbacks=[Checkpoint(tmp_path)]), 1)
    return tmp_path


def test_a_folder_that_lacks_a_file_is_told(run):
    (run / "model.safetensors").unlink()
    with pytest.raises(FileNotFoundError, match=r"no weights \(model.safetensors\): its status"):
        load_run(run)
    (run / "result.json").unlink()
    with pytest.raises(FileNotFoundError, match=r"not the output folder of .* no result.json"):
        load_run(run)
    with pytest.raises(FileNotFoundError, match="is not the output folder of a training run"):
        load_run(run / "nowhere")


@pytest.mark.parametrize("content", [b"{", b"\xff\xfe\x00", b""])
def test_a_broken_result_is_told(run, content):
    (run / "result.json").write_bytes(content)
    with pytest.raises(ValueError, match=r"result.json' is not valid JSON"):
        load_run(run)


@pytest.mark.parametrize(
    "content", ["[]", "{}", "3", '{"config": {}}', '{"config": [], "data": {}}']
)
def test_another_json_is_no_result(run, content):
    (run / "result.json").write_text(content)
    with pytest.raises(ValueError, match=r"result.json' is not the result of a training run"):
        load_run(run)


@pytest.mark.parametrize("keep", [0, 5, 100])
def test_broken_weights_are_told(run, keep):
    path = run / "model.safetensors"
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(ValueError, match=r"model.safetensors' is broken"):
        load_run(run)
