"""Samplers of negatives, and the loader of positive pairs."""

from pyg_bsl.sampling.all_items import AllItems
from pyg_bsl.sampling.base import Sampler
from pyg_bsl.sampling.by_popularity import ByPopularity
from pyg_bsl.sampling.false_negatives import FalseNegatives
from pyg_bsl.sampling.hard import Hard
from pyg_bsl.sampling.in_batch import InBatch
from pyg_bsl.sampling.loader import BatchLoader
from pyg_bsl.sampling.mixed import Mixed
from pyg_bsl.sampling.shared import Shared
from pyg_bsl.sampling.uniform import Uniform

SAMPLERS: dict[str, type[Sampler]] = {
    sampler.__name__: sampler
    for sampler in (AllItems, Shared, ByPopularity, InBatch, Mixed, Hard, Uniform, FalseNegatives)
}
"""Every sampler by name."""

__all__ = ["SAMPLERS", "BatchLoader", "Sampler", *SAMPLERS]
