"""``pyg-bsl tune``: flags, what is shown, and workers that are killed."""

import os
import signal
import time
from pathlib import Path

import pytest

from pyg_bsl.cli import main
from pyg_bsl.tracking.processes import is_gone
from pyg_bsl.tuning.report import Report
from pyg_bsl.tuning.storage import Storage, storage_url
from tests.cli.commands import call, command, read
from tests.planted import write_folder

QUICK = "--k 5 --metric ndcg@5 --eval-every 1 --epochs 2 --backbone.embedding_dim 4"
ALONE = f"{QUICK} --no-tracking --quiet --finalists 1 --study s --trials 2"


@pytest.fixture(autouse=True)
def no_figures(monkeypatch):
    monkeypatch.setattr("pyg_bsl.tuning.figures.save_figures", lambda report, folder: [])


def report(store="mlruns", name="s"):
    return Report.of(Storage.open(storage_url(store, None)), name)


def test_a_study_is_run_shown_and_trained_on(data, here, capsys):
    line = f"tune {ALONE} --loss PSL --loss.activation tanh --space lr=0.1,0.2 --data"
    assert call(line, data) == 0
    out = capsys.readouterr().out
    found = report()
    assert found.identity["space"].keys() == {
        "loss.tau",
        "backbone.dropout",
        "trainer.lr",
        "trainer.weight_decay",
    }
    assert f"valid ndcg@5 {found.winner.values[0]:.4f} at trial {found.winner.number}" in out
    assert "mlruns/studies/s/best.json" in out and "Browse" not in out
    assert call("tune --show --no-tracking") == 0  # there is but one
    assert capsys.readouterr().out == out
    best = "mlruns/studies/s/best.json"
    assert call(f"train --no-tracking --quiet --output run --config {best}") == 0
    content = read("run")
    assert content["metrics"]["valid"]["ndcg@5"] == found.winner.values[0]
    assert content["config"]["loss"]["activation"] == "tanh"
    assert content["config"]["loss"]["tau"] == found.winner.params["loss.tau"]
    assert call("tune --show --no-tracking --quiet --study s --retrain 1") == 0
    out = capsys.readouterr().out
    assert "found" in out and "default" in out and "p (paired" in out
    assert len(report().retrained[-1]) == 1


def test_the_space_comes_from_flags(data, here):
    line = f"tune {ALONE} --preset psl --loss BSL --fix loss.tau1=0.2 lr --space l2=1e-6:1e-3:log"
    assert call(f"{line} --space loss.tau2=0.1,0.2 --data", data) == 0
    found = report()
    assert found.identity["space"] == {
        "trainer.weight_decay": {"kind": "Choice", "values": [0.0, 1e-4, 1e-5, 1e-6]},
        "loss.tau2": {"kind": "Choice", "values": [0.1, 0.2]},
        "trainer.l2": {"kind": "LogUniform", "low": 1e-6, "high": 1e-3},
    }
    assert found.experiment.loss_args == {"tau1": 0.2}
    assert "lr" not in found.experiment.trainer_args


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("tune", "Say what to train on"),
        ("tune --data x --space loss.tua=1,2", "nothing called 'loss.tua' to tune; did you mean"),
        ("tune --data x --space loss.tau", "A space is written NAME=A,B,C"),
        ("tune --data x --space loss.tau=-1:1", "'tau' must be positive and finite (got -1.0)"),
        ("tune --data x --preset pls", "Unknown preset 'pls'; did you mean 'psl'?"),
        ("tune --data x --preset none", "There is nothing to tune: give a space"),
        ("tune --data x --algorithm grid", "'loss.tau' is a range: give choices"),
        ("tune --data x --algorithm tep", "Unknown algorithm 'tep'; did you mean 'tpe'?"),
        ("tune --data x --pruner no", "Unknown pruner 'no'"),
        ("tune --data x --fix loss.tau=x", "'x' in 'loss.tau=x' must be float"),
        ("tune --data x --fix lr --space lr=1,2", "'trainer.lr' is both in --space and in --fix"),
        ("tune --data x --workers 0", "--workers must be at least 1 (got 0)"),
        ("tune --data x --trials 0", "'trials' must be a whole number of at least 1 (got 0)"),
        ("tune --data x --retrain 0", "--retrain must be at least 1 (got 0)"),
        ("tune --data x --also ndgc@5", "Unknown metric 'ndgc'; did you mean 'ndcg'?"),
        ("tune --data x --also seconds --pruner median", "'pruner' must be 'none' (got 'median')"),
        (
            "tune --dataset yelp2018",
            "'bsl-released' of the data set 'yelp2018' chooses on the test",
        ),
        ("tune --data x --trails 3", "Unknown flag '--trails'; did you mean '--trials'?"),
        ("tune --show", "There are no studies in 'mlruns': give another --store"),
        ("tune --show --storage sqlite:///no.db", "no studies in 'sqlite:///no.db': give another"),
        ("tune --study s --retrain 3", "--show --study NAME --retrain N"),
        ("tune --data x", "x: there is no such file or folder"),
    ],
)
def test_mistakes_get_one_clear_line(here, capsys, line, message):
    assert call(line) == 2
    out, err = capsys.readouterr()
    assert out == "" and message in err and "Traceback" not in err
    assert list(here.iterdir()) == []


def test_a_study_of_another_kind_or_name_is_told(data, here, capsys):
    assert call(f"tune {ALONE} --data", data) == 0
    assert call(f"tune {ALONE} --loss PSL --data", data) == 2
    assert "is of another kind: its 'config.loss.name' is \"SL\"" in capsys.readouterr().err
    assert call("tune --show --study t") == 2
    assert "There is no study 't'. Choices: s" in capsys.readouterr().err


# Processes that die


def wait_for(condition, seconds=150):
    patience = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < patience
        time.sleep(0.05)
    return found


def running(store):
    """Trials that are under way, by the process that has each."""
    if not (Path(store) / "studies.db").is_file():
        return {}
    place = Storage.open(storage_url(store, None))
    if "s" not in place.names():
        return {}
    trials = [t for t in place.load("s").trials if t.state.name == "RUNNING"]
    return {t.user_attrs["worker"][1]: t for t in trials if len(t.params) == 2}


def stop_at_once(self, trainer, record):
    trainer.should_stop = True


HOURS = "--k 5 --metric ndcg@5 --backbone.embedding_dim 4 --epochs 1000000 --trials 4 --threads 1"
HOURS += " --preset none --space lr=0.01:0.1 loss.tau=0.3:0.5 --pruner none --finalists 1"


@pytest.mark.parametrize("commands", [2, pytest.param(1, marks=pytest.mark.slow)])
def test_killed_workers_cost_their_trials_and_no_more(here, monkeypatch, commands):
    """Two workers of a study whose trials would take hours, both killed; then it is continued.

    They are two commands that share the study or one command with two workers.
    """
    data = write_folder(here / "own")
    words = ["tune", "--data", str(data), "--study", "s", "--store", "runs", *HOURS.split()]
    workers = [command(*words, "--workers", 2 // commands) for _ in range(commands)]
    from mlflow import MlflowClient

    client, lost = None, {}
    try:
        lost = wait_for(lambda: len(found := running("runs")) == 2 and found)
        assert workers[0].pid in lost
        client = MlflowClient(f"sqlite:///{here}/runs/mlflow.db")
        where = [client.get_experiment_by_name("own").experiment_id]
        # The study and both trials.
        wait_for(lambda: [r.info.status for r in client.search_runs(where)] == ["RUNNING"] * 3)
    finally:
        for pid in {*lost, *(worker.pid for worker in workers)}:
            os.kill(pid, signal.SIGKILL)
        for worker in workers:
            worker.communicate(timeout=30)

    (study,) = [run for run in client.search_runs(where) if run.data.tags["phase"] == "study"]
    assert is_gone(study.data.tags)
    monkeypatch.setattr("pyg_bsl.tuning.trial.Watch.on_epoch_end", stop_at_once)
    assert main([*words, "--quiet"]) == 0
    assert not is_gone(client.get_run(study.info.run_id).data.tags)
    found = report("runs")
    assert found.states() == {"complete": 4} and found.lost == 2
    trials = found.study.trials
    failed = [trial.number for trial in trials if trial.state.name == "FAIL"]
    assert failed == sorted(trial.number for trial in lost.values()) == [0, 1]
    for trial in lost.values():
        (again,) = [t for t in trials if t.user_attrs.get("retry_of") == trial.number]
        assert again.params == trial.params and again.state.name == "COMPLETE"
    after = client.search_runs(where)
    states = sorted((run.data.tags["status"], run.info.status) for run in after)
    assert states == [
        ("finished", "FINISHED"),
        *[("lost", "KILLED")] * 2,
        *[("stopped", "FINISHED")] * 4,
    ]


def test_sigterm_leaves_nothing_running(data, here, capsys, monkeypatch):
    monkeypatch.setattr(
        "pyg_bsl.tuning.trial.Watch.on_epoch_end",
        lambda self, trainer, record: os.kill(os.getpid(), signal.SIGTERM),
    )
    assert call(f"tune {ALONE} --data", data) == 143
    assert "Interrupted: the same command goes on from here" in capsys.readouterr().out
    trials = Storage.open(storage_url("mlruns", None)).load("s").trials
    assert [trial.state.name for trial in trials] == ["FAIL", "WAITING"]
    assert trials[1].system_attrs["fixed_params"] == trials[0].params
