"""Keeping a run in a folder: its weights and its ``result.json``."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any

from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor

from pyg_bsl.atomic import atomic_path
from pyg_bsl.training.callbacks import Callback
from pyg_bsl.training.result import EpochRecord, FitResult
from pyg_bsl.types import BipartiteGraph

if TYPE_CHECKING:
    from pyg_bsl.training.trainer import Trainer

RESULT, WEIGHTS = "result.json", "model.safetensors"

log = logging.getLogger("pyg_bsl")


class Checkpoint(Callback):
    """Writes the best weights and the result so far whenever they improve, and both at the end.

    Files are replaced whole, so a kill leaves the last complete ones. Those of an earlier run in
    the folder are moved aside, to ``earlier-1``, ``earlier-2`` and so on inside it. A disk that
    fills up during training costs a warning, not the training.

    Args:
        folder: Where to write; made if it is not there.

    Attributes:
        saved: Whether the last run's weights and result were written.
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)
        self.saved = False
        self._started = False
        self._result: FitResult | None = None

    def on_fit_start(self, trainer: Trainer, graph: BipartiteGraph, result: FitResult) -> None:
        """Write what is asked for, which also shows that the folder can be written to.

        Raises:
            OSError: If it cannot.
        """
        self.saved = self._started = False
        self._result = result
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            _move_aside(self.folder)
            with atomic_path(self.folder / RESULT) as part:
                part.write_text(result.to_json())
        except OSError as error:
            raise OSError(
                f"Cannot write into the output folder '{self.folder}': {error.strerror or error}. "
                "Choose another one with 'output'"
            ) from error
        self._started = True

    def on_epoch_end(self, trainer: Trainer, record: EpochRecord) -> None:
        """Write the weights if they are the best so far, and what the result is by now."""
        if record.improved:
            assert self._result is not None
            self._try(WEIGHTS, save(_contiguous(trainer.backbone.state_dict())))
            self._try(RESULT, self._result.to_json().encode())

    def on_fit_end(self, trainer: Trainer, result: FitResult) -> None:
        """Write the final weights and the result."""
        self._finish(result, result.state_dict)

    def on_fit_error(self, trainer: Trainer, result: FitResult, error: BaseException) -> None:
        """Write what there is, unless the folder could not be written to in the first place."""
        if self._started:
            self._finish(result, result.state_dict or None)

    def _finish(self, result: FitResult, weights: Mapping[str, Tensor] | None) -> None:
        kept = weights is None or self._try(WEIGHTS, save(_contiguous(weights)))
        self.saved = self._try(RESULT, result.to_json().encode()) and kept
        if not self.saved:
            log.error("The result that could not be saved: %s", json.dumps(result.metrics))

    def _try(self, name: str, content: bytes) -> bool:
        path = self.folder / name
        try:
            with atomic_path(path) as part:
                part.write_bytes(content)
        except OSError as error:
            log.warning("Could not write '%s': %s", path, error)
            return False
        return True


def load_run(folder: str | Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """The ``result.json`` and the weights of a run's output folder.

    The scores to rank by are ``result["config"]["trainer"]["rank_by"]``.

    Raises:
        FileNotFoundError: If either is not there.
        ValueError: If one of them is broken.
    """
    folder = Path(folder)
    if not (folder / RESULT).is_file():
        raise FileNotFoundError(
            f"'{folder}' is not the output folder of a training run: it has no {RESULT}"
        )
    try:
        result = json.loads((folder / RESULT).read_text())
    except ValueError as error:  # no JSON, or no text at all
        raise ValueError(f"'{folder / RESULT}' is not valid JSON: {error}") from error
    parts = [result.get(key) for key in ("config", "data")] if isinstance(result, dict) else [None]
    if not all(isinstance(part, dict) for part in parts):
        raise ValueError(f"'{folder / RESULT}' is not the result of a training run")
    if not (folder / WEIGHTS).is_file():
        raise FileNotFoundError(
            f"The run in '{folder}' has no weights ({WEIGHTS}): its status is "
            f"'{result.get('status')}', and it was never at the end of an epoch that it could keep"
        )
    try:
        return result, load_file(folder / WEIGHTS)
    except SafetensorError as error:
        raise ValueError(f"'{folder / WEIGHTS}' is broken: {error}") from error


def _move_aside(folder: Path) -> None:
    """Move an earlier run's files, if there are such, to a folder of their own in ``folder``."""
    files = [folder / name for name in (RESULT, WEIGHTS) if (folder / name).exists()]
    if not files:
        return
    aside = next(path for number in count(1) if not (path := folder / f"earlier-{number}").exists())
    aside.mkdir()
    for file in files:
        file.rename(aside / file.name)
    log.info("'%s' holds an earlier run: moved to '%s'", folder, aside)


def _contiguous(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {key: x.detach().cpu().contiguous() for key, x in weights.items()}
