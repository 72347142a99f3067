import warnings

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from pyg_bsl.ops.propagation import layer_mean, propagate

METHODS = ["auto", "compiled", "clustered", "embedding_bag", "csr", "edge_index", "torch_sparse"]


def dense_matrix(size: int = 9) -> Tensor:
    """A symmetric matrix, float64, with an empty row."""
    generator = torch.Generator().manual_seed(0)
    matrix = torch.randn(size, size, generator=generator, dtype=torch.float64)
    matrix *= torch.rand(size, size, generator=generator) < 0.4
    matrix = matrix + matrix.T
    matrix[3] = matrix[:, 3] = 0
    return matrix


def to_csr(matrix: Tensor) -> Tensor:
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Sparse CSR tensor support is in beta")
        return matrix.to_sparse_csr()


def to_int32(csr: Tensor) -> Tensor:
    return torch.sparse_csr_tensor(
        csr.crow_indices().int(),
        csr.col_indices().int(),
        csr.values(),
        csr.shape,
        check_invariants=False,
    )


def to_sparse_tensor(matrix: Tensor, with_value: bool = True):
    torch_sparse = pytest.importorskip("torch_sparse")
    return torch_sparse.SparseTensor.from_dense(matrix, has_value=with_value)


def rows(size: int = 9, dim: int = 5) -> Tensor:
    return torch.randn(size, dim, dtype=torch.float64, generator=torch.Generator().manual_seed(2))


def by_loops(matrix: Tensor, x: Tensor) -> Tensor:
    out = torch.zeros_like(x)
    for i in range(matrix.size(0)):
        for j in range(matrix.size(1)):
            out[i] += matrix[i, j] * x[j]
    return out


@pytest.mark.parametrize("layout", ["csr", "csr_int32", "sparse_tensor"])
@pytest.mark.parametrize("method", METHODS)
def test_every_method_gives_the_product_and_its_gradient(method, layout):
    if method == "torch_sparse":
        pytest.importorskip("torch_sparse")
    matrix, x, weight = dense_matrix(), rows().requires_grad_(), rows().flip(0)
    if layout == "sparse_tensor":
        adjacency = to_sparse_tensor(matrix)
    else:
        adjacency = to_csr(matrix) if layout == "csr" else to_int32(to_csr(matrix))
    out = propagate(adjacency, x, method=method)
    (gradient,) = torch.autograd.grad((out * weight).sum(), x)
    torch.testing.assert_close(out.detach(), by_loops(matrix, x.detach()))
    torch.testing.assert_close(gradient, by_loops(matrix.T, weight))


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("num_layers", [0, 1, 2, 5])
def test_layer_mean_is_the_mean_of_the_powers(num_layers, method):
    if method == "torch_sparse":
        pytest.importorskip("torch_sparse")
    matrix, x, weight = dense_matrix() / 3, rows().requires_grad_(), rows().flip(0)
    layers = [x]
    for _ in range(num_layers):
        layers.append(matrix @ layers[-1])
    expected = sum(layers) / (num_layers + 1)
    (expected_gradient,) = torch.autograd.grad((expected * weight).sum(), x)
    out = layer_mean(to_csr(matrix), x, num_layers, method=method)
    (gradient,) = torch.autograd.grad((out * weight).sum(), x)
    torch.testing.assert_close(out, expected)
    torch.testing.assert_close(gradient, expected_gradient)


def test_first_and_second_derivatives():
    adjacency, x = to_csr(dense_matrix()), rows(dim=2).requires_grad_()
    for function in (lambda x: propagate(adjacency, x), lambda x: layer_mean(adjacency, x, 3)):
        assert torch.autograd.gradcheck(function, x)
        assert torch.autograd.gradgradcheck(function, x)


def test_rows_may_be_strided_and_gradients_expanded():
    matrix = dense_matrix()
    x = rows(5, 9).T.requires_grad_()
    out = propagate(to_csr(matrix), x)
    torch.testing.assert_close(out, matrix @ x)
    out.sum().backward()
    torch.testing.assert_close(x.grad, matrix @ torch.ones(9, 5, dtype=torch.float64))


def test_layer_mean_leaves_the_rows_alone():
    x = rows()
    layer_mean(to_csr(dense_matrix()), x, 2)
    assert torch.equal(x, rows())


def test_a_graph_without_edges_gives_zeros():
    adjacency = to_csr(torch.zeros(9, 9, dtype=torch.float64))
    for method in ("clustered", "embedding_bag", "csr", "edge_index"):
        assert torch.equal(propagate(adjacency, rows(), method=method), torch.zeros_like(rows()))
    torch.testing.assert_close(layer_mean(adjacency, rows(), 3), rows() / 4)


def test_a_sparse_tensor_without_values_is_a_sum():
    adjacency = to_sparse_tensor(dense_matrix(), with_value=False)
    expected = (dense_matrix() != 0).double() @ rows()
    for method in METHODS:
        torch.testing.assert_close(propagate(adjacency, rows(), method=method), expected)


@pytest.mark.parametrize(
    ("method", "dtype"),
    [("embedding_bag", torch.float32), ("embedding_bag", torch.bfloat16), ("csr", torch.float32)],
)
def test_values_are_read_in_the_type_of_the_rows(method, dtype):
    matrix, x = dense_matrix(), rows().to(dtype)
    out = propagate(to_csr(matrix), x, method=method)
    assert out.dtype == dtype
    tolerance = 1e-6 if dtype == torch.float32 else 0.03
    torch.testing.assert_close(out.double(), matrix @ x.double(), atol=tolerance, rtol=tolerance)


@pytest.mark.parametrize("method", ["clustered", "embedding_bag", "csr", "edge_index"])
def test_autocast_does_not_round_the_sums(method):
    adjacency, x = to_csr(dense_matrix().float()), rows().float()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        out = layer_mean(adjacency, x, 3, method=method)
    assert torch.equal(out, layer_mean(adjacency, x, 3, method=method))


class _Names(TorchDispatchMode):
    def __init__(self) -> None:
        super().__init__()
        self.seen: list[str] = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.seen.append(func.name())
        return func(*args, **(kwargs or {}))


def test_layer_mean_is_one_product_a_layer_each_way_and_no_transpose():
    adjacency, x = to_csr(dense_matrix()), rows().float().requires_grad_()
    with _Names() as names:
        layer_mean(adjacency, x, 3).sum().backward()
    bags = [name for name in names.seen if "embedding_bag" in name]
    assert bags == ["aten::_embedding_bag_forward_only"] * 6
    assert not {"aten::t", "aten::transpose.int", "aten::to_sparse"} & set(names.seen)


def test_runs_on_the_meta_device():
    adjacency, x = to_csr(dense_matrix()).to("meta"), rows().to("meta").requires_grad_()
    layer_mean(adjacency, propagate(adjacency, x), 2).sum().backward()
    assert x.grad.shape == x.shape


def test_another_layout_is_an_error_that_names_the_cure():
    coo = dense_matrix().to_sparse_coo()
    with pytest.raises(ValueError, match=r"layout torch.sparse_coo.*to_sparse_csr"):
        propagate(coo, rows())
    with pytest.raises(ValueError, match=r"layout torch.strided"):
        layer_mean(torch.zeros(2, 4, dtype=torch.long), rows(), 2)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("sizes", [(9,), (4, 5), (0, 9), (3, 3, 3)])
def test_tables_are_rows_one_below_the_other(sizes, method):
    if method == "torch_sparse":
        pytest.importorskip("torch_sparse")
    matrix, weight = dense_matrix() / 3, rows().flip(0)
    tables = tuple(table.clone().requires_grad_() for table in rows().split(sizes))
    out = layer_mean(to_csr(matrix), tables, 2, method=method)
    assert isinstance(out, tuple) and [len(table) for table in out] == list(sizes)
    expected = layer_mean(to_csr(matrix), rows(), 2)
    torch.testing.assert_close(torch.cat(out), expected)
    gradient = torch.autograd.grad((torch.cat(out) * weight).sum(), tables)
    torch.testing.assert_close(torch.cat(gradient), layer_mean(to_csr(matrix), weight, 2))


def test_a_table_without_a_gradient_gives_none():
    adjacency, tables = to_csr(dense_matrix()), rows().split((4, 5))
    tables[0].requires_grad_()
    first, second = propagate(adjacency, tables)
    first.sum().backward()
    expected = (dense_matrix()[:4, :4].sum(0)).unsqueeze(1).expand(4, 5)
    torch.testing.assert_close(tables[0].grad, expected)
    assert second.requires_grad and tables[1].grad is None


def test_wrong_sizes_names_and_layers_are_errors():
    adjacency = to_csr(dense_matrix())
    with pytest.raises(ValueError, match="got 9 x 9 for 8 rows"):
        propagate(adjacency, rows(8))
    with pytest.raises(ValueError, match=r"equally many columns \(got \(4, 5\) and \(5, 6\)\)"):
        propagate(adjacency, (rows(4), rows(5, 6)))
    with pytest.raises(ValueError, match=r"got no tables"):
        propagate(adjacency, ())
    with pytest.raises(ValueError, match="Unknown method 'embeding_bag'; did you mean"):
        propagate(adjacency, rows(), method="embeding_bag")
    with pytest.raises(ValueError, match=r"'num_layers' must not be negative \(got -1\)"):
        layer_mean(adjacency, rows(), -1)
