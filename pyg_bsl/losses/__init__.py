"""Losses: standalone modules from scores to a number. They need PyTorch alone."""

from pyg_bsl.losses.base import Loss
from pyg_bsl.losses.bce import BCE
from pyg_bsl.losses.bpr import BPR
from pyg_bsl.losses.bsl import BSL
from pyg_bsl.losses.mse import MSE
from pyg_bsl.losses.psl import PSL
from pyg_bsl.losses.sl import SL

LOSSES: dict[str, type[Loss]] = {loss.__name__: loss for loss in (MSE, BCE, BPR, SL, BSL, PSL)}
"""Every loss by name."""

__all__ = ["LOSSES", "Loss", *LOSSES]
