"""MLflow: every run with its parameters, curves, results and weights, to look up and compare."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pyg_bsl.tracking.address import ui_command
    from pyg_bsl.tracking.comparison import Comparison, compare_runs
    from pyg_bsl.tracking.figures import learning_curves
    from pyg_bsl.tracking.outbox import send_unsent
    from pyg_bsl.tracking.processes import close_dead_runs, process_tags
    from pyg_bsl.tracking.tracker import MLflowTracker

_PUBLIC = {
    "Comparison": "comparison",
    "MLflowTracker": "tracker",
    "close_dead_runs": "processes",
    "compare_runs": "comparison",
    "learning_curves": "figures",
    "process_tags": "processes",
    "send_unsent": "outbox",
    "ui_command": "address",
}

__all__ = [
    "Comparison",
    "MLflowTracker",
    "close_dead_runs",
    "compare_runs",
    "learning_curves",
    "process_tags",
    "send_unsent",
    "ui_command",
]


def __getattr__(name: str) -> Any:
    # Imported when asked for: to look at runs, neither PyTorch nor PyG is needed.
    if name in _PUBLIC:
        return getattr(import_module(f"pyg_bsl.tracking.{_PUBLIC[name]}"), name)
    raise AttributeError(f"module 'pyg_bsl.tracking' has no attribute '{name}'")
