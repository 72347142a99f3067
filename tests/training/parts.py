"""Parts that go wrong or watch, and short trainings."""

from typing import Any

import torch
from torch import Tensor

from pyg_bsl.losses import SL, Loss
from pyg_bsl.nn import MF, Backbone
from pyg_bsl.training import Callback, FitResult, Trainer
from tests.planted import NUM_ITEMS, NUM_USERS, planted


def new_mf(**args: Any) -> MF:
    torch.manual_seed(0)
    return MF(NUM_USERS, NUM_ITEMS, **{"embedding_dim": 8, **args})


def new_trainer(backbone: Backbone | None = None, loss: Loss | None = None, **args: Any) -> Trainer:
    """Quick to fit: lists of 5, validation at the end of every epoch."""
    quick = {"k": (5,), "metric": "ndcg@5", "eval_every": 1, "batch_size": 8}
    sampler = args.pop("sampler", None)
    return Trainer(backbone or new_mf(), loss or SL(tau=0.5), sampler, **{**quick, **args})


def fit(trainer: Trainer, epochs: int = 4) -> FitResult:
    return trainer.fit(planted(), epochs)


class Broken(SL):
    """Gives NaN, or a finite loss with a NaN gradient, at one step."""

    def __init__(self, at: int, *, gradient: bool = False) -> None:
        super().__init__()
        self.at, self.gradient, self.step = at, gradient, 0

    def rows(self, pos: Tensor, neg: Any, context: Any) -> Tensor:
        self.step += 1
        loss = super().rows(pos, neg, context)
        if self.step != self.at:
            return loss
        return loss + (pos * 0).sqrt() if self.gradient else loss * float("nan")


class Recorder(Callback):
    """Notes every call, and weights after every epoch."""

    def __init__(self) -> None:
        self.calls: list[str] = []
        self.weights: list[dict[str, Tensor]] = []
        self.result: FitResult | None = None
        self.error: BaseException | None = None

    def on_fit_start(self, trainer: Any, graph: Any, result: FitResult) -> None:
        self.calls.append("start")
        assert result.status == "running"

    def on_epoch_end(self, trainer: Any, record: Any) -> None:
        self.calls.append(f"epoch {record.epoch}")
        state = trainer.backbone.state_dict()
        self.weights.append({key: x.clone() for key, x in state.items()})

    def on_fit_end(self, trainer: Any, result: FitResult) -> None:
        self.calls.append("end")
        self.result = result

    def on_fit_error(self, trainer: Any, result: FitResult, error: BaseException) -> None:
        self.calls.append("error")
        self.result, self.error = result, error


class Raises(Callback):
    """Raises an error in one of the hooks (``"on_epoch_end"`` at one epoch)."""

    def __init__(self, hook: str, error: BaseException, epoch: int = 2) -> None:
        def raise_it(*args: Any) -> None:
            if hook != "on_epoch_end" or args[1].epoch == epoch:
                raise error

        setattr(self, hook, raise_it)


class BestAt(Callback):
    """Makes one epoch the best: its weights know the clusters, those of later ones mistake them.

    It goes with a learning rate that leaves the weights where they are, and lists of 5, which hold
    all five items of a user's cluster that are not for training.
    """

    lr = 1e-9

    def __init__(self, epoch: int) -> None:
        self.epoch = epoch

    def on_epoch_end(self, trainer: Any, record: Any) -> None:
        if record.epoch in (self.epoch - 1, self.epoch):
            own = torch.eye(8)[torch.arange(NUM_USERS) % 2]
            other = record.epoch == self.epoch
            with torch.no_grad():
                trainer.backbone.user_embedding.copy_(own)
                trainer.backbone.item_embedding.copy_(own[:NUM_ITEMS].roll(int(other), 0))
