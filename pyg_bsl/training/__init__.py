"""The training loop, its callbacks and what a run leaves behind."""

from pyg_bsl.training.callbacks import Callback, ProgressBar
from pyg_bsl.training.result import EpochRecord, FitResult
from pyg_bsl.training.trainer import SCHEDULES, NonFiniteLossError, Trainer

__all__ = [
    "SCHEDULES",
    "Callback",
    "EpochRecord",
    "FitResult",
    "NonFiniteLossError",
    "ProgressBar",
    "Trainer",
]
