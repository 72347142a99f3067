"""Figures of a run, as files for its page."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from pyg_bsl.training.result import FitResult


def learning_curves(result: FitResult) -> Figure:
    """Loss and validation metrics by epoch; a line stands at the chosen epoch.

    Needs matplotlib (``pip install "pyg-bsl[plots]"``).

    Example:
        >>> from pyg_bsl.training import EpochRecord, FitResult
        >>> result = FitResult({}, {"name": "toy"}, "holdout", 0, 5, 6, 11, epochs=2)
        >>> result.history.append(EpochRecord(1, 0.5, 0.1, 1.0, {"ndcg@20": 0.1}))
        >>> [axes.get_ylabel() for axes in learning_curves(result).axes]
        ['loss', 'valid']
    """
    from matplotlib.figure import Figure

    names = _shown(result)
    figure = Figure(figsize=(9, 3.5), layout="constrained")
    columns = figure.subplots(1, 2 if names else 1, sharex=True, squeeze=False)[0]
    marker = "." if len(result.history) <= 60 else ""
    epochs = [record.epoch for record in result.history]
    columns[0].plot(epochs, [record.loss for record in result.history], marker=marker)
    columns[0].set_ylabel("loss")
    for name in names:
        rows = [(r.epoch, r.valid[name]) for r in result.history if name in r.valid]
        columns[1].plot(*zip(*rows, strict=True), marker=marker, label=name)
    if names:
        on_test = result.selected_on == "test"
        columns[1].set_ylabel("test, on which the epoch was chosen" if on_test else "valid")
    for axes in columns:
        _finish(axes, result.best_epoch)
    if names:
        columns[1].legend(fontsize="small")
    figure.suptitle(f"{result.data['name']}, protocol {result.protocol}, seed {result.seed}")
    return figure


def prepare() -> None:
    """Import what draws, which takes half a second."""
    import matplotlib.backends.backend_agg
    import matplotlib.figure  # noqa: F401


def save_figure(figure: Figure, path: Path) -> None:
    """Write a PNG, whatever backend there is."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    path.parent.mkdir(parents=True, exist_ok=True)
    FigureCanvasAgg(figure).print_figure(path, dpi=100)


def _shown(result: FitResult) -> list[str]:
    """Validation metrics of one scale: NDCG and recall, else the first one."""
    names = sorted({name for record in result.history for name in record.valid})
    return [name for name in names if name.startswith(("ndcg@", "recall@"))] or names[:1]


def _finish(axes: Axes, best_epoch: int) -> None:
    from matplotlib.ticker import MaxNLocator

    axes.set_xlabel("epoch")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.grid(alpha=0.3)
    if best_epoch:
        axes.axvline(best_epoch, color="0.5", linestyle="--", linewidth=1, label="chosen epoch")
