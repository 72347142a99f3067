"""Small studies on the planted graph."""

from pyg_bsl.experiment import Experiment
from pyg_bsl.space import Choice, LogUniform
from pyg_bsl.tuning.plan import Plan
from pyg_bsl.tuning.storage import Storage, storage_url

QUICK = {"k": (5,), "metric": "ndcg@5", "eval_every": 1}
SPACE = {"loss.tau": LogUniform(0.1, 1.0), "trainer.lr": Choice((0.01, 0.1, 0.3))}


def experiment(data, **changes):
    arguments = {"backbone_args": {"embedding_dim": 4}, "epochs": 5, "trainer_args": QUICK}
    return Experiment(**{"data": str(data), **arguments, **changes})


def plan(data, store, **changes):
    arguments = {"study": "s", "trials": 3, "space": SPACE, "finalists": 1, "tracking": False}
    return Plan(experiment=experiment(data), store=store, **{**arguments, **changes})


def storage(store):
    return Storage.open(storage_url(store, None))
