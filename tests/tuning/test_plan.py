"""Plans: what is refused before anything runs."""

import pytest

from pyg_bsl.experiment import Experiment
from pyg_bsl.space import Choice, LogUniform
from pyg_bsl.tuning.plan import Plan
from tests.tuning.studies import QUICK, SPACE, experiment, plan

CHOICES = {"loss.tau": Choice((0.1, 0.2)), "epochs": Choice((1, 2, 3))}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"trials": 0}, "'trials' must be a whole number of at least 1 (got 0)"),
        ({"seeds": 0}, "'seeds' must be a whole number of at least 1 (got 0)"),
        ({"algorithm": "tep"}, "Unknown algorithm 'tep'; did you mean 'tpe'?"),
        ({"pruner": "mean"}, "Unknown pruner 'mean'; did you mean 'median'?"),
        ({"also": ["ndgc@5"]}, "Unknown metric 'ndgc'; did you mean 'ndcg'?"),
        ({"also": ["tail_ndcg@x"]}, "A metric is written 'name@K'"),
        ({"also": ["ndcg@5"]}, "'also' names an objective twice"),
        ({"also": ["average_popularity@5"]}, "can be no objective"),
        ({"also": ["seconds"], "pruner": "median"}, "'pruner' must be 'none' (got 'median')"),
        ({"algorithm": "grid"}, "'loss.tau' is a range: give choices"),
        ({"space": {}}, "There is nothing to tune"),
        (
            {"algorithm": "grid", "space": CHOICES, "trials": 7},
            "The grid has 6 points: 'trials' must be at most that (got 7)",
        ),
    ],
)
def test_mistakes_are_told_before_anything_runs(tmp_path, changes, message):
    with pytest.raises(ValueError) as error:
        plan("nowhere", tmp_path / "store", **changes)
    assert message in str(error.value)
    assert not (tmp_path / "store").exists()


def test_a_study_is_not_decided_on_test_data_unawares():
    with pytest.raises(
        ValueError, match="'bsl-released' of the data set 'yelp2018' chooses on the"
    ):
        Plan(experiment=Experiment("yelp2018"))
    for protocol in ("holdout", "bsl-released"):
        Plan(experiment=Experiment("yelp2018", trainer_args={"protocol": protocol}))


def test_what_is_not_given_is_chosen():
    mine = Plan(experiment=Experiment("movielens-small", loss="BSL"))
    assert mine.study == "movielens-small MF BSL"
    assert (mine.num_trials, mine.pruning, mine.metric) == (30, "median", "ndcg@20")
    assert Plan(experiment=mine.experiment, space=CHOICES_BSL, algorithm="grid").num_trials == 4
    assert Plan(experiment=mine.experiment, also=["seconds"]).pruning == "none"


CHOICES_BSL = {"loss.tau2": Choice((0.1, 0.2)), "epochs": Choice((1, 2))}


def test_objectives_have_directions():
    mine = plan("x", "store", also=["tail_ndcg@10", "recall@7", "seconds"])
    assert mine.directions == {
        "ndcg@5": "maximize",
        "tail_ndcg@10": "maximize",
        "recall@7": "maximize",
        "seconds": "minimize",
    }
    assert mine.experiment_measured.trainer_args["k"] == (5, 7, 10)


def test_finals_are_on_fresh_seeds():
    mine = plan("x", "store", seeds=2, final_seeds=3)
    assert list(mine.final_numbers) == [2, 3, 4]


@pytest.mark.parametrize(
    ("changes", "same"),
    [
        ({}, True),
        ({"trials": 9, "algorithm": "random", "pruner": "none", "finalists": 2}, True),
        ({"experiment": experiment("elsewhere/x")}, True),  # the digest is compared
        ({"experiment": experiment("x", trainer_args={**QUICK, "device": "cpu"})}, True),
        ({"experiment": experiment("x", loss="PSL")}, False),
        ({"experiment": experiment("x", seed=1)}, False),
        ({"experiment": experiment("x", trainer_args={**QUICK, "metric": "ndcg@3"})}, False),
        ({"experiment": experiment("x", trainer_args={**QUICK, "protocol": "psl-iid"})}, False),
        ({"space": {**SPACE, "loss.tau": LogUniform(0.1, 2.0)}}, False),
        ({"seeds": 2}, False),
    ],
)
def test_trials_of_one_study_have_this_in_common(changes, same):
    first = plan("x", "store")
    other = Plan(**{"experiment": first.experiment, "study": "s", "space": SPACE, **changes})
    assert (other.identity() == first.identity()) == same
