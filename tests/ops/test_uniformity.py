import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from pyg_bsl.ops.uniformity import uniformity
from tests.ops.cases import BOTH_TYPES, LargestTensor, NoReadBack, assert_near, tolerance


def unit(num_rows: int, dim: int = 4, dtype: torch.dtype = torch.float64) -> Tensor:
    x = torch.randn(num_rows, dim, generator=torch.Generator().manual_seed(num_rows), dtype=dtype)
    return F.normalize(x, dim=1).requires_grad_()


def plain(x: Tensor) -> Tensor:
    """By the matrix of all pairs; of unit rows, whose slopes differ from those of distances by
    multiples of themselves."""
    whole = (4 * (x @ x.t()) - 4).masked_fill(torch.eye(len(x), dtype=torch.bool), -torch.inf)
    return whole.flatten().logsumexp(0) - math.log(len(x) * (len(x) - 1))


@BOTH_TYPES
@pytest.mark.parametrize("tile", [1, 50, 1 << 19])
@pytest.mark.parametrize("num_rows", [2, 3, 30])
def test_equals_the_matrix_of_all_pairs(
    monkeypatch: pytest.MonkeyPatch, num_rows: int, tile: int, dtype: torch.dtype
) -> None:
    monkeypatch.setattr("pyg_bsl.ops.tiles.CPU_TILE", tile)
    x = unit(num_rows, dtype=dtype)
    got, wanted = uniformity(x), plain(x)
    assert got.dtype == dtype
    assert_near(got, wanted, tolerance(dtype))
    weight = torch.tensor(-0.3, dtype=dtype)
    grads = [torch.autograd.grad(y, x, weight)[0] for y in (got, wanted)]
    assert_near(*grads, tolerance(dtype))


def test_one_row_has_no_pairs() -> None:
    assert uniformity(unit(1)).item() == 0


def test_each_pair_is_looked_at_once_in_tiles(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pyg_bsl.ops.tiles.CPU_TILE", 1 << 12)
    x = unit(1000)
    with LargestTensor() as made, FlopCounterMode(display=False) as count:
        uniformity(x).backward()
    assert made.numel <= 5000
    one_product = 2 * 1000 * 1000 * 4
    assert count.get_total_flops() < 2 * one_product  # three products over half of all pairs


def test_nothing_is_read_back() -> None:
    x = torch.empty(30, 4, device="meta", requires_grad=True)
    with NoReadBack():
        uniformity(x).backward()
    assert x.grad is not None


def test_second_derivatives_are_refused_and_not_silently_wrong() -> None:
    x = unit(5)
    (grad,) = torch.autograd.grad(uniformity(x).square(), x, create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        grad.sum().backward()
