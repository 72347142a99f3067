import math

import pytest
import torch

from pyg_bsl.ops import DenseScores, LazyScores
from tests.ops.cases import BOTH_TYPES, EVERY_KIND, assert_near, lazy_scores, ragged, tolerance


def slow_dense(scores: LazyScores) -> list[list[float]]:
    """One row of the loss after the other, one key after the other; -inf where dropped."""
    num_queries = scores.query.size(0)
    query, key = scores.query.tolist(), scores.key.tolist()
    row = range(num_queries) if scores.rows is None else scores.rows.row.tolist()
    if isinstance(scores.drop, torch.Tensor):
        gone = {(q, j) for q, j in scores.drop.nonzero().tolist()}
    elif scores.drop is None:
        gone = set()
    else:
        gone = set(zip(scores.drop.row.tolist(), scores.drop.col.tolist(), strict=True))
    return [
        [
            -math.inf if (q, j) in gone else sum(a * b for a, b in zip(query[q], k, strict=True))
            for j, k in enumerate(key)
        ]
        for q in row
    ]


@EVERY_KIND
def test_dense_is_each_row_against_each_key(rows, drop, weighted) -> None:
    scores = lazy_scores(0, rows, drop, weighted)
    dense = scores.dense()
    assert dense.num_rows == scores.num_rows
    expected = torch.tensor(slow_dense(scores), dtype=torch.float64)
    torch.testing.assert_close(dense.values, expected)
    assert dense.log_weight is scores.log_weight
    assert dense.dense() is dense


@EVERY_KIND
@BOTH_TYPES
@pytest.mark.parametrize("seed", range(3))
def test_mass_is_the_weight_of_what_is_kept(rows, drop, weighted, dtype, seed) -> None:
    scores = lazy_scores(seed, rows, drop, weighted, dtype)
    weight = [1.0] * scores.key.size(0)
    if scores.log_weight is not None:
        weight = [math.exp(w) for w in scores.log_weight.tolist()]
    expected = torch.tensor(
        [
            sum(w for w, s in zip(weight, row, strict=True) if s > -math.inf)
            for row in slow_dense(scores)
        ],
        dtype=dtype,
    )
    for mass in (scores.mass(), scores.dense().mass()):
        assert mass.dtype == dtype
        assert_near(mass, expected, tolerance(dtype))
    assert ((scores.mass() == 0) == (expected == 0)).all()


def test_mass_of_light_keys_survives_the_drop_of_a_heavy_one() -> None:
    log_weight = torch.tensor([25.0, 0.0, 0.0])  # e^25 in float32 swallows 2
    scores = LazyScores(torch.ones(1, 1), torch.ones(3, 1), None, ragged([[0]]), log_weight)
    torch.testing.assert_close(scores.mass(), torch.tensor([2.0]))
    generator = torch.Generator().manual_seed(0)
    log_weight = 20 * torch.randn(1000, generator=generator)
    heavy = log_weight.argsort(descending=True)[:999].tolist()
    scores = LazyScores(torch.ones(1, 1), torch.ones(1000, 1), None, ragged([heavy]), log_weight)
    assert scores.mass().item() >= 0


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_mass_counts_in_float32_whatever_the_scores_are(dtype: torch.dtype) -> None:
    key = torch.ones(70_001, 1, dtype=dtype)  # beyond what half precision can count
    lazy = LazyScores(key[:2], key, drop=ragged([[], [5]]))
    assert lazy.mass().tolist() == [70_001, 70_000]
    assert DenseScores(key.t()).mass().tolist() == [70_001]


def test_nan_is_not_a_dropped_score() -> None:
    assert DenseScores(torch.tensor([[float("nan"), -math.inf, 0.0]])).mass().tolist() == [2]


def test_spread_repeats_the_values_of_a_query() -> None:
    scores = LazyScores(torch.ones(3, 1), torch.ones(2, 1), rows=ragged([[0, 0], [], [0]]))
    assert scores.num_rows == 3
    assert scores.spread(torch.tensor([7, 8, 9])).tolist() == [7, 7, 9]
    one = LazyScores(torch.ones(3, 1), torch.ones(2, 1))
    assert one.num_rows == 3
    assert one.spread(torch.tensor([7, 8, 9])).tolist() == [7, 8, 9]


def test_log_weight_that_wants_a_gradient_is_refused() -> None:
    log_weight = torch.zeros(2, requires_grad=True)
    with pytest.raises(ValueError, match=r"'log_weight' gets no gradient .* detach it"):
        LazyScores(torch.ones(1, 1), torch.ones(2, 1), log_weight=log_weight)
    LazyScores(torch.ones(1, 1), torch.ones(2, 1), log_weight=log_weight.detach())


def test_no_keys_are_refused() -> None:
    with pytest.raises(ValueError, match=r"'key' must hold at least one negative \(got 0\)"):
        LazyScores(torch.ones(1, 1), torch.ones(0, 1))
