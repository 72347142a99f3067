"""Runs of processes that are gone, on a real database and with real processes."""

import os
import signal
import subprocess
import sys

import pytest

from pyg_bsl.tracking import close_dead_runs, process_tags
from pyg_bsl.tracking.processes import is_gone, member_tags
from pyg_bsl.tracking.store import connect, open_experiment

needs_proc = pytest.mark.skipif(sys.platform != "linux", reason="asks /proc")


@pytest.fixture(scope="module")
def sleeper():
    """A process that does nothing, with its tags."""
    code = (
        "import json, time; from pyg_bsl.tracking.processes import process_tags; "
        "print(json.dumps(process_tags()), flush=True); time.sleep(600)"
    )
    import json

    child = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    yield child, json.loads(child.stdout.readline())
    child.kill()
    child.wait()
    child.stdout.close()


def test_a_process_tells_itself_from_others(sleeper):
    own, (child, tags) = process_tags(), sleeper
    assert own == process_tags()
    assert (own["pid"], tags["pid"]) == (str(os.getpid()), str(child.pid))
    assert own["host"] == tags["host"] and own["process_start"] != tags["process_start"]
    assert not is_gone(own) and not is_gone(tags)


@needs_proc
def test_what_cannot_be_known_from_here_is_alive():
    own = process_tags()
    start, place = own["process_start"].split("@")
    machine, boot, pids = place.split("/")
    assert is_gone(own | {"process_start": f"1{start}@{place}"})  # the number was given anew
    assert is_gone(own | {"pid": "99999999"})
    assert not is_gone(own | {"pid": "99999999", "host": "elsewhere"})
    in_container = f"{start}@{machine}/{boot}/1{pids}"
    assert not is_gone(own | {"pid": "99999999", "process_start": in_container})
    namesake = f"{start}@0123/another/{pids}"
    assert not is_gone(own | {"process_start": namesake})
    assert is_gone(own | {"process_start": f"{start}@{machine}/before/{pids}"}) == bool(machine)
    assert not is_gone({})

    others = {"host": own["host"], f"process.{own['host']}.99999999": own["process_start"]}
    assert is_gone(others)
    assert not is_gone(others | member_tags())
    assert not is_gone(others | {"process.else.where.99999999": own["process_start"]})


def test_runs_of_killed_processes_are_closed_and_no_others(tmp_path, sleeper):
    child, theirs = sleeper
    uri = f"sqlite:///{tmp_path}/mlflow.db"
    client, experiment = open_experiment(uri, "toy")
    owners = {
        "theirs": theirs,
        "own": process_tags(),
        "elsewhere": theirs | {"host": "elsewhere"},
        "nobody's": {},
    }
    runs = {
        name: client.create_run(experiment, tags=tags).info.run_id for name, tags in owners.items()
    }
    finished = client.create_run(experiment, tags=theirs).info.run_id
    client.set_terminated(finished)
    client.log_param(runs["theirs"], "epochs", 9)
    client.set_tag(runs["theirs"], "mlflow.note.content", "*Mine.*")
    for step in (1, 2):
        client.log_metric(runs["theirs"], "train/loss", 0.5, timestamp=5000 + step, step=step)
    assert close_dead_runs(tmp_path) == []

    child.send_signal(signal.SIGKILL)
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)  # dead, but a zombie still
    assert close_dead_runs(tmp_path) == [runs["theirs"]]
    assert close_dead_runs(tmp_path) == []
    states = {name: connect(uri).get_run(run) for name, run in runs.items()}
    closed = states.pop("theirs")
    assert closed.info.status == "KILLED" and closed.info.end_time == 5002
    assert closed.data.tags["status"] == "killed"
    assert closed.data.tags["mlflow.note.content"] == "killed after epoch 2 of 9\n\n*Mine.*"
    assert {run.info.status for run in states.values()} == {"RUNNING"}
    assert client.get_run(finished).info.status == "FINISHED"


@needs_proc
def test_a_run_of_several_processes_ends_with_the_last(tmp_path):
    own = process_tags()
    uri = f"sqlite:///{tmp_path}/mlflow.db"
    client, experiment = open_experiment(uri, "toy")
    gone = f"process.{own['host']}.99999999"
    tags = {"host": own["host"], gone: own["process_start"]}
    study = client.create_run(experiment, start_time=1000, tags=tags | member_tags()).info.run_id
    below = {"mlflow.parentRunId": study}
    done = client.create_run(experiment, start_time=2000, tags=below).info.run_id
    client.set_terminated(done, end_time=7000)
    client.create_run(experiment, start_time=6000, tags=below)
    assert close_dead_runs(tmp_path) == []
    client.delete_tag(study, f"process.{own['host']}.{own['pid']}")
    assert close_dead_runs(tmp_path) == [study]
    closed = client.get_run(study)
    assert closed.info.status == "KILLED" and closed.info.end_time == 7000
    assert closed.data.tags["mlflow.note.content"] == "killed"
