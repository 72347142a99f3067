"""What a training run leaves behind."""

from __future__ import annotations

import json
import platform
from dataclasses import asdict, dataclass, field
from importlib import metadata
from typing import Any, Literal

import torch
from torch import Tensor


@dataclass(frozen=True)
class EpochRecord:
    """One epoch.

    Args:
        epoch: Number of the epoch, from 1.
        loss: Mean training loss over the epoch's rows.
        lr: Learning rate of the epoch's last step.
        seconds: Time of the epoch's training steps, validation not included.
        valid: Validation metrics, empty when the epoch was not validated.
        improved: Whether this is the best epoch so far.
    """

    epoch: int
    loss: float
    lr: float
    seconds: float
    valid: dict[str, float] = field(default_factory=dict)
    improved: bool = False


@dataclass
class FitResult:
    """A run: what was asked, on what, and what came out.

    Args:
        config: The parts by name with all their arguments, enough to run it again exactly.
        asked: What of ``config`` was asked for; the rest was chosen to go with it. :obj:`None`
            where that is not known.
        data: ``{"name": ..., "digest": ...}`` of the data set.
        protocol: Name of the evaluation protocol (:data:`pyg_bsl.evaluation.PROTOCOLS`).
        seed: Seed of initialisation and sampling.
        num_users: Number of users.
        num_items: Number of items.
        num_train: Number of training pairs.
        epochs: Number of epochs asked for.
        status: ``"running"``, ``"finished"``, ``"stopped"`` (early stopping), ``"pruned"`` (by a
            study), ``"interrupted"`` or ``"failed"``.
        selected_on: Split by which the protocol chooses the epoch. If ``"test"``, the metrics are
            optimistic, and those called ``"valid"`` are measured on the test set too.
        best_epoch: Epoch the metrics and weights are of; 0 before the first validation.
        seconds: ``load``, ``train`` (the steps alone), ``evaluate`` and ``total``.
        metrics: ``{"valid": {"recall@20": ...}, "test": {...}}`` at the best epoch.
        peak_memory_mib: Largest memory so far, in MiB: what was allocated on the GPU, if that is
            where the training was, else what the process held.
        history: One record an epoch.
        state_dict: Weights of the backbone at the best epoch, on the CPU (not in the JSON); empty
            when the first epoch did not end.
    """

    config: dict[str, Any]
    data: dict[str, str]
    protocol: str
    seed: int
    num_users: int
    num_items: int
    num_train: int
    epochs: int
    status: str = "running"
    selected_on: Literal["valid", "test"] = "valid"
    best_epoch: int = 0
    seconds: dict[str, float] = field(default_factory=dict)
    metrics: dict[str, dict[str, float]] = field(default_factory=dict)
    peak_memory_mib: float = 0.0
    history: list[EpochRecord] = field(default_factory=list)
    state_dict: dict[str, Tensor] = field(default_factory=dict, repr=False)
    asked: dict[str, Any] | None = None

    @property
    def epochs_run(self) -> int:
        """Number of epochs that were completed."""
        return len(self.history)

    def to_dict(self) -> dict[str, Any]:
        """Everything but the weights, as plain data with the machine and versions beside it."""
        weights, self.state_dict = self.state_dict, {}  # asdict would copy them
        try:
            out = asdict(self)
        finally:
            self.state_dict = weights
        del out["state_dict"]
        return out | {
            "epochs_run": self.epochs_run,
            "versions": versions(),
            "machine": machine(),
        }

    def to_json(self) -> str:
        """The text of ``result.json``."""
        return json.dumps(self.to_dict(), indent=2, default=str) + "\n"


def versions() -> dict[str, str]:
    """Versions of what the numbers depend on."""
    names = ("pyg-bsl", "torch", "torch-geometric", "numpy", "mlflow", "optuna")
    found = {"python": platform.python_version()}
    for name in names:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:  # run from the sources
            found[name] = "not installed"
    return found


def machine() -> dict[str, Any]:
    """The machine the numbers were made on."""
    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else None
    return {
        "platform": platform.platform(),
        "processor": _processor(),
        "threads": torch.get_num_threads(),
        "gpu": gpu,
    }


def _processor() -> str:
    try:
        with open("/proc/cpuinfo") as file:
            for line in file:
                if line.startswith("model name"):
                    return line.split(":", 1)[1].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()
