"""Pure tensor functions: streamed reductions over scores, propagation, masked top-k."""

from pyg_bsl.ops.combine import (
    add_scores,
    detached,
    num_negatives,
    with_vectors,
)
from pyg_bsl.ops.reduce import (
    has_power_sums,
    log_mean_exp,
    log_mean_exp_map,
    log_mean_power,
    mean_map,
)
from pyg_bsl.ops.reverse import reverse_gradient
from pyg_bsl.ops.scores import DenseScores, LazyScores, Scores, of_queries
from pyg_bsl.ops.segment import segment_log_mean_exp

__all__ = [
    "DenseScores",
    "LazyScores",
    "Scores",
    "add_scores",
    "detached",
    "has_power_sums",
    "log_mean_exp",
    "log_mean_exp_map",
    "log_mean_power",
    "mean_map",
    "num_negatives",
    "of_queries",
    "reverse_gradient",
    "segment_log_mean_exp",
    "with_vectors",
]
