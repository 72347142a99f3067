import pytest
import torch
import torch.nn.functional as F
from torch.utils._python_dispatch import TorchDispatchMode

from pyg_bsl.ops.unit_rows import unit_rows
from tests.ops.cases import BOTH_TYPES, tiny_tiles  # noqa: F401

SIZES = [0.0, 1e-30, 1e-13, 2e-12, 1e-3, 1.0, 1e10]


def rows(dtype: torch.dtype) -> torch.Tensor:
    x = torch.randn(40, len(SIZES), 6, generator=torch.Generator().manual_seed(0), dtype=dtype)
    return (F.normalize(x, dim=2) * torch.tensor(SIZES, dtype=dtype)[:, None]).flatten(0, 1)


@BOTH_TYPES
@pytest.mark.usefixtures("tiny_tiles")
def test_values_and_gradients_are_those_of_normalize_at_every_length(dtype) -> None:
    x, same = (rows(dtype).requires_grad_() for _ in range(2))
    unit, expected = unit_rows(x), F.normalize(same, dim=1)
    assert torch.equal(unit, expected)
    upstream = torch.randn(x.shape, generator=torch.Generator().manual_seed(1), dtype=dtype)
    unit.backward(upstream)
    expected.backward(upstream)
    # Relative to the length of each row's gradient, which is that of `upstream` over its own.
    size = upstream.norm(dim=1, keepdim=True) / same.detach().norm(dim=1, keepdim=True).clamp(1e-12)
    error = (x.grad - same.grad).abs() / size
    assert error.max() < (1e-6 if dtype == torch.float32 else 1e-14)


class Tables(TorchDispatchMode):
    """Keeps the memory of all tensors of at least so many bytes."""

    def __init__(self, nbytes: int) -> None:
        super().__init__()
        self.nbytes, self.held = nbytes, {}

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        if isinstance(out, torch.Tensor) and out.untyped_storage().nbytes() >= self.nbytes:
            self.held[out.untyped_storage().data_ptr()] = out
        return out


def test_gradient_makes_no_temporary_of_the_tables_size(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pyg_bsl.ops.tiles.CPU_TILE", 1000)
    x, upstream = torch.randn(5000, 10, requires_grad=True), torch.ones(5000, 10)
    unit = unit_rows(x)
    with Tables(x.nbytes) as tables:
        (grad,) = torch.autograd.grad(unit, x, upstream)
    mine = {t.untyped_storage().data_ptr() for t in (unit, upstream, grad)}
    assert grad.untyped_storage().data_ptr() in tables.held
    assert set(tables.held) <= mine


def test_second_derivatives_are_refused_and_not_silently_wrong() -> None:
    x = torch.randn(3, 2, requires_grad=True)
    (grad,) = torch.autograd.grad(unit_rows(x).square().sum(), x, create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        grad.sum().backward()
