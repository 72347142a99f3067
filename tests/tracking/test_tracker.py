"""Tracking, on real databases and a real server."""

import json
import math
import os
import shlex
import socket
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from pyg_bsl.losses import SL
from pyg_bsl.nn import MF
from pyg_bsl.tracking import MLflowTracker, ui_command
from pyg_bsl.tracking import tracker as tracking
from pyg_bsl.tracking.facts import params_of, run_name_of, summary_of
from pyg_bsl.training import EpochRecord, Trainer
from pyg_bsl.types import BipartiteGraph, UserItems
from tests.tracking.runs import (
    artifacts,
    assert_complete,
    client_of,
    finish,
    new_result,
    points,
    read,
    record,
    run,
    sent,
)
from tests.tracking.servers import free_port

pytestmark = [
    pytest.mark.filterwarnings("ignore:The ``noload`` loader strategy:DeprecationWarning"),
]


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    """One store for most tests, since a new one takes a second; its path has a space in it."""
    return tmp_path_factory.mktemp("a store")


def test_a_finished_run_reads_back(store, tmp_path):
    tracker, result = MLflowTracker(store), new_result()
    run(tracker, result)
    assert_complete(tracker, result, tmp_path)


def test_the_trainer_and_the_tracker_work_together(store, tmp_path):
    users, items = torch.tensor([0, 0, 1, 1, 2, 2]), torch.tensor([0, 1, 1, 2, 2, 3])
    train = UserItems.from_pairs(users, items, 3, 4)
    held_out = UserItems.from_pairs(torch.arange(3), torch.tensor([2, 3, 0]), 3, 4)
    adjacency = torch.eye(7)  # MF does not look at it.
    graph = BipartiteGraph(train, held_out, held_out, adjacency, name="tiny", digest="abc")
    tracker = MLflowTracker(store)
    trainer = Trainer(MF(3, 4, embedding_dim=2), SL(tau=0.2), eval_every=2, callbacks=[tracker])
    result = trainer.fit(graph, epochs=4)
    mlflow_run = read(tracker)
    assert mlflow_run.info.status == "FINISHED"
    assert mlflow_run.info.run_name == "MF SL tau=0.2 seed=0"
    params = {"loss.tau": "0.2", "backbone": "MF", "trainer.lr": "0.1", "dataset": "tiny"}
    assert params.items() <= mlflow_run.data.params.items()
    assert points(tracker, "train/loss") == [(r.epoch, r.loss) for r in result.history]
    validated = [r for r in result.history if r.valid]
    assert points(tracker, "valid/ndcg_20") == [(r.epoch, r.valid["ndcg@20"]) for r in validated]
    assert mlflow_run.data.metrics["test/recall_20"] == result.metrics["test"]["recall@20"]
    assert mlflow_run.data.metrics["best_epoch"] == result.best_epoch
    folder = artifacts(tracker, tmp_path)
    assert (folder / "result.json").read_text() == result.to_json()
    assert load_file(folder / "model.safetensors").keys() == result.state_dict.keys()


def test_a_run_says_what_it_is(store):
    tracker = MLflowTracker(store, description="*Mine.*", tags={"who": "me"})
    run(tracker, new_result())
    mlflow_run = read(tracker)
    assert mlflow_run.info.run_name == "LightGCN-2 PSL tau=0.1 relu seed=7"
    tags = {"dataset": "toy", "backbone": "LightGCN", "loss": "PSL", "protocol": "holdout"}
    tags |= {"seed": "7", "who": "me", "status": "finished", "version.torch": torch.__version__}
    assert tags.items() <= mlflow_run.data.tags.items()
    assert mlflow_run.data.tags["mlflow.note.content"] == (
        "test ndcg@20 0.5000, recall@20 0.7500; valid ndcg@20 0.0200, recall@20 0.0400; "
        "epoch 2 of 3; protocol holdout; finished\n\n*Mine.*"
    )
    (used,) = mlflow_run.inputs.dataset_inputs
    assert (used.dataset.name, used.dataset.digest) == ("toy", "0123456789ab")
    assert json.loads(used.dataset.profile) == {"users": 5, "items": 6, "train": 11}


@pytest.mark.parametrize(
    ("backbone", "loss", "name"),
    [
        ({"name": "MF"}, {"name": "SL", "tau": 0.2, "shared": False}, "MF SL tau=0.2 seed=7"),
        (
            {"name": "MF"},
            {"name": "BSL", "tau1": 0.2, "w": 0.18 / 0.2},
            "MF BSL tau1=0.2 w=0.9 seed=7",
        ),
        ({"name": "NGCF", "num_layers": 3}, {"name": "BPR"}, "NGCF-3 BPR seed=7"),
        ("mine", {}, "mine seed=7"),
    ],
)
def test_run_names_are_short_and_tell_the_difference(backbone, loss, name):
    assert run_name_of(params_of(new_result(backbone=backbone, loss=loss))) == name


def test_runs_of_a_data_set_share_an_experiment_and_its_folder(store):
    trackers = [MLflowTracker(store) for _ in range(2)] + [MLflowTracker(store, experiment="own")]
    for tracker in trackers:
        run(tracker, new_result("from/../files"))
    ids = [read(tracker).info.experiment_id for tracker in trackers]
    assert ids[0] == ids[1] != ids[2]
    results = store.glob("artifacts/from_.._files/*/artifacts/result.json")
    assert {path.parent.parent.name for path in results} == {t.run_id for t in trackers[:2]}


def test_a_child_run_and_a_given_name(store):
    parent, child = MLflowTracker(store), MLflowTracker(store)
    run(parent, new_result())
    child = MLflowTracker(store, run_name="trial 3", parent_run_id=parent.run_id)
    run(child, new_result())
    assert read(child).info.run_name == "trial 3"
    assert read(child).data.tags["mlflow.parentRunId"] == parent.run_id


def test_git_commit_and_changes_are_recorded(store, tmp_path, monkeypatch):
    def git(*words):
        identity = ["-c", "user.name=a", "-c", "user.email=a@b"]
        command = ["git", "-C", str(tmp_path), *identity, *words]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()

    monkeypatch.chdir(tmp_path)
    git("init")
    Path("file").write_text("a")
    git("add", "file")
    git("commit", "-m", "first")
    commit = git("rev-parse", "HEAD")
    for text, dirty in (("a", "false"), ("b", "true")):
        Path("file").write_text(text)
        tracker = MLflowTracker(store)
        run(tracker, new_result())
        tags = read(tracker).data.tags
        assert (tags["mlflow.source.git.commit"], tags["git_dirty"]) == (commit, dirty)


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (ArithmeticError("The loss became nan"), "FAILED"),
        (KeyboardInterrupt(), "KILLED"),
        (SystemExit(143), "KILLED"),
    ],
)
def test_an_error_closes_the_run_with_what_there_is(store, tmp_path, error, status):
    tracker, result = MLflowTracker(store), new_result()
    tracker.on_fit_start(None, None, result)
    result.history.append(record(1))
    tracker.on_epoch_end(None, result.history[0])
    result.status = "failed"
    tracker.on_fit_error(None, result, error)
    mlflow_run = read(tracker)
    assert mlflow_run.info.status == status
    assert mlflow_run.data.tags["error"] == f"{type(error).__name__}: {error}"
    assert points(tracker, "train/loss") == [(1, 1.0)]
    assert json.loads((artifacts(tracker, tmp_path) / "result.json").read_text())["epochs_run"] == 1
    assert not (tmp_path / "model.safetensors").exists()


def test_two_runs_can_be_open_at_once(store):
    trackers, results = [MLflowTracker(store) for _ in range(2)], [new_result(), new_result()]
    for tracker, result in zip(trackers, results, strict=True):
        tracker.on_fit_start(None, None, result)
    for loss, tracker in enumerate(trackers):
        tracker.on_epoch_end(None, record(1, loss=loss))
    for tracker, result in zip(reversed(trackers), results, strict=True):
        tracker.on_fit_error(None, result, KeyboardInterrupt())
    assert [points(tracker, "train/loss") for tracker in trackers] == [[(1, 0.0)], [(1, 1.0)]]


def test_a_tracker_can_be_used_again(store):
    tracker = MLflowTracker(store)
    run(tracker, new_result())
    first = tracker.run_id
    run(tracker, new_result())
    assert tracker.run_id != first
    assert points(tracker, "train/loss") == [(1, 1.0), (2, 0.5), (3, 1 / 3)]


def test_long_and_many_parameters_and_odd_names_and_values(store):
    result = new_result(note="x" * 10_000, many={f"p@{i}": i for i in range(250)})
    tracker = MLflowTracker(store, tags={"long (tag)": "y" * 10_000})
    tracker.on_fit_start(None, None, result)
    tracker.on_epoch_end(None, EpochRecord(1, math.nan, 0.1, 0.5, {"hit rate@5 (new)": math.inf}))
    tracker.on_fit_error(None, result, ValueError("z" * 10_000))
    data = read(tracker).data
    assert data.params["note"] == "x" * 6000
    assert data.params["many.p_249"] == "249"
    assert data.tags["long _tag_"] == "y" * 5000
    assert len(data.tags["error"]) == 5000
    assert math.isnan(data.metrics["train/loss"])
    assert data.metrics["valid/hit rate_5 _new_"] > 1e300


def test_numbers_are_sent_while_training_runs(store, monkeypatch):
    monkeypatch.setattr(tracking, "_FLUSH_SECONDS", 0.0)
    tracker, result = MLflowTracker(store), new_result()
    tracker.on_fit_start(None, None, result)
    tracker.on_epoch_end(None, record(1))
    assert sent(tracker)
    assert points(tracker, "train/loss") == [(1, 1.0)]
    monkeypatch.setattr(tracking, "_FLUSH_SECONDS", 1000.0)
    tracker.on_epoch_end(None, record(2))
    assert sent(tracker)
    tracker.on_epoch_end(None, record(3))
    assert len(points(tracker, "train/loss")) == 2
    tracker.on_fit_error(None, result, KeyboardInterrupt())
    assert len(points(tracker, "train/loss")) == 3


def test_numbers_are_sent_the_more_rarely_the_longer_it_takes():
    assert [tracking._pause(took) for took in (0.0, 0.005, 0.02, 3.0)] == [5.0, 5.0, 20.0, 30.0]


def test_after_a_short_failure_every_number_arrives_once(store, monkeypatch, caplog):
    monkeypatch.setattr(tracking, "_FLUSH_SECONDS", 0.0)
    tracker, result = MLflowTracker(store), new_result()
    tracker.on_fit_start(None, None, result)
    tracker._opened.result()
    client = tracker._client
    send = client.log_batch

    def send_and_lose_the_answer(*args, **kwargs):
        send(*args, **kwargs)
        raise ConnectionResetError("gone")

    client.log_batch = send_and_lose_the_answer
    tracker.on_epoch_end(None, record(1))
    assert not sent(tracker)
    tracker.on_epoch_end(None, record(2))
    assert (store / "unsent" / tracker.run_id / "run.json").exists()
    client.log_batch = send
    tracker.on_epoch_end(None, record(3))
    tracker.on_fit_error(None, result, KeyboardInterrupt())
    assert points(tracker, "train/loss") == [(1, 1.0), (2, 0.5), (3, 1 / 3)]
    assert len(caplog.records) == 1
    assert "ConnectionResetError: gone" in caplog.text
    assert not (store / "unsent").exists()


@contextmanager
def within(seconds=5.0):
    started = time.monotonic()
    yield
    assert time.monotonic() - started < seconds


_OPEN_A_NEW_STORE = """
import sys, time
from pathlib import Path
from pyg_bsl.tracking.store import brief, open_experiment
store, me = Path(sys.argv[1]), sys.argv[2]
with brief(5):
    (store / me).touch()
    while len(list(store.glob("process*"))) < 2:
        time.sleep(0.01)
    client, experiment = open_experiment(f"sqlite:///{store}/mlflow.db", "toy")
    print(experiment, client.create_run(experiment).info.run_id)
"""


def test_two_processes_can_make_the_store_at_once(tmp_path):
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", _OPEN_A_NEW_STORE, str(tmp_path), f"process{i}"],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for i in range(2)
    ]
    answers = [process.communicate(timeout=60) for process in processes]
    assert [process.returncode for process in processes] == [0, 0], answers
    experiments, runs = zip(*(out.split() for out, _ in answers), strict=True)
    assert experiments[0] == experiments[1]
    assert runs[0] != runs[1]


def test_the_address_comes_from_argument_then_environment_then_store(tmp_path, monkeypatch):
    assert MLflowTracker(tmp_path).tracking_uri == f"sqlite:///{tmp_path}/mlflow.db"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://there:5000")
    assert MLflowTracker(tmp_path).tracking_uri == "http://there:5000"
    assert MLflowTracker(tmp_path, tracking_uri="http://here:1").tracking_uri == "http://here:1"


def test_ui_command_opens_the_store_from_where_it_is_typed():
    assert ui_command() == "pyg-bsl ui"
    assert shlex.split(ui_command("my runs")) == ["pyg-bsl", "ui", "--store", "my runs"]
    uri = "http://there:1"
    assert ui_command(tracking_uri=uri) == f"pyg-bsl ui --tracking-uri {uri}"
    assert ui_command("x", tracking_uri=uri) == f"pyg-bsl ui --tracking-uri {uri} --store x"


def test_a_store_that_cannot_be_used_is_an_error_before_training(tmp_path):
    (tmp_path / "file").write_text("")
    (tmp_path / "mlflow.db").write_text("no database " * 1000)
    for folder, told in (
        (tmp_path / "file", "NotADirectory|FileExists"),
        (tmp_path, "not a database"),
    ):
        with within(), pytest.raises(ConnectionError, match=told) as caught:
            MLflowTracker(folder).on_fit_start(None, None, new_result())
        assert "Give another store, or switch tracking off" in str(caught.value)


def test_a_deleted_experiment_is_an_error_with_the_cure(store):
    tracker = MLflowTracker(store)
    run(tracker, new_result("deleted"))
    experiment = read(tracker).info.experiment_id
    client_of(tracker.tracking_uri).delete_experiment(experiment)
    with pytest.raises(ConnectionError, match=f"restore --experiment-id {experiment}"):
        run(tracker, new_result("deleted"))


def test_a_server_that_is_down_is_an_error_before_training(tmp_path, monkeypatch):
    uri = f"http://127.0.0.1:{free_port()}"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    tracker, before = MLflowTracker(tmp_path), dict(os.environ)
    with within(), pytest.raises(ConnectionError) as caught:
        tracker.on_fit_start(None, None, new_result())
    message = str(caught.value)
    assert message.startswith(f"MLflow tracking at {uri} cannot be used: ConnectionRefusedError")
    assert "Start the server, unset MLFLOW_TRACKING_URI" in message
    assert {k: v for k, v in os.environ.items() if "HTTP" in k} == {
        k: v for k, v in before.items() if "HTTP" in k
    }
    tracker.on_fit_error(None, new_result(), caught.value)  # The trainer calls this too.


def test_a_server_that_does_not_answer_is_an_error_before_training(tmp_path, monkeypatch):
    monkeypatch.setattr("pyg_bsl.tracking.start._REQUEST_SECONDS", 1)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        uri = f"http://127.0.0.1:{silent.getsockname()[1]}"
        with within(), pytest.raises(ConnectionError, match="timed out"):
            MLflowTracker(tmp_path, tracking_uri=uri).on_fit_start(None, None, new_result())


@pytest.mark.parametrize("selected_on", ["valid", "test"])
def test_an_epoch_chosen_on_the_test_set_is_told(selected_on):
    result = new_result()
    result.history = [record(epoch) for epoch in (1, 2, 3)]
    finish(result)
    result.selected_on = selected_on
    summary = summary_of(result)
    assert ("chosen on the test set" in summary) == (selected_on == "test")
    assert ("valid ndcg@20" in summary) == (selected_on == "valid")
