"""Callbacks: everything around training that is not training."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tqdm.auto import tqdm

from pyg_bsl.training.result import EpochRecord, FitResult
from pyg_bsl.types import BipartiteGraph

if TYPE_CHECKING:
    from pyg_bsl.training.trainer import Trainer


class Callback:
    """Base class of callbacks; each hook does nothing unless overridden.

    The hooks are called in this order: :meth:`on_fit_start` once, :meth:`on_epoch_end` after
    every epoch (and its validation, if it had one), then either :meth:`on_fit_end` or
    :meth:`on_fit_error`. A hook that raises stops the training.
    """

    def on_fit_start(self, trainer: Trainer, graph: BipartiteGraph, result: FitResult) -> None:
        """Before the first step. ``result`` holds what is known of the run by now."""

    def on_epoch_end(self, trainer: Trainer, record: EpochRecord) -> None:
        """After an epoch. Set ``trainer.should_stop = True`` to make it the last one."""

    def on_fit_end(self, trainer: Trainer, result: FitResult) -> None:
        """After a completed training; the backbone holds the weights of the best epoch."""

    def on_fit_error(self, trainer: Trainer, result: FitResult, error: BaseException) -> None:
        """When an error or an interrupt ends the training; ``result`` is what there is by then."""


class ProgressBar(Callback):
    """A bar on standard error with the epoch, the loss and the last validation metric."""

    def __init__(self, description: str = "") -> None:
        self.description = description
        self._bar: tqdm[Any] | None = None
        self._shown: dict[str, str] = {}

    def on_fit_start(self, trainer: Trainer, graph: BipartiteGraph, result: FitResult) -> None:
        """Open the bar."""
        self._shown = {}
        self._bar = tqdm(total=result.epochs, desc=self.description, unit="epoch", leave=False)

    def on_epoch_end(self, trainer: Trainer, record: EpochRecord) -> None:
        """Move the bar by one epoch."""
        assert self._bar is not None
        self._shown["loss"] = f"{record.loss:.4f}"
        if trainer.metric in record.valid:
            self._shown[f"valid {trainer.metric}"] = f"{record.valid[trainer.metric]:.4f}"
        self._bar.set_postfix(self._shown, refresh=False)
        self._bar.update()

    def on_fit_end(self, trainer: Trainer, result: FitResult) -> None:
        """Close the bar."""
        self._close()

    def on_fit_error(self, trainer: Trainer, result: FitResult, error: BaseException) -> None:
        """Close the bar."""
        self._close()

    def _close(self) -> None:
        if self._bar is not None:
            self._bar.close()
            self._bar = None
