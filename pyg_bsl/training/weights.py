"""Weights beside those that are trained: copies of them, and their mean over the last steps."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn


class KeptWeights:
    """A copy of a module's weights, made in place again and again."""

    def __init__(self, module: nn.Module) -> None:
        self._live = module.state_dict()
        self._copy = {key: x.clone() for key, x in self._live.items()}

    def save(self) -> None:
        """Copy the module's weights as they are."""
        for key, x in self._live.items():
            self._copy[key].copy_(x)

    def load(self) -> None:
        """Put the copy back into the module."""
        for key, x in self._copy.items():
            self._live[key].copy_(x)


class Average:
    r"""A mean of parameters over the last steps, whose number grows with that of all steps.

    .. math::
        \bar{\mathbf{w}}_t = \bar{\mathbf{w}}_{t-1} +
        \frac{\mathbf{w}_t - \bar{\mathbf{w}}_{t-1}}{1 + s \, (t - 1)}

    with the share :math:`s` of all steps over which the mean looks back: at 1 it is that of all
    steps, at 0 the last step. That is the polynomial-decay averaging of `"Stochastic Gradient
    Descent for Non-smooth Optimization" <https://arxiv.org/abs/1212.1824>`_ with
    :math:`\eta = 1 / s - 1`.

    As a context it puts the mean in the parameters' place. Buffers are as they are.

    Args:
        parameters: The parameters, which are changed in place.
        share: The share :math:`s`, from 0 to 1. At 0 nothing is kept, and the context does nothing.

    Example:
        >>> w = torch.zeros(1)
        >>> average = Average([w], share=1)
        >>> for step in range(4):
        ...     _ = w.fill_(step)
        ...     average.update()
        >>> with average:
        ...     print(w)
        tensor([1.5000])
        >>> w
        tensor([3.])
    """

    def __init__(self, parameters: Iterable[Tensor], share: float) -> None:
        self.share = share
        self._steps = 0
        self._live = list(parameters) if share > 0 else []
        self._mean = [p.detach().clone() for p in self._live]

    @torch.no_grad()
    def update(self) -> None:
        """Take the parameters as they are after a step into the mean."""
        if self._live:
            torch._foreach_lerp_(self._mean, self._live, 1 / (1 + self.share * self._steps))
        self._steps += 1

    def __enter__(self) -> None:
        self._swap()

    def __exit__(self, *_: object) -> None:
        self._swap()

    @torch.no_grad()
    def _swap(self) -> None:
        for live, mean in zip(self._live, self._mean, strict=True):
            own = live.clone()
            live.copy_(mean)
            mean.copy_(own)
