import itertools

import pytest
import torch

from pyg_bsl.ops.tiles import TileScores, row_blocks
from tests.ops.cases import DropKind, lazy_scores, ragged


@pytest.mark.parametrize("most", [1, 3, 8])
def test_blocks_without_rows_are_runs_of_queries(most: int) -> None:
    blocks = list(row_blocks(10, None, most))
    assert [q for block in blocks for q in range(block.q0, block.q1)] == list(range(10))
    assert all((block.b0, block.b1) == (block.q0, block.q1) for block in blocks)
    assert all(block.q1 - block.q0 <= most for block in blocks)


@pytest.mark.parametrize("most", [1, 2, 5, 64])
@pytest.mark.parametrize(
    "counts", [[3, 1, 0, 2], [0, 0, 0], [20, 0, 0, 1], [0] * 30 + [1] + [0] * 30, [40], []]
)
def test_blocks_hold_every_row_once_and_never_too_much(counts: list[int], most: int) -> None:
    rows = ragged([[0] * count for count in counts])
    blocks = list(row_blocks(len(counts), rows, most))
    assert [b for block in blocks for b in range(block.b0, block.b1)] == list(range(sum(counts)))
    for block in blocks:
        assert 0 < block.b1 - block.b0 <= most
        assert 0 < block.q1 - block.q0 <= most
        assert rows.row[block.b0 : block.b1].ge(block.q0).all()
        assert rows.row[block.b0 : block.b1].lt(block.q1).all()


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
