"""Propagation with noise in every layer."""

from __future__ import annotations

from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import Tensor

from pyg_bsl.ops.propagation import Method, propagate


def noisy_layers(
    adjacency: Tensor, x: Tensor, num_layers: int, noise: float, method: Method = "auto"
) -> Iterator[Tensor]:
    r"""Layers 1 to ``num_layers`` of a propagation that adds noise to each.

    .. math::
        \mathbf{E}^{(k)} = \mathbf{A} \mathbf{E}^{(k-1)} + \boldsymbol{\Delta}^{(k)}, \qquad
        \boldsymbol{\Delta}_v = \epsilon \, \operatorname{sign}(\mathbf{e}_v) \odot
        \frac{\mathbf{z}_v}{\lVert \mathbf{z}_v \rVert_2}, \quad
        \mathbf{z}_v \sim \mathcal{U}(0, 1)^D

    so that a node's noise has length :math:`\epsilon` and lies in the same orthant as its vector.

    Args:
        adjacency: Symmetric matrix, ``[V, V]``.
        x: Layer 0, ``[V, D]``.
        num_layers: Number of layers.
        noise: Length :math:`\epsilon`; none is drawn at 0.
        method: As in :func:`~pyg_bsl.ops.propagation.propagate`.
    """
    for _ in range(num_layers):
        x = propagate(adjacency, x, method=method)
        if noise > 0:
            x = x + noise * x.detach().sign() * F.normalize(torch.rand_like(x), dim=1)
        yield x


def mean(layers: list[Tensor]) -> Tensor:
    """Mean of the layers."""
    return sum(layers[1:], layers[0]) / len(layers)
