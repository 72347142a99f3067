from dataclasses import replace

import pytest
import torch

from pyg_bsl.ops import DenseScores, LazyScores
from pyg_bsl.sampling import SAMPLERS, BatchLoader
from pyg_bsl.training import scoring
from pyg_bsl.training.scoring import hardest, score
from pyg_bsl.types import Embeddings, Negatives
from tests.planted import NUM_ITEMS, NUM_USERS, planted

EVERY_SIMILARITY = pytest.mark.parametrize("similarity", ["cosine", "dot"])
EVERY_SAMPLER = pytest.mark.parametrize(
    ("name", "args"),
    [
        ("AllItems", {}),
        ("AllItems", {"avoid_seen": False}),
        ("Shared", {"num_negatives": 7}),
        ("Shared", {"num_negatives": 7, "avoid_seen": False}),
        ("InBatch", {}),
        ("InBatch", {"drop_hits": False, "correct_popularity": True}),
        ("ByPopularity", {"num_negatives": 9, "correct_popularity": True}),
        ("Mixed", {"num_negatives": 4, "correct_popularity": True}),
        ("Uniform", {"num_negatives": 6}),
        ("Uniform", {"num_negatives": 6, "avoid_seen": False}),
    ],
    ids=str,
)
BY = pytest.mark.parametrize("by", ["user", "pair"])


def embeddings() -> Embeddings:
    generator = torch.Generator().manual_seed(0)
    user, item = (
        torch.randn(size, 5, generator=generator, dtype=torch.float64, requires_grad=True)
        for size in (NUM_USERS, NUM_ITEMS)
    )
    return Embeddings(user, item)


def batch_and_negatives(name, args, by):
    batch = next(BatchLoader(planted().train, 5, by).epoch(torch.Generator().manual_seed(1)))
    generator = torch.Generator().manual_seed(2)
    return batch, SAMPLERS[name](**args).sample(batch, planted().train, generator)


def plain_score(emb: Embeddings, user: int, item: int, similarity: str) -> float:
    u, i = emb.user[user].tolist(), emb.item[item].tolist()
    product = sum(a * b for a, b in zip(u, i, strict=True))
    if similarity == "dot":
        return product
    return product / (sum(a * a for a in u) * sum(b * b for b in i)) ** 0.5


@EVERY_SAMPLER
@BY
@EVERY_SIMILARITY
def test_scores_are_those_of_every_pair_one_by_one(name, args, by, similarity):
    emb = embeddings()
    batch, negatives = batch_and_negatives(name, args, by)
    pos, neg = score(emb, batch, negatives, similarity)
    users, items = batch.users.tolist(), batch.items.tolist()
    expected = [plain_score(emb, u, i, similarity) for u, i in zip(users, items, strict=True)]
    torch.testing.assert_close(pos, torch.tensor(expected, dtype=torch.float64))

    dense = neg.dense().values.detach()
    for row, user in enumerate(users):
        per_row = negatives.items is not None and negatives.items.dim() == 2
        ids = torch.arange(NUM_ITEMS) if negatives.items is None else negatives.items
        ids = ids[row] if per_row else ids
        query = row if per_row else batch.positives.row[row]
        for at, item in enumerate(ids.tolist()):
            drop = negatives.drop
            if isinstance(drop, torch.Tensor):
                gone = bool(drop[query, at])
            else:
                gone = drop is not None and at in drop.col[drop.row == query].tolist()
            wanted = -float("inf") if gone else plain_score(emb, user, item, similarity)
            assert float(dense[row, at]) == pytest.approx(wanted)


@EVERY_SIMILARITY
@BY
def test_both_ways_of_scoring_per_row_agree(monkeypatch, similarity, by):
    batch, negatives = batch_and_negatives("Uniform", {"num_negatives": 6}, by)
    results = []
    for cost in (0, 10**9):  # gather always, or never
        monkeypatch.setattr(scoring, "GATHER_COST", cost)
        emb = embeddings()
        values = score(emb, batch, negatives, similarity)[1].dense().values
        values.sin().sum().backward()
        results.append((values.detach(), emb.user.grad, emb.item.grad))
    for one, other in zip(*results, strict=True):
        torch.testing.assert_close(one, other)


@pytest.mark.parametrize("cost", [0, 10**9])
def test_dropped_negatives_of_a_row_score_minus_infinity(monkeypatch, cost):
    monkeypatch.setattr(scoring, "GATHER_COST", cost)
    batch, negatives = batch_and_negatives("Uniform", {"num_negatives": 6}, "pair")
    drop = torch.rand(negatives.items.shape, generator=torch.Generator().manual_seed(3)) < 0.5
    kept, some = (
        score(embeddings(), batch, Negatives(negatives.items, gone))[1].dense().values
        for gone in (None, drop)
    )
    assert torch.equal(some, kept.masked_fill(drop, -float("inf")))


def test_negatives_of_each_row_come_in_full_and_shared_ones_lazy():
    for name in SAMPLERS:
        batch, negatives = batch_and_negatives(name, {}, "pair")
        neg = score(embeddings(), batch, hardest(embeddings(), batch, negatives))[1]
        in_full = name in ("Uniform", "FalseNegatives", "Hard")
        assert isinstance(neg, DenseScores if in_full else LazyScores)


@EVERY_SIMILARITY
def test_cosines_are_known_to_be_bounded_and_products_are_not(similarity):
    neg = score(embeddings(), *batch_and_negatives("AllItems", {}, "user"), similarity)[1]
    assert isinstance(neg, LazyScores) and neg.bounded == (similarity == "cosine")


@EVERY_SIMILARITY
def test_a_zero_vector_scores_zero_with_finite_gradients(similarity):
    user = torch.zeros(NUM_USERS, 3, requires_grad=True)
    item = torch.zeros(NUM_ITEMS, 3, requires_grad=True)
    batch, negatives = batch_and_negatives("Uniform", {"avoid_seen": False}, "user")
    pos, neg = score(Embeddings(user, item), batch, negatives, similarity)
    assert not pos.any() and not neg.dense().values.any()
    (pos.sum() + neg.dense().values.sum()).backward()
    assert user.grad.isfinite().all() and item.grad.isfinite().all()


def test_log_weights_are_handed_on():
    batch, _ = batch_and_negatives("AllItems", {}, "user")
    weight = torch.randn(3, dtype=torch.float64)
    for items in (torch.tensor([0, 4, 2]), torch.zeros(25, 3, dtype=torch.long)):
        neg = score(embeddings(), batch, Negatives(items, log_weight=weight))[1]
        assert neg.log_weight is weight


@EVERY_SIMILARITY
@BY
@pytest.mark.parametrize("count", [1, 3, 1000])
@pytest.mark.parametrize(
    ("name", "args"),
    [
        ("Shared", {"num_negatives": 9}),
        ("Mixed", {"num_negatives": 5, "correct_popularity": True}),
        ("AllItems", {}),
        ("Uniform", {"num_negatives": 9}),
    ],
)
def test_the_hardest_negatives_of_each_row_are_kept(name, args, count, by, similarity):
    batch, pool = batch_and_negatives(name, args, by)
    emb = embeddings()
    every = score(emb, batch, pool, similarity)[1].dense()
    assert hardest(emb, batch, pool, similarity) is pool
    kept = hardest(emb, batch, replace(pool, keep_hardest=count), similarity)
    pos, neg = score(emb, batch, kept, similarity)
    assert isinstance(neg, DenseScores)
    num_rows, width = every.values.shape
    wanted = min(count, width)
    assert neg.values.shape == (num_rows, wanted) and pos.shape == (num_rows,)
    expected = torch.zeros((), dtype=torch.float64)
    for row, scores in enumerate(every.values.tolist()):
        pairs = sorted(((s, at) for at, s in enumerate(scores)), reverse=True)[:wanted]
        assert sorted(neg.values[row].tolist()) == pytest.approx(sorted(s for s, _ in pairs))
        if every.log_weight is not None:
            weights = every.log_weight.expand_as(every.values)[row]
            mass = sum(float(weights[at].exp()) for s, at in pairs if s > -float("inf"))
            assert float(neg.mass()[row]) == pytest.approx(mass, rel=1e-5)
        ids = torch.arange(NUM_ITEMS) if pool.items is None else pool.items
        ids = ids[row] if ids.dim() == 2 else ids
        finite = [at for s, at in pairs if s > -float("inf")]
        assert sorted(kept.items[row][~kept.drop[row]].tolist()) == sorted(ids[finite].tolist())
        expected = expected + torch.stack([every.values[row, at] for at in finite]).exp().sum()
    got = torch.autograd.grad(neg.values.exp().sum(), (emb.user, emb.item))
    for one, other in zip(got, torch.autograd.grad(expected, (emb.user, emb.item)), strict=True):
        torch.testing.assert_close(one, other)
