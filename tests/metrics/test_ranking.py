import json
import math
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import Tensor

from pyg_bsl.metrics.ranking import METRICS, parse_metric, rank_metrics
from pyg_bsl.types import UserItems

CUTS = (1, 3, 10, 50)


def rows(lists: list[list[int]], num_items: int) -> UserItems:
    users = torch.tensor([u for u, items in enumerate(lists) for _ in items], dtype=torch.long)
    flat = torch.tensor([i for items in lists for i in items], dtype=torch.long)
    return UserItems.from_pairs(users, flat, len(lists), num_items)


def case(
    num_lists: int = 60, num_items: int = 25, length: int = 25
) -> tuple[Tensor, list[list[int]], list[int]]:
    """Random lists, some cut short by -1, their targets, some without any, and popularity."""
    generator = torch.Generator().manual_seed(0)
    items = torch.rand(num_lists, num_items, generator=generator).argsort(1)[:, :length].clone()
    targets = []
    for u in range(num_lists):
        if u % 5 == 0:
            items[u, u % length :] = -1
        count = 0 if u % 7 == 3 else 1 + u % 12
        targets.append(torch.randperm(num_items, generator=generator)[:count].tolist())
    return items, targets, torch.randint(100, (num_items,), generator=generator).tolist()


def slow_metrics(
    items: list[list[int]], targets: list[list[int]], popularity: list[int], k: int
) -> dict[str, float]:
    sums = dict.fromkeys(("recall", "ndcg", "precision", "hit_rate", "mrr", "map"), 0.0)
    users = 0
    recommended = []
    for ranked, wanted in zip(items, targets, strict=True):
        ranked = [i for i in ranked[:k] if i >= 0]
        recommended += ranked
        if not wanted:
            continue
        users += 1
        ranks = [r for r, i in enumerate(ranked, start=1) if i in wanted]
        ideal = sum(1 / math.log2(r + 1) for r in range(1, min(k, len(wanted)) + 1))
        sums["recall"] += len(ranks) / len(wanted)
        sums["ndcg"] += sum(1 / math.log2(r + 1) for r in ranks) / ideal
        sums["precision"] += len(ranks) / k
        sums["hit_rate"] += float(bool(ranks))
        sums["mrr"] += 1 / ranks[0] if ranks else 0
        sums["map"] += sum(n / r for n, r in enumerate(ranks, start=1)) / min(k, len(wanted))
    return {name: total / users for name, total in sums.items()} | {
        "coverage": len(set(recommended)) / len(popularity),
        "average_popularity": sum(popularity[i] for i in recommended) / len(recommended),
    }


def test_every_metric_equals_its_formula() -> None:
    items, targets, popularity = case()
    out = rank_metrics(items, rows(targets, 25), torch.tensor(popularity), k=CUTS)
    assert list(out) == [f"{name}@{k}" for name in METRICS for k in CUTS]
    for k in CUTS:
        for name, value in slow_metrics(items.tolist(), targets, popularity, k).items():
            assert out[f"{name}@{k}"] == pytest.approx(value, rel=1e-6, abs=1e-9), (name, k)


def test_many_lists_are_averaged_as_one(monkeypatch: pytest.MonkeyPatch) -> None:
    items, targets, popularity = case()
    args = items, rows(targets, 25), torch.tensor(popularity)
    expected = rank_metrics(*args)
    monkeypatch.setattr("pyg_bsl.metrics.ranking._LISTS", 7)
    assert rank_metrics(*args) == pytest.approx(expected, rel=1e-6)


def test_places_without_an_item_are_never_hits() -> None:
    # The last item of the list above is a target: -1 must not be taken for it.
    items = torch.tensor([[0, 1, 2], [0, -1, -1], [-1, -1, -1]])
    out = rank_metrics(items, rows([[2], [2], [2]], 3), torch.tensor([1, 1, 9]), k=[3])
    assert out["recall@3"] == out["hit_rate@3"] == pytest.approx(1 / 3)
    assert out["average_popularity@3"] == pytest.approx((1 + 1 + 9 + 1) / 4)
    nothing = rank_metrics(items[2:], rows([[2]], 3), torch.tensor([1, 1, 9]), k=[3])
    assert set(nothing.values()) == {0.0}


def test_means_over_more_users_scale_accuracy_alone() -> None:
    items, targets, popularity = case()
    args = items, rows(targets, 25), torch.tensor(popularity)
    scored = sum(1 for wanted in targets if wanted)
    some, every = rank_metrics(*args), rank_metrics(*args, num_users=100)
    for name, value in some.items():
        share = 1 if name.startswith(("coverage", "average")) else scored / 100
        assert every[name] == pytest.approx(value * share, rel=1e-6)


def test_no_targets_at_all_give_zeros() -> None:
    out = rank_metrics(torch.tensor([[0, 1]]), rows([[]], 2), torch.tensor([3, 5]), k=[2])
    assert out["recall@2"] == out["ndcg@2"] == 0.0
    assert out["coverage@2"] == 1.0


def test_perfect_lists_score_one() -> None:
    targets = [[3, 1], [0], [2, 4, 1]]
    items = torch.tensor([[1, 3, 0], [0, 1, 2], [4, 2, 1]])
    out = rank_metrics(items, rows(targets, 5), torch.ones(5), k=[3], metrics=["ndcg", "map"])
    assert out == pytest.approx({"ndcg@3": 1.0, "map@3": 1.0})


def scores_of(items: Tensor) -> Tensor:
    """Positive scores that rank each row's items as listed."""
    places = torch.arange(items.size(1), 0, -1).expand_as(items) / items.size(1)
    return torch.empty(items.shape).scatter(1, items, places)


def full_case() -> tuple[Tensor, UserItems, Tensor]:
    items, targets, popularity = case(length=25)
    items = torch.rand(60, 25, generator=torch.Generator().manual_seed(1)).argsort(1)
    return items, rows(targets, 25), torch.tensor(popularity)


def test_metrics_equal_those_of_torchmetrics() -> None:
    retrieval = pytest.importorskip("torchmetrics.retrieval")
    items, targets, popularity = full_case()
    out = rank_metrics(items, targets, popularity, k=CUTS)
    relevant = torch.zeros(60, 25, dtype=torch.bool)
    relevant[targets.users, targets.items] = True
    query = torch.arange(60)[:, None].expand(60, 25)
    for k in CUTS:
        theirs = {
            "recall": retrieval.RetrievalRecall,
            "ndcg": retrieval.RetrievalNormalizedDCG,
            "precision": retrieval.RetrievalPrecision,
            "hit_rate": retrieval.RetrievalHitRate,
            "mrr": retrieval.RetrievalMRR,
        }
        if k >= 25:  # before that theirs divides by the hits in the list
            theirs["map"] = retrieval.RetrievalMAP
        for name, metric in theirs.items():
            value = metric(empty_target_action="skip", top_k=k)(
                scores_of(items).flatten(), relevant.flatten(), indexes=query.flatten()
            )
            assert out[f"{name}@{k}"] == pytest.approx(value.item(), rel=1e-5), (name, k)


def test_metrics_equal_those_of_ir_measures() -> None:
    ir_measures = pytest.importorskip("ir_measures")
    items, targets, popularity = full_case()
    out = rank_metrics(items, targets, popularity, k=CUTS)
    qrels: dict[str, dict[str, int]] = {}
    for u, i in zip(targets.users.tolist(), targets.items.tolist(), strict=True):
        qrels.setdefault(str(u), {})[str(i)] = 1
    run = {
        str(u): {str(i): score for i, score in enumerate(scores_of(items)[u].tolist())}
        for u in range(60)
    }
    theirs = {"recall": "R", "ndcg": "nDCG", "precision": "P", "hit_rate": "Success", "mrr": "RR"}
    measures = {f"{n}@{k}": getattr(ir_measures, t) @ k for n, t in theirs.items() for k in CUTS}
    measures["map@50"] = ir_measures.AP  # of the whole ranking: here it divides by all targets
    values = ir_measures.calc_aggregate(measures.values(), qrels, run)
    for name, measure in measures.items():
        assert out[name] == pytest.approx(values[measure], rel=1e-5), name


def test_metrics_are_the_same_where_torchmetrics_is_not_installed() -> None:
    # PyG's metrics have another base class then.
    code = f"""
import json, sys
sys.modules["torchmetrics"] = None
import torch
from tests.metrics.test_ranking import case, rows
from pyg_bsl.metrics.ranking import rank_metrics
items, targets, popularity = case()
print(json.dumps(rank_metrics(items, rows(targets, 25), torch.tensor(popularity), k={CUTS})))
"""
    run = [sys.executable, "-W", "ignore", "-c", code]
    root = Path(__file__).parents[2]
    printed = subprocess.run(run, check=True, capture_output=True, text=True, cwd=root).stdout
    items, targets, popularity = case()
    out = rank_metrics(items, rows(targets, 25), torch.tensor(popularity), k=CUTS)
    assert json.loads(printed) == pytest.approx(out, rel=1e-6)


def test_metric_names_are_parsed_or_explained() -> None:
    assert parse_metric("hit_rate@5") == ("hit_rate", 5)
    for text in ("ndcg", "ndcg@", "ndcg@0", "ndcg@-3", "ndcg@x", "ndcg@1.5", "@", ""):
        with pytest.raises(ValueError, match="'name@K' with a positive whole number K"):
            parse_metric(text)
    with pytest.raises(ValueError, match=r"Unknown metric 'ndgc'; did you mean 'ndcg'\?"):
        parse_metric("ndgc@20")


def test_unknown_metrics_and_cuts_are_errors() -> None:
    args = torch.tensor([[0]]), rows([[0]], 1), torch.tensor([1])
    with pytest.raises(ValueError, match="Unknown metric 'recal'; did you mean 'recall'"):
        rank_metrics(*args, metrics=["recal"])
    with pytest.raises(ValueError, match=r"got 'recall@0'"):
        rank_metrics(*args, metrics=["recall"], k=[0, 10])
