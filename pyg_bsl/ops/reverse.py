"""Gradient reversal: descent for what comes before it, ascent for what it is given."""

from __future__ import annotations

from typing import Any

from torch import Tensor
from torch.autograd import Function


class _Reverse(Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return x.view_as(x)

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor) -> Tensor:
        return -grad_outputs[0]


def reverse_gradient(x: Tensor) -> Tensor:
    """``x`` itself, whose gradient comes back with its sign turned.

    An optimizer that lowers a loss then raises it in ``x``: minimum and maximum of a saddle point
    with one optimizer and one step.

    Example:
        >>> import torch
        >>> x = torch.tensor(3.0, requires_grad=True)
        >>> reverse_gradient(x).square().backward()
        >>> x.grad
        tensor(-6.)
    """
    return _Reverse.apply(x)
