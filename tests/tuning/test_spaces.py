"""Spaces: what there is to tune, how it is written, what is refused."""

import pytest

from pyg_bsl.experiment import Experiment
from pyg_bsl.losses import LOSSES
from pyg_bsl.nn import BACKBONES
from pyg_bsl.space import Choice, Integer, LogUniform, Uniform
from pyg_bsl.tuning.spaces import (
    check_space,
    default_space,
    from_data,
    grid,
    parse_fix,
    parse_space,
    shown,
    suggest_values,
    with_values,
)
from tests.tuning.studies import SPACE

BASE = Experiment("movielens-small", loss="PSL", backbone="LightGCN", sampler="Shared")


@pytest.mark.parametrize("loss", LOSSES)
def test_every_default_space_is_good_to_its_ends(loss):
    experiment = Experiment("movielens-small", loss=loss)
    space = default_space(experiment)
    assert check_space(space, experiment) == space
    assert {"trainer.lr", "trainer.weight_decay", "epochs"} <= space.keys()
    assert {f"loss.{name}" for name in LOSSES[loss].search_space} <= space.keys()


@pytest.mark.parametrize("backbone", BACKBONES)
def test_every_backbones_space_is_good_to_its_ends(backbone):
    experiment = Experiment("movielens-small", backbone=backbone)
    assert check_space(default_space(experiment), experiment)


def test_what_the_experiment_sets_is_not_tuned():
    experiment = Experiment(
        "movielens-small", loss_args={"tau": 0.1}, trainer_args={"lr": 0.1}, epochs=7
    )
    assert default_space(experiment).keys() == {"backbone.dropout", "trainer.weight_decay"}
    assert default_space(experiment, given={"backbone.dropout"}).keys() == {"trainer.weight_decay"}


@pytest.mark.parametrize(
    ("text", "name", "space"),
    [
        ("loss.tau=0.05:0.5", "loss.tau", Uniform(0.05, 0.5)),
        ("loss.tau=0.05:0.5:log", "loss.tau", LogUniform(0.05, 0.5)),
        ("loss.tau=1:2", "loss.tau", Uniform(1.0, 2.0)),
        ("loss.tau=0.1,1", "loss.tau", Choice((0.1, 1.0))),
        ("loss.activation=relu,tanh", "loss.activation", Choice(("relu", "tanh"))),
        ("backbone.num_layers=1:3", "backbone.num_layers", Integer(1, 3)),
        ("sampler.num_negatives=64,256", "sampler.num_negatives", Choice((64, 256))),
        ("lr=0.01,0.1", "trainer.lr", Choice((0.01, 0.1))),
        ("trainer.lr=none,0.1", "trainer.lr", Choice((None, 0.1))),
        ("batch_size=512,1024", "trainer.batch_size", Choice((512, 1024))),
        ("unit_norm=true,false", "trainer.unit_norm", Choice((True, False))),
        ("schedule=linear,cosine", "trainer.schedule", Choice(("linear", "cosine"))),
        ("epochs=10:60", "epochs", Integer(10, 60)),
    ],
)
def test_a_space_is_written_in_words(text, name, space):
    assert parse_space(text, BASE) == (name, space)
    assert check_space({name: space}, BASE) == {name: space}
    assert [type(v) for v in getattr(parse_space(text, BASE)[1], "values", ())] == [
        type(v) for v in getattr(space, "values", ())
    ]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("loss.tua=1,2", "There is nothing called 'loss.tua' to tune; did you mean 'loss.tau'?"),
        ("tau=1,2", "There is nothing called 'tau' to tune"),
        ("loss.tau", "A space is written NAME=A,B,C"),
        ("loss.tau=", "A space is written NAME=A,B,C"),
        ("loss.tau=a,b", "'a' in 'loss.tau=a,b' must be float"),
        ("loss.tau=1:b", "A range is between two numbers (got 'loss.tau=1:b')"),
        ("loss.tau=1:2:lin", "A range is written LOW:HIGH or LOW:HIGH:log"),
        ("loss.activation=relu,rel", "'rel' in 'loss.activation=relu,rel' must be one of relu, ta"),
        ("epochs=1.5:3", "'epochs' is no real number: give choices"),
        ("epochs=1:30:log", "'epochs' is no real number: give choices"),
        ("loss.activation=1:2", "'loss.activation' is no real number"),
        ("metric=ndcg@5,ndcg@10", "There is nothing called 'metric' to tune"),
    ],
)
def test_mistakes_in_a_space_are_told(text, message):
    with pytest.raises(ValueError) as error:
        parse_space(text, BASE)
    assert message in str(error.value)


@pytest.mark.parametrize(
    ("space", "message"),
    [
        ({}, "There is nothing to tune: give a space"),
        (
            {"loss.tau": Uniform(-0.1, 1)},
            "'loss.tau' ends outside what it may be: 'tau' must be pos",
        ),
        ({"loss.tau": Choice((0.1, 0.0))}, "'tau' must be positive and finite (got 0.0)"),
        ({"loss.tau": Uniform(1, 1)}, "needs a range whose low end is below its high one"),
        ({"trainer.l2": LogUniform(0, 1)}, "on a logarithmic scale must be above 0"),
        ({"loss.tau": Choice((0.1, 0.1))}, "one choice or more, all different"),
        ({"epochs": Integer(0, 3)}, "'epochs' must be at least 1 (got 0)"),
        ({"loss.margin": Uniform(0, 1)}, "There is nothing called 'loss.margin'"),
    ],
)
def test_spaces_with_bad_ends_are_refused(space, message):
    with pytest.raises(ValueError) as error:
        check_space(space, BASE)
    assert message in str(error.value)


def test_a_value_is_held():
    assert parse_fix("loss.tau=0.2", BASE) == ("loss.tau", 0.2)
    assert parse_fix("lr", BASE) == ("trainer.lr", None)


def test_values_go_where_they_belong():
    values = {"loss.tau": 0.2, "backbone.num_layers": 1, "trainer.lr": 0.3, "epochs": 2}
    config = with_values(BASE, values, seed=9).config()
    assert config["loss"] == {"name": "PSL", "tau": 0.2}
    assert config["backbone"] == {"name": "LightGCN", "num_layers": 1}
    assert config["trainer"] == {"lr": 0.3} and (config["epochs"], config["seed"]) == (2, 9)
    assert BASE.config()["loss"] == {"name": "PSL"}


def test_a_grid_has_every_combination_once():
    points = grid({"a": Choice((1, 2, 3)), "b": Integer(1, 4)})
    assert len(points) == 12 == len({tuple(point.values()) for point in points})
    with pytest.raises(ValueError, match="'b' is a range: give choices"):
        grid({"b": Uniform(0, 1)})
    with pytest.raises(ValueError, match="The grid has 1,000,000 points"):
        grid({"a": Integer(1, 1000), "b": Integer(1, 1000)})


def test_trials_stay_inside():
    import optuna

    space = {**SPACE, "epochs": Integer(2, 4), "loss.weight": Uniform(0.5, 1.5)}
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    for _ in range(50):
        values = suggest_values(study.ask(), space)
        assert values.keys() == space.keys()
        assert 0.1 <= values["loss.tau"] <= 1 and values["trainer.lr"] in (0.01, 0.1, 0.3)
        assert values["epochs"] in (2, 3, 4) and 0.5 <= values["loss.weight"] <= 1.5


def test_a_space_survives_being_stored():
    from json import dumps, loads

    from pyg_bsl.tuning.spaces import as_data

    space = {**SPACE, "a": Uniform(0.0, 1.0), "b": Integer(1, 2), "c": Choice((None, "x", True))}
    assert from_data(loads(dumps(as_data(space)))) == space


def test_values_are_shown_short():
    assert shown({"loss.tau": 0.123456, "trainer.lr": 0.1}) == "loss.tau=0.1235 lr=0.1"
