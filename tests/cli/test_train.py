"""``pyg-bsl train``, in process but for what needs a process of its own."""

import json
import logging
import re
import time

import pytest
import torch

from pyg_bsl.training.checkpoint import load_run
from tests.cli.commands import QUICK, call, command, read
from tests.planted import pairs, write_folder
from tests.training.test_result import KEYS


def test_a_run_leaves_a_result_with_everything_in_it(run):
    content, weights = load_run(run)
    assert KEYS <= content.keys()
    assert content["seconds"].keys() == {"load", "train", "evaluate", "total"}
    assert content["metrics"].keys() == {"valid", "test"}
    assert {"recall@5", "ndcg@10"} <= content["metrics"]["test"].keys()
    assert (content["status"], content["epochs_run"], content["seed"]) == ("finished", 3, 4)
    assert (content["num_users"], content["num_items"]) == (24, 20)
    assert content["num_train"] == len(pairs()["train"])
    assert content["protocol"] == "holdout" and content["data"]["name"] == "own"
    config = content["config"]
    assert config["loss"] == {"name": "BSL", "tau1": 0.5, "tau2": 0.4, "weight": None}
    assert config["backbone"]["embedding_dim"] == 8
    assert weights["user_embedding"].shape == (24, 8)


def test_the_metrics_are_printed(data, here, capsys):
    assert call(f"train {QUICK} --output out --data", data) == 0
    out, err = capsys.readouterr()
    metrics = read("out")["metrics"]
    assert "own, protocol holdout, epoch" in out and "Saved in out" in out
    for name, value in metrics["test"].items():
        line = next(line for line in out.splitlines() if line.split()[:1] == [name])
        assert line.split()[1:] == [f"{metrics['valid'][name]:.4f}", f"{value:.4f}"]
    assert "epoch/s" not in err  # quiet
    assert sorted(path.name for path in here.iterdir()) == ["out"]


def test_a_bar_shows_the_progress(data, here, capsys):
    line = QUICK.replace("--quiet", "")
    assert call(f"train {line} --output out --data", data) == 0
    assert "SL MF own seed=0:" in capsys.readouterr().err


def test_every_run_gets_a_folder_of_its_own(data, here):
    for _ in range(2):
        assert call(f"train {QUICK} --epochs 1 --loss BPR --data", data) == 0
    folders = list((here / "outputs").iterdir())
    assert len(folders) == 2
    for folder in folders:
        assert folder.name.startswith("own-MF-BPR-")
        assert read(folder)["status"] == "finished"


@pytest.mark.parametrize("from_result", [True, False])
def test_a_configuration_gives_the_same_metrics_to_the_bit(run, here, from_result):
    file = run / "result.json"
    if not from_result:  # the bare configuration
        file = here / "config.json"
        file.write_text(json.dumps(read(run)["config"]))
    assert call("train --no-tracking --quiet --output again --config", file) == 0
    before, after = read(run), read("again")
    assert after["metrics"] == before["metrics"]
    assert after["config"] == before["config"]
    assert [r["loss"] for r in after["history"]] == [r["loss"] for r in before["history"]]


def test_a_toml_file_sets_what_flags_do_and_flags_go_before_it(data, here):
    (here / "a.toml").write_text(
        f"""
        data = '{data}'
        backbone = "LightGCN"
        epochs = 2
        seed = 3
        [loss]
        name = "PSL"
        tau = 0.25
        [sampler]
        name = "Uniform"
        num_negatives = 4
        [trainer]
        k = [5]
        metric = "ndcg@5"
        lr = 0.05
        """
    )
    flags = "--loss.activation tanh --lr 0.02 --epochs 1 --backbone.num_layers 1"
    assert call(f"train --no-tracking --quiet --config a.toml --output out {flags}") == 0
    config = read("out")["config"]
    assert config["backbone"] | {"name": "LightGCN", "num_layers": 1} == config["backbone"]
    assert config["loss"].items() >= {"name": "PSL", "tau": 0.25, "activation": "tanh"}.items()
    assert config["sampler"] == {"name": "Uniform", "num_negatives": 4, "avoid_seen": True}
    assert (config["trainer"]["lr"], config["trainer"]["k"]) == (0.02, [5])
    assert (config["epochs"], config["seed"]) == (1, 3)


def test_another_part_than_the_files_takes_none_of_its_arguments(run, here):
    line = "train --no-tracking --quiet --output out --loss SL --epochs 1 --config"
    assert call(line, run / "result.json") == 0
    assert read("out")["config"]["loss"] == {"name": "SL", "tau": 0.1, "include_positive": False}
    line = "train --no-tracking --quiet --output out --loss BSL --epochs 1 --config"
    assert call(line, run / "result.json") == 0
    assert read("out")["config"]["loss"] == read(run)["config"]["loss"]


def test_a_result_tells_what_was_asked_for(run):
    content = read(run)
    assert content["asked"]["sampler"] is None and "lr" not in content["asked"]["trainer"]
    assert content["asked"]["loss"] == {"name": "BSL", "tau1": 0.5, "tau2": 0.4}
    assert content["config"]["sampler"]["name"] == "AllItems"
    assert content["config"]["trainer"]["lr"] == 0.1


@pytest.mark.parametrize("bare", [False, True])
def test_what_was_chosen_for_one_loss_is_chosen_anew_for_another(run, here, bare):
    file = run / "result.json"
    if bare:  # a configuration that says everything is what was asked for
        file = here / "config.json"
        file.write_text(json.dumps(read(run)["config"]))
    assert call("train --no-tracking --quiet --output out --loss BPR --config", file) == 0
    config = read("out")["config"]
    assert config["sampler"]["name"] == ("AllItems" if bare else "Shared")
    assert config["trainer"]["similarity"] == ("cosine" if bare else "dot")
    assert config["trainer"]["lr"] == (0.1 if bare else 0.01)
    kept = {"epochs": 3, "seed": 4}
    assert kept.items() <= config.items() and config["backbone"]["embedding_dim"] == 8
    assert config["trainer"]["k"] == [5, 10]


def test_a_flag_that_names_no_other_part_leaves_the_rest_as_it_was_chosen(run, here):
    line = "train --no-tracking --quiet --output out --loss BSL --loss.tau2 0.3 --epochs 1 --config"
    assert call(line, run / "result.json") == 0
    before, after = read(run)["config"], read("out")["config"]
    assert after["trainer"] == before["trainer"] and after["sampler"] == before["sampler"]
    assert after["loss"] == before["loss"] | {"tau2": 0.3}


@pytest.fixture(scope="module")
def plain(data, tmp_path_factory):
    """The result of a run with nothing but defaults."""
    output = tmp_path_factory.mktemp("runs") / "plain"
    assert call(f"train {QUICK} --epochs 1 --loss BSL --output", output, "--data", data) == 0
    return output / "result.json"


@pytest.mark.parametrize(
    ("flags", "loss", "trainer"),
    [
        ("--loss.tau2 0.2", {"tau1": 0.1, "tau2": 0.2, "weight": None}, {"similarity": "cosine"}),
        (
            "--similarity dot",
            {"tau2": 0.1},
            {"similarity": "dot", "rank_by": "dot", "unit_norm": False, "lr": 0.01},
        ),
        ("--similarity dot --lr 0.1", {}, {"rank_by": "dot", "lr": 0.1}),
        ("--seed 0 --lr 0.1", {}, {"similarity": "cosine", "lr": 0.1}),
        ("--seed 5", {"tau1": 0.1}, {"rank_by": "cosine", "unit_norm": True, "lr": 0.1}),
    ],
)
def test_what_goes_with_a_changed_flag_is_chosen_anew(plain, here, flags, loss, trainer):
    assert call(f"train --no-tracking --quiet --output out {flags} --config", plain) == 0
    config = read("out")["config"]
    assert config["loss"] | loss == config["loss"]
    assert config["trainer"] | trainer == config["trainer"]
    assert config["sampler"]["name"] == "AllItems" and config["epochs"] == 1


def test_an_argument_of_a_part_that_was_chosen_goes_to_that_part(plain, here):
    line = "train --no-tracking --quiet --output out --sampler.power 0.5 --config"
    assert call(line, plain) == 0
    assert read("out")["config"]["sampler"] == {
        "name": "AllItems",
        "avoid_seen": True,
        "power": 0.5,
    }


def test_a_flag_names_other_data_than_the_file(run, here):
    write_folder(here / "mine")
    assert (
        call("train --no-tracking --quiet --output out --data mine --config", run / "result.json")
        == 0
    )
    content = read("out")
    assert content["config"]["data"] == str(here / "mine")  # to be found from any folder
    assert content["data"]["name"] == "mine"


def test_columns_are_positions_or_names(here):
    rows = "".join(f"{item},{user},x\n" for user, item in pairs()["train"])
    (here / "log.csv").write_text("film,person,note\n" + rows)
    flags = "--files.user 1 --files.item film --files.split random --files.name films"
    assert call(f"train {QUICK} --output out --data log.csv {flags}") == 0
    content = read("out")
    assert (content["num_users"], content["num_items"]) == (24, 20)
    assert content["data"]["name"] == "films"
    assert content["config"]["files"] == {
        "split": "random",
        "user": 1,
        "item": "film",
        "name": "films",
    }
    assert call("evaluate out --json") == 0


def test_threads_are_set(data, here):
    torch.set_num_threads(1)
    assert call(f"train {QUICK} --threads 3 --output out --data", data) == 0
    assert torch.get_num_threads() == 3
    assert read("out")["machine"]["threads"] == 3


def test_data_without_test_pairs_give_validation_metrics_alone(here, capsys):
    rows = "".join(f"{user} {item}\n" for user, item in pairs()["train"])
    (here / "log.txt").write_text(rows)
    assert call(f"train {QUICK} --output out --data log.txt") == 0
    assert read("out")["metrics"].keys() == {"valid"}
    assert call(f"train {QUICK} --output out --data log.txt --protocol psl-ood") == 0
    assert read("out")["metrics"] == {}
    assert "no validation or test pairs to measure on" in capsys.readouterr().out


def test_popularity_runs_and_reads_back(data, here, capsys):
    assert call(f"train {QUICK} --backbone Popularity --output out --data", data) == 0
    capsys.readouterr()
    assert call("evaluate out --json") == 0
    assert json.loads(capsys.readouterr().out) == read("out")["metrics"]["test"]


def test_a_name_with_brackets_is_printed_as_it_is(here, capsys):
    write_folder(here / "[bold]")
    assert call(f"train {QUICK} --output out --data [bold]") == 0
    assert "[bold], protocol holdout" in capsys.readouterr().out


def test_a_run_is_tracked_and_the_line_to_look_at_it_is_printed(data, here, capsys):
    line = QUICK.replace("--no-tracking", "--store runs")
    assert call(f"train {line} --output out --data", data) == 0
    printed = capsys.readouterr().out.splitlines()[-1]
    assert printed == "Browse runs: pyg-bsl ui --store runs"
    assert sorted(path.name for path in here.iterdir()) == ["out", "runs"]

    from mlflow import MlflowClient

    client = MlflowClient(f"sqlite:///{here}/runs/mlflow.db")
    experiment = client.get_experiment_by_name("own")
    (tracked,) = client.search_runs([experiment.experiment_id])
    assert tracked.info.status == "FINISHED"
    assert tracked.data.params["loss.tau"] == "0.1" and tracked.data.params["seed"] == "0"
    assert "trainer.seed" not in tracked.data.params
    test = read("out")["metrics"]["test"]
    assert tracked.data.metrics["test/ndcg_5"] == pytest.approx(test["ndcg@5"])


def test_a_store_that_cannot_be_used_is_told_before_training(data, here, capsys):
    (here / "runs").write_text("in the way")
    line = QUICK.replace("--no-tracking", "--store runs")
    assert call(f"train {line} --output out --data", data) == 1
    err = capsys.readouterr().err
    assert "cannot be used" in err and "switch tracking off" in err and "Traceback" not in err
    assert not (here / "out").exists()


# Help


@pytest.mark.parametrize(
    ("line", "there", "not_there"),
    [
        ("train", "--loss.tau FLOAT|--loss.include_positive|loss SL|backbone MF", "--loss.tau1"),
        ("train --loss BSL", "--loss.tau1 FLOAT|--loss.tau2|loss BSL", "--loss.tau FLOAT"),
        ("train --loss BPR", "--loss LOSS", "--loss."),
        ("train --backbone NGCF", "--backbone.node_dropout FLOAT|--backbone.num_layers INT", "!"),
        ("train --sampler Uniform", "sampler Uniform|--sampler.num_negatives INT", "!"),
        ("train", "--batch-size INT|--lr FLOAT|--k INT,INT,...|--device STR|--patience INT", "!"),
        ("train", "--files.user INT|STR|--files.split STR|--no-tracking|--config|--output", "!"),
        ("train", "[40]|[10,20]|[that of the data set; one of holdout, psl-iid,", "None]"),
        ("evaluate", "--k INT,INT,...|--protocol STR|--json|[that of the run]", "--lr"),
        ("datasets", "List the data sets.", "--lr"),
    ],
)
def test_help_lists_the_flags_of_the_parts_that_were_chosen(capsys, line, there, not_there):
    assert call(f"{line} --help") == 0
    out, err = capsys.readouterr()
    out = " ".join(out.split())
    for text in there.replace("INT|STR", "INT STR").split("|"):
        assert text in out.replace("INT|STR", "INT STR")
    assert not_there not in out.replace("--no-loss.", "")
    assert err == ""


def test_help_looks_the_same_with_a_file_that_chooses_the_parts(here, capsys):
    (here / "a.json").write_text('{"loss": "PSL", "backbone": {"name": "LightGCN"}}')
    assert call("train --config a.json --help") == 0
    out = capsys.readouterr().out
    assert "loss PSL:" in out and "backbone LightGCN:" in out


# Interrupts


def test_ctrl_c_keeps_what_there_is(data, here, capsys, monkeypatch):
    from pyg_bsl.training.checkpoint import Checkpoint

    write = Checkpoint.on_epoch_end

    def interrupt(self, trainer, record):
        write(self, trainer, record)
        if record.epoch == 2:
            raise KeyboardInterrupt

    monkeypatch.setattr(Checkpoint, "on_epoch_end", interrupt)
    assert call(f"train {QUICK} --output out --data", data) == 130
    assert "Interrupted: what was finished is kept in" in capsys.readouterr().err
    content, weights = load_run("out")
    assert (content["status"], content["epochs_run"], content["best_epoch"]) == (
        "interrupted",
        2,
        2,
    )
    assert weights


def test_sigterm_of_a_real_process_is_an_interrupt(data, tmp_path):
    output = tmp_path / "out"
    child = command(
        *("train", "--data", data, "--output", output, "--no-tracking", "--quiet"),
        *("--epochs", 10**6, "--eval-every", 1),
    )
    patience = time.monotonic() + 60
    try:
        while not (output / "model.safetensors").exists():
            assert child.poll() is None and time.monotonic() < patience
            time.sleep(0.02)
        child.terminate()
        out, err = child.communicate(timeout=30)
    finally:
        child.kill()
    assert child.returncode == 143, err
    assert out == "" and "Traceback" not in err
    content, weights = load_run(output)
    assert content["status"] == "interrupted" and content["best_epoch"] >= 1
    assert content["metrics"]["valid"] and weights


# Mistakes: one clear line, status 2, nothing written, no data looked for

MISTAKES = [
    ("tran --data x", "Unknown command 'tran'; did you mean 'train'? Choices: train, evaluate, "),
    ("--loss SL", "Unknown command '--loss'"),
    ("train", "Say what to train on: --dataset NAME (see pyg-bsl datasets) or --data FOLDER"),
    ("train --data x --dataset gowalla", "Give one of --dataset and --data, not both"),
    ("train --dataset gowala", "Unknown data set 'gowala'; did you mean 'gowalla'? Choices: amaz"),
    ("train --data x --loss bls", "Unknown loss 'bls'; did you mean 'BSL'? Choices: Adv"),
    ("train --data x --backbone LGCN", "Unknown backbone 'LGCN'; did you mean 'LightGCN'?"),
    ("train --data x --sampler Uni", "Unknown sampler 'Uni'; did you mean 'Uniform'?"),
    ("train --data x --los SL", "Unknown flag '--los'; did you mean '--loss'? Choices: --"),
    ("train --data x --loss.tua 1", "Unknown flag '--loss.tua'; did you mean '--loss.tau'?"),
    ("train --data x --loss BPR --loss.tau 1", "Unknown flag '--loss.tau'"),
    ("train --data x --batchsize 3", "Unknown flag '--batchsize'; did you mean '--batch-size'?"),
    ("train --data x --sampler.num_negatives 3", "Unknown flag '--sampler.num_negatives'"),
    ("train --data x extra", "Unexpected argument 'extra'"),
    ("train --data", "argument --data: expected one argument"),
    ("train --data x --loss", "argument --loss: expected one argument"),
    ("train --data x --loss.tau -1", "'tau' must be positive and finite (got -1.0)"),
    ("train --data x --loss.tau nan", "'tau' must be positive and finite (got nan)"),
    ("train --data x --loss.tau abc", "argument --loss.tau: invalid float value: 'abc'"),
    ("train --data x --loss PSL --loss.activation rel", "argument --loss.activation: invalid choi"),
    ("train --data x --backbone.dropout 1", "'dropout' must be in [0, 1) (got 1.0)"),
    (
        "train --data x --backbone.embedding_dim 0",
        "'embedding_dim' must be a whole number of at least 1 (got 0)",
    ),
    ("train --data x --backbone.init_std nan --backbone.init normal", "'init_std' must be positi"),
    ("train --data x --sampler Shared --sampler.num_negatives 0", "'num_negatives' must be a whol"),
    ("train --data x --epochs 0", "'epochs' must be at least 1 (got 0)"),
    ("train --data x --epochs 1.5", "argument --epochs: invalid int value: '1.5'"),
    ("train --data x --lr nan", "'lr' must be above 0 and finite (got nan)"),
    ("train --data x --lr 0", "'lr' must be above 0 and finite (got 0.0)"),
    ("train --data x --batch-size 0", "'batch_size' must be a whole number of at least 1 (got 0)"),
    ("train --data x --k 0", "'k' must be a whole number of at least 1 (got 0)"),
    ("train --data x --k 5,x", "argument --k: '5,x' is not whole numbers with commas"),
    ("train --data x --metric ndcg", "A metric is written 'name@K'"),
    ("train --data x --metric ndgc@5", "Unknown metric 'ndgc'; did you mean 'ndcg'?"),
    ("train --data x --protocol hold", "Unknown protocol 'hold'; did you mean 'holdout'?"),
    ("train --data x --seed -1", "'seed' must be at least 0 and below 2**63 (got -1)"),
    ("train --data x --threads 0", "--threads must be from 1 to 1024 (got 0)"),
    ("train --data x --threads 99999999999", "--threads must be from 1 to 1024 (got 99999999999)"),
    ("train --data x --device gpu", "'device' cannot be 'gpu' here"),
    ("train --data x --config nowhere.json", "There is no configuration file 'nowhere.json'"),
    ("train --dataset gowalla --files.split random", "'files' tell how to read one's own 'data'"),
    ("train --data x --files.splt random", "Unknown flag '--files.splt'; did you mean '--files.s"),
    ("train --data x --no-tracking", "x: there is no such file or folder"),
    ("datasets --all", "Unknown flag '--all'"),
    ("datasets all", "Unexpected argument 'all'"),
]


@pytest.mark.parametrize(("line", "message"), MISTAKES, ids=[line for line, _ in MISTAKES])
def test_mistakes_get_one_clear_line(here, capsys, line, message):
    assert call(line) == 2
    out, err = capsys.readouterr()
    assert out == ""
    first, *rest = err.splitlines()
    assert re.match(r"pyg-bsl( \w+)?: error: ", first) and message in first
    assert len(rest) <= 1 and all(line.startswith("(see pyg-bsl ") for line in rest)
    assert list(here.iterdir()) == []


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "The configuration file 'c.json' cannot be read"),
        ("[1]", "The configuration file 'c.json' must hold one table of settings"),
        ('{"config": 3}', "The configuration file 'c.json' must hold one table of settings"),
        ('{"los": "SL"}', "Unknown entry 'los' in the configuration; did you mean 'loss'?"),
        ('{"loss": "bls"}', "Unknown loss 'bls'; did you mean 'BSL'?"),
        ('{"loss": 3}', "'loss' in the configuration must be a name, or a table"),
        ('{"loss": {"name": []}}', "'loss' in the configuration must be a name, or a table"),
        ('{"loss": {"tau": "x"}}', "'tau' must be float (got 'x')"),
        ('{"loss": {"tua": 1}}', "SL has no argument 'tua'; did you mean 'tau'?"),
        ('{"epochs": "4"}', "'epochs' must be int (got '4')"),
        ('{"epochs": 4.5}', "'epochs' must be int (got 4.5)"),
        ('{"seed": null}', "'seed' must be int (got None)"),
        ('{"trainer": {"lr": "x"}}', "'lr' must be float | None (got 'x')"),
        ('{"trainer": {"lr": NaN}}', "'lr' must be above 0 and finite (got nan)"),
        ('{"trainer": {"device": "gpu"}}', "'device' cannot be 'gpu' here"),
        ('{"trainer": {"seed": 1}}', "Trainer has no argument 'seed'"),
        ('{"trainer": 3}', "'trainer' in the configuration must be a table (got 3)"),
        ('{"files": {"splt": 1}}', "from_files has no argument 'splt'; did you mean 'split'?"),
        ('{"files": "x"}', "'files' in the configuration must be a table (got 'x')"),
    ],
)
def test_mistakes_in_a_file_get_one_clear_line(here, capsys, text, message):
    (here / "c.json").write_text(text)
    assert call("train --data x --config c.json") == 2
    out, err = capsys.readouterr()
    assert out == "" and err.startswith("pyg-bsl: error: ") and len(err.splitlines()) == 1
    assert message in err
    assert [path.name for path in here.iterdir()] == ["c.json"]


def test_a_file_that_is_no_text(here, capsys):
    (here / "c.json").write_bytes(b"\xff\x00")
    assert call("train --data x --config c.json") == 2
    assert "The configuration file 'c.json' cannot be read: " in capsys.readouterr().err


def test_a_toml_mistake_names_the_line(here, capsys):
    (here / "c.toml").write_text('epochs = 3\nloss = "SL\n')
    assert call("train --data x --config c.toml") == 2
    assert "The configuration file 'c.toml' cannot be read: " in capsys.readouterr().err


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_gpu_that_is_not_there(here, capsys):
    assert call("train --data x --device cuda") == 2
    assert "'device' cannot be 'cuda' here: " in capsys.readouterr().err


# Failures of the run: one clear line, status 1


def test_an_output_folder_that_cannot_be_written_to(data, here, capsys):
    (here / "file").write_text("in the way")
    assert call(f"train {QUICK} --output file --data", data) == 1
    err = capsys.readouterr().err
    assert "pyg-bsl: error: Cannot write into the output folder 'file'" in err
    assert "Traceback" not in err


def test_a_loss_that_is_not_finite_fails_the_run(data, here, capsys):
    flags = "--loss MSE --similarity dot --lr 1e38"
    assert call(f"train {QUICK} {flags} --output out --data", data) == 1
    err = capsys.readouterr().err
    assert "at epoch 1, step" in err and "the learning rate (1e+38) is too high" in err
    assert len(err.strip().splitlines()) <= 5 and "Traceback" not in err
    assert read("out")["status"] == "failed"
    assert call("evaluate out") == 2
    err = capsys.readouterr().err
    assert "The run in 'out' has no weights (model.safetensors): its status is 'failed'" in err


def test_no_memory_is_told(data, here, capsys):
    flags = "--backbone.embedding_dim 1000000000000000"
    assert call(f"train {QUICK} {flags} --data", data) == 1
    assert "out of memory: make the batch or the embeddings smaller" in capsys.readouterr().err


def test_a_bug_is_not_hidden(data, here, monkeypatch):
    from pyg_bsl.experiment import Experiment

    def broken(self):
        raise RuntimeError("a bug")

    monkeypatch.setattr(Experiment, "load", broken)
    with pytest.raises(RuntimeError, match="a bug"):
        call(f"train {QUICK} --data", data)


def test_a_result_that_could_not_be_written_is_printed_and_fails_the_command(
    data, here, capsys, monkeypatch
):
    from pyg_bsl.training import checkpoint

    def full(self, name, content):
        logging.getLogger("pyg_bsl").warning("Could not write '%s'", name)
        return False

    monkeypatch.setattr(checkpoint.Checkpoint, "_try", full)
    assert call(f"train {QUICK} --output out --data", data) == 1
    out, err = capsys.readouterr()
    assert "The result that could not be saved: " in err
    assert "ndcg@5" in out
