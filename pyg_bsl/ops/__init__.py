"""Pure tensor functions: streamed reductions over scores, propagation, masked top-k."""

from pyg_bsl.ops.reduce import (
    has_power_sums,
    log_mean_exp,
    log_mean_exp_map,
    log_mean_power,
    mean_map,
)
from pyg_bsl.ops.scores import DenseScores, LazyScores, Scores
from pyg_bsl.ops.segment import segment_log_mean_exp

__all__ = [
    "DenseScores",
    "LazyScores",
    "Scores",
    "has_power_sums",
    "log_mean_exp",
    "log_mean_exp_map",
    "log_mean_power",
    "mean_map",
    "segment_log_mean_exp",
]
