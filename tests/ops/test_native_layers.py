import threading

import pytest
import torch
from torch import Tensor

from pyg_bsl.ops import native_layers, propagation
from pyg_bsl.ops.native_layers import NativeLayers
from pyg_bsl.ops.propagation import layer_mean, propagate
from tests.nn.graphs import to_csr
from tests.ops.cases import needs_compiler

pytestmark = needs_compiler

USERS, ITEMS = 41, 23


def pairs(users: int = USERS, items: int = ITEMS, share: float = 0.2) -> Tensor:
    """Who met what, ``[users, items]``; among others, the first and last of both met nobody."""
    generator = torch.Generator().manual_seed(0)
    met = torch.rand(users, items, generator=generator) < share
    met[[0, 3, -1]] = met[:, [0, 5, -1]] = False
    met[7, 1:-1] = True
    return met


def matrix(met: Tensor) -> Tensor:
    """The normalised adjacency, float64."""
    users, items = met.shape
    both = torch.zeros(users + items, users + items, dtype=torch.float64)
    both[:users, users:] = met
    both[users:, :users] = met.T
    scale = both.sum(0).clamp(min=1).rsqrt()
    return scale[:, None] * both * scale


def rows(dim: int, size: int = USERS + ITEMS) -> Tensor:
    return torch.randn(size, dim, generator=torch.Generator().manual_seed(2))


def arrays(csr: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    return csr.crow_indices(), csr.col_indices(), csr.values()


@pytest.mark.parametrize("num_threads", [1, 2, 9])
@pytest.mark.parametrize("dim", [1, 5, 16, 40, 64])
@pytest.mark.parametrize("num_layers", [1, 2, 3, 6])
def test_layers_and_their_gradients(dim, num_layers, num_threads, threads):
    dense, weight = matrix(pairs()), rows(dim).flip(0)
    adjacency = to_csr(dense.float())
    x = rows(dim).double().requires_grad_()
    layers = [x]
    for _ in range(num_layers):
        layers.append(dense @ layers[-1])
    threads(num_threads)
    for function, expected in (
        (lambda x: layer_mean(adjacency, x, num_layers, method="compiled"), sum(layers)),
        (lambda x: propagate(adjacency, x, method="compiled"), layers[1]),
    ):
        times = 1 / (num_layers + 1) if expected is not layers[1] else 1
        (gradient,) = torch.autograd.grad((times * expected * weight).sum(), x, retain_graph=True)
        one = rows(dim).requires_grad_()
        tables = tuple(table.clone().requires_grad_() for table in rows(dim).split([USERS, ITEMS]))
        for leaves, out in (((one,), function(one)), (tables, torch.cat(function(tables)))):
            found = torch.autograd.grad((out * weight).sum(), leaves)
            torch.testing.assert_close(out.double(), times * expected, atol=2e-6, rtol=2e-6)
            torch.testing.assert_close(torch.cat(found).double(), gradient, atol=2e-6, rtol=2e-6)


def test_auto_compiles_what_is_large(monkeypatch):
    adjacency, tables = to_csr(matrix(pairs()).float()), rows(8).split([USERS, ITEMS])
    assert propagation._fastest(adjacency, tables) == "embedding_bag"
    monkeypatch.setenv("PYG_BSL_COMPILE", "always")
    assert propagation._fastest(adjacency, tables) == "compiled"
    assert propagation._fastest(adjacency, tuple(table.double() for table in tables)) == "csr"
    monkeypatch.setenv("PYG_BSL_COMPILE", "never")
    assert propagation._fastest(adjacency, tables) == "embedding_bag"


def test_a_way_without_a_compiler(monkeypatch):
    adjacency, x = to_csr(matrix(pairs()).float()), rows(8)
    monkeypatch.setenv("PYG_BSL_COMPILE", "always")
    monkeypatch.setenv("CC", "false")
    expected = layer_mean(adjacency, x, 2, method="embedding_bag")
    for method in ("auto", "compiled"):
        assert torch.equal(layer_mean(adjacency, x, 2, method=method), expected)


@pytest.mark.parametrize("change", ["weights", "diagonal", "triangle", "no edges", "float64"])
def test_other_matrices_go_another_way(change):
    dense, x = matrix(pairs()), rows(8)
    if change == "weights":
        dense[1] *= 2
        dense[:, 1] *= 2
    elif change in ("diagonal", "triangle"):
        met = (dense != 0).double()
        met[1, 1 if change == "diagonal" else 2] = met[1 if change == "diagonal" else 2, 1] = 1
        scale = met.sum(0).clamp(min=1).rsqrt()
        dense = scale[:, None] * met * scale
    elif change == "no edges":
        dense = torch.zeros_like(dense)
    adjacency = to_csr(dense.float())
    if change == "float64":
        adjacency, x = to_csr(dense), x.double()
        assert NativeLayers.of(*arrays(adjacency)) is not None
    else:
        assert NativeLayers.of(*arrays(adjacency)) is None
    out = layer_mean(adjacency, x, 2, method="compiled")
    assert torch.equal(out, layer_mean(adjacency, x, 2, method="embedding_bag"))


def test_the_order_of_nodes_changes_no_bit():
    csr, tables = to_csr(matrix(pairs()).float()), rows(20).split([USERS, ITEMS])
    generator = torch.Generator().manual_seed(3)
    out = []
    for cluster in (None, torch.randint(4, (USERS + ITEMS,), generator=generator)):
        native = NativeLayers.of(*arrays(csr), USERS, cluster)
        assert native is not None
        out.append(native.propagate(tables, 3, mean=True))
    assert torch.equal(*out)


def test_more_nodes_than_16_bits_count():
    items, users = 70_001, 3
    user, item = torch.tensor([[0, 0, 1, 2, 2, 2], [0, 70_000, 70_000, 0, 65_535, 65_536]])
    edge = torch.stack([torch.cat([user, item + users]), torch.cat([item + users, user])])
    degree = torch.bincount(edge[0], minlength=users + items).clamp(min=1).double()
    value = (degree[edge[0]] * degree[edge[1]]).rsqrt()
    size = (users + items, users + items)
    adjacency = to_csr(torch.sparse_coo_tensor(edge, value.float(), size, check_invariants=True))
    x = rows(7, users + items)
    native = NativeLayers.of(*arrays(adjacency), users)
    assert native is not None and native.sides[0].col.dtype == torch.int32
    for num_layers in (1, 3):
        expected = layer_mean(adjacency, x, num_layers, method="embedding_bag")
        out = native.propagate(x.split([users, items]), num_layers, mean=True)
        torch.testing.assert_close(out, expected)


def test_first_nodes_without_neighbours_may_be_on_either_side():
    adjacency, x = to_csr(matrix(pairs()).float()), rows(8)
    expected = propagate(adjacency, x, method="embedding_bag")
    found = NativeLayers.of(*arrays(adjacency))
    assert found is not None and len(found.sides[0].scale) == USERS + 1  # item 0 met nobody
    torch.testing.assert_close(propagate(adjacency, x, method="compiled"), expected)
    tables = propagate(adjacency, x.split([USERS, ITEMS]), method="compiled")
    torch.testing.assert_close(torch.cat(tables), expected)
    assert NativeLayers.of(*arrays(adjacency), USERS - 5) is None
    tables = propagate(adjacency, x.split([USERS - 5, ITEMS + 5]), method="compiled")
    torch.testing.assert_close(torch.cat(tables), expected)


def test_rows_may_be_strided_and_gradients_expanded():
    adjacency, dense = to_csr(matrix(pairs()).float()), matrix(pairs()).float()
    x = torch.randn(6, USERS + ITEMS).T.requires_grad_()
    out = propagate(adjacency, x, method="compiled")
    torch.testing.assert_close(out, dense @ x)
    out.sum().backward()
    torch.testing.assert_close(x.grad, dense.sum(1, keepdim=True).expand(-1, 6))
    assert propagate(adjacency, x[:, :0], method="compiled").shape == (USERS + ITEMS, 0)


def test_not_a_number_stays_where_it_is():
    met = pairs()
    adjacency, x = to_csr(matrix(met).float()), rows(16)
    x[2] = float("nan")
    out = propagate(adjacency, x, method="compiled")
    assert torch.equal(out.isnan().any(1), torch.cat([torch.zeros(USERS, dtype=bool), met[2]]))


def test_no_thread_waits_for_one_that_has_not_started(threads, monkeypatch):
    adjacency, x = to_csr(matrix(pairs()).float()), rows(40)
    expected = layer_mean(adjacency, x, 3, method="compiled")
    threads(3)
    monkeypatch.setattr(native_layers, "share", lambda work, size, workers: work(range(1)))
    assert torch.equal(layer_mean(adjacency, x, 3, method="compiled"), expected)


def test_threads_may_propagate_at_the_same_time(threads):
    threads(2)
    adjacency, x = to_csr(matrix(pairs()).float()), [rows(48), rows(48).flip(0)]
    expected = [layer_mean(adjacency, each, 3, method="compiled") for each in x]
    wrong = []

    def many(number):
        for _ in range(50):
            out = layer_mean(adjacency, x[number], 3, method="compiled")
            wrong.append(not torch.equal(out, expected[number]))

    callers = [threading.Thread(target=many, args=(number,)) for number in (0, 1)]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join()
    assert len(wrong) == 100 and not any(wrong)


def test_second_derivatives_and_inference_mode():
    adjacency, dense = to_csr(matrix(pairs()).float()), matrix(pairs()).float()
    with torch.inference_mode():
        expected = propagate(adjacency, rows(5), method="compiled")
    x = rows(5).requires_grad_()
    out = propagate(adjacency, x, method="compiled")
    assert torch.equal(out, expected)
    (first,) = torch.autograd.grad(out.square().sum(), x, create_graph=True)
    (second,) = torch.autograd.grad(first.sum(), x)
    torch.testing.assert_close(second, 2 * dense @ dense @ torch.ones_like(x))


def test_each_way_to_give_the_rows_is_prepared_once(monkeypatch):
    adjacency, x = to_csr(matrix(pairs()).float()), rows(8)
    tables = x.split([USERS, ITEMS])
    kept = propagation._keep(adjacency)
    first = [kept.native(None), kept.native(USERS)]
    for _ in range(2):
        propagate(adjacency, x, method="compiled")
        propagate(adjacency, tables, method="compiled")
    assert first[0] is kept.native(None) and first[1] is kept.native(USERS)
    monkeypatch.setattr(type(kept), "is_clustered", True)
    assert kept.native(USERS) is not first[1]
    assert kept._native.keys() == {(None, False), (USERS, True)}
