"""Whole studies: search, finals, figures, MLflow."""

import csv
import json
import logging
import statistics
from dataclasses import replace
from pathlib import Path

import pytest

from pyg_bsl import tuning
from pyg_bsl.experiment import Experiment
from pyg_bsl.space import Choice
from pyg_bsl.tuning.plan import Plan
from pyg_bsl.tuning.report import Comparison
from pyg_bsl.tuning.spaces import with_values
from tests.planted import write_folder
from tests.tuning.studies import SPACE, experiment, storage

TRIALS = 9
FIGURES = {"history.png", "importance.png", "slices.png", "temperature.png"}
WITHOUT_MLFLOW = {"tracking": False, "finalists": 1, "space": SPACE}


@pytest.fixture(scope="module")
def store(data, tmp_path_factory):
    """The store of a finished study; a value of the space makes trials fail."""
    store = tmp_path_factory.mktemp("store") / "runs"
    # The lowest step learns nothing, and is pruned; the highest overflows.
    steps = Choice((0.3, 0.2, 0.1, 0.05, 0.0001, 1e38))
    plan = Plan(
        experiment=experiment(data, epochs=4),
        study="s",
        trials=TRIALS,
        space={"loss.tau": Choice((0.3, 0.5)), "trainer.lr": steps},
        algorithm="grid",
        finalists=2,
        final_seeds=2,
        store=store,
    )
    assert tuning.run(plan).name == "s"
    with pytest.MonkeyPatch.context() as patch:  # they are drawn once
        patch.setattr("pyg_bsl.tuning.figures.save_figures", lambda report, folder: [])
        tuning.retrain(replace(plan, tracking=False), 2)
    return store


@pytest.fixture(autouse=True)
def no_figures(store, monkeypatch):
    """They take a second: those of the first study are enough."""
    monkeypatch.setattr("pyg_bsl.tuning.figures.save_figures", lambda report, folder: [])


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A store for several studies."""
    return str(tmp_path_factory.mktemp("place"))


@pytest.fixture(scope="module")
def report(store):
    return tuning.Report.of(storage(store), "s")


@pytest.fixture(scope="module")
def runs(store):
    from mlflow import MlflowClient

    client = MlflowClient(f"sqlite:///{store}/mlflow.db")
    found = client.search_runs([client.get_experiment_by_name("own").experiment_id])
    return client, found


def test_all_trials_are_there(report):
    states = report.states()
    assert sum(states.values()) == TRIALS and states.keys() == {"complete", "pruned", "fail"}
    failed = [trial for trial in report.trials if trial.state.name == "FAIL"]
    assert all("NonFiniteLossError" in trial.user_attrs["error"] for trial in failed)
    assert report.lost == 0


def test_the_best_mean_on_fresh_seeds_wins(report):
    assert len(report.finals) == 2
    best = sorted(report.trials, key=lambda t: -(t.values or [0])[0])
    complete = [trial.number for trial in best if trial.state.name == "COMPLETE"]
    assert set(report.finals) == set(complete[:2])
    means = {}
    for number, rows in report.finals.items():
        assert sorted(row["seed"] for row in rows) == [1, 2]
        means[number] = statistics.mean(row["valid"]["ndcg@5"] for row in rows)
    assert report.winner.number == max(means, key=means.get)
    mean, error, number = report.final(report.winner.number)
    values = [row["valid"]["ndcg@5"] for row in report.finals[report.winner.number]]
    assert (mean, number) == (pytest.approx(means[report.winner.number]), 2)
    assert error == pytest.approx(statistics.stdev(values) / 2**0.5)


def test_the_winner_is_a_configuration_that_gives_its_value(report, store):
    config = json.loads((store / "studies" / "s" / "best.json").read_text())
    result = Experiment.from_config(config).run()
    assert result.metrics["valid"]["ndcg@5"] == report.winner.values[0]


def test_winner_and_default_are_trained_on_the_same_new_seeds(report):
    assert report.retrained.keys() == {report.winner.number, -1}
    for rows in report.retrained.values():
        assert sorted(row["seed"] for row in rows) == [3, 4]
    seen = report.comparison("test")
    by_hand = report.experiment
    for at, seed in enumerate(seen.seeds):
        alone = with_values(by_hand, {}, seed).run()
        assert alone.metrics["test"]["ndcg@5"] == seen.default[at]


def test_a_paired_t_test_by_hand():
    found, default = [0.5, 0.6, 0.55, 0.7], [0.4, 0.5, 0.5, 0.52]
    d = [a - b for a, b in zip(found, default, strict=True)]
    t = statistics.mean(d) / (statistics.stdev(d) / 2)
    assert t == pytest.approx(4.0, abs=0.1)
    n = 400_000  # the density of t with 3 degrees of freedom, integrated beyond t
    step = (1000 - t) / n
    tail = sum(
        step * 6 * 3**0.5 / (3.141592653589793 * (3 + (t + (i + 0.5) * step) ** 2) ** 2)
        for i in range(n)
    )
    assert Comparison(found, default, range(4)).p_value() == pytest.approx(2 * tail, rel=1e-3)
    assert Comparison([1.0], [2.0], [0]).p_value() is None
    assert Comparison([1.0, 2.0], [2.0, 3.0], [0, 1]).p_value() is None


def test_the_report_can_be_read(report, store):
    text = (store / "studies" / "s" / "report.md").read_text()
    assert f"**valid ndcg@5 {report.winner.values[0]:.4f}** at trial" in text
    for title in ("Best trials", "Importance", "Retrained"):
        assert f"### {title}" in text
    assert "On 2 fresh seeds: valid ndcg@5" in text and "p (paired t-test)" in text
    rows = list(csv.DictReader((store / "studies" / "s" / "trials.csv").read_text().splitlines()))
    assert len(rows) == TRIALS and {row["state"] for row in rows} == {"complete", "pruned", "fail"}
    for row, trial in zip(rows, report.trials, strict=True):
        assert float(row["loss.tau"]) == trial.params["loss.tau"]


def test_figures_are_drawn(store):
    drawn = {file.name for file in (store / "studies" / "s").glob("*.png")}
    assert drawn == FIGURES
    for name in drawn:
        content = (store / "studies" / "s" / name).read_bytes()
        assert content.startswith(b"\x89PNG") and len(content) > 5000


def test_a_study_is_a_run_and_its_trainings_are_runs_below_it(runs, report):
    client, found = runs
    (parent,) = [run for run in found if run.data.tags["phase"] == "study"]
    children = [run for run in found if run.data.tags["phase"] != "study"]
    assert {run.data.tags["mlflow.parentRunId"] for run in children} == {parent.info.run_id}
    by_phase = {
        phase: [run for run in children if run.data.tags["phase"] == phase]
        for phase in ("search", "final")
    }
    assert {k: len(v) for k, v in by_phase.items()} == {"search": TRIALS, "final": 4}
    for run in found:
        assert run.data.tags["dataset"] == "own" and run.data.tags["loss"] == "SL"
        assert run.data.tags["backbone"] == "MF" and run.data.tags["protocol"] == "holdout"
    looks = {
        "COMPLETE": ("FINISHED", "finished"),
        "PRUNED": ("KILLED", "pruned"),
        "FAIL": ("FAILED", "failed"),
    }
    for run in by_phase["search"]:
        trial = report.trials[int(run.data.tags["trial"])]
        assert (run.info.status, run.data.tags["status"]) == looks[trial.state.name]
        assert run.info.run_name.startswith(f"trial {trial.number:03d} loss.tau=")
        assert run.data.params["loss.tau"] == str(trial.params["loss.tau"])
    assert parent.info.status == "FINISHED" and parent.info.run_name == "study s"
    assert parent.data.params["space.loss.tau"].startswith("{'kind': 'Choice'")
    (dataset,) = {
        (given.digest, given.profile)
        for given in (run.inputs.dataset_inputs[0].dataset for run in found)
    }
    assert dataset[0] != "unknown" and json.loads(dataset[1]).keys() == {"users", "items", "train"}
    assert parent.data.metrics["valid_best/ndcg_5"] == report.winner.values[0]
    assert parent.data.metrics["trials_pruned"] == report.states()["pruned"]
    assert (
        len(client.get_metric_history(parent.info.run_id, "trial_value"))
        == report.states()["complete"]
    )
    assert "at trial" in parent.data.tags["mlflow.note.content"]
    names = {file.path for file in client.list_artifacts(parent.info.run_id)}
    assert names == {"best.json", "figures", "report.md", "trials.csv"}
    drawn = client.list_artifacts(parent.info.run_id, "figures")
    assert {Path(file.path).name for file in drawn} == FIGURES


def test_nothing_found_in_the_store_is_running(runs, store):
    _, found = runs
    assert not [run for run in found if run.info.status == "RUNNING"]
    for study in storage(store).optuna.get_all_studies():
        trials = storage(store).load(study.study_name).trials
        assert all(trial.state.is_finished() for trial in trials)


def test_a_study_is_continued_and_the_same_seed_gives_the_same_trials(data, place):
    def values(name, *numbers):
        for number in numbers:
            report = tuning.search(
                experiment(data, epochs=1), study=name, trials=number, store=place, **WITHOUT_MLFLOW
            )
        assert len(report.trials) == numbers[-1]
        return [(trial.params, trial.values) for trial in report.trials]

    whole = values("whole", 2)
    parts = values("parts", 1, 3)
    assert parts[:1] == whole[:1]
    assert len({str(params) for params, _ in parts}) == 3  # it does not begin again


def test_a_grid_is_run_once_and_goes_on(data, place):
    space = {"loss.tau": Choice((0.2, 0.5)), "trainer.lr": Choice((0.1, 0.3))}
    same = {"space": space, "algorithm": "grid", "study": "g", "store": place, "tracking": False}
    same |= {"finalists": 1, "pruner": "none"}
    assert len(tuning.search(experiment(data, epochs=1), trials=3, **same).trials) == 3
    report = tuning.search(experiment(data, epochs=1), **same)
    assert len(report.trials) == 4
    points = {(trial.params["loss.tau"], trial.params["trainer.lr"]) for trial in report.trials}
    assert points == {(tau, lr) for tau in (0.2, 0.5) for lr in (0.1, 0.3)}


@pytest.mark.parametrize(
    ("algorithm", "pruner", "trials"), [("gp", "halving", 11), ("tpe", "hyperband", 2)]
)
def test_every_algorithm_and_pruner_runs(data, place, algorithm, pruner, trials):
    report = tuning.search(
        experiment(data, epochs=2),
        study=algorithm,
        trials=trials,  # the first ten of a Gaussian process are independent draws
        algorithm=algorithm,
        pruner=pruner,
        store=place,
        **WITHOUT_MLFLOW,
    )
    assert report.winner.values[0] > 0


def test_several_objectives_leave_a_front(data, place):
    report = tuning.search(
        experiment(data, epochs=1),
        study="front",
        trials=3,
        also=["tail_ndcg@5", "seconds"],
        store=place,
        **WITHOUT_MLFLOW,
    )
    front = report.study.best_trials
    assert report.winner.values[0] == max(trial.values[0] for trial in front)
    assert "The Pareto front" in report.note() and "tail_ndcg@5" in report.note()


def test_another_study_under_the_same_name_is_refused(data, place, tmp_path):
    same = {"trials": 1, "study": "one", "store": place, **WITHOUT_MLFLOW}
    tuning.search(experiment(data, epochs=1), **same)
    with pytest.raises(ValueError, match=r"its 'config\.epochs' is 1, here it is 2"):
        tuning.search(experiment(data, epochs=2), **same)
    elsewhere = write_folder(tmp_path / "own")
    (elsewhere / "test.tsv").write_text("user_id\titem_id\nu0\ti1\n")
    with pytest.raises(ValueError, match="its 'digest' is"):
        tuning.search(experiment(elsewhere, epochs=1), **same)


def test_a_study_on_test_data_says_so(data, place, caplog):
    mine = experiment(
        data,
        trainer_args={"k": (5,), "metric": "ndcg@5", "protocol": "bsl-released"},
        epochs=1,
    )
    with caplog.at_level(logging.INFO, "pyg_bsl"):
        report = tuning.search(mine, study="test", trials=1, store=place, **WITHOUT_MLFLOW)
    assert "this study is decided on the TEST set" in caplog.text
    assert report.note().startswith("**test, as valid, ndcg@5")
    assert "so did this study, and its results are optimistic" in report.note()


def test_a_study_without_a_finished_trial_says_why(data, place):
    mine = experiment(data, loss="MSE", trainer_args={"similarity": "dot", "k": (5,)})
    with pytest.raises(
        ValueError, match="No trial of the study 'own MF MSE' was finished yet; the"
    ):
        tuning.search(
            mine,
            trials=2,
            space={"trainer.lr": Choice((1e38,))},
            store=place,
            tracking=False,
        )


def test_figures_may_be_missing(report, tmp_path, caplog, monkeypatch):
    monkeypatch.undo()
    monkeypatch.setattr("pyg_bsl.tuning.figures.find_spec", lambda name: None)
    with caplog.at_level(logging.INFO, "pyg_bsl"):
        report.save(tmp_path)
    assert "they need Matplotlib (pip install 'pyg-bsl[plots]')" in caplog.text
    assert (report.folder(tmp_path) / "best.json").is_file()
    assert not list(report.folder(tmp_path).glob("*.png"))
