"""Losses for recommendation from implicit feedback, and all that is needed to train with them.

- :mod:`pyg_bsl.losses`: the losses, standalone modules (they need PyTorch alone)
- :mod:`pyg_bsl.data`: data sets by name, one's own files, transforms, ``build_graph``
- :mod:`pyg_bsl.nn`: backbones
- :mod:`pyg_bsl.sampling`: samplers of negatives
- :class:`pyg_bsl.Trainer`: the training loop
- :func:`pyg_bsl.evaluate`, :func:`pyg_bsl.recommend`: metrics by named protocol, and lists
- :class:`pyg_bsl.Experiment`: a run from names
- :class:`pyg_bsl.MLflowTracker`: every run in MLflow
- :mod:`pyg_bsl.tuning`: studies, to find good settings
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pyg_bsl.evaluation import PROTOCOLS, evaluate, recommend
    from pyg_bsl.experiment import Experiment
    from pyg_bsl.tracking import MLflowTracker
    from pyg_bsl.training import FitResult, Trainer

_PUBLIC = {
    "PROTOCOLS": "evaluation",
    "evaluate": "evaluation",
    "recommend": "evaluation",
    "Experiment": "experiment",
    "MLflowTracker": "tracking",
    "FitResult": "training",
    "Trainer": "training",
}

__all__ = [
    "PROTOCOLS",
    "Experiment",
    "FitResult",
    "MLflowTracker",
    "Trainer",
    "evaluate",
    "recommend",
]


def __getattr__(name: str) -> Any:
    # Imported when asked for, so that `import pyg_bsl.losses` needs nothing but torch.
    if name in _PUBLIC:
        return getattr(import_module(f"pyg_bsl.{_PUBLIC[name]}"), name)
    raise AttributeError(f"module 'pyg_bsl' has no attribute '{name}'")
