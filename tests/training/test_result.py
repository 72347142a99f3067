import json
from importlib import metadata

import pytest
import torch

from pyg_bsl.training import EpochRecord, FitResult
from pyg_bsl.training.result import machine, versions
from tests.training.parts import fit, new_trainer

KEYS = {
    *("config", "protocol", "seed", "versions", "machine", "num_users", "num_items", "num_train"),
    *("epochs_run", "best_epoch", "peak_memory_mib", "seconds", "metrics", "status"),
}
"""What DESIGN.md promises of ``result.json``."""


@pytest.fixture(scope="module")
def result() -> FitResult:
    return fit(new_trainer(k=(5, 20), metric="ndcg@20"), 2)


def test_the_json_has_everything_but_the_weights(result):
    content = json.loads(result.to_json())
    assert KEYS <= content.keys()
    assert "state_dict" not in content
    assert content["seconds"].keys() == {"load", "train", "evaluate", "total"}
    assert content["metrics"].keys() == {"valid", "test"}
    assert {"recall@20", "ndcg@20", "recall@5"} <= content["metrics"]["test"].keys()
    assert content["metrics"] == result.metrics
    assert [EpochRecord(**record) for record in content["history"]] == result.history
    assert content["config"]["epochs"] == content["epochs_run"] == 2
    assert content["versions"]["torch"] == metadata.version("torch")
    assert content["machine"]["threads"] == torch.get_num_threads()


def test_making_the_json_leaves_the_weights_alone(result):
    weights = result.state_dict
    result.to_json()
    assert result.state_dict is weights and weights


def test_the_printed_form_leaves_the_weights_out(result):
    assert "state_dict" not in repr(result)


def test_what_json_does_not_know_is_kept_as_text():
    result = FitResult({"loss": {"act": torch.device("cpu")}}, {}, "holdout", 0, 1, 1, 1, 1)
    assert json.loads(result.to_json())["config"] == {"loss": {"act": "cpu"}}


def test_versions_and_machine_are_told():
    assert {"python", "torch", "torch-geometric", "numpy"} <= versions().keys()
    assert all(versions().values())
    assert machine().keys() == {"platform", "processor", "threads", "gpu"}
    assert machine()["processor"]
