"""Losses: standalone modules from scores to a number. They need PyTorch alone."""

from pyg_bsl.losses.advinfonce import AdvInfoNCE
from pyg_bsl.losses.base import Loss
from pyg_bsl.losses.bc import BC
from pyg_bsl.losses.bce import BCE
from pyg_bsl.losses.bpr import BPR
from pyg_bsl.losses.bsl import BSL
from pyg_bsl.losses.ccl import CCL
from pyg_bsl.losses.context import Context
from pyg_bsl.losses.custom import row_loss
from pyg_bsl.losses.directau import DirectAU
from pyg_bsl.losses.drrl import DrRL
from pyg_bsl.losses.llpauc import LLPAUC
from pyg_bsl.losses.mse import MSE
from pyg_bsl.losses.psl import PSL
from pyg_bsl.losses.sl import SL
from pyg_bsl.losses.slatk import SLatK
from pyg_bsl.losses.talos import Talos

LOSSES: dict[str, type[Loss]] = {
    loss.__name__: loss
    for loss in (
        *(MSE, BCE, BPR, CCL, SL, BSL, PSL, AdvInfoNCE, LLPAUC),
        *(SLatK, DirectAU, BC, DrRL, Talos),
    )
}
"""Every loss by name."""

__all__ = ["LOSSES", "Context", "Loss", "row_loss", *LOSSES]
