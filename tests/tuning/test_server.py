"""A study whose MLflow server goes away."""

import pytest

from pyg_bsl import tuning
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
    tell = Worker._tell

    def tell_and_stop(worker, trial):
        tell(worker, trial)
        server.stop()

    store = tmp_path / "store"
    with monkeypatch.context() as patch:
        patch.setattr("pyg_bsl.tuning.figures.save_figures", lambda report, folder: [])
        patch.setattr(Worker, "_tell", tell_and_stop)
        tuning.run(plan(data, store, tracking=True))
    trials = storage(store).load("s").trials
    assert [trial.state.name for trial in trials] == ["COMPLETE"] * 3
    warnings = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    assert str(store / "unsent") in warnings[0] and "is away" in warnings[0]
    assert "the same command" in warnings[-1]
    assert len(list((store / "unsent").iterdir())) == 2

    with pytest.raises(ConnectionError, match="Start the server"):  # not begun without it
        tuning.run(plan(data, store, tracking=True))

    server.start().wait()
    tuning.run(plan(data, store, tracking=True))
    assert len(storage(store).load("s").trials) == 3
    assert not (store / "unsent").exists()

    from mlflow import MlflowClient

    client = MlflowClient(server.uri)
    runs = client.search_runs([client.get_experiment_by_name("own").experiment_id])
    (parent,) = [run for run in runs if run.data.tags["phase"] == "study"]
    children = [run for run in runs if run.data.tags["phase"] == "search"]
    assert len(runs) == 4 and {run.info.status for run in runs} == {"FINISHED"}
    assert {run.data.tags["mlflow.parentRunId"] for run in children} == {parent.info.run_id}
    assert sorted(run.data.tags["trial"] for run in children) == ["0", "1", "2"]
    for run in children:
        trial = trials[int(run.data.tags["trial"])]
        assert run.data.metrics["valid_best/ndcg_5"] == trial.values[0]
        assert float(run.data.params["loss.tau"]) == trial.params["loss.tau"]
        assert len(client.get_metric_history(run.info.run_id, "train/loss")) == 5
        assert {file.path for file in client.list_artifacts(run.info.run_id)} >= {"result.json"}
