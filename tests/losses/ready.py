"""Losses that are set up, and calls that hand them what they need."""

from typing import Any

import torch
from torch import Tensor

from pyg_bsl.losses import LOSSES, Loss
from pyg_bsl.ops import DenseScores, LazyScores
from pyg_bsl.types import UserItems

NUM_USERS, NUM_ITEMS = 7, 13


def train() -> UserItems:
    """Interactions in which users and items differ in popularity."""
    pairs = [(u, i) for u in range(NUM_USERS) for i in range(NUM_ITEMS) if (u * i) % 5 < 2]
    users, items = torch.tensor(pairs).t()
    return UserItems.from_pairs(users, items, NUM_USERS, NUM_ITEMS)


def make(name: str, **args: Any) -> Loss:
    """The loss, set up, with its tensors moved away from where they start."""
    loss = LOSSES[name](**args)
    generator = torch.Generator().manual_seed(0)
    torch.manual_seed(0)
    loss.setup(train())
    with torch.no_grad():
        for p in loss.parameters():
            p += 0.1 * torch.randn(p.shape, generator=generator)
        if name == "SLatK":
            loss.threshold.uniform_(-0.5, 0.5, generator=generator)
    loss.after_step()
    return loss


def needed(loss: Loss, pos: Tensor, neg: Any) -> dict[str, Tensor]:
    """What the loss needs for these scores; all rows of a lazy query have the same user."""
    each = torch.arange(pos.numel(), device=pos.device)
    row = neg.rows.row if isinstance(neg, LazyScores) and neg.rows is not None else each
    if isinstance(neg, LazyScores):
        num_negatives = neg.key.size(0)
    else:
        num_negatives = (neg.values if isinstance(neg, DenseScores) else neg).size(1)
    generator = torch.Generator().manual_seed(0)
    vectors = (torch.randn(pos.numel(), 3, generator=generator).to(pos) for _ in range(2))
    user_vectors, item_vectors = (x.requires_grad_() for x in vectors)
    everything = {
        "users": row % NUM_USERS,
        "items": (3 * each) % NUM_ITEMS,
        "negatives": torch.arange(num_negatives, device=pos.device) % NUM_ITEMS,
        "user_vectors": user_vectors,
        "item_vectors": item_vectors,
    }
    return {name: everything[name] for name in loss.needs}


def call(loss: Loss, pos: Tensor, neg: Any, **given: Any) -> Tensor:
    """The loss of a batch; what is given and not needed is left out, but for users."""
    context = needed(loss, pos, neg)
    extra = ("items", "negatives", "user_vectors", "item_vectors")
    kept = {k: v for k, v in given.items() if k in context or k not in extra}
    return loss(pos, neg, **{**context, **kept})
