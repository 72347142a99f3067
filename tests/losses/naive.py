"""Losses row by row in float64, with the formula as it stands: the obvious side of a comparison."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from pyg_bsl.losses import Loss
from tests.losses.ready import NUM_ITEMS, NUM_USERS


@dataclass
class Row:
    """One row: a positive, and the negatives that are kept with their weights and items."""

    pos: Tensor
    neg: Tensor
    weight: Tensor
    user: int
    item: int
    negatives: Tensor


RowLoss = Callable[[Row], Tensor]


def log_mean_exp(x: Tensor, weight: Tensor) -> Tensor:
    """Log of the weighted mean of exponentials; 0 where there is nothing to average."""
    if not len(x):
        return x.new_zeros(())
    return ((weight * x.exp()).sum() / weight.sum()).log()


def mean(x: Tensor, weight: Tensor) -> Tensor:
    """Weighted mean; 0 where there is nothing to average."""
    return (weight * x).sum() / weight.sum() if len(x) else x.new_zeros(())


@dataclass
class Batch:
    """Scores of a random shape, some at the ends of their range and some dropped."""

    pos: Tensor
    neg: Tensor
    log_weight: Tensor | None
    users: Tensor
    items: Tensor
    negatives: Tensor

    def rows(self, pos: Tensor, neg: Tensor) -> list[Row]:
        """The rows with their scores in ``pos`` and ``neg``."""
        logs = torch.zeros_like(neg) if self.log_weight is None else self.log_weight.expand_as(neg)
        ids, out = self.negatives.expand(neg.shape), []
        for b in range(len(pos)):
            keep = neg[b] > -torch.inf
            user, item = int(self.users[b]), int(self.items[b])
            weight = logs[b][keep].exp()
            out.append(Row(pos[b], neg[b][keep], weight, user, item, ids[b][keep]))
        return out


def batch(seed: int, scale: float) -> Batch:
    generator = torch.Generator().manual_seed(seed)

    def ids(high: int, *shape: int) -> Tensor:
        return torch.randint(high, shape, generator=generator)

    b, n = 1 + int(ids(6)), (1, 4, 40)[seed % 3]
    pos, neg = (
        (3 * torch.rand(*s, generator=generator).double() - 1.5).clamp(-1, 1) * scale
        for s in ((b,), (b, n))
    )
    neg = neg.masked_fill(torch.rand(b, n, generator=generator) < 0.3, -torch.inf)
    if seed % 2:
        neg[0] = -torch.inf
    log_weight = (None, torch.randn(n).double(), torch.randn(b, n).double())[seed % 3]
    shape = (b, n) if seed % 4 < 2 else (n,)
    return Batch(pos, neg, log_weight, ids(NUM_USERS, b), ids(NUM_ITEMS, b), ids(NUM_ITEMS, *shape))


def assert_equals_naive(
    loss: Loss,
    row_loss: RowLoss,
    *,
    scale: float = 1.0,
    raised: tuple[str, ...] = (),
    seeds: int = 8,
) -> None:
    """Values and gradients to the scores and to every parameter are those of the formula.

    Args:
        loss: The loss, in float64.
        row_loss: The formula, which reads the loss's own parameters.
        scale: Largest score.
        raised: Parameters over which the loss is raised: their gradient has its sign turned.
        seeds: Number of batches.
    """
    for seed in range(seeds):
        data = batch(seed, scale)
        context: Mapping[str, Tensor] = {
            "users": data.users,
            "items": data.items,
            "negatives": data.negatives,
        }
        given = {name: context[name] for name in loss.needs}
        names = [name for name, _ in loss.named_parameters()]
        parameters = list(loss.parameters())
        grads = []
        for slow in (True, False):
            pos, neg = data.pos.clone().requires_grad_(), data.neg.clone().requires_grad_()
            if slow:
                out = torch.stack([row_loss(row) for row in data.rows(pos, neg)])
                expected = out.detach()
            else:
                out = loss(pos, neg, log_weight=data.log_weight, reduction="none", **given)
                torch.testing.assert_close(out.detach(), expected, rtol=1e-10, atol=1e-10)
            weight = torch.arange(1, len(out) + 1)  # rows that do not weigh the same
            inputs = (pos, neg, *parameters)
            grads.append(torch.autograd.grad((weight * out).sum(), inputs, materialize_grads=True))
        for name, wanted, got in zip(["pos", "neg", *names], *grads, strict=True):
            sign = -1 if name in raised else 1
            torch.testing.assert_close(got, sign * wanted, rtol=1e-8, atol=1e-8, msg=name)
