import math

import pytest
import torch

from benchmarks.training_step import LOSSES, Sizes, gradients, run, ways
from tests.benchmarks.tables import QUICK, check_well_formed

SIZES = Sizes(users=60, items=40, pairs=500, batch=12, negatives=15, dim=8)


@pytest.mark.parametrize("name", LOSSES)
def test_ways_of_a_kind_give_the_same_loss_and_gradients(name: str) -> None:
    emb, found = ways(name, SIZES, torch.float64)
    kinds = {way.kind for way in found.values()}
    exact, low = {"sampled", "pairs", "users", "as trained"}, {"bfloat16 pairs", "bfloat16"}
    assert kinds == exact | low
    for kind in kinds:
        first, *others = [key for key, way in found.items() if way.kind == kind]
        loss, grad = found[first].loss(), gradients(emb, found[first])
        assert grad.abs().sum() > 0
        for key in others:
            value = found[key].loss()
            if "cross_entropy" in key:  # a sum over items where the others take the mean
                value = value - math.log(SIZES.items)
            torch.testing.assert_close(value, loss, rtol=1e-9, atol=1e-12)
            torch.testing.assert_close(gradients(emb, found[key]), grad, rtol=1e-8, atol=1e-12)


def test_every_loss_has_its_rows() -> None:
    tables = run(QUICK)
    check_well_formed(tables, names=2)
    assert {row[0] for row in tables[0].rows} == set(LOSSES)
