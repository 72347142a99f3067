"""Data sets, own data, splits and the graph that is trained on."""

from pyg_bsl.data.datasets import BenchmarkDataset, MovieLensSmall
from pyg_bsl.data.errors import DataError
from pyg_bsl.data.files import from_files
from pyg_bsl.data.graph import build_graph
from pyg_bsl.data.hetero import make_hetero
from pyg_bsl.data.load import load_dataset
from pyg_bsl.data.table import DATASETS
from pyg_bsl.data.transforms import (
    GlobalTimeSplit,
    HoldoutValidation,
    KCore,
    LeaveLastOut,
    MinRating,
    PositiveNoise,
    RandomSplit,
)

__all__ = [
    "DATASETS",
    "BenchmarkDataset",
    "DataError",
    "GlobalTimeSplit",
    "HoldoutValidation",
    "KCore",
    "LeaveLastOut",
    "MinRating",
    "MovieLensSmall",
    "PositiveNoise",
    "RandomSplit",
    "build_graph",
    "from_files",
    "load_dataset",
    "make_hetero",
]
