import math

import pytest
import torch

from pyg_bsl.ops import segment_log_mean_exp
from tests.ops.cases import NoReadBack


def slow(x: list[float], group: list[int]) -> list[float]:
    members = {g: [v for v, h in zip(x, group, strict=True) if h == g] for g in group}
    return [math.log(sum(math.exp(v) for v in members[g]) / len(members[g])) for g in group]


@pytest.mark.parametrize("seed", range(5))
def test_equals_plain_loops(seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(20, generator=generator, dtype=torch.float64)
    group = torch.randint(-3, 4, (20,), generator=generator) * 1_000_003
    expected = torch.tensor(slow(x.tolist(), group.tolist()), dtype=torch.float64)
    torch.testing.assert_close(segment_log_mean_exp(x, group), expected, rtol=1e-12, atol=1e-12)


def test_each_row_alone_keeps_its_value() -> None:
    x = torch.randn(9)
    torch.testing.assert_close(segment_log_mean_exp(x, torch.randperm(9)), x)


def test_one_group_is_one_log_mean_exp() -> None:
    x = torch.randn(9, dtype=torch.float64)
    expected = (x.logsumexp(0) - math.log(9)).expand(9)
    torch.testing.assert_close(segment_log_mean_exp(x, torch.full((9,), 5)), expected)


def test_order_of_rows_does_not_matter() -> None:
    x, group = torch.randn(30, dtype=torch.float64), torch.randint(0, 6, (30,))
    order = torch.randperm(30)
    torch.testing.assert_close(
        segment_log_mean_exp(x[order], group[order]), segment_log_mean_exp(x, group)[order]
    )


def test_gradient_agrees_with_finite_differences() -> None:
    x = torch.randn(8, dtype=torch.float64, requires_grad=True)
    group = torch.tensor([2, 0, 2, 2, 7, 0, 9, 9])
    assert torch.autograd.gradcheck(lambda x: segment_log_mean_exp(x, group), x)


def test_equal_values_in_a_group_share_the_gradient() -> None:
    x = torch.zeros(4, requires_grad=True)
    segment_log_mean_exp(x, torch.tensor([0, 0, 0, 1]))[0].backward()
    torch.testing.assert_close(x.grad, torch.tensor([1 / 3, 1 / 3, 1 / 3, 0]))


def test_huge_values_neither_overflow_nor_vanish() -> None:
    x = torch.tensor([5000.0, 4000.0, -5000.0, -5000.0], requires_grad=True)
    out = segment_log_mean_exp(x, torch.tensor([1, 1, 0, 0]))
    torch.testing.assert_close(out[0].item(), 5000 - math.log(2))
    assert out[2:].tolist() == [-5000, -5000]
    out.sum().backward()
    assert x.grad is not None
    torch.testing.assert_close(x.grad, torch.tensor([2.0, 0.0, 1.0, 1.0]))


def test_no_rows_give_no_rows() -> None:
    assert segment_log_mean_exp(torch.empty(0), torch.empty(0, dtype=torch.long)).shape == (0,)


def test_reads_nothing_back_and_runs_on_any_device() -> None:
    x = torch.zeros(6, device="meta", requires_grad=True)
    with NoReadBack():
        segment_log_mean_exp(x, torch.zeros(6, dtype=torch.long, device="meta")).sum().backward()
    assert x.grad is not None


def test_gradients_are_the_same_bits_on_several_threads(threads) -> None:
    generator = torch.Generator().manual_seed(0)
    values, upstream = torch.randn(2, 50_000, generator=generator)
    group = torch.randint(10, (50_000,), generator=generator)
    threads(4)
    grads = []
    for _ in range(5):
        x = values.clone().requires_grad_()
        segment_log_mean_exp(x, group).backward(upstream)
        grads.append(x.grad)
    assert all(torch.equal(grad, grads[0]) for grad in grads)


@pytest.mark.parametrize("dtype", [torch.int32, torch.int16, torch.uint8])
def test_groups_are_whole_numbers_of_any_type(dtype) -> None:
    x, group = torch.randn(6, dtype=torch.float64), torch.tensor([3, 1, 3, 3, 1, 7])
    expected = segment_log_mean_exp(x, group)
    assert torch.equal(segment_log_mean_exp(x, group.to(dtype)), expected)
