from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from pyg_bsl.ops.formula import formula


def test_formula_is_the_kernel_operation_by_operation() -> None:
    form = formula(lambda s, p: (s - p) * 3, 1, torch.float32)
    assert form is not None
    assert form.text.splitlines()[:2] == ["const T t0 = s - a0;", "const T t1 = t0 * c0;"]
    assert form.value == "t1"
    assert form.constants == (3.0,)
    assert len(form.slopes) == 2


def test_another_number_has_the_same_formula() -> None:
    forms = [
        formula(lambda s, p, t=tau: F.logsigmoid(s - p) / t, 1, torch.float64) for tau in (0.1, 0.3)
    ]
    assert forms[0] is not None
    assert forms[1] is not None
    assert forms[0].text == forms[1].text
    assert forms[0].constants != forms[1].constants


def test_numbers_closed_over_count_with_their_value_now() -> None:
    scale = torch.tensor(2.0)
    before = formula(lambda s: scale * s, 0, torch.float32)
    scale.mul_(2)
    after = formula(lambda s: scale * s, 0, torch.float32)
    assert before is not None
    assert after is not None
    assert (before.constants, after.constants) == ((2.0,), (4.0,))


def test_numbers_that_share_a_storage_are_two() -> None:
    one, two = torch.tensor([1.0, 2.0]).unbind()
    form = formula(lambda s: (s + one.expand_as(s)) * two, 0, torch.float32)
    assert form is not None
    assert form.constants == (1.0, 2.0)
    assert form.text.splitlines()[:3] == [
        "const T t0 = c0;",
        "const T t1 = s + t0;",
        "const T t2 = t1 * c1;",
    ]


def sees_values(s: Tensor) -> Tensor:
    return s if s.sum() > 0 else -s


@pytest.mark.parametrize(
    "kernel",
    [
        lambda s: s.softmax(1),
        lambda s: s - s.mean(),
        lambda s: s.cumsum(1),
        lambda s: F.dropout(s),
        lambda s: s.double(),
        lambda s: s * torch.arange(3.0),
        sees_values,
    ],
)
def test_what_is_not_elementwise_has_no_formula(kernel: Callable[[Tensor], Tensor]) -> None:
    assert formula(kernel, 0, torch.float32) is None
