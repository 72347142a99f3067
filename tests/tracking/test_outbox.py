"""A real server that goes away and comes back."""

import json
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from pyg_bsl.tracking import MLflowTracker, send_unsent
from pyg_bsl.tracking import tracker as tracking
from pyg_bsl.tracking.outbox import Outbox, Point
from tests.tracking.runs import (
    assert_complete,
    finish,
    new_result,
    points,
    read,
    record,
    run,
    sent,
)
from tests.tracking.servers import Server


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    server = Server(tmp_path_factory.mktemp("server")).start().wait()
    yield server
    server.stop()


@pytest.fixture(autouse=True)
def impatient(monkeypatch):
    monkeypatch.setattr(tracking, "_FLUSH_SECONDS", 0.0)
    monkeypatch.setattr(tracking, "_REQUEST_SECONDS", 1)
    monkeypatch.setattr(tracking, "_PATIENCE_SECONDS", 1.5)


def test_a_server_gets_the_run(server, tmp_path, caplog, capsys):
    tracker, result = MLflowTracker(tmp_path / "store", tracking_uri=server.uri), new_result()
    run(tracker, result)
    assert capsys.readouterr().out == ""
    (tmp_path / "read").mkdir()
    assert_complete(tracker, result, tmp_path / "read")
    assert not (tmp_path / "store").exists()
    assert not caplog.records


def test_a_server_that_does_not_answer_for_a_while_gets_every_number_once(
    server, tmp_path, monkeypatch, caplog
):
    tracker, result = MLflowTracker(tmp_path / "store", tracking_uri=server.uri), new_result()
    tracker.on_fit_start(None, None, result)
    server.freeze()
    try:
        for epoch in (1, 2):
            result.history.append(record(epoch))
            tracker.on_epoch_end(None, result.history[-1])
            assert epoch == 2 or not sent(tracker)
        kept = Outbox(tmp_path / "store" / "unsent" / tracker.run_id).points()
        assert {(p.step, p.value) for p in kept if p.key == "train/loss"} == {(1, 1.0), (2, 0.5)}
        assert send_unsent(tmp_path / "store", tracking_uri=server.uri) == []  # it is in use
    finally:
        server.thaw()
    tracker._next_flush = 0.0
    result.history.append(record(3))
    tracker.on_epoch_end(None, result.history[-1])
    assert sent(tracker)
    assert not (tmp_path / "store").exists()
    finish(result)
    tracker.on_fit_end(None, result)
    (tmp_path / "read").mkdir()
    assert_complete(tracker, result, tmp_path / "read")
    assert len(caplog.records) == 1


_TRAIN = """
import sys
from pyg_bsl.tracking import MLflowTracker, tracker as tracking
from tests.tracking.runs import new_result, record, sent
tracking._FLUSH_SECONDS, tracking._REQUEST_SECONDS = 0.0, 1
tracker = MLflowTracker(sys.argv[1], tracking_uri=sys.argv[2])
tracker.on_fit_start(None, None, new_result())
for epoch in (1, 2, 3):
    tracker.on_epoch_end(None, record(epoch))
    if epoch < 3:
        assert sent(tracker) == (epoch == 1)
    print(tracker.run_id, flush=True)
    sys.stdin.readline()
"""


def test_what_a_dead_server_missed_is_sent_once_when_it_is_back(server, tmp_path, caplog):
    store = tmp_path / "store"
    child = subprocess.Popen(
        [sys.executable, "-c", _TRAIN, str(store), server.uri],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])},
    )
    killed = MLflowTracker(store, tracking_uri=server.uri)
    tracker, result = MLflowTracker(store, tracking_uri=server.uri), new_result()
    with child:
        killed.run_id = child.stdout.readline().strip()
        assert killed.run_id
        tracker.on_fit_start(None, None, result)
        server.stop()
        for _ in (2, 3):
            print(file=child.stdin, flush=True)
            child.stdout.readline()
        child.send_signal(signal.SIGKILL)

    for epoch in (1, 2, 3):
        result.history.append(record(epoch))
        tracker.on_epoch_end(None, result.history[-1])
    finish(result)
    tracker.on_fit_end(None, result)
    messages = [record.getMessage() for record in caplog.records]
    assert len(messages) == 2 and server.uri in messages[0]
    assert str(store / "unsent" / tracker.run_id) in messages[1]
    assert f"pyg-bsl ui --tracking-uri {server.uri} --store {store}" in messages[1]
    assert send_unsent(store, tracking_uri=server.uri) == []
    assert send_unsent(store, tracking_uri="http://elsewhere:1") == []
    assert {path.name for path in (store / "unsent").iterdir()} == {tracker.run_id, killed.run_id}

    server.start().wait()
    answers = []
    threads = [
        threading.Thread(target=lambda: answers.extend(send_unsent(store, tracking_uri=server.uri)))
        for _ in range(2)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(answers) == sorted([tracker.run_id, killed.run_id])
    assert not store.exists()
    (tmp_path / "read").mkdir()
    assert_complete(tracker, result, tmp_path / "read")
    assert read(killed).info.status == "KILLED"
    assert read(killed).data.tags["status"] == "killed"
    assert points(killed, "train/loss") == [(1, 1.0), (2, 0.5), (3, 1 / 3)]


def test_a_run_of_a_study_starts_without_its_server(server, tmp_path, caplog):
    store, results = tmp_path / "store", [new_result(), new_result()]
    parent = MLflowTracker(store, tracking_uri=server.uri)
    run(parent, new_result())
    missed, late = (
        MLflowTracker(store, tracking_uri=server.uri, parent_run_id=parent.run_id) for _ in results
    )
    server.stop()
    alone = MLflowTracker(store, tracking_uri=server.uri)
    with pytest.raises(ConnectionError):
        alone.on_fit_start(None, None, new_result())

    run(missed, results[0])
    assert missed.run_id is None and missed.unsent.parent == store / "unsent"
    late.on_fit_start(None, None, results[1])
    results[1].history.append(record(1))
    late.on_epoch_end(None, results[1].history[-1])
    assert late._sending is None or not sent(late)
    assert str(missed.unsent) in caplog.text

    server.start().wait()
    late._next_flush = 0.0
    for epoch in (2, 3):
        results[1].history.append(record(epoch))
        late.on_epoch_end(None, results[1].history[-1])
        assert sent(late)
    finish(results[1])
    late.on_fit_end(None, results[1])
    assert late.unsent is None
    (missed.run_id,) = send_unsent(store, tracking_uri=server.uri)
    for tracker, result in zip((missed, late), results, strict=True):
        folder = tmp_path / tracker.run_id
        folder.mkdir()
        assert_complete(tracker, result, folder)
        tags = read(tracker).data.tags
        assert tags["mlflow.parentRunId"] == parent.run_id and tags["status"] == "finished"
        assert read(tracker).inputs.dataset_inputs[0].dataset.name == "toy"
        assert read(tracker).info.start_time < read(tracker).info.end_time
    assert not store.exists()


def test_a_run_of_a_study_does_not_wait_for_its_server(server, tmp_path):
    tracker, result = MLflowTracker(tmp_path, tracking_uri=server.uri, parent_run_id="a"), None
    server.freeze()
    try:
        tracker.on_fit_start(None, None, result := new_result())
        assert not tracker._opened.done()
    finally:
        server.thaw()
    tracker.on_fit_error(None, result, KeyboardInterrupt())
    assert read(tracker).data.tags["mlflow.parentRunId"] == "a"


def test_a_run_is_made_once_when_the_answer_is_lost(server, tmp_path, monkeypatch):
    from mlflow import MlflowClient

    make = MlflowClient.create_run

    def make_and_lose_the_answer(*args, **kwargs):
        make(*args, **kwargs)
        raise ConnectionResetError("gone")

    place = {"tracking_uri": server.uri, "experiment": "once", "parent_run_id": "a"}
    tracker, result = MLflowTracker(tmp_path / "store", **place), new_result()
    with monkeypatch.context() as patch:
        patch.setattr(MlflowClient, "create_run", make_and_lose_the_answer)
        tracker.on_fit_start(None, None, result)
        tracker._opened.result()
    assert tracker.run_id is None
    for epoch in (1, 2, 3):
        result.history.append(record(epoch))
        tracker.on_epoch_end(None, result.history[-1])
    finish(result)
    tracker.on_fit_end(None, result)
    (tmp_path / "read").mkdir()
    assert_complete(tracker, result, tmp_path / "read")
    client = MlflowClient(server.uri)
    assert len(client.search_runs([client.get_experiment_by_name("once").experiment_id])) == 1


def test_a_run_that_was_deleted_meanwhile_is_told_and_stays(server, tmp_path, caplog):
    outbox = Outbox.create(tmp_path, server.uri, "0" * 32)
    outbox.add([Point("a", 1.0, 1, 1)])
    outbox.leave()
    for _ in range(2):
        assert send_unsent(tmp_path, tracking_uri=server.uri) == []
    assert str(outbox.folder) in caplog.text and "delete that folder" in caplog.text


def test_a_line_that_was_cut_short_is_left_out(tmp_path):
    outbox = Outbox.create(tmp_path, "sqlite:///x", "run")
    outbox.add([Point("a", 1.0, 1, 1), Point("a", float("nan"), 2, 2)])
    with (outbox.folder / "metrics.jsonl").open("a") as file:
        file.write(json.dumps(["a", 3.0, 3, 3])[:-4])
    assert [point.step for point in outbox.points()] == [1, 2]
    outbox.remove()
    assert not (tmp_path / "unsent").exists()
