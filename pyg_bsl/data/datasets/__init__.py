"""Published data sets as PyG data sets."""

from pyg_bsl.data.datasets.benchmark import BenchmarkDataset
from pyg_bsl.data.datasets.movielens_small import MovieLensSmall

__all__ = ["BenchmarkDataset", "MovieLensSmall"]
