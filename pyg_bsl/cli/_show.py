"""What several commands print."""

from __future__ import annotations

from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from pyg_bsl.evaluation import PROTOCOLS


def print_metrics(result: dict[str, Any]) -> None:
    """A table of a ``result.json``'s metrics: a row each, a column for every split."""
    metrics: dict[str, dict[str, float]] = result["metrics"]
    title = f"{result['data']['name']}, protocol {result['protocol']}, epoch {result['best_epoch']}"
    if result["selected_on"] == "test":
        title += "\n(chosen on the test set)"
    valid = "test, as valid" if PROTOCOLS[result["protocol"]].select_on == "test" else "valid"
    if not metrics:
        print(f"{title}: no validation or test pairs to measure on")
        return
    table = Table(title=Text(title), box=box.SIMPLE_HEAD, title_justify="left")
    table.add_column("metric")
    for split in metrics:
        table.add_column(valid if split == "valid" else split, justify="right")
    for name in next(iter(metrics.values()), {}):
        table.add_row(name, *(f"{values[name]:.4f}" for values in metrics.values()))
    Console().print(table)
