"""Recorded runs beside one another, over their seeds."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import fmean, stdev
from typing import TYPE_CHECKING

from pyg_bsl.checks import check_share
from pyg_bsl.names import pick, suggest
from pyg_bsl.tracking.address import resolve_uri
from pyg_bsl.tracking.names import key, metric_of
from pyg_bsl.tracking.significance import compare_seeds, holm
from pyg_bsl.tracking.store import brief, connect, runs_of

if TYPE_CHECKING:
    from mlflow.entities import Run

_SECONDS = 60  # A request may take this long: it may bring a thousand runs.
_DEFAULT_METRICS = ("test/ndcg@20", "test/recall@20")
_BLOCK = ("dataset", "protocol", "selected_on")  # Numbers compare where these are equal.
# Parameters that say nothing of the method: the seed, where the data lie, what they came to with
# validation pairs held out by the seed.
_NO_SETTING = ("seed", "root", "dataset.digest", "num_users", "num_items", "num_train")


@dataclass
class Cell:
    """A metric of one setting.

    Args:
        values: By seed.
        best: Whether its mean is the best of the settings it compares with.
        test: Test against the best: ``"paired"`` or ``"Welch"``; empty where there was none.
        p: Its two-sided p, corrected for the number of tests; 1 where there was none.
    """

    values: dict[str, float]
    best: bool = False
    test: str = ""
    p: float = 1.0

    @property
    def mean(self) -> float:
        """Mean over the seeds."""
        return fmean(self.values.values())

    @property
    def deviation(self) -> float | None:
        """Sample standard deviation over the seeds, if there are two."""
        return stdev(self.values.values()) if len(self.values) > 1 else None


@dataclass
class Row:
    """Runs that are equal in all but the seed.

    Args:
        settings: Their parameters, with the split on which the epoch was chosen.
        seeds: Their seeds.
        cells: What they reached, by metric.
    """

    settings: dict[str, str]
    seeds: list[str]
    cells: dict[str, Cell]


@dataclass(frozen=True)
class Comparison:
    """A table of settings.

    Args:
        rows: Best first by the first metric, in blocks of one data set and protocol.
        columns: Parameters in which the rows differ, without those of ``implied``.
        metrics: Names of the metrics.
        level: Level of the marks.
        left_out: Why runs are not in it, with their number.
        implied: Settings of sampler and trainer in which the rows differ as they do in data set,
            backbone or loss, which they were chosen to go with.
    """

    rows: list[Row]
    columns: list[str]
    metrics: list[str]
    level: float = 0.05
    left_out: dict[str, int] = field(default_factory=dict)
    implied: list[str] = field(default_factory=list)

    @property
    def blocks(self) -> list[list[Row]]:
        """Rows that compare with one another."""
        return blocks_of(self.rows)

    def same(self, name: str) -> str | None:
        """The value of a parameter, if all rows have the same."""
        values = {row.settings.get(name, "") for row in self.rows}
        return values.pop() if len(values) == 1 else None


def compare_runs(
    where: Iterable[str] = (),
    *,
    metrics: Sequence[str] | None = None,
    store: str | Path = "mlruns",
    tracking_uri: str | None = None,
    level: float = 0.05,
) -> Comparison:
    """Finished runs by their settings, each over its seeds.

    The best mean of a data set and protocol is found, and every other setting is tested against
    it: by a paired t-test over the common seeds where there are three, else by Welch's t-test where
    each has three. Of several runs of one setting and seed the newest counts.

    Args:
        where: Which runs, by tag or parameter: ``"backbone=MF,LightGCN"`` is any of several,
            ``"phase!=search"`` none of them; all conditions hold.
        metrics: Names such as ``"test/ndcg@20"``, ``"valid_best/recall@20"``, ``"seconds_train"``;
            :obj:`None`: NDCG and recall at 20 on the test set.
        store: Folder of the local store.
        tracking_uri: Where the runs are instead; by default ``MLFLOW_TRACKING_URI`` where it is
            set, else ``store``.
        level: Level at which a setting is said to differ from the best, after Holm's correction.

    Raises:
        ValueError: If there are no such runs or metrics.
    """
    check_share("level", level)
    uri = resolve_uri(store, tracking_uri)
    with brief(_SECONDS):
        runs = list(runs_of(connect(uri), "attributes.status = 'FINISHED'"))
    runs = [run for run in runs if "seed" in run.data.params]  # Trainings, not studies.
    if not runs:
        raise ValueError(f"There are no finished runs at {uri}")
    for condition in where:
        runs = _filtered(runs, condition)
    names = _metrics(runs, metrics)
    rows, left_out = _rows(runs, names)
    every = dict.fromkeys(name for row in rows for name in row.settings)
    columns = [name for name in every if len({row.settings.get(name, "") for row in rows}) > 1]
    lead = ["dataset", "protocol", "selected_on", "backbone", "loss"]
    columns.sort(key=lambda name: (lead.index(name) if name in lead else len(lead), name))
    implied = [name for name in columns if _goes_with_the_parts(name, rows)]
    columns = [name for name in columns if name not in implied]
    for block in blocks_of(rows):
        for name in names:
            _judge([row.cells[name] for row in block if name in row.cells], name)
    first = names[0]
    sign = 1 if _lower_is_better(first) else -1

    def rank(row: Row) -> tuple[object, ...]:
        cell = row.cells.get(first)
        return *_block(row), sign * cell.mean if cell else math.inf

    return Comparison(sorted(rows, key=rank), columns, names, level, left_out, implied)


def blocks_of(rows: Iterable[Row]) -> list[list[Row]]:
    """Rows of one data set, protocol and way of choosing the epoch together."""
    blocks: dict[tuple[str, ...], list[Row]] = {}
    for row in rows:
        blocks.setdefault(_block(row), []).append(row)
    return list(blocks.values())


def _block(row: Row) -> tuple[str, ...]:
    return tuple(row.settings.get(name, "") for name in _BLOCK)


def _goes_with_the_parts(name: str, rows: Iterable[Row]) -> bool:
    """Whether a setting of sampler or trainer is the same wherever the other parts are."""
    if not name.startswith(("sampler", "trainer.")):
        return False
    found: dict[tuple[str, ...], set[str]] = {}
    for row in rows:
        parts = tuple(row.settings.get(part, "") for part in (*_BLOCK, "backbone", "loss"))
        found.setdefault(parts, set()).add(row.settings.get(name, ""))
    return all(len(values) == 1 for values in found.values())


def _filtered(runs: list[Run], condition: str) -> list[Run]:
    parts = re.fullmatch(r"([^=!]+)(!?)=(.*)", condition, re.DOTALL)
    if parts is None:
        raise ValueError(f"A condition must be NAME=VALUE or NAME!=VALUE (got '{condition}')")
    name, negative, text = parts[1].strip(), bool(parts[2]), parts[3]
    wanted = {text, *(word.strip() for word in text.split(","))}  # A value may have commas.
    have = [_facts(run).get(name) for run in runs]
    if not any(value is not None for value in have):
        choices = dict.fromkeys(fact for run in runs for fact in _facts(run))
        raise ValueError(
            f"No run has a tag or parameter '{name}'{suggest(name, choices)} "
            f"(asked for: {condition})"
        )
    kept = [run for run, value in zip(runs, have, strict=True) if (value in wanted) is not negative]
    if not kept:
        values = sorted({value for value in have if value is not None})
        shown = ", ".join(values[:20]) + (", ..." if len(values) > 20 else "")
        raise ValueError(f"No finished run has {condition}; '{name}' of the runs is: {shown}")
    return kept


def _facts(run: Run) -> Mapping[str, str]:
    return {**run.data.params, **run.data.tags}


def _metrics(runs: list[Run], asked: Sequence[str] | None) -> list[str]:
    names = sorted({metric_of(name) for run in runs for name in run.data.metrics})
    known = {name: name for name in names}
    if asked:
        return [pick("metric", metric_of(name), known) for name in asked]
    found = [name for name in _DEFAULT_METRICS if name in known]
    found = found or [name for name in known if name.startswith("test/")][:2]
    if not found:
        raise ValueError(
            f"The runs have no test metrics: name others (--metrics). Choices: {', '.join(known)}"
        )
    return found


def _rows(runs: list[Run], metrics: list[str]) -> tuple[list[Row], dict[str, int]]:
    """Group the runs, the newest of which come first."""
    rows: dict[tuple[tuple[str, str], ...], Row] = {}
    without, older = 0, 0
    for run in runs:
        have = {name: run.data.metrics.get(key(name), math.nan) for name in metrics}
        have = {name: value for name, value in have.items() if math.isfinite(value)}
        if not have:
            without += 1
            continue
        settings = {k: v for k, v in run.data.params.items() if k not in _NO_SETTING}
        settings["selected_on"] = run.data.tags.get("selected_on", "valid")
        row = rows.setdefault(tuple(sorted(settings.items())), Row(settings, [], {}))
        seed = run.data.params["seed"]
        if seed in row.seeds:
            older += 1
            continue
        row.seeds.append(seed)
        for name, value in have.items():
            row.cells.setdefault(name, Cell({})).values[seed] = value
    if not rows:
        raise ValueError(f"None of the runs has a value of {', '.join(metrics)}")
    reasons = {"without these metrics": without, "older ones of the same setting and seed": older}
    return list(rows.values()), {reason: count for reason, count in reasons.items() if count}


def _judge(cells: list[Cell], metric: str) -> None:
    """Find the best cell, and test the others against it."""
    if len(cells) < 2 or metric == "best_epoch":
        return
    choose = min if _lower_is_better(metric) else max
    best = choose(cells, key=lambda cell: cell.mean)
    tested = []
    for cell in cells:
        cell.best = cell.mean == best.mean
        found = None if cell.best else compare_seeds(cell.values, best.values)
        if found is not None:
            cell.test, cell.p = found
            tested.append(cell)
    for cell, p in zip(tested, holm([cell.p for cell in tested]), strict=True):
        cell.p = p


def _lower_is_better(metric: str) -> bool:
    return metric.startswith("seconds") or metric.endswith(("/loss", "/seconds"))
