"""Metrics of ranked recommendations."""

from pyg_bsl.metrics.ranking import METRICS, parse_metric, rank_metrics

__all__ = ["METRICS", "parse_metric", "rank_metrics"]
