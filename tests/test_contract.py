"""Any loss with any backbone and any sampler, by name."""

import copy
import inspect
import math
from itertools import product
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._pytree import tree_leaves

from pyg_bsl.evaluation import evaluate
from pyg_bsl.losses import LOSSES
from pyg_bsl.nn import BACKBONES, Backbone
from pyg_bsl.sampling import SAMPLERS, BatchLoader
from pyg_bsl.training import Trainer
from pyg_bsl.training.scoring import context, hardest, score
from pyg_bsl.training.trainer import describe
from tests.ops.cases import NoReadBack
from tests.planted import NUM_ITEMS, NUM_USERS, planted


def arguments_of(cls: type) -> list[str]:
    parameters = inspect.signature(cls).parameters.values()
    return [p.name for p in parameters if p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)]


# Contrast is mild for a graph in which the nodes of a cluster are all alike.
SMALL: dict[str, dict[str, Any]] = {
    name: {
        option: value
        for option, value in (("embedding_dim", 8), ("num_layers", 2), ("contrast_weight", 0.02))
        if option in arguments_of(cls)
    }
    for name, cls in BACKBONES.items()
}
# Temperatures for a graph in which half of a user's negatives are what it should be given.
MILD: dict[str, dict[str, Any]] = {
    "SL": {"tau": 0.5},
    "BSL": {"tau1": 0.5, "tau2": 0.5},
    "PSL": {"tau": 0.25},
    "CCL": {"weight": 5.0},
    "AdvInfoNCE": {"tau": 0.5},
    "LLPAUC": {"beta": 0.9},
    "SLatK": {"tau": 0.5, "k": 5},
    "DirectAU": {"gamma": 0.3},
    "BC": {"tau": 0.5},
    "DrRL": {"weight": 2.0, "margin": 0.0},
    "Talos": {"tau": 0.5, "k": 5},
}
# About the NDCG@5 of knowing nothing, and what a training is to add to it.
CHANCE, GAIN = 0.3, 0.1


def any_with_any() -> list[tuple[str, str, str | None]]:
    """Parts of which every two of different kinds meet: all three at once would be too many.

    No sampler is the one that a trainer takes by itself.
    """
    losses, samplers = list(LOSSES), [None, *SAMPLERS]
    return [
        (backbone, losses[j % len(losses)], samplers[(i + j) % len(samplers)])
        for i, backbone in enumerate(BACKBONES)
        for j in range(max(len(losses), len(samplers)))
    ]


ANY_WITH_ANY = pytest.mark.parametrize(("backbone", "loss", "sampler"), any_with_any())

# A value unlike the default for every constructor argument of every part.
OTHER: dict[str, Any] = {
    "embedding_dim": 6,
    "num_layers": 2,
    "init": "normal",
    "init_std": 0.3,
    "dropout": 0.25,
    "node_dropout": 0.15,
    "edge_dropout": 0.35,
    "noise": 0.2,
    "contrast_layer": 2,
    "contrast_weight": 0.4,
    "contrast_tau": 0.5,
    "contrast_size": 7,
    "tau": 0.3,
    "tau1": 0.3,
    "tau2": 0.4,
    "weight": 1.7,
    "include_positive": True,
    "activation": "tanh",
    "temperature": "inside",
    "margin": 0.2,
    "margin_lr": 0.3,
    "tau_weight": 1.5,
    "tau_popularity": 0.2,
    "popularity_dim": 5,
    "k": 3,
    "every": 2,
    "adversary_lr": 0.2,
    "adversary_dim": 6,
    "threshold_lr": 0.2,
    "alpha": 0.3,
    "beta": 0.6,
    "gamma": 0.5,
    "ascent": False,
    "omega": 3.0,
    "sampler": "Shared",
    "num_negatives": 5,
    "avoid_seen": False,
    "drop_hits": False,
    "correct_popularity": True,
    "propagation": "csr",
    "power": 0.5,
    "pool": 9,
    "probability": 0.3,
    "share": 0.25,
    "seed": 3,
}
OTHER_OF: dict[str, dict[str, Any]] = {"BC": {"weight": 0.3}}


def test_any_two_parts_meet() -> None:
    for one, two in ((0, 1), (0, 2), (1, 2)):
        kinds = (BACKBONES, LOSSES, (None, *SAMPLERS))
        met = {(parts[one], parts[two]) for parts in any_with_any()}
        assert met == set(product(kinds[one], kinds[two]))


def new_trainer(backbone: str, loss: str, sampler: str | None, **args: Any) -> Trainer:
    torch.manual_seed(0)
    model = BACKBONES[backbone](NUM_USERS, NUM_ITEMS, **SMALL[backbone])
    chosen = None if sampler is None else SAMPLERS[sampler]()
    return Trainer(model, LOSSES[loss](**MILD.get(loss, {})), chosen, **args)


@torch.no_grad()
def loss_of(trainer: Trainer, backbone: Backbone) -> float:
    """What the loss, as it is by now, says of a backbone on all training pairs at once."""
    graph, seed = planted(), torch.Generator().manual_seed(0)
    batch = next(BatchLoader(graph.train, 10_000, trainer.batch_by).epoch(seed))
    negatives = trainer.sampler.sample(batch, graph.train, seed)
    emb = backbone.eval()(graph)
    negatives = hardest(emb, batch, negatives, trainer.similarity)
    pos, neg = score(emb, batch, negatives, trainer.similarity)
    return float(trainer.loss(pos, neg, **context(emb, batch, negatives, trainer.loss.needs)))


@ANY_WITH_ANY
def test_trains(backbone: str, loss: str, sampler: str | None) -> None:
    trainer = new_trainer(backbone, loss, sampler, lr=0.05, k=5, metric="ndcg@5")
    trainer.batch_size = 40 if trainer.batch_by == "pair" else 8
    graph, start = planted(), copy.deepcopy(trainer.backbone)

    def measure(model: Backbone) -> float:
        emb, metrics = model.eval()(graph), ("ndcg",)
        return evaluate(emb, graph, k=5, similarity=trainer.rank_by, metrics=metrics)["ndcg@5"]

    result = trainer.fit(graph, 12)
    for part in (trainer.backbone, trainer.loss):
        assert all(x.isfinite().all() for x in part.state_dict().values())
    fresh = new_trainer(backbone, loss, sampler)
    for part, other in ((trainer.backbone, fresh.backbone), (trainer.loss, fresh.loss)):
        other.load_state_dict(part.state_dict())
        pairs = zip(part.state_dict().values(), other.state_dict().values(), strict=True)
        assert all(torch.equal(one, two) for one, two in pairs)
    assert all(math.isfinite(x) for part in result.metrics.values() for x in part.values())
    assert measure(trainer.backbone) == pytest.approx(result.metrics["test"]["ndcg@5"])
    if backbone == "Popularity":
        return
    assert all(math.isfinite(record.loss) for record in result.history)
    # Better than at the start, by the same adversary and thresholds and by what is ranked. Where
    # vectors are propagated the start can rank far above chance already.
    assert loss_of(trainer, trainer.backbone) < loss_of(trainer, start)
    after, before = measure(trainer.backbone), measure(start)
    assert after > before
    assert after > min(before, CHANCE) + GAIN


class OnOneDevice(NoReadBack):
    """Fails on a read-back, on a copy to the host, and on a tensor left on the host by mistake."""

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        tensors = [x for x in tree_leaves((args, kwargs)) if isinstance(x, Tensor)]
        devices = {x.device.type for x in tensors if x.dim() > 0}
        copies = (torch.ops.aten._to_copy, torch.ops.aten.copy_)
        if func.overloadpacket in copies:
            target = kwargs.get("device") or tensors[0].device
            back = torch.device(target).type == "cpu" and "meta" in devices
            assert not back, f"{func} copies to the host"
        else:
            assert len(devices) < 2, f"{func} mixes tensors on {sorted(devices)}"
        return super().__torch_dispatch__(func, types, args, kwargs)


@ANY_WITH_ANY
@pytest.mark.parametrize("by", ["user", "pair"])
def test_a_step_stays_on_its_device(backbone: str, loss: str, sampler: str | None, by: str) -> None:
    with torch.device("meta"):
        trainer = new_trainer(backbone, loss, sampler, l2=0.1, pool_positives=loss == "BSL")
    trainer.loss.setup(planted().train)
    trainer.loss.to("meta")
    batch = next(BatchLoader(planted().train, 5, by).epoch(torch.Generator().manual_seed(0)))
    batch, graph = batch.to("meta"), planted().to("meta")
    # Made once and kept with the graph.
    _ = graph.train.keys, graph.train.item_counts, graph.train._unseen_before
    with OnOneDevice():
        negatives = trainer.sampler.sample(batch, graph.train)
        value = trainer.step_loss(graph, batch, negatives)
        assert value.is_meta and value.shape == ()
        if backbone != "Popularity":
            value.backward()
    for p in trainer.backbone.parameters():
        assert p.grad is not None and p.grad.is_meta


def test_the_watch_over_devices_sees_what_it_should() -> None:
    host, device = torch.ones(3), torch.ones(3, device="meta")
    index = torch.tensor([0, 2])
    for wrong in (
        lambda: device[index],
        lambda: device.to("cpu"),
        lambda: device.nonzero(),
        lambda: device[device > 0],
        lambda: device.sum().item(),
        lambda: torch.equal(host, host),
    ):
        with pytest.raises((AssertionError, NotImplementedError, RuntimeError)), OnOneDevice():
            wrong()
    with OnOneDevice():
        assert (device + host.to("meta")).is_meta


PARTS = [*BACKBONES.values(), *LOSSES.values(), *SAMPLERS.values()]


@pytest.mark.parametrize("cls", PARTS, ids=lambda cls: cls.__name__)
def test_a_part_can_be_made_again_from_its_description(cls: type) -> None:
    named = arguments_of(cls)
    sizes = {name: size for name, size in (("num_users", 7), ("num_items", 5)) if name in named}
    other = OTHER | OTHER_OF.get(cls.__name__, {})
    given = {name: other[name] for name in named if name not in sizes}
    for args in ({}, given):
        part = cls(**sizes, **args)
        description = describe(part)
        assert description.pop("name") == cls.__name__
        assert description.keys() == set(named)
        assert description | sizes | args == description
        assert describe(cls(**description)) == describe(part)
        assert str(cls(**description)) == str(part)


NUMBERS = [
    (cls, p.name)
    for cls in PARTS
    for p in inspect.signature(cls).parameters.values()
    if p.annotation in ("int", "int | None", "float", "float | None")
]


@pytest.mark.parametrize(("cls", "name"), NUMBERS, ids=lambda x: getattr(x, "__name__", x))
def test_what_is_no_number_is_refused(cls: type, name: str) -> None:
    sizes = {size: 3 for size in ("num_users", "num_items") if size in arguments_of(cls)}
    for bad in (math.nan, math.inf, "x"):
        with pytest.raises(ValueError, match=rf"'{name}' must be .* \(got {bad!r}\)"):
            cls(**(sizes | {name: bad}))


def test_names_of_different_kinds_of_parts_do_not_meet() -> None:
    assert len({*BACKBONES, *LOSSES, *SAMPLERS}) == len(PARTS)
