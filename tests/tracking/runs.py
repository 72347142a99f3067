"""Runs with numbers that are easy to compare, and how they read back."""

import torch
from safetensors.torch import load_file

from pyg_bsl.training import EpochRecord, FitResult


def new_result(dataset="toy", **config):
    parts = {
        "backbone": {"name": "LightGCN", "embedding_dim": 8, "num_layers": 2},
        "loss": {"name": "PSL", "tau": 0.1, "activation": "relu", "weight": None},
        "trainer": {"lr": 0.1, "k": (10, 20)},
    }
    return FitResult(
        config=parts | config,
        data={"name": dataset, "digest": "0123456789abcdef" * 4},
        protocol="holdout",
        seed=7,
        num_users=5,
        num_items=6,
        num_train=11,
        epochs=3,
    )


def record(epoch, loss=None):
    return EpochRecord(
        epoch=epoch,
        loss=1 / epoch if loss is None else loss,
        lr=0.1,
        seconds=0.5,
        valid={"ndcg@20": epoch / 100, "recall@20": epoch / 50},
        improved=True,
    )


def finish(result):
    result.status, result.best_epoch = "finished", 2
    result.metrics = {"valid": result.history[1].valid, "test": {"ndcg@20": 0.5, "recall@20": 0.75}}
    result.seconds = {"train": 1.5, "total": 2.0}
    result.state_dict = {
        "user.weight": torch.arange(10.0).view(5, 2).t(),
        "item.weight": torch.ones(3),
    }


def run(tracker, result, epochs=3):
    """What the trainer calls, with numbers that are easy to compare."""
    tracker.on_fit_start(None, None, result)
    for epoch in range(1, epochs + 1):
        result.history.append(record(epoch))
        tracker.on_epoch_end(None, result.history[-1])
    finish(result)
    tracker.on_fit_end(None, result)


def sent(tracker):
    """Wait for the thread that sends: whether it could."""
    return tracker._sending.result()


def client_of(uri):
    from mlflow import MlflowClient

    return MlflowClient(uri)


def read(tracker):
    return client_of(tracker.tracking_uri).get_run(tracker.run_id)


def points(tracker, name):
    history = client_of(tracker.tracking_uri).get_metric_history(tracker.run_id, name)
    return sorted((point.step, point.value) for point in history)


def artifacts(tracker, folder):
    client_of(tracker.tracking_uri).download_artifacts(tracker.run_id, "", str(folder))
    return folder


def assert_complete(tracker, result, folder):
    """All that a finished run of three epochs should have left."""
    mlflow_run = read(tracker)
    assert mlflow_run.info.status == "FINISHED"
    assert mlflow_run.data.params == {
        "backbone": "LightGCN",
        "backbone.embedding_dim": "8",
        "backbone.num_layers": "2",
        "loss": "PSL",
        "loss.tau": "0.1",
        "loss.activation": "relu",
        "loss.weight": "None",
        "trainer.lr": "0.1",
        "trainer.k": "(10, 20)",
        "dataset": "toy",
        "dataset.digest": "0123456789abcdef" * 4,
        "protocol": "holdout",
        "seed": "7",
        "epochs": "3",
        "num_users": "5",
        "num_items": "6",
        "num_train": "11",
    }
    assert points(tracker, "train/loss") == [(1, 1.0), (2, 0.5), (3, 1 / 3)]
    assert points(tracker, "train/lr") == [(1, 0.1), (2, 0.1), (3, 0.1)]
    assert points(tracker, "train/seconds") == [(1, 0.5), (2, 0.5), (3, 0.5)]
    assert points(tracker, "valid/ndcg_20") == [(1, 0.01), (2, 0.02), (3, 0.03)]
    final = {"valid_best/ndcg_20": 0.02, "test/ndcg_20": 0.5, "test/recall_20": 0.75}
    final |= {"best_epoch": 2, "seconds_train": 1.5, "seconds_total": 2.0}
    assert final.items() <= mlflow_run.data.metrics.items()
    folder = artifacts(tracker, folder)
    assert (folder / "result.json").read_text() == result.to_json()
    weights = load_file(folder / "model.safetensors")
    assert weights.keys() == result.state_dict.keys()
    assert all(torch.equal(weights[name], x) for name, x in result.state_dict.items())
