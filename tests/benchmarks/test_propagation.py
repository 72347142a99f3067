import pytest
import torch

from benchmarks.data import planted
from benchmarks.propagation import LAYERS, backbone, products, run, step
from tests.benchmarks.tables import QUICK, check_well_formed

GRAPH = planted(30, 40, 400)


@pytest.mark.parametrize("name", [*products(GRAPH), "library"])
def test_every_product_gives_the_dense_layers_and_their_gradients(name: str) -> None:
    met = torch.zeros(30, 40, dtype=torch.float64)
    met[GRAPH.train.users, GRAPH.train.items] = 1
    met /= (met.sum(1, keepdim=True) * met.sum(0)).clamp(min=1).sqrt()
    dense = torch.zeros(70, 70, dtype=torch.float64)
    dense[:30, 30:], dense[30:, :30] = met, met.t()
    mean = sum(torch.linalg.matrix_power(dense, k) for k in range(LAYERS + 1)) / (LAYERS + 1)

    model = backbone(GRAPH, name)
    grads = [torch.randn_like(table) for table in model.tables()]
    user, item, *found = step(model, GRAPH, grads)
    x = torch.cat(model.tables()).detach().double()
    torch.testing.assert_close(torch.cat([user, item]).double(), mean @ x, rtol=1e-4, atol=1e-6)
    expected = mean @ torch.cat(grads).double()  # the mean of powers is symmetric
    torch.testing.assert_close(torch.cat(found).double(), expected, rtol=1e-4, atol=1e-5)


def test_every_product_has_its_row() -> None:
    tables = run(QUICK)
    check_well_formed(tables, names=1)
    assert [row[0] for row in tables[0].rows] == [*products(GRAPH), "library"]
