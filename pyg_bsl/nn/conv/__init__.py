"""Graph convolutions on a symmetric, normalised adjacency."""

from pyg_bsl.nn.conv.lg_conv import LGConv
from pyg_bsl.nn.conv.ngcf_conv import NGCFConv

__all__ = ["LGConv", "NGCFConv"]
