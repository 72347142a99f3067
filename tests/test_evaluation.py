import math
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from pyg_bsl.evaluation import PROTOCOLS, Protocol, evaluate, recommend
from pyg_bsl.metrics.ranking import METRICS
from pyg_bsl.types import BipartiteGraph, Embeddings, UserItems

NUM_USERS, NUM_ITEMS, DIM = 40, 30, 3
Lists = list[list[int]]


def rows(lists: Lists) -> UserItems:
    users = torch.tensor([u for u, items in enumerate(lists) for _ in items], dtype=torch.long)
    flat = torch.tensor([i for items in lists for i in items], dtype=torch.long)
    return UserItems.from_pairs(users, flat, len(lists), NUM_ITEMS)


def make_lists() -> tuple[Lists, Lists, Lists]:
    """Train, validation and test items of each user, disjoint.

    Some users have no validation or test items, and to user 0 every item is known.
    """
    generator = torch.Generator().manual_seed(0)
    train, valid, test = [], [], []
    for u in range(NUM_USERS):
        order = torch.randperm(NUM_ITEMS, generator=generator).tolist()
        a, b = (26, 28) if u == 0 else (1 + u % 9, 1 + u % 9 + u % 3)
        c = NUM_ITEMS if u == 0 else b + (0 if u % 4 == 1 else 1 + u % 6)
        train.append(order[:a])
        valid.append(order[a:b])
        test.append(order[b:c])
    return train, valid, test


TRAIN, VALID, TEST = make_lists()
GRAPH = BipartiteGraph(rows(TRAIN), rows(VALID), rows(TEST), torch.empty(0), name="made-up")


def whole_numbers() -> Embeddings:
    """Exact scores, most of them tied, and some vectors that are zero."""
    generator = torch.Generator().manual_seed(1)
    user = torch.randint(-1, 2, (NUM_USERS, DIM), generator=generator).float()
    item = torch.randint(-1, 2, (NUM_ITEMS, DIM), generator=generator).float()
    user[3], item[5] = 0, 0
    return Embeddings(user, item)


def real_numbers() -> Embeddings:
    generator = torch.Generator().manual_seed(2)
    user = torch.randn(NUM_USERS, DIM, generator=generator)
    return Embeddings(user, 2 * torch.randn(NUM_ITEMS, DIM, generator=generator))


def slow_list(user: list[float], items: list[list[float]], similarity: str, k: int, known: set):
    def norm(x: list[float]) -> float:
        return math.sqrt(sum(a * a for a in x)) or 1.0

    scores = {}
    for i, item in enumerate(items):
        score = sum(a * b for a, b in zip(user, item, strict=True))
        scores[i] = score / (norm(user) * norm(item)) if similarity == "cosine" else score
    left = [i for i in scores if i not in known]
    return sorted(left, key=lambda i: (-round(scores[i], 5), i))[:k]


def slow_evaluate(emb: Embeddings, protocol: str, split: str, similarity: str, k: int):
    """One user at a time, in float64."""
    rule = PROTOCOLS[protocol]
    wanted = TEST if split == "test" or rule.select_on == "test" else VALID
    sums = dict.fromkeys(("recall", "ndcg", "precision", "hit_rate", "mrr", "map"), 0.0)
    recommended: list[int] = []
    scored = 0
    users, items = emb.user.double().tolist(), emb.item.double().tolist()
    for u, target in enumerate(wanted):
        if not target:
            continue
        scored += 1
        known = set(TRAIN[u])
        if split == "test" and rule.mask_valid:
            known |= set(VALID[u])
        ranked = slow_list(users[u], items, similarity, k, known)
        recommended += ranked
        ranks = [r for r, i in enumerate(ranked, start=1) if i in target]
        ideal = sum(1 / math.log2(r + 1) for r in range(1, min(k, len(target)) + 1))
        sums["recall"] += len(ranks) / len(target)
        sums["ndcg"] += sum(1 / math.log2(r + 1) for r in ranks) / ideal
        sums["precision"] += len(ranks) / k
        sums["hit_rate"] += float(bool(ranks))
        sums["mrr"] += 1 / ranks[0] if ranks else 0
        sums["map"] += sum(n / r for n, r in enumerate(ranks, start=1)) / min(k, len(target))
    count = NUM_USERS if rule.average == "all" else scored
    popularity = [sum(i in seen for seen in TRAIN) for i in range(NUM_ITEMS)]
    return {f"{name}@{k}": total / count for name, total in sums.items()} | {
        f"coverage@{k}": len(set(recommended)) / NUM_ITEMS,
        f"average_popularity@{k}": sum(popularity[i] for i in recommended) / len(recommended),
    }


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("split", ["valid", "test"])
@pytest.mark.parametrize("similarity", ["cosine", "dot"])
@pytest.mark.parametrize("make", [whole_numbers, real_numbers])
def test_evaluation_equals_one_user_at_a_time(protocol, split, similarity, make) -> None:
    emb = make()
    if similarity == "cosine" and make is whole_numbers:
        # Items of one nonzero entry: their cosines tie exactly, whatever the rounding.
        emb = Embeddings(emb.user, emb.item * (emb.item.abs().sum(1) == 1)[:, None])
    ks = (1, 4, 10, 100)
    out = evaluate(emb, GRAPH, split, ks, protocol, similarity)
    assert list(out) == [f"{name}@{k}" for name in METRICS for k in ks]
    for k in ks:
        expected = slow_evaluate(emb, protocol, split, similarity, k)
        assert {name: out[name] for name in expected} == pytest.approx(expected, rel=1e-5)


def test_protocols_mask_and_average_as_they_say() -> None:
    # User 0 knows item 0, validates on item 1 and is tested on item 2; user 1 has train alone.
    def pairs(*items: int) -> UserItems:
        return UserItems.from_pairs(
            torch.zeros(len(items), dtype=torch.long), torch.tensor(items), 2, 4
        )

    graph = BipartiteGraph(pairs(0), pairs(1), pairs(2), torch.empty(0))
    emb = Embeddings(torch.ones(2, 1), torch.tensor([[4.0], [3.0], [2.0], [1.0]]))

    def mrr(protocol: str, split: str) -> float:
        return evaluate(emb, graph, split, 4, protocol, "dot", ["mrr"])["mrr@4"]

    assert mrr("holdout", "test") == 1  # items 0 and 1 are out of the way
    assert mrr("psl-iid", "test") == 1 / 2 / 2  # item 1 is not, and user 1 counts 0
    assert mrr("psl-ood", "test") == 1 / 2 / 2
    assert mrr("bsl-released", "test") == 1 / 2
    assert mrr("holdout", "valid") == 1
    assert mrr("psl-iid", "valid") == 1 / 2
    assert mrr("psl-ood", "valid") == mrr("psl-ood", "test")  # chosen on test
    assert mrr("bsl-released", "valid") == mrr("bsl-released", "test")


def test_protocol_can_be_given_itself() -> None:
    ours = Protocol("ours", "", mask_valid=True, average="all", select_on="valid", source="")
    scored = sum(1 for items in TEST if items)
    some = evaluate(real_numbers(), GRAPH, metrics=["recall"])
    every = evaluate(real_numbers(), GRAPH, metrics=["recall"], protocol=ours)
    share = scored / NUM_USERS
    assert every == pytest.approx({name: value * share for name, value in some.items()})


def test_protocols_are_listed_by_their_names() -> None:
    assert all(name == protocol.name for name, protocol in PROTOCOLS.items())
    assert all(protocol.description and protocol.source for protocol in PROTOCOLS.values())


@pytest.mark.parametrize("make", [whole_numbers, real_numbers])
def test_block_size_does_not_change_results_and_repeats_are_equal(make) -> None:
    # By inner product: those of whole numbers are exact, where equal cosines may be rounded
    # differently in products of different sizes.
    expected = evaluate(make(), GRAPH, similarity="dot")
    assert evaluate(make(), GRAPH, similarity="dot") == expected
    for block_size in (1, 7, 1000):
        assert evaluate(make(), GRAPH, similarity="dot", block_size=block_size) == expected


def test_cosine_ignores_lengths_and_dot_does_not() -> None:
    emb = real_numbers()
    longer = Embeddings(3 * emb.user, emb.item * (1 + torch.arange(NUM_ITEMS))[:, None])
    assert evaluate(longer, GRAPH) == evaluate(emb, GRAPH)
    assert evaluate(longer, GRAPH, similarity="dot") != evaluate(emb, GRAPH, similarity="dot")


def test_half_precision_embeddings_are_ranked_in_single() -> None:
    emb = whole_numbers()
    half = Embeddings(emb.user.bfloat16(), emb.item.bfloat16())
    assert evaluate(half, GRAPH, similarity="dot") == evaluate(emb, GRAPH, similarity="dot")


def test_embeddings_with_gradients_are_evaluated() -> None:
    emb = real_numbers()
    leaf = Embeddings(emb.user.clone().requires_grad_(), emb.item.clone().requires_grad_())
    assert evaluate(leaf, GRAPH) == evaluate(emb, GRAPH)


def test_cuts_are_a_number_or_several_in_any_order() -> None:
    emb = real_numbers()
    assert list(evaluate(emb, GRAPH, k=3, metrics=["ndcg"])) == ["ndcg@3"]
    assert list(evaluate(emb, GRAPH, k=[5, 2, 5], metrics=["ndcg"])) == ["ndcg@2", "ndcg@5"]


def test_wrong_arguments_are_named() -> None:
    emb = real_numbers()

    def fails(match: str, emb: Embeddings = emb, graph: BipartiteGraph = GRAPH, **kwargs) -> None:
        with pytest.raises(ValueError, match=match):
            evaluate(emb, graph, **kwargs)

    fails("Unknown protocol 'hold-out'; did you mean 'holdout'", protocol="hold-out")
    fails("Unknown metric 'recal'; did you mean 'recall'", metrics=["recal"])
    fails("got 'recall@0'", k=0)
    fails("at least one K", k=[])
    fails("one of 'valid', 'test'.*got 'train'", split="train")
    fails("one of 'cosine', 'dot'.*got 'euclid'", similarity="euclid")
    fails("no valid interactions", graph=replace(GRAPH, valid=None), split="valid")
    empty = rows([[] for _ in range(NUM_USERS)])
    fails("'made-up' has no test pairs", graph=replace(GRAPH, test=empty))
    fails(r"item embeddings must be \[30, D\] .*\[29, 3\]", Embeddings(emb.user, emb.item[1:]))
    fails("item embeddings hold NaN", Embeddings(emb.user, emb.item.log()))
    fails("user embeddings hold NaN", Embeddings(emb.user / 0, emb.item))
    fails("on 'meta'", Embeddings(emb.user.to("meta"), emb.item))


@pytest.mark.parametrize("similarity", ["cosine", "dot"])
@pytest.mark.parametrize("exclude_seen", [True, False])
def test_recommendations_are_the_best_unseen_items(similarity, exclude_seen) -> None:
    emb, users = real_numbers(), [7, 0, 7, 39]
    items, scores = recommend(emb, GRAPH, users, 10, similarity, exclude_seen)
    assert items.shape == scores.shape == (4, 10)
    vectors = emb.item.double().tolist()
    for row, u in enumerate(users):
        known = {*TRAIN[u], *VALID[u], *TEST[u]} if exclude_seen else set()
        expected = slow_list(emb.user[u].double().tolist(), vectors, similarity, 10, known)
        assert items[row].tolist() == expected + [-1] * (10 - len(expected))
        assert scores[row].isinf().tolist() == [False] * len(expected) + [True] * (
            10 - len(expected)
        )


def test_recommendations_take_a_tensor_or_nobody() -> None:
    emb = real_numbers()
    assert torch.equal(
        recommend(emb, GRAPH, torch.tensor([4, 2]))[0], recommend(emb, GRAPH, [4, 2])[0]
    )
    nobody: tuple[Tensor, Tensor] = recommend(emb, GRAPH, [], k=5)
    assert nobody[0].shape == nobody[1].shape == (0, 5)


@pytest.mark.parametrize("user", [-1, NUM_USERS])
def test_recommendations_for_unknown_users_are_errors(user: int) -> None:
    with pytest.raises(ValueError, match=rf"from 0 to {NUM_USERS - 1} \(got {user}\)"):
        recommend(real_numbers(), GRAPH, [0, user])


def test_a_backbone_in_place_of_its_embeddings_is_told_the_cure():
    with pytest.raises(TypeError, match=r"got str and str\): backbone\(graph\) gives the one"):
        recommend("backbone", "graph", [0])
    with pytest.raises(TypeError, match="Evaluation takes Embeddings and a BipartiteGraph"):
        evaluate("backbone", "graph")


@pytest.mark.parametrize("similarity", ["cosine", "dot"])
def test_embeddings_that_know_their_scores_are_ranked_by_them(similarity) -> None:
    plain = real_numbers()
    emb = replace(plain, similarity=similarity)
    assert evaluate(emb, GRAPH) == evaluate(plain, GRAPH, similarity=similarity)
    assert torch.equal(
        recommend(emb, GRAPH, [1, 2])[0], recommend(plain, GRAPH, [1, 2], similarity=similarity)[0]
    )
    other = "dot" if similarity == "cosine" else "cosine"
    assert evaluate(emb, GRAPH, similarity=other) == evaluate(plain, GRAPH, similarity=other)
    for same in (emb.detach(), emb.to("cpu")):
        assert same.similarity == similarity


def test_nothing_known_of_a_user_is_recommended() -> None:
    items, _ = recommend(real_numbers(), GRAPH, range(NUM_USERS), k=NUM_ITEMS)
    for user, row in enumerate(items.tolist()):
        known = {*TRAIN[user], *VALID[user], *TEST[user]}
        assert {*row} - {-1} == {*range(NUM_ITEMS)} - known


@pytest.mark.parametrize(
    "users", [[True, False], [1.0], torch.tensor([0.5]), torch.ones(NUM_USERS, dtype=torch.bool)]
)
def test_users_that_are_no_whole_numbers_are_errors(users) -> None:
    with pytest.raises(ValueError, match="'users' must be numbers of users, whole ones"):
        recommend(real_numbers(), GRAPH, users)
