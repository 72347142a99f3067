"""``pyg-bsl evaluate``."""

import json
import re

import pytest

from pyg_bsl.cli import main
from tests.cli.commands import QUICK, call, read
from tests.planted import write_folder


@pytest.mark.parametrize("backbone", ["MF", "NGCF", "LightGCN"])
def test_evaluate_gives_the_runs_own_test_metrics(data, here, capsys, backbone):
    line = f"train {QUICK} --backbone {backbone} --epochs 1 --output out --data"
    assert call(line, data) == 0
    capsys.readouterr()
    assert call("evaluate out --json") == 0
    assert json.loads(capsys.readouterr().out) == read("out")["metrics"]["test"]
    assert call("evaluate out --split valid --json") == 0
    assert json.loads(capsys.readouterr().out) == read("out")["metrics"]["valid"]


def test_evaluate_ranks_as_the_run_did(data, here, capsys):
    assert call(f"train {QUICK} --loss BPR --output out --data", data) == 0
    assert read("out")["config"]["trainer"]["rank_by"] == "dot"
    capsys.readouterr()
    assert call("evaluate out --json") == 0
    assert json.loads(capsys.readouterr().out) == read("out")["metrics"]["test"]


def test_a_run_whose_epoch_was_chosen_on_the_test_set_says_so_for_ever(data, here, capsys):
    line = QUICK.replace("--quiet", "--protocol bsl-released")
    assert call(f"train {line} --output out --data", data) == 0
    out, err = capsys.readouterr()
    assert "(chosen on the test set)" in out and "The protocol 'bsl-released' chooses" in err
    assert re.search(r"metric +test, as valid +test", out)
    assert read("out")["selected_on"] == "test"
    assert call("evaluate out --protocol holdout") == 0
    out, err = capsys.readouterr()
    assert "protocol holdout, epoch" in out and "(chosen on the test set)" in out
    assert "its results on the test set are optimistic by any protocol" in err
    assert call("evaluate out --json") == 0
    json.loads(capsys.readouterr().out)  # the warning does not stand in the way


def test_evaluate_says_when_validation_is_the_test_set(run, capsys):
    assert call("evaluate --protocol bsl-released --split valid", run) == 0
    out, err = capsys.readouterr()
    assert re.search(r"metric +test, as valid", out)
    assert "chosen on the test set" not in out + err


def test_evaluate_at_other_lengths_and_by_another_protocol(run, capsys):
    assert call("evaluate --k 3 --json", run) == 0
    metrics = json.loads(capsys.readouterr().out)
    assert metrics.keys() >= {"ndcg@3"} and all(name.endswith("@3") for name in metrics)
    assert call("evaluate --k 5 --protocol psl-iid --similarity dot", run) == 0
    out = capsys.readouterr().out
    assert "own, protocol psl-iid" in out and "ndcg@5" in out and "ndcg@10" not in out


def test_evaluate_refuses_data_that_changed(run, data, here, capsys):
    content = read(run)
    changed = write_folder(here / "own")
    (changed / "test.tsv").write_text("user_id\titem_id\nu0\ti1\n")
    (here / "run").mkdir()
    content["config"]["data"] = str(changed)
    (here / "run" / "result.json").write_text(json.dumps(content))
    (here / "run" / "model.safetensors").write_bytes((run / "model.safetensors").read_bytes())
    assert call("evaluate run") == 2
    assert "The data are not those of the run 'run'" in capsys.readouterr().err


def test_evaluate_refuses_weights_of_another_run(run, data, here, capsys):
    assert call(f"train {QUICK} --output out --backbone.embedding_dim 4 --data", data) == 0
    (here / "out" / "model.safetensors").write_bytes((run / "model.safetensors").read_bytes())
    assert call("evaluate out") == 2
    assert "The weights in 'out' do not fit its result" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("evaluate nowhere", "'nowhere' is not the output folder of a training run"),
        ("evaluate", "the following arguments are required: run"),
        ("evaluate RUN --k 0", "positive whole number K"),
        ("evaluate RUN --k x", "argument --k: 'x' is not whole numbers"),
        ("evaluate RUN --split tets", "'split' must be one of 'valid', 'test' (got 'tets')"),
        ("evaluate RUN --protocol hold", "Unknown protocol 'hold'; did you mean 'holdout'?"),
        ("evaluate RUN --jsn", "Unknown flag '--jsn'; did you mean '--json'?"),
        ("evaluate RUN more", "Unexpected argument 'more'"),
    ],
)
def test_mistakes_in_evaluating_get_one_line(run, capsys, line, message):
    assert main([str(run) if word == "RUN" else word for word in line.split()]) == 2
    out, err = capsys.readouterr()
    assert out == "" and message in err and "Traceback" not in err
