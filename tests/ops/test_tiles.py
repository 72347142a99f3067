import itertools
from dataclasses import replace

import pytest
import torch

from pyg_bsl.ops.tiles import TileScores
from tests.ops.cases import DropKind, lazy_scores


@pytest.mark.parametrize("drop", ["none", "ragged", "boolean", "all"])
@pytest.mark.parametrize(("height", "width"), [(1, 1), (3, 4), (100, 100)])
def test_tiles_put_together_are_the_dense_scores(drop: DropKind, height: int, width: int) -> None:
    scores = lazy_scores(0, drop=drop)
    num_queries, num_keys = scores.query.size(0), scores.key.size(0)
    tiles = TileScores(scores, height, width)
    whole, zeroed = torch.empty(2, num_queries, num_keys, dtype=torch.float64)
    with torch.no_grad():
        for q0, c0 in itertools.product(range(0, num_queries, height), range(0, num_keys, width)):
            q1, c1 = min(q0 + height, num_queries), min(c0 + width, num_keys)
            tile = tiles(q0, q1, c0, c1)
            whole[q0:q1, c0:c1] = tile
            copy = tiles.like(tile).copy_(tile)
            tiles.fill(copy, q0, q1, c0, c1, 0.0)
            zeroed[q0:q1, c0:c1] = copy
    values = scores.dense().values.detach()
    torch.testing.assert_close(whole, values)
    torch.testing.assert_close(zeroed, values.masked_fill(values == -torch.inf, 0))


@pytest.mark.parametrize("gemm", [None, torch.bfloat16])
def test_gradients_are_added_to_what_is_there_in_the_queries_type(gemm) -> None:
    scores = replace(lazy_scores(0, dtype=torch.float32, num_queries=5, num_keys=9), gemm=gemm)
    query, key = scores.query.detach(), scores.key.detach()
    slope = torch.rand(5, 4, generator=torch.Generator().manual_seed(0))
    grad_query, grad_key = torch.ones_like(query), torch.full((4, key.size(1)), 2.0)
    tiles = TileScores(replace(scores, query=query, key=key), 5, 4)
    for c0 in (0, 5, 0):
        expected = grad_query + slope @ key[c0 : c0 + 4], grad_key + slope.t() @ query
        tile = tiles(0, 5, c0, c0 + 4)
        torch.testing.assert_close(tile, query @ key[c0 : c0 + 4].t())
        tiles.add_gradients(slope, query, c0, c0 + 4, grad_query, grad_key)
        tol = 1e-5 if gemm is None else 0.02
        torch.testing.assert_close((grad_query, grad_key), expected, rtol=tol, atol=tol)
        assert grad_query.dtype == grad_key.dtype == torch.float32
