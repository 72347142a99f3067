import json
import logging
import math
from contextlib import nullcontext
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
import torch.nn.functional as F

from pyg_bsl.evaluation import PROTOCOLS, evaluate, recommend
from pyg_bsl.losses import BPR, BSL, LOSSES, PSL, SL, DirectAU, DrRL
from pyg_bsl.nn import BACKBONES, MF, NGCF, LightGCN, Popularity
from pyg_bsl.sampling import SAMPLERS, AllItems, BatchLoader, InBatch, Shared, Uniform
from pyg_bsl.training import Callback, NonFiniteLossError, Trainer
from pyg_bsl.training.trainer import has_bfloat16_units, visiting
from pyg_bsl.types import BipartiteGraph, Negatives, UserItems
from tests.planted import NUM_ITEMS, NUM_USERS, cluster, planted
from tests.training.parts import BestAt, Broken, Raises, Recorder, fit, new_mf, new_trainer


def assert_same_weights(one, two):
    assert one.keys() == two.keys()
    assert all(torch.equal(one[key], two[key]) for key in one)


def first_batch(by="user", size=6):
    return next(BatchLoader(planted().train, size, by).epoch(torch.Generator().manual_seed(0)))


# What training does


def test_a_trained_model_ranks_the_items_of_a_users_cluster_first():
    trainer = new_trainer(lr=0.1)
    result = fit(trainer, 10)
    emb = trainer.backbone.eval()(planted())
    items, _ = recommend(emb, planted(), range(NUM_USERS), k=2)
    for user, own in enumerate(items.tolist()):
        # 10 items of the cluster, of which 5 train, 1 validates and 2 test
        assert {cluster(item) for item in own} == {cluster(user)}
    assert result.status == "finished" and result.metrics["test"]["recall@5"] == 1


def test_losses_fall_and_records_are_complete():
    result = fit(new_trainer(), 5)
    assert [record.epoch for record in result.history] == [1, 2, 3, 4, 5]
    assert result.history[-1].loss < result.history[0].loss
    assert all(record.seconds > 0 and record.valid for record in result.history)
    assert result.seconds["train"] == pytest.approx(sum(r.seconds for r in result.history))
    assert result.seconds["total"] >= result.seconds["train"] + result.seconds["evaluate"]
    assert result.epochs_run == result.epochs == 5
    assert (result.num_users, result.num_items, result.num_train) == (24, 20, 120)
    assert result.data == {"name": "planted", "digest": planted().digest}
    assert result.peak_memory_mib > 10
    assert set(result.metrics) == {"valid", "test"}


@pytest.mark.parametrize("sampler", SAMPLERS.values())
def test_the_same_seed_gives_the_same_bits(sampler):
    draws = iter((1, 2, 3))

    def run(seed):
        backbone = new_mf(dropout=0.2)
        torch.rand(next(draws))  # what the global generator did before has no say
        before = torch.get_rng_state()
        result = fit(new_trainer(backbone, sampler=sampler(), seed=seed))
        assert torch.equal(torch.get_rng_state(), before)
        return result

    one, two, other = run(0), run(0), run(1)
    assert [r.loss for r in one.history] == [r.loss for r in two.history]
    assert [r.valid for r in one.history] == [r.valid for r in two.history]
    assert one.metrics == two.metrics and one.best_epoch == two.best_epoch
    assert_same_weights(one.state_dict, two.state_dict)
    assert [r.loss for r in one.history] != [r.loss for r in other.history]


@pytest.mark.parametrize("backbone", [NGCF, LightGCN])
def test_the_same_seed_gives_the_same_bits_over_a_graph(backbone):
    def run():
        torch.manual_seed(0)
        return fit(new_trainer(backbone(NUM_USERS, NUM_ITEMS, embedding_dim=4)), 2)

    one, two = run(), run()
    assert one.metrics == two.metrics
    assert_same_weights(one.state_dict, two.state_dict)


@pytest.mark.parametrize("sampler", SAMPLERS.values())
def test_the_same_seed_gives_the_same_bits_on_several_threads(sampler, threads):
    """Batches so large that gradients of the same row come from several threads."""
    generator = torch.Generator().manual_seed(0)
    pairs = torch.unique(torch.randint(900, (2, 9000), generator=generator), dim=1)
    graph = BipartiteGraph(UserItems.from_pairs(*pairs, 900, 900), None, None, torch.empty(0))
    negatives = {"num_negatives": 64} if sampler in (Shared, Uniform) else {}

    def run():
        torch.manual_seed(0)
        trainer = Trainer(
            MF(900, 900, embedding_dim=32), SL(), sampler(**negatives), l2=0.1, batch_size=3000
        )
        return trainer.fit(graph, 2)

    threads(4)
    one, two = run(), run()
    assert [record.loss for record in one.history] == [record.loss for record in two.history]
    assert_same_weights(one.state_dict, two.state_dict)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"unit_norm": True},
        {"weight_decay": 0.5},
        {"l2": 0.3},
        {"grad_clip": 0.05},
        {"schedule": "cosine"},
        {"schedule": "constant"},
        {"betas": [0.8, 0.99]},
        {"average": 0.4},
        {"average": 1.0, "unit_norm": True},
        {"unit_norm": True, "weight_decay": 0.1, "l2": 0.1, "grad_clip": 0.1, "lr": 0.3},
    ],
    ids=str,
)
def test_steps_are_those_of_a_plain_loop(options):
    """One batch an epoch, all items as negatives, written out in full."""
    options = {"unit_norm": False, "lr": 0.05, "schedule": "linear"} | options
    epochs, tau, graph = 4, 0.2, planted()
    backbone = new_mf().double()
    user, item = (x.detach().clone().requires_grad_() for x in backbone.tables())
    trainer = new_trainer(
        backbone, SL(tau), batch_size=NUM_USERS, sampler=AllItems(avoid_seen=False), **options
    )
    recorder = Recorder()
    trainer.callbacks = (recorder,)
    result = fit(trainer, epochs)

    optimizer = torch.optim.Adam(
        [user, item],
        betas=options.get("betas", (0.9, 0.95)),
        weight_decay=options.get("weight_decay", 0),
    )
    u, i = graph.train.users, graph.train.items
    means = [torch.zeros_like(user), torch.zeros_like(item)]
    for epoch in range(epochs):
        done = epoch / epochs
        factor = {
            "linear": 1 - done,
            "cosine": 0.5 + 0.5 * math.cos(math.pi * done),
            "constant": 1,
        }[options["schedule"]]
        optimizer.param_groups[0]["lr"] = options["lr"] * factor
        scores = F.cosine_similarity(user[:, None], item[None], dim=2)
        loss = ((scores[u] / tau).exp().mean(1).log() - scores[u, i] / tau).mean()
        loss = loss + options.get("l2", 0) * ((user[u] ** 2).sum() + (item[i] ** 2).sum()) / len(u)
        optimizer.zero_grad()
        loss.backward()
        norm = (user.grad.square().sum() + item.grad.square().sum()).sqrt()
        if "grad_clip" in options:
            assert norm > options["grad_clip"]
            for table in (user, item):
                table.grad *= options["grad_clip"] / (norm + 1e-6)
        optimizer.step()
        if options["unit_norm"]:
            with torch.no_grad():
                for table in (user, item):
                    table /= table.norm(dim=1, keepdim=True)
        record = result.history[epoch]
        assert record.loss == pytest.approx(float(loss.detach()))
        assert record.lr == pytest.approx(options["lr"] * factor)
        latest = 1 / (1 + options.get("average", 0) * epoch)
        means = [
            (1 - latest) * mean + latest * table.detach()
            for mean, table in zip(means, (user, item), strict=True)
        ]
        for name, mean in zip(("user_embedding", "item_embedding"), means, strict=True):
            torch.testing.assert_close(recorder.weights[epoch][name], mean)


@pytest.mark.parametrize("schedule", ["linear", "cosine", "constant"])
def test_the_learning_rate_falls_step_by_step(schedule):
    result = fit(new_trainer(schedule=schedule, lr=0.02), 3)  # three batches an epoch
    last_steps = [2 / 9, 5 / 9, 8 / 9]
    course = {
        "linear": lambda x: 1 - x,
        "cosine": lambda x: (1 + math.cos(math.pi * x)) / 2,
        "constant": lambda x: 1,
    }[schedule]
    assert [r.lr for r in result.history] == pytest.approx([0.02 * course(x) for x in last_steps])


@pytest.mark.parametrize("sampler", [AllItems(), Shared(7), InBatch(), Uniform(3)], ids=str)
def test_l2_is_the_mean_squared_norm_of_what_the_batch_touches(sampler):
    batch = first_batch("pair")
    negatives = sampler.sample(batch, planted().train, torch.Generator().manual_seed(0))
    plain, with_l2 = (
        new_trainer(sampler=sampler, l2=l2).step_loss(planted(), batch, negatives)
        for l2 in (0.0, 0.5)
    )
    user, item = (x.detach() for x in new_mf().tables())
    touched = [user[u] for u in batch.users] + [item[i] for i in batch.items]
    if negatives.items is not None:
        touched += [item[i] for i in negatives.items.view(-1)]
    expected = 0.5 * sum(float(x.square().sum()) for x in touched) / batch.items.numel()
    assert float((with_l2 - plain).detach()) == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize("validates", [True, False])
def test_averaged_weights_are_kept_and_measured_and_not_trained(validates):
    recorder, graph = Recorder(), planted()
    if not validates:
        graph = replace(graph, valid=None)
    last, mean = (
        new_trainer(average=share, callbacks=[recorder] if share else [], eval_every=2)
        for share in (0, 0.5)
    )
    results = [trainer.fit(graph, 5) for trainer in (last, mean)]
    losses = [[record.loss for record in result.history] for result in results]
    assert losses[0] == losses[1]
    result, weights = results[1], recorder.weights
    assert_same_weights(result.state_dict, weights[result.best_epoch - 1])
    assert_same_weights(dict(mean.backbone.state_dict()), result.state_dict)
    assert not torch.equal(result.state_dict["user_embedding"], last.backbone.user_embedding)
    measured = evaluate(mean.backbone(graph), graph, k=mean.k, similarity=mean.rank_by)
    assert result.metrics["test"] == measured


def test_unit_norm_keeps_every_learned_vector_at_length_one():
    recorder = Recorder()
    fit(new_trainer(callbacks=[recorder], unit_norm=True), 2)
    for weights in recorder.weights:
        for table in weights.values():
            torch.testing.assert_close(table.norm(dim=1), torch.ones(len(table)))


def test_the_loss_of_an_epoch_is_the_mean_over_its_rows():
    """Batches of 7, 7, 7 and 3 users have different numbers of rows."""
    graph, loss = planted(), SL(tau=0.2)
    rows = UserItems.from_pairs(
        graph.train.users[:-4], graph.train.items[:-4], NUM_USERS, NUM_ITEMS
    )
    graph = replace(graph, train=rows)
    backbone = new_mf()
    trainer = new_trainer(backbone, loss, lr=1e-30, batch_size=7, unit_norm=False)
    record = trainer.fit(graph, 1).history[0]
    scores = F.cosine_similarity(
        backbone.user_embedding[:, None], backbone.item_embedding[None], dim=2
    ).detach()
    negatives = scores.masked_fill(
        rows.contains(torch.arange(NUM_USERS)[:, None], torch.arange(NUM_ITEMS)[None]), -math.inf
    )
    each = loss(scores[rows.users, rows.items], negatives[rows.users], reduction="none")
    assert record.loss == pytest.approx(float(each.mean()), rel=1e-5)


def test_positives_are_pooled_when_asked_for():
    batch, loss = first_batch(), BSL(tau1=0.1, tau2=0.2)
    negatives = AllItems().sample(batch, planted().train)
    apart, pooled = (
        new_trainer(loss=loss, pool_positives=pool).step_loss(planted(), batch, negatives)
        for pool in (False, True)
    )
    user, item = new_mf().tables()
    scores = F.cosine_similarity(user[:, None], item[None], dim=2)
    seen = planted().train.contains(batch.users[:, None], torch.arange(NUM_ITEMS)[None])
    pos, neg = scores[batch.users, batch.items], scores[batch.users].masked_fill(seen, -math.inf)
    torch.testing.assert_close(apart, loss(pos, neg))
    torch.testing.assert_close(pooled, loss(pos, neg, users=batch.users))
    assert apart != pooled


def test_a_term_of_the_backbones_own_is_added():
    class WithTerm(MF):
        def auxiliary_loss(self, emb, batch):
            return emb.user.sum() * 0 + 2.5 + batch.items.numel()

    batch = first_batch()
    negatives = AllItems().sample(batch, planted().train)
    torch.manual_seed(0)
    other = WithTerm(NUM_USERS, NUM_ITEMS, embedding_dim=8)
    plain, more = (
        new_trainer(backbone).step_loss(planted(), batch, negatives) for backbone in (None, other)
    )
    torch.testing.assert_close(more, plain + 2.5 + batch.items.numel())


def test_dropout_is_for_training_steps_alone():
    modes = []

    class Watched(MF):
        def forward(self, graph):
            modes.append(self.training)
            return super().forward(graph)

    result = fit(new_trainer(Watched(NUM_USERS, NUM_ITEMS, dropout=0.5)), 2)
    assert modes == [True] * 3 + [False] + [True] * 3 + [False, False]
    backbone = new_mf(embedding_dim=64, dropout=0.5)
    backbone.load_state_dict(result.state_dict)
    again = evaluate(backbone.eval()(planted()), planted(), k=5)
    assert again == result.metrics["test"]


@pytest.mark.parametrize("name", BACKBONES)
def test_bfloat16_runs_on_the_cpu(name):
    torch.manual_seed(0)
    for sampler in (AllItems(), Uniform(4)):
        backbone = BACKBONES[name](NUM_USERS, NUM_ITEMS)
        result = fit(new_trainer(backbone, sampler=sampler, precision="bfloat16"), 2)
        assert all(math.isfinite(record.loss) for record in result.history)
        assert all(x.dtype == torch.float32 for x in result.state_dict.values())


def step(precision, batch, negatives):
    """Loss of a batch, and its gradient to the users' vectors."""
    trainer = new_trainer(precision=precision)
    loss = trainer.step_loss(planted(), batch, negatives)
    (grad,) = torch.autograd.grad(loss, trainer.backbone.user_embedding)
    return loss.detach(), grad


@pytest.mark.parametrize("sampler", [AllItems(), Uniform(4)], ids=["lazy", "per row"])
def test_bfloat16_is_close_to_float32(sampler):
    batch = first_batch("pair")
    negatives = sampler.sample(batch, planted().train, torch.Generator().manual_seed(0))
    full, half = (step(precision, batch, negatives) for precision in ("float32", "bfloat16"))
    torch.testing.assert_close(full[0], half[0], rtol=0.02, atol=0.02)
    assert not torch.equal(full[1], half[1])
    assert (full[1] - half[1]).norm() <= 0.02 * full[1].norm()


@pytest.mark.parametrize("fast", [False, True])
def test_automatic_precision_is_bfloat16_only_where_that_is_fast(monkeypatch, fast):
    monkeypatch.setattr("pyg_bsl.training.trainer.has_bfloat16_units", lambda device: fast)
    batch = first_batch("pair")
    auto, low, full = (
        step(precision, batch, Negatives(None)) for precision in ("auto", "bfloat16", "float32")
    )
    assert torch.equal(auto[1], low[1] if fast else full[1])
    assert not torch.equal(low[1], full[1])
    # Only gradients of shared negatives are rounded, never scores nor what each row has of its own.
    assert torch.equal(auto[0], full[0])
    negatives = Uniform(4).sample(batch, planted().train, torch.Generator().manual_seed(0))
    assert torch.equal(step("auto", batch, negatives)[1], step("float32", batch, negatives)[1])


def test_a_processor_that_does_not_tell_what_it_has_trains_in_float32(monkeypatch):
    device = torch.device("cpu")
    has = torch.cpu.get_capabilities()
    amd = has.get("cpu_name", "").startswith("AMD") and has.get("avx512_bf16", False)
    assert has_bfloat16_units(device) == (has.get("amx_bf16", False) or amd)
    monkeypatch.delattr(torch.cpu, "get_capabilities")
    assert not has_bfloat16_units(device)
    assert not has_bfloat16_units(torch.device("meta"))


# What is left out, the trainer chooses


def test_defaults_follow_the_parts():
    trainer = Trainer(new_mf(), SL())
    assert isinstance(trainer.sampler, AllItems) and trainer.batch_by == "user"
    assert (trainer.similarity, trainer.rank_by) == ("cosine", "cosine")
    assert trainer.unit_norm and trainer.lr == 0.1
    assert Trainer(MF(4096, 2), SL()).lr == 0.05
    assert trainer.device.type == ("cuda" if torch.cuda.is_available() else "cpu")

    trainer = Trainer(new_mf(), PSL(activation="tanh"))
    assert isinstance(trainer.sampler, Shared) and trainer.sampler.num_negatives == 1024

    trainer = Trainer(new_mf(), BPR(), Uniform(2))
    assert (trainer.similarity, trainer.rank_by, trainer.batch_by) == ("dot", "dot", "pair")
    assert not trainer.unit_norm and trainer.lr == 0.01
    # Lengths of vectors that are propagated are weights.
    assert not Trainer(LightGCN(NUM_USERS, NUM_ITEMS), SL()).unit_norm
    assert Trainer(LightGCN(NUM_USERS, NUM_ITEMS), SL(), unit_norm=True).unit_norm

    trainer = Trainer(Popularity(NUM_USERS, NUM_ITEMS), SL())
    assert (trainer.similarity, trainer.rank_by) == ("cosine", "dot")
    assert Trainer(new_mf(), SL(), rank_by="dot").rank_by == "dot"
    assert Trainer(new_mf(), SL(), Uniform(2), batch_by="user").batch_by == "user"


def test_the_length_of_the_metric_is_among_the_lengths():
    assert Trainer(new_mf(), SL(), k=(50, 5), metric="recall@10").k == (5, 10, 50)
    assert Trainer(new_mf(), SL(), k=5).k == (5, 20)


def test_the_configuration_is_plain_data_and_tells_all():
    config = new_trainer(loss=PSL(tau=0.1), sampler=Uniform(3), patience=4).config()
    assert json.loads(json.dumps(config)) == {
        "backbone": {
            "name": "MF",
            "embedding_dim": 8,
            "init": "xavier",
            "init_std": 0.1,
            "dropout": 0.0,
        },
        "loss": {"name": "PSL", "tau": 0.1, "activation": "relu", "temperature": "outside"},
        "sampler": {"name": "Uniform", "num_negatives": 3, "avoid_seen": True},
        "trainer": {
            "lr": 0.1,
            "betas": [0.9, 0.95],
            "batch_size": 8,
            "batch_by": "pair",
            "schedule": "linear",
            "weight_decay": 0.0,
            "l2": 0.0,
            "unit_norm": True,
            "grad_clip": None,
            "average": 0.0,
            "similarity": "cosine",
            "rank_by": "cosine",
            "pool_positives": False,
            "precision": "auto",
            "k": [5],
            "metric": "ndcg@5",
            "protocol": "holdout",
            "eval_every": 1,
            "patience": 4,
        },
    }


# Which epoch is chosen


def test_the_weights_of_the_best_epoch_are_left():
    trainer = new_trainer(callbacks=[recorder := Recorder(), BestAt(3)], lr=BestAt.lr)
    result = fit(trainer, 6)
    values = [record.valid["ndcg@5"] for record in result.history]
    assert result.best_epoch == 3 and values[2] == max(values) > values[0] > values[-1] == 0
    assert [record.improved for record in result.history] == [True, False, True] + [False] * 3
    assert result.metrics["valid"] == result.history[2].valid
    assert_same_weights(dict(trainer.backbone.state_dict()), recorder.weights[2])
    assert_same_weights(result.state_dict, recorder.weights[2])
    emb = trainer.backbone.eval()(planted())
    assert evaluate(emb, planted(), split="valid", k=5) == result.metrics["valid"]
    assert evaluate(emb, planted(), split="test", k=5) == result.metrics["test"]


def test_training_stops_after_patience_validations_without_improvement():
    options = {"lr": BestAt.lr, "patience": 2}
    result = fit(new_trainer(callbacks=[BestAt(3)], **options), 50)
    assert (result.status, result.best_epoch, result.epochs_run) == ("stopped", 3, 5)
    result = fit(new_trainer(callbacks=[BestAt(4)], eval_every=2, **options), 50)
    assert (result.status, result.best_epoch, result.epochs_run) == ("stopped", 4, 8)


def test_validation_comes_every_so_many_epochs_and_after_the_last():
    result = fit(new_trainer(eval_every=3), 7)
    assert [r.epoch for r in result.history if r.valid] == [3, 6, 7]


def test_a_callback_can_stop_the_training():
    class StopAt(Callback):
        def on_epoch_end(self, trainer, record):
            trainer.should_stop = record.epoch == 2

    result = fit(new_trainer(callbacks=[StopAt()]), 9)
    assert (result.status, result.epochs_run) == ("stopped", 2)
    result = fit(new_trainer(callbacks=[StopAt()], eval_every=5), 9)  # before any validation
    assert (result.status, result.epochs_run, result.best_epoch) == ("stopped", 2, 2)
    assert set(result.metrics) == {"valid", "test"}


def test_a_protocol_may_choose_on_the_test_set():
    assert PROTOCOLS["bsl-released"].select_on == "test"
    trainer = new_trainer(protocol="bsl-released", callbacks=[BestAt(2)], lr=BestAt.lr)
    result = trainer.fit(replace(planted(), valid=None), 4)
    assert result.protocol == "bsl-released" and result.best_epoch == 2
    assert result.metrics["valid"] == result.metrics["test"] == result.history[1].valid


@pytest.mark.parametrize("empty", [False, True])
def test_without_validation_data_the_last_epoch_stands(empty):
    none = torch.tensor([], dtype=torch.long)
    valid = UserItems.from_pairs(none, none, NUM_USERS, NUM_ITEMS) if empty else None
    trainer = new_trainer(callbacks=[recorder := Recorder()])
    result = trainer.fit(replace(planted(), valid=valid), 3)
    assert result.best_epoch == 3 and set(result.metrics) == {"test"}
    assert not any(record.valid or record.improved for record in result.history)
    assert_same_weights(result.state_dict, recorder.weights[-1])


def test_without_test_data_there_are_no_test_metrics():
    assert set(new_trainer().fit(replace(planted(), test=None), 2).metrics) == {"valid"}


def test_training_pairs_alone_are_enough():
    result = new_trainer().fit(replace(planted(), valid=None, test=None), 2)
    assert result.metrics == {} and result.status == "finished"


def test_popularity_has_nothing_to_train():
    trainer = new_trainer(Popularity(NUM_USERS, NUM_ITEMS), callbacks=[recorder := Recorder()])
    result = fit(trainer)
    assert recorder.calls == ["start", "end"]
    assert (result.status, result.epochs_run, result.best_epoch) == ("finished", 0, 0)
    assert set(result.metrics) == {"valid", "test"}
    assert result.state_dict == {}


def test_users_and_items_without_training_pairs_do_no_harm():
    graph = planted()
    keep = (graph.train.users != 3) & (graph.train.items != 4)
    rows = UserItems.from_pairs(
        graph.train.users[keep], graph.train.items[keep], NUM_USERS, NUM_ITEMS
    )
    for sampler in SAMPLERS.values():
        result = new_trainer(sampler=sampler()).fit(replace(graph, train=rows), 2)
        assert all(math.isfinite(record.loss) for record in result.history)


def test_a_user_who_has_every_item_does_no_harm():
    graph = planted()
    users = torch.cat([graph.train.users[5:], torch.zeros(NUM_ITEMS, dtype=torch.long)])
    items = torch.cat([graph.train.items[5:], torch.arange(NUM_ITEMS)])
    rows = UserItems.from_pairs(users, items, NUM_USERS, NUM_ITEMS)
    for sampler in SAMPLERS.values():
        for loss in LOSSES.values():
            trainer = new_trainer(loss=loss(), sampler=sampler())
            result = trainer.fit(replace(graph, train=rows, valid=None, test=None), 1)
            assert math.isfinite(result.history[0].loss)
            assert all(x.isfinite().all() for x in result.state_dict.values())


def test_fit_goes_on_from_the_weights_there_are():
    trainer = new_trainer(lr=1e-3)
    first, second = fit(trainer, 3), fit(trainer, 3)
    assert second.history[0].loss < first.history[0].loss


# When it goes wrong


@pytest.mark.parametrize("average", [0, 0.5])
@pytest.mark.parametrize("eval_every", [1, 9])
def test_a_loss_that_turns_nan_names_epoch_and_step_and_keeps_the_last_good_weights(
    eval_every, average
):
    loss = Broken(at=5)  # three steps an epoch
    callbacks = [recorder := Recorder()]
    options = {"eval_every": eval_every, "average": average}
    trainer = new_trainer(loss=loss, callbacks=callbacks, **options)
    with pytest.raises(NonFiniteLossError) as caught:
        fit(trainer)
    message = str(caught.value)
    assert "The loss became nan at epoch 2, step 2 of 3 (learning rate" in message
    assert "left the finite range" in message and "Try a smaller 'lr'" in message
    assert str(loss) in message
    assert recorder.calls == ["start", "epoch 1", "error"]
    assert recorder.error is caught.value
    assert recorder.result.status == "failed" and recorder.result.epochs_run == 1
    assert_same_weights(dict(trainer.backbone.state_dict()), recorder.weights[0])
    assert_same_weights(recorder.result.state_dict, recorder.weights[0])
    json.loads(recorder.result.to_json())


def test_the_best_weights_are_kept_when_there_was_a_validation():
    callbacks = [recorder := Recorder(), BestAt(2)]
    trainer = new_trainer(loss=Broken(at=13), lr=BestAt.lr, callbacks=callbacks)
    with pytest.raises(NonFiniteLossError, match="at epoch 5, step 1 of 3"):
        fit(trainer, 6)
    assert recorder.result.best_epoch == 2
    assert_same_weights(recorder.result.state_dict, recorder.weights[1])


def test_a_learning_rate_that_is_too_high_is_named():
    start = new_mf().state_dict()
    trainer = new_trainer(lr=1e38, unit_norm=False, eval_every=100, similarity="dot")
    with pytest.raises(NonFiniteLossError) as caught:
        fit(trainer)
    assert "the weights (user_embedding, item_embedding) left the finite range" in str(caught.value)
    assert "the learning rate (1e+38) is too high" in str(caught.value)
    assert_same_weights(dict(trainer.backbone.state_dict()), dict(start))


def test_a_loss_that_is_nan_at_once_is_blamed_on_its_arguments():
    with pytest.raises(
        NonFiniteLossError, match=r"epoch 1, step 1 of 3 .* first batch: check its arguments"
    ):
        fit(new_trainer(loss=Broken(at=1)))


def test_weights_that_break_in_the_last_step_of_an_epoch_are_not_kept():
    """All losses of the epoch are finite; the weights after it are not."""
    trainer = new_trainer(loss=Broken(at=6, gradient=True), callbacks=[recorder := Recorder()])
    with pytest.raises(NonFiniteLossError, match="weights became non-finite at epoch 2, step 3"):
        fit(trainer)
    assert recorder.calls == ["start", "epoch 1", "error"]
    assert all(x.isfinite().all() for x in trainer.backbone.state_dict().values())
    assert_same_weights(dict(trainer.backbone.state_dict()), recorder.weights[0])


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (RuntimeError("disk"), "failed"),
        (KeyboardInterrupt(), "interrupted"),
        (SystemExit(143), "interrupted"),
    ],
)
def test_an_error_or_interrupt_in_an_epoch_reaches_every_callback(error, status):
    before, after = Recorder(), Recorder()
    trainer = new_trainer(callbacks=[before, Raises("on_epoch_end", error), after])
    with pytest.raises(type(error)) as caught:
        fit(trainer)
    assert caught.value is error
    assert before.calls == ["start", "epoch 1", "epoch 2", "error"]
    assert after.calls == ["start", "epoch 1", "error"]
    for recorder in (before, after):
        assert recorder.error is error
        assert recorder.result.status == status and recorder.result.epochs_run == 2
    best = before.result.best_epoch
    assert_same_weights(before.result.state_dict, before.weights[best - 1])
    assert_same_weights(dict(trainer.backbone.state_dict()), before.weights[best - 1])


def test_an_error_before_the_first_step_reaches_those_who_were_told_of_the_start():
    before, after = Recorder(), Recorder()
    with pytest.raises(OSError):
        fit(new_trainer(callbacks=[before, Raises("on_fit_start", OSError("full")), after]))
    assert before.calls == ["start", "error"] and after.calls == []
    assert before.result.status == "failed"


def test_an_interrupt_in_the_middle_of_a_step_leaves_good_weights():
    class Interrupting(SL):
        steps = 0

        def rows(self, pos, neg, context):
            self.steps += 1
            if self.steps == 5:
                raise KeyboardInterrupt
            return super().rows(pos, neg, context)

    trainer = new_trainer(loss=Interrupting(), callbacks=[recorder := Recorder()])
    with pytest.raises(KeyboardInterrupt):
        fit(trainer)
    assert recorder.calls == ["start", "epoch 1", "error"]
    assert_same_weights(recorder.result.state_dict, recorder.weights[0])


# Arguments


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"lr": 0}, r"'lr' must be above 0 and finite \(got 0\)"),
        ({"lr": math.nan}, r"'lr' must be above 0 and finite \(got nan\)"),
        ({"lr": math.inf}, r"'lr' must be above 0 and finite \(got inf\)"),
        ({"batch_size": 0}, r"'batch_size' must be a whole number of at least 1 \(got 0\)"),
        ({"batch_size": 2.5}, r"'batch_size' must be a whole number of at least 1 \(got 2.5\)"),
        ({"batch_by": "users"}, "Unknown batch_by 'users'; did you mean 'user'?"),
        ({"schedule": "cosin"}, "Unknown schedule 'cosin'; did you mean 'cosine'?"),
        ({"weight_decay": -1}, r"'weight_decay' must be at least 0 and finite \(got -1\)"),
        ({"betas": (0.9, 1.0)}, r"'betas' must be two numbers of at least 0 and below 1 \(got \(0"),
        ({"betas": (0.9,)}, r"'betas' must be two numbers"),
        ({"l2": -0.1}, r"'l2' must be at least 0 and finite \(got -0.1\)"),
        ({"grad_clip": 0}, r"'grad_clip' must be above 0 and finite \(got 0\)"),
        ({"average": 1.5}, r"'average' must be in \[0, 1\] \(got 1.5\)"),
        ({"similarity": "cos"}, "Unknown similarity 'cos'; did you mean 'cosine'?"),
        ({"rank_by": "inner"}, "Unknown similarity 'inner'.* Choices: cosine, dot"),
        ({"precision": "float16"}, "Unknown precision 'float16'; did you mean 'bfloat16'?"),
        ({"k": 0}, r"'k' must be a whole number of at least 1 \(got 0\)"),
        ({"k": (5, -1)}, r"'k' must be a whole number of at least 1 \(got -1\)"),
        ({"metric": "ndcg"}, "A metric is written 'name@K'"),
        ({"metric": "ndgc@5"}, "Unknown metric 'ndgc'; did you mean 'ndcg'?"),
        ({"protocol": "hold-out"}, "Unknown protocol 'hold-out'; did you mean 'holdout'?"),
        ({"eval_every": 0}, r"'eval_every' must be a whole number of at least 1 \(got 0\)"),
        ({"patience": 0}, r"'patience' must be a whole number of at least 1 \(got 0\)"),
        ({"seed": -1}, r"'seed' must be at least 0 and below 2\*\*63 \(got -1\)"),
        ({"seed": 2**63}, r"'seed' must be at least 0 and below 2\*\*63"),
        ({"device": "gpu"}, "'device' cannot be 'gpu' here: .*gpu"),
        ({"device": "meta"}, "'device' cannot be 'meta' here: Cannot copy out of meta tensor"),
    ],
    ids=str,
)
def test_bad_arguments_are_told_at_once(wrong, message):
    with pytest.raises(ValueError, match=message):
        Trainer(new_mf(), SL(), **wrong)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_device_that_is_not_there_is_told_at_once():
    with pytest.raises(ValueError, match=r"'device' cannot be 'cuda' here: "):
        Trainer(new_mf(), SL(), device="cuda")


@pytest.mark.parametrize("epochs", [0, -1, 1.5])
def test_a_wrong_number_of_epochs_is_an_error(epochs):
    with pytest.raises(ValueError, match="'epochs' must be a whole number of at least 1"):
        fit(new_trainer(), epochs)


def test_data_that_do_not_fit_are_told_before_anything_starts():
    recorder = Recorder()
    with pytest.raises(ValueError, match="has 24 users and 21 items, but 'planted' has 24 and 20"):
        fit(new_trainer(MF(24, 21), callbacks=[recorder]))
    with pytest.raises(ValueError, match="'patience' needs validation data"):
        new_trainer(patience=2, callbacks=[recorder]).fit(replace(planted(), valid=None), 2)
    assert recorder.calls == []


def test_no_training_pairs_is_an_error():
    none = torch.tensor([], dtype=torch.long)
    empty = UserItems.from_pairs(none, none, NUM_USERS, NUM_ITEMS)
    with pytest.raises(ValueError, match="the data has no training pairs"):
        new_trainer().fit(replace(planted(), train=empty, valid=None, test=None), 1)


def test_memory_is_that_of_the_gpu_where_there_is_one(monkeypatch):
    from pyg_bsl.training.trainer import peak_memory_mib

    monkeypatch.setattr(torch.cuda, "max_memory_allocated", lambda device: 3 * 2**20)
    assert peak_memory_mib(SimpleNamespace(type="cuda")) == 3
    assert peak_memory_mib(torch.device("cpu")) > 10


def test_parts_of_another_kind_are_told_apart_at_the_door():
    graph = planted()
    backbone = MF(graph.num_users, graph.num_items)
    for arguments, message in (
        ((MF, SL()), "'backbone' must be a Backbone object"),
        ((SL(), backbone), "'backbone' must be a Backbone object"),
        ((backbone, "SL"), "'loss' must be a Loss object"),
        ((backbone, SL), "'loss' must be a Loss object"),
        ((backbone, SL(), "Uniform"), "'sampler' must be a Sampler object"),
    ):
        with pytest.raises(TypeError, match=message):
            Trainer(*arguments)
    with pytest.raises(
        TypeError, match=r"'graph' must be a BipartiteGraph .* with pyg_bsl.data.build_graph"
    ):
        Trainer(backbone, SL()).fit("a folder")
    with pytest.raises(ValueError, match="'lr' must be above 0 and finite"):
        Trainer(backbone, SL(), lr="0.1")


def test_training_without_validation_says_that_the_last_epoch_is_taken(caplog):
    graph = planted()
    backbone = MF(graph.num_users, graph.num_items)
    Trainer(backbone, SL()).fit(replace(graph, valid=None), 1)
    assert "no validation pairs: the last epoch is taken" in caplog.text


# Where the parts are afterwards


class Traveller(torch.nn.Linear):
    """Notes where it is sent."""

    def __init__(self, device=None):
        super().__init__(1, 1, device=device)
        self.went = []

    def to(self, device):
        self.went.append(str(device))
        return self  # there is one device here


@pytest.mark.parametrize("error", [None, KeyboardInterrupt()])
def test_parts_go_back_to_where_they_came_from(error):
    at_home, far = Traveller(), Traveller("meta")
    try:
        with visiting(torch.device("cuda"), at_home, far):
            assert at_home.went == far.went == ["cuda"]
            if error is not None:
                raise error
    except KeyboardInterrupt:
        pass
    assert at_home.went == ["cuda", "cpu"] and far.went == ["cuda", "meta"]
    assert not at_home.training


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_after_training_on_a_gpu_the_backbone_fits_the_callers_graph():
    backbone = new_mf()
    fit(new_trainer(backbone, device="cuda"), 2)
    items, _ = recommend(backbone(planted()), planted(), [0])
    assert items.device.type == "cpu"


@pytest.mark.parametrize("breaks", [False, True])
def test_after_training_the_backbone_is_ready_to_be_used(breaks):
    backbone = new_mf(dropout=0.5)
    bare = replace(planted(), valid=None, test=None)
    callbacks = [Raises("on_epoch_end", RuntimeError("no"))] if breaks else []
    with pytest.raises(RuntimeError) if breaks else nullcontext():
        new_trainer(backbone, callbacks=callbacks).fit(bare, 2)
    assert not backbone.training


def test_a_trained_backbone_is_ranked_by_the_trainers_scores():
    backbone = new_mf()
    assert backbone(planted()).similarity is None
    result = fit(new_trainer(backbone, BPR()), 2)  # by inner product
    emb = backbone(planted())
    assert emb.similarity == backbone.similarity == "dot"
    assert evaluate(emb, planted(), k=5) == result.metrics["test"]
    assert new_trainer(backbone, SL()).rank_by == "cosine"  # another training, another rank
    fit(new_trainer(backbone, SL()), 1)
    assert backbone.similarity == "cosine"


def test_what_the_trainer_chose_is_told(caplog):
    with caplog.at_level(logging.INFO, "pyg_bsl"):
        fit(Trainer(new_mf(), SL(), k=5, metric="ndcg@5"), 1)
        chosen = f"sampler {AllItems()}, lr 0.1, batch_size 2 users"
        assert f"Chosen by the trainer: {chosen}" in caplog.text
        caplog.clear()
        fit(Trainer(new_mf(), SL(), AllItems(), lr=0.1, batch_size=8, k=5, metric="ndcg@5"), 1)
        assert "Chosen" not in caplog.text


@pytest.mark.parametrize("protocol", ["holdout", "bsl-released", "psl-ood"])
def test_an_epoch_chosen_on_the_test_set_is_told(protocol, caplog):
    result = fit(new_trainer(protocol=protocol), 1)
    on_test = protocol != "holdout"
    assert result.selected_on == ("test" if on_test else "valid")
    told = f"The protocol '{protocol}' chooses the epoch on the test set" in caplog.text
    assert told == on_test


def test_an_error_in_the_first_epoch_leaves_no_weights():
    callbacks = [recorder := Recorder()]
    with pytest.raises(NonFiniteLossError):
        fit(new_trainer(loss=Broken(at=1), callbacks=callbacks))
    assert recorder.result.state_dict == {}


class Noting(SL):
    """Writes down its hooks and what it is handed."""

    needs = ("users", "items", "negatives", "user_vectors", "item_vectors")

    def __init__(self):
        super().__init__(tau=0.5)
        self.calls, self.context = [], None
        self.register_parameter("shift", None)

    def setup(self, train):
        self.calls.append("setup")
        if self.shift is None:
            self.shift = torch.nn.Parameter(torch.zeros(train.num_users))

    def on_epoch_start(self, epoch, train, embeddings):
        emb = embeddings()
        self.calls.append(f"epoch {epoch}")
        assert train.num_users == NUM_USERS
        assert not emb.user.requires_grad
        torch.testing.assert_close(emb.user.norm(dim=1), torch.ones(NUM_USERS))

    def after_step(self):
        self.calls.append("step")
        with torch.no_grad():
            self.shift.clamp_(max=0.25)

    def parameter_groups(self, lr):
        return [{"params": [self.shift], "lr": 5 * lr}]

    def rows(self, pos, neg, context):
        self.context = context
        return super().rows(pos, neg, context) - self.shift[context.users]


def test_hooks_of_a_loss_come_in_order_and_its_parameters_learn_at_their_own_rate():
    loss = Noting()
    trainer = new_trainer(loss=loss, lr=0.01, weight_decay=0.5, schedule="constant")
    fit(trainer, 2)
    steps = NUM_USERS // 8
    assert loss.calls == ["setup", "epoch 1", *["step"] * steps, "epoch 2", *["step"] * steps]
    # Adam's steps have the size of the learning rate, each user comes up once an epoch, and the
    # backbone's weight decay leaves the loss alone.
    assert (loss.shift <= 0.25).all()
    assert loss.shift.min() > 0.05


def test_what_a_loss_learns_and_what_is_frozen_are_not_averaged():
    losses, graph = (Noting(), Noting()), replace(planted(), valid=None)
    for loss, average in zip(losses, (0, 0.5), strict=True):
        backbone = new_mf()
        backbone.step = torch.nn.Parameter(torch.tensor(7), requires_grad=False)
        new_trainer(backbone, loss, average=average, lr=0.01).fit(graph, 3)
        assert backbone.step == 7
    assert losses[0].shift.any()
    assert torch.equal(losses[0].shift, losses[1].shift)


def test_a_loss_is_handed_what_it_needs():
    loss = Noting()
    trainer = new_trainer(loss=loss, sampler=Shared(7))
    loss.setup(planted().train)
    batch = next(BatchLoader(planted().train, 5).epoch(torch.Generator().manual_seed(0)))
    negatives = trainer.sampler.sample(batch, planted().train, torch.Generator().manual_seed(0))
    trainer.step_loss(planted(), batch, negatives)
    context, emb = loss.context, trainer.backbone(planted())
    assert torch.equal(context.users, batch.users)
    assert torch.equal(context.items, batch.items)
    assert torch.equal(context.negatives, negatives.items)
    assert torch.equal(context.user_vectors, emb.user[batch.users])
    assert torch.equal(context.item_vectors, emb.item[batch.items])


def test_the_best_epochs_state_of_the_loss_is_left_with_its_weights():
    loss, held = Noting(), []

    class Keep(Callback):
        def on_epoch_end(self, trainer, record):
            held.append(loss.shift.detach().clone())

    trainer = new_trainer(loss=loss, lr=1e-9, callbacks=[Keep(), BestAt(2)])
    result = fit(trainer, 4)
    assert torch.equal(loss.shift, held[result.best_epoch - 1])


def test_a_loss_without_negatives_takes_pairs_that_are_one_anothers_contrast():
    trainer = new_trainer(loss=DirectAU())
    assert isinstance(trainer.sampler, InBatch) and not trainer.sampler.drop_hits
    assert trainer.batch_by == "pair"


def test_a_loss_goes_on_from_where_it_is_and_starts_anew_on_other_data():
    loss = DrRL(weight=2.0, margin=0.1)
    fit(new_trainer(loss=loss), 1)
    learned = loss.margins.detach().clone()
    loss.setup(planted().train)
    assert torch.equal(loss.margins, learned)
    assert (learned != 0.1).any()
    other = UserItems.from_pairs(torch.tensor([0]), torch.tensor([0]), 2, 2)
    loss.setup(other)
    assert loss.margins.tolist() == pytest.approx([0.1, 0.1])
