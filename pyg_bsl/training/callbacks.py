"""Callbacks: everything around training that is not training."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from tqdm.auto import tqdm

from pyg_bsl.training.result import EpochRecord, FitResult
from pyg_bsl.types import BipartiteGraph

if TYPE_CHECKING:
    from pyg_bsl.training.trainer import Trainer

log = logging.getLogger("pyg_bsl")


class Callback:
    """Base class of callbacks; each hook does nothing unless overridden.

    The hooks are called in this order: :meth:`on_fit_start` once, :meth:`on_epoch_end` after
    every epoch (and its validation, if it had one), then either :meth:`on_fit_end` or
    :meth:`on_fit_error`, the callback that was started last first. A hook that raises stops the
    training; every callback that was started gets its end all the same.
    """

    def on_fit_start(self, trainer: Trainer, graph: BipartiteGraph, result: FitResult) -> None:
        """Before the first step. ``result`` holds what is known of the run by now."""

    def on_epoch_end(self, trainer: Trainer, record: EpochRecord) -> None:
        """After an epoch. Set ``trainer.should_stop = True`` to make it the last one.

        The backbone holds the weights that would be kept: with ``Trainer(average=...)`` these are
        means, and what a callback does to them does not reach the training.
        """

    def on_fit_end(self, trainer: Trainer, result: FitResult) -> None:
        """After a completed training; the backbone holds the weights of the best epoch."""

    def on_fit_error(self, trainer: Trainer, result: FitResult, error: BaseException) -> None:
        """When an error or an interrupt ends the training; ``result`` is what there is by then."""


def end_all(callbacks: Sequence[Callback], trainer: Trainer, result: FitResult) -> None:
    """Call :meth:`Callback.on_fit_end` of all, the last one first.

    Raises:
        BaseException: The first that a callback raised, when all were called.
    """
    raised = _each(partial(each.on_fit_end, trainer, result) for each in reversed(callbacks))
    for error in raised[1:]:
        log.error("Another callback failed at the end of the training: %r", error)
    if raised:
        raise raised[0]


def fail_all(
    callbacks: Sequence[Callback], trainer: Trainer, result: FitResult, error: BaseException
) -> None:
    """Call :meth:`Callback.on_fit_error` of all, the last one first; what they raise is logged."""
    calls = (partial(each.on_fit_error, trainer, result, error) for each in reversed(callbacks))
    for own in _each(calls):
        log.error("A callback failed after the training had failed: %r", own)


def _each(calls: Iterable[Callable[[], None]]) -> list[BaseException]:
    """Make all calls; what some of them raised."""
    raised: list[BaseException] = []
    for call in calls:
        try:
            call()
        except BaseException as error:
            raised.append(error)
    return raised


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
