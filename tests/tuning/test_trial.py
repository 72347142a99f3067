"""A training of a study: what it tells, when it is ended, what it measures beside the trainer."""

import math

import optuna
import pytest
import torch

from pyg_bsl.training import Callback
from pyg_bsl.tuning.plan import Plan
from pyg_bsl.tuning.trial import Graphs, Watch, kept, run_trial, tail, tail_ndcg, train
from pyg_bsl.tuning.work import Pruned
from tests.planted import planted
from tests.tuning.studies import SPACE, experiment, plan

VALUES = {"loss.tau": 0.5, "trainer.lr": 0.1}


def no_callbacks(values, seed, phase):
    return []


def ask(pruner=None):
    study = optuna.create_study(direction="maximize", pruner=pruner)
    study.enqueue_trial(VALUES)
    return study.ask()


class Always(optuna.pruners.BasePruner):
    def prune(self, study, trial):
        return trial.last_step >= 4


@pytest.fixture(scope="module")
def mine(data):
    return plan(data, "store")


@pytest.fixture(scope="module")
def graphs(mine):
    return Graphs(mine.experiment)


def test_data_are_loaded_once_a_seed(mine, monkeypatch):
    from pyg_bsl.experiment import Experiment

    loaded = []
    load = Experiment.load
    monkeypatch.setattr(Experiment, "load", lambda self: loaded.append(self.seed) or load(self))
    graphs = Graphs(mine.experiment)
    for seed in (0, 1, 0, 1):
        train(mine, graphs, VALUES, seed, Watch(None, ()))
    assert loaded == [0, 1]


def test_a_trial_is_what_an_experiment_with_its_values_is(mine, graphs, data):
    trial = ask(optuna.pruners.NopPruner())
    (value,) = run_trial(mine, graphs, trial, no_callbacks)
    alone = experiment(
        data,
        loss_args={"tau": 0.5},
        trainer_args={**mine.experiment.trainer_args, "lr": 0.1},
    ).run()
    assert value == alone.metrics["valid"]["ndcg@5"]
    assert trial.user_attrs["kept"][0]["test"] == alone.metrics["test"]
    reported = trial.study.trials[0].intermediate_values
    so_far = torch.tensor([record.valid["ndcg@5"] for record in alone.history]).cummax(0)[0]
    assert list(reported) == [2, 4, 6, 8, 10]  # five epochs, in tenths
    assert list(reported.values()) == pytest.approx(so_far.tolist())


def test_the_mean_over_seeds_counts(data, graphs):
    mine = plan(data, "store", seeds=3)
    (value,) = run_trial(mine, graphs, ask(), no_callbacks)
    each = [
        train(mine, graphs, VALUES, seed, Watch(None, ())).metrics["valid"]["ndcg@5"]
        for seed in range(3)
    ]
    assert len(set(each)) == 3 and value == pytest.approx(sum(each) / 3)


def test_a_pruned_training_says_so_and_goes_no_further(mine, graphs):
    seen = []

    class Look(Callback):
        def on_fit_end(self, trainer, result):
            seen.append((result.status, result.epochs_run))

    trial = ask(Always())
    with pytest.raises(Pruned):
        run_trial(mine, graphs, trial, lambda values, seed, phase: [Look()])
    assert seen == [("pruned", 2)]
    assert trial.user_attrs["kept"][0]["status"] == "pruned"


def test_data_without_validation_pairs_are_refused(tmp_path):
    (tmp_path / "log.txt").write_text("a x\na y\nb x\nb y\n")
    alone = experiment(tmp_path / "log.txt", trainer_args={"k": (5,), "protocol": "psl-ood"})
    mine = Plan(experiment=alone, space=SPACE)
    with pytest.raises(ValueError, match="no validation pairs: a study needs some"):
        train(mine, Graphs(alone), {}, 0, Watch(None, ()))


def test_several_objectives(data, graphs):
    mine = plan(data, "store", also=["tail_ndcg@3", "recall@4", "seconds"])
    trial = ask()
    values = run_trial(mine, graphs, trial, no_callbacks)
    valid = trial.user_attrs["kept"][0]["valid"]
    assert values[:3] == [valid["ndcg@5"], valid["tail_ndcg@3"], valid["recall@4"]]
    assert values[3] > 0


def test_the_tail_is_what_is_outside_four_fifths_of_the_pairs():
    counts = torch.tensor([1, 50, 9, 30, 10])
    assert tail(counts).tolist() == [True, False, True, False, True]


def test_ndcg_on_the_tail_by_hand(mine, graphs):
    k, graph = 5, planted()
    trainer = mine.experiment.build(graph)
    trainer.backbone.similarity = "cosine"
    emb = trainer.backbone.eval()(graph).detach()
    scores = torch.nn.functional.normalize(emb.user) @ torch.nn.functional.normalize(emb.item).t()
    in_tail, values = tail(graph.train.item_counts).tolist(), []
    for user in range(graph.num_users):
        seen = set(graph.train.items[graph.train.users == user].tolist())
        wanted = [i for i in graph.valid.items[graph.valid.users == user].tolist() if in_tail[i]]
        order = sorted(set(range(graph.num_items)) - seen, key=lambda i: -scores[user, i].item())
        if wanted:
            gain = sum(1 / math.log2(r + 2) for r, i in enumerate(order[:k]) if i in wanted)
            values.append(gain / sum(1 / math.log2(r + 2) for r in range(min(k, len(wanted)))))
    assert 0 < len(values) < graph.num_users
    assert tail_ndcg(trainer, graph, k) == pytest.approx(sum(values) / len(values))


def test_what_is_kept_is_plain(mine, graphs):
    result = train(mine, graphs, VALUES, 3, Watch(None, ()))
    (row,) = kept([result])
    assert (row["seed"], row["status"], row["epochs_run"]) == (3, "finished", 5)
    assert row["valid"] == result.metrics["valid"] and row["test"] == result.metrics["test"]
