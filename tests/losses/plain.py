"""Losses in plain Python numbers: the slow and obvious side of a comparison."""

import math
from collections.abc import Callable

import torch
from torch import Tensor

from pyg_bsl.losses import Loss

RowLoss = Callable[[float, list[float], list[float]], float]
"""Loss of one row from its positive score, its kept negatives and their weights."""

B, N = 4, 6


def mean(values: list[float], weights: list[float]) -> float:
    """Weighted mean; 0 where there is nothing to average."""
    if not values:
        return 0.0
    return sum(v * w for v, w in zip(values, weights, strict=True)) / sum(weights)


def log_mean_exp(values: list[float], weights: list[float]) -> float:
    """Log of the weighted mean of exponentials; 0 where there is nothing to average."""
    return math.log(mean([math.exp(v) for v in values], weights)) if values else 0.0


def batch(seed: int, scale: float = 1.0) -> tuple[Tensor, Tensor, Tensor]:
    """Positives, negatives in [-scale, scale] with one row all dropped, and log weights."""
    generator = torch.Generator().manual_seed(seed)
    pos, neg, log_weight = (
        torch.rand(*size, generator=generator, dtype=torch.float64) * 2 - 1
        for size in ((B,), (B, N), (B, N))
    )
    neg = (scale * neg).masked_fill(torch.rand(B, N, generator=generator) < 0.3, -torch.inf)
    neg[0] = -torch.inf
    return scale * pos, neg, log_weight


def slow_loss(row_loss: RowLoss, pos: Tensor, neg: Tensor, log_weight: Tensor) -> list[float]:
    """Loss of each row, one after the other."""
    out = []
    for p, row, logs in zip(
        pos.tolist(), neg.tolist(), log_weight.expand_as(neg).tolist(), strict=True
    ):
        kept = [(s, math.exp(w)) for s, w in zip(row, logs, strict=True) if s > -math.inf]
        out.append(row_loss(p, [s for s, _ in kept], [w for _, w in kept]))
    return out


def differences(of: Callable[[Tensor], float], x: Tensor, h: float = 3e-4) -> Tensor:
    """Gradient by five-point differences; 0 where ``x`` is not finite."""
    grad = torch.zeros_like(x)
    for at in range(x.numel()):
        if not math.isfinite(x.flatten()[at]):
            continue

        def moved(by: float, at: int = at) -> float:
            y = x.clone()
            y.view(-1)[at] += by
            return of(y)

        grad.view(-1)[at] = (8 * (moved(h) - moved(-h)) - (moved(2 * h) - moved(-2 * h))) / (12 * h)
    return grad


def assert_equals_plain(loss: Loss, row_loss: RowLoss, scale: float = 1.0) -> None:
    """Value and gradients are those of plain loops, with and without weights."""
    for seed in range(3):
        pos, neg, log_weight = batch(seed, scale)
        for logs in (None, log_weight[0], log_weight):
            p, n = pos.clone().requires_grad_(), neg.clone().requires_grad_()
            rows = loss(p, n, log_weight=logs, reduction="none")
            plain_logs = torch.zeros_like(neg) if logs is None else logs
            expected = slow_loss(row_loss, pos, neg, plain_logs)
            torch.testing.assert_close(
                rows, torch.tensor(expected, dtype=torch.float64), rtol=1e-10, atol=1e-12
            )
            rows.sum().backward()
            assert p.grad is not None
            assert n.grad is not None

            def of_pos(x: Tensor, neg: Tensor = neg, logs: Tensor = plain_logs) -> float:
                return sum(slow_loss(row_loss, x, neg, logs))

            def of_neg(x: Tensor, pos: Tensor = pos, logs: Tensor = plain_logs) -> float:
                return sum(slow_loss(row_loss, pos, x, logs))

            torch.testing.assert_close(p.grad, differences(of_pos, pos), rtol=1e-8, atol=1e-8)
            torch.testing.assert_close(n.grad, differences(of_neg, neg), rtol=1e-8, atol=1e-8)
