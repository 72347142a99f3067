import torch

from benchmarks.data import planted
from benchmarks.evaluation import blocks, check_equal, library, one_by_one, run, some_users
from pyg_bsl.types import Embeddings
from tests.benchmarks.tables import QUICK, check_well_formed


def test_all_ways_give_the_same_metrics() -> None:
    graph = planted(50, 60, 900)
    generator = torch.Generator().manual_seed(0)
    emb = Embeddings(*(torch.randn(size, 8, generator=generator) for size in (50, 60)))
    for part in (graph, some_users(graph, 10)):
        found = {way.__name__: way(emb, part) for way in (library, blocks, one_by_one)}
        assert found["library"]["recall@20"] > 0
        check_equal(found)


def test_some_users_are_spread_over_all() -> None:
    test = some_users(planted(50, 60, 900), 10).test
    assert test is not None
    assert test.counts.nonzero().view(-1).tolist() == list(range(0, 50, 5))


def test_every_way_has_its_row() -> None:
    check_well_formed(run(QUICK), names=1)
