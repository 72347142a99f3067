"""Backbones: modules that turn a graph into embeddings of users and items.

Scores are cosines or inner products of the embeddings, which is what exact losses over a whole
catalogue rest on. NCF's learned scorer, a network on each pair of vectors, is none of that and
therefore not among them.
"""

from pyg_bsl.nn.backbone import Backbone, EmbeddingBackbone
from pyg_bsl.nn.contrast import ContrastiveBackbone
from pyg_bsl.nn.conv import LGConv, NGCFConv
from pyg_bsl.nn.lightgcn import LightGCN
from pyg_bsl.nn.lightgcnpp import LightGCNpp
from pyg_bsl.nn.mf import MF
from pyg_bsl.nn.ngcf import NGCF
from pyg_bsl.nn.popularity import Popularity
from pyg_bsl.nn.sgl import SGL
from pyg_bsl.nn.simgcl import SimGCL
from pyg_bsl.nn.simplex import SimpleX
from pyg_bsl.nn.xsimgcl import XSimGCL

BACKBONES: dict[str, type[Backbone]] = {
    backbone.__name__: backbone
    for backbone in (
        MF,
        SimpleX,
        NGCF,
        LightGCN,
        LightGCNpp,
        SGL,
        SimGCL,
        XSimGCL,
        Popularity,
    )
}
"""All backbones by name."""

__all__ = [
    "BACKBONES",
    "MF",
    "NGCF",
    "SGL",
    "Backbone",
    "ContrastiveBackbone",
    "EmbeddingBackbone",
    "LGConv",
    "LightGCN",
    "LightGCNpp",
    "NGCFConv",
    "Popularity",
    "SimGCL",
    "SimpleX",
    "XSimGCL",
]
