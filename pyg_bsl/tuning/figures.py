"""Figures of a study as PNG files; Matplotlib is imported here alone, and may be missing."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pyg_bsl.atomic import atomic_path
from pyg_bsl.space import Choice, LogUniform
from pyg_bsl.tuning.spaces import from_data

if TYPE_CHECKING:
    from pyg_bsl.tuning.report import Report

BLUE, ORANGE, GREY = "#3366aa", "#dd7722", "#999999"
COLUMNS = 3

log = logging.getLogger("pyg_bsl")


def save_figures(report: Report, folder: Path) -> list[Path]:
    """Draw the study into the folder; the files, none of them where Matplotlib is missing.

    ``history.png``: value of each trial and the best so far. ``slices.png``: value by each
    parameter. ``importance.png``: share of each parameter in the variance. ``temperature.png``:
    value by the loss's temperature, where it was tuned.
    """
    if find_spec("matplotlib") is None:
        log.info("No figures: they need Matplotlib (pip install 'pyg-bsl[plots]')")
        return []
    names = [name for name in report.identity["space"] if len(_points(report, name)) > 1]
    temperatures = [name for name in names if name.startswith("loss.tau")]
    importance = report.importance()
    drawings: dict[str, Callable[[], Any]] = {"history.png": lambda: _history(report)}
    if names:
        drawings["slices.png"] = lambda: _slices(report, names)
    if importance:
        drawings["importance.png"] = lambda: _importance(importance)
    if temperatures:
        drawings["temperature.png"] = lambda: _slices(report, temperatures, trend=True)
    files = []
    for name, draw in drawings.items():
        figure = draw()
        with atomic_path(folder / name) as part:
            figure.savefig(part, format="png", dpi=120)
        files.append(folder / name)
    return files


def _axes(rows: int, columns: int, width: float, height: float) -> tuple[Any, list[Any]]:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)  # no window, whatever the user's settings are
    return figure, list(figure.subplots(rows, columns, squeeze=False).flat)


def _history(report: Report) -> Any:
    figure, (axes,) = _axes(1, 1, 7, 4)
    points, best, top = report.curve(), [], -math.inf
    for _, value in points:
        top = max(top, value)
        best.append(top)
    pruned = [
        (t.number, t.values[0])
        for t in report.trials
        if t.state.name == "PRUNED" and t.values is not None
    ]
    numbers, values = zip(*points, strict=True)
    axes.scatter(numbers, values, color=BLUE, label="trial", zorder=3)
    if pruned:
        x, y = zip(*pruned, strict=True)
        axes.scatter(x, y, color=GREY, marker="x", label="pruned, where it stood", zorder=2)
    axes.step(numbers, best, color=ORANGE, where="post", label="best so far")
    axes.set_xlabel("trial")
    axes.xaxis.get_major_locator().set_params(integer=True)
    axes.set_ylabel(_label(report))
    axes.set_title(f"Study {report.name}")
    axes.legend()
    return figure


def _slices(report: Report, names: Sequence[str], *, trend: bool = False) -> Any:
    columns = min(COLUMNS, len(names))
    rows = math.ceil(len(names) / columns)
    figure, every = _axes(rows, columns, 4 * columns + 1, 3.2 * rows + 0.5)
    space = from_data(report.identity["space"])
    winner = report.winner
    for axes, name in zip(every, names, strict=False):
        x, y = zip(*_points(report, name), strict=True)
        at = winner.params[name]
        if isinstance(each := space[name], Choice):  # evenly spaced, in order
            places = {v: n for n, v in enumerate(sorted(each.values, key=_order))}
            x, at = tuple(places[value] for value in x), places[at]
            axes.set_xticks(range(len(places)), [_short(value) for value in places])
        elif isinstance(each, LogUniform):
            axes.set_xscale("log")
        axes.scatter(x, y, color=BLUE, s=18)
        if trend:
            best = {value: max(v for at, v in zip(x, y, strict=True) if at == value) for value in x}
            axes.plot(*zip(*sorted(best.items()), strict=True), color=GREY, lw=1, zorder=1)
        axes.scatter([at], [winner.values[0]], color=ORANGE, s=50)
        axes.set_xlabel(name)
        axes.set_ylabel(_label(report))
    for axes in every[len(names) :]:
        axes.set_axis_off()
    figure.suptitle(f"Study {report.name}; the chosen trial is orange")
    return figure


def _importance(importance: dict[str, float]) -> Any:
    figure, (axes,) = _axes(1, 1, 7, 0.5 * len(importance) + 1.5)
    names = list(importance)[::-1]
    axes.barh(names, [importance[name] for name in names], color=BLUE)
    axes.set_xlabel("share of the variance")
    axes.set_title("Importance of the parameters")
    return figure


def _points(report: Report, name: str) -> list[tuple[Any, float]]:
    return [(t.params[name], t.values[0]) for t in report.complete if name in t.params]


def _label(report: Report) -> str:
    return f"{'test, as valid,' if report.on_test else 'valid'} {report.metric}"


def _order(value: Any) -> tuple[bool, Any]:
    """Numbers in their order, before words in theirs."""
    number = isinstance(value, int | float)
    return not number, value if number else str(value)


def _short(value: Any) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)
