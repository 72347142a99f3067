"""Backbones: modules that turn a graph into embeddings of users and items."""

from pyg_bsl.nn.backbone import Backbone, EmbeddingBackbone
from pyg_bsl.nn.conv import LGConv, NGCFConv
from pyg_bsl.nn.lightgcn import LightGCN
from pyg_bsl.nn.mf import MF
from pyg_bsl.nn.ngcf import NGCF
from pyg_bsl.nn.popularity import Popularity

BACKBONES: dict[str, type[Backbone]] = {
    backbone.__name__: backbone for backbone in (MF, NGCF, LightGCN, Popularity)
}
"""All backbones by name."""

__all__ = [
    "BACKBONES",
    "Backbone",
    "EmbeddingBackbone",
    "LGConv",
    "LightGCN",
    "MF",
    "NGCF",
    "NGCFConv",
    "Popularity",
]
