"""Samplers of negatives, and the loader of positive pairs."""

from pyg_bsl.sampling.all_items import AllItems
from pyg_bsl.sampling.base import Sampler
from pyg_bsl.sampling.in_batch import InBatch
from pyg_bsl.sampling.loader import BatchLoader
from pyg_bsl.sampling.shared import Shared
from pyg_bsl.sampling.uniform import Uniform

SAMPLERS: dict[str, type[Sampler]] = {
    sampler.__name__: sampler for sampler in (AllItems, Shared, InBatch, Uniform)
}
"""Every sampler by name."""

__all__ = ["SAMPLERS", "BatchLoader", "Sampler", *SAMPLERS]
