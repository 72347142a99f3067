"""Filters, splits and noise: each takes a ``HeteroData`` and gives a new one."""

from pyg_bsl.data.transforms.global_time_split import GlobalTimeSplit
from pyg_bsl.data.transforms.holdout_validation import HoldoutValidation
from pyg_bsl.data.transforms.k_core import KCore
from pyg_bsl.data.transforms.leave_last_out import LeaveLastOut
from pyg_bsl.data.transforms.min_rating import MinRating
from pyg_bsl.data.transforms.positive_noise import PositiveNoise
from pyg_bsl.data.transforms.random_split import RandomSplit

__all__ = [
    "GlobalTimeSplit",
    "HoldoutValidation",
    "KCore",
    "LeaveLastOut",
    "MinRating",
    "PositiveNoise",
    "RandomSplit",
]
