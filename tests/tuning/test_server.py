"""A study whose MLflow server goes away."""

import pytest

from pyg_bsl import tuning
from pyg_bsl.tracking import send_unsent
from pyg_bsl.tuning.worker import Worker
from tests.tracking.servers import Server
from tests.tuning.studies import plan, storage


@pytest.fixture
def server(tmp_path, monkeypatch):
    (tmp_path / "server").mkdir()
    server = Server(tmp_path / "server").start().wait()
    monkeypatch.setenv("MLFLOW_TRACKING_URI", server.uri)
    yield server
    server.stop()


def test_a_study_outlives_its_server(server, data, tmp_path, monkeypatch, caplog):
    """It goes away after the first of four trials, is back for the third, and gone at the end."""
    tell, store = Worker._tell, tmp_path / "store"

    def tell_and_change(worker, trial):
        tell(worker, trial)
        if trial.number in (0, 2):
            server.stop()
        elif trial.number == 1:
            server.start().wait()

    def run(**changes):
        return tuning.run(plan(data, store, tracking=True, trials=4, **changes))

    monkeypatch.setattr("pyg_bsl.tuning.figures.save_figures", lambda report, folder: [])
    with monkeypatch.context() as patch:
        patch.setattr(Worker, "_tell", tell_and_change)
        run()
    trials = storage(store).load("s").trials
    assert [trial.state.name for trial in trials] == ["COMPLETE"] * 4
    warnings = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    assert len(warnings) == 2
    assert str(store / "unsent") in warnings[0] and "is away" in warnings[0]
    assert f"pyg-bsl ui --tracking-uri {server.uri} --store {store}" in warnings[1]
    assert len(list((store / "unsent").iterdir())) == 2  # the last trial, and the end of the study

    run()  # It was there before, and is waited for.
    assert len(storage(store).load("s").trials) == 4
    with pytest.raises(ConnectionError, match="Start the server"):  # It never was.
        run(study="another")

    server.start().wait()
    assert len(send_unsent(store)) == 2
    assert not (store / "unsent").exists()

    from mlflow import MlflowClient

    client = MlflowClient(server.uri)
    runs = client.search_runs([client.get_experiment_by_name("own").experiment_id])
    (parent,) = [run for run in runs if run.data.tags["phase"] == "study"]
    children = [run for run in runs if run.data.tags["phase"] == "search"]
    assert len(runs) == 5 and {run.info.status for run in runs} == {"FINISHED"}
    assert {run.data.tags["status"] for run in runs} == {"finished"}
    assert parent.data.metrics["trials_complete"] == 4
    values = client.get_metric_history(parent.info.run_id, "trial_value")
    assert {v.step: v.value for v in values} == {t.number: t.values[0] for t in trials}
    assert "best.json" in {file.path for file in client.list_artifacts(parent.info.run_id)}
    assert {run.data.tags["mlflow.parentRunId"] for run in children} == {parent.info.run_id}
    assert sorted(run.data.tags["trial"] for run in children) == ["0", "1", "2", "3"]
    for run in children:
        trial = trials[int(run.data.tags["trial"])]
        assert run.data.metrics["valid_best/ndcg_5"] == trial.values[0]
        assert float(run.data.params["loss.tau"]) == trial.params["loss.tau"]
        assert run.inputs.dataset_inputs[0].dataset.name == "own"
        assert len(client.get_metric_history(run.info.run_id, "train/loss")) == 5
        assert {file.path for file in client.list_artifacts(run.info.run_id)} >= {"result.json"}
