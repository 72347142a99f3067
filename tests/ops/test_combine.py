from dataclasses import replace

import pytest
import torch
from torch import Tensor

from pyg_bsl.ops import (
    DenseScores,
    LazyScores,
    add_scores,
    detached,
    log_mean_exp,
    log_mean_exp_map,
    mean_map,
    num_negatives,
    of_queries,
    with_vectors,
)
from tests.ops.cases import (
    EVERY_KIND,
    LargestTensor,
    assert_same,
    lazy_scores,
    ragged,
    tiny_tiles,  # noqa: F401
)


def vectors(scores: LazyScores, dim: int = 3) -> tuple[Tensor, Tensor]:
    """A vector of each row, the same in all rows of a query, and one of each key."""
    generator = torch.Generator().manual_seed(5)
    query, key = (
        torch.randn(n, dim, generator=generator, dtype=scores.query.dtype).requires_grad_()
        for n in (scores.query.size(0), scores.key.size(0))
    )
    return query, key


@EVERY_KIND
@pytest.mark.usefixtures("tiny_tiles")
@pytest.mark.parametrize("reduce", [mean_map, log_mean_exp_map])
def test_once_a_query_equals_once_a_row(rows, drop, weighted, reduce) -> None:
    scores = lazy_scores(0, rows, drop, weighted)
    margin = torch.rand(scores.query.size(0), dtype=torch.float64, requires_grad=True)

    def kernel(s: Tensor, m: Tensor) -> Tensor:
        return (s - m) ** 2

    def both(s: DenseScores | LazyScores) -> Tensor:
        return reduce(s, kernel, scores.spread(margin), per_query=True)

    assert_same(both, scores, [margin])
    torch.testing.assert_close(both(scores), reduce(scores, kernel, scores.spread(margin)))


def test_once_a_query_does_the_work_once() -> None:
    work = []
    for count in (1, 20):
        rows = ragged([[0] * count] * 4)
        scores = replace(lazy_scores(0, num_queries=4, num_keys=500), rows=rows)
        with LargestTensor() as made:
            mean_map(scores, lambda s, m: s * m, torch.ones(4 * count), per_query=True)
        work.append(made.work)
    assert work[1] < 1.5 * work[0]


@EVERY_KIND
@pytest.mark.usefixtures("tiny_tiles")
@pytest.mark.parametrize("combine", ["other", "sum"])
def test_scores_of_other_vectors_lazy_equal_dense(rows, drop, weighted, combine) -> None:
    scores = lazy_scores(0, rows, drop, weighted)
    query, key = vectors(scores)

    def reduced(s: DenseScores | LazyScores) -> Tensor:
        more = (scores.spread(query), key)
        s = with_vectors(s, *more) if combine == "other" else add_scores(s, 0.3, *more)
        return log_mean_exp(s, 1.0)

    assert_same(reduced, scores, [query, key])
    extra = scores.spread(query) @ key.t()
    dense = scores.dense().values
    expected = extra if combine == "other" else dense / 0.3 + extra
    got = with_vectors(scores, scores.spread(query), key)
    if combine == "sum":
        got = add_scores(scores, 0.3, scores.spread(query), key)
    keep = dense > -torch.inf
    torch.testing.assert_close(got.dense().values[keep], expected[keep])
    assert (got.dense().values[~keep] == -torch.inf).all()


def test_each_row_may_have_negatives_of_its_own() -> None:
    scores = DenseScores(torch.tensor([[0.5, -torch.inf], [0.1, 0.2]]))
    query, key = torch.tensor([[1.0], [2.0]]), torch.tensor([[[3.0], [4.0]], [[5.0], [6.0]]])
    expected = torch.tensor([[3.0, -torch.inf], [10.0, 12.0]])
    assert torch.equal(with_vectors(scores, query, key).values, expected)
    torch.testing.assert_close(
        add_scores(scores, 0.5, query, key).values, expected + scores.values / 0.5
    )


def test_values_of_queries_are_those_of_their_first_row() -> None:
    scores = LazyScores(torch.ones(3, 1), torch.ones(2, 1), rows=ragged([[0, 0], [], [0]]))
    x = torch.tensor([4.0, 5.0, 6.0])
    assert of_queries(scores, x)[[0, 2]].tolist() == [4.0, 6.0]
    assert of_queries(scores.dense(), x) is x


def test_detached_scores_have_no_gradient() -> None:
    scores = lazy_scores(0, "ragged")
    for s in (scores, scores.dense()):
        assert mean_map(s, torch.square).requires_grad
        assert not mean_map(detached(s), torch.square).requires_grad
        assert num_negatives(s) == scores.key.size(0)


def test_half_precision_is_combined_in_float32() -> None:
    scores = DenseScores(torch.tensor([[0.5, 0.25]], dtype=torch.bfloat16))
    out = add_scores(scores, 0.3, torch.ones(1, 1), torch.ones(2, 1))
    assert out.values.dtype == torch.float32
    torch.testing.assert_close(out.values, torch.tensor([[0.5 / 0.3 + 1, 0.25 / 0.3 + 1]]))
    lazy = LazyScores(scores.values, torch.ones(3, 2, dtype=torch.bfloat16))
    assert add_scores(lazy, 0.3, torch.ones(1, 1), torch.ones(3, 1)).query.dtype == torch.float32
