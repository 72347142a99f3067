"""A comparison as text: Markdown, LaTeX (booktabs) or CSV."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import NamedTuple

from pyg_bsl.tracking.comparison import Cell, Comparison, Row
from pyg_bsl.tracking.significance import LEAST_SEEDS

_TEST = {"paired": "paired t-test over the common seeds", "Welch": "Welch's t-test"}
_HEADS = {"selected_on": "epoch chosen on"}


class _Style(NamedTuple):
    """How a text is marked up."""

    escape: Callable[[str], str]
    bold: str
    plus_minus: str
    marks: dict[str, str]


_MARKDOWN = _Style(
    lambda text: text.replace("|", r"\|"), "**{}**", " ± ", {"paired": "†", "Welch": "‡"}
)
_LATEX = _Style(
    lambda text: "".join(
        {"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}"}.get(
            char, f"\\{char}" if char in "&%$#_{}" else char
        )
        for char in text
    ),
    r"\textbf{{{}}}",
    r" $\pm$ ",
    {"paired": r"$^\dagger$", "Welch": r"$^\ddagger$"},
)


def to_markdown(comparison: Comparison) -> str:
    """A Markdown table with its title and notes."""
    lines = [[*_heads(comparison, _MARKDOWN)]]
    lines += [_line(comparison, row, _MARKDOWN) for row in comparison.rows]
    first_number = len(comparison.columns)
    widths = [max(len(line[i]) for line in lines) for i in range(len(lines[0]))]

    def padded(line: list[str]) -> str:
        cells = [
            text.ljust(width) if i < first_number else text.rjust(width)
            for i, (text, width) in enumerate(zip(line, widths, strict=True))
        ]
        return f"| {' | '.join(cells)} |"

    rule = [
        "-" * width if i < first_number else "-" * (width - 1) + ":"
        for i, width in enumerate(widths)
    ]
    table = "\n".join([padded(lines[0]), f"| {' | '.join(rule)} |", *map(padded, lines[1:])])
    notes = "\n".join(f"- {note}" for note in notes_of(comparison, _MARKDOWN.marks))
    return f"{title_of(comparison)}\n\n{table}\n\n{notes}\n"


def to_latex(comparison: Comparison) -> str:
    r"""A LaTeX ``tabular`` (needs ``\usepackage{booktabs}``); title and notes are comments."""
    lines = [f"% {title_of(comparison)}"]
    lines += [f"% {note}" for note in notes_of(comparison, _LATEX.marks)]
    kinds = "l" * len(comparison.columns) + "r" * (1 + len(comparison.metrics))
    lines += [rf"\begin{{tabular}}{{{kinds}}}", r"\toprule"]
    lines += [" & ".join(_heads(comparison, _LATEX)) + r" \\"]
    for block in comparison.blocks:
        lines.append(r"\midrule")
        lines += [" & ".join(_line(comparison, row, _LATEX)) + r" \\" for row in block]
    return "\n".join([*lines, r"\bottomrule", r"\end{tabular}", ""])


def to_csv(comparison: Comparison) -> str:
    """All numbers unrounded, for other programs: a line a setting, without notes."""
    lead = ["dataset", "protocol", "selected_on", "backbone", "loss"]
    more = [*comparison.columns, *comparison.implied]
    columns = [*lead, *(name for name in more if name not in lead)]
    parts = ("mean", "deviation", "seeds", "best", "test", "p")
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    heads = [f"{metric} {part}" for metric in comparison.metrics for part in parts]
    writer.writerow([*columns, "seeds", *heads])
    for row in comparison.rows:
        numbers: list[object] = []
        for metric in comparison.metrics:
            cell = row.cells.get(metric)
            if cell is None:
                numbers += [""] * len(parts)
                continue
            count = len(cell.values)
            numbers += [cell.mean, cell.deviation, count, cell.best, cell.test]
            numbers += [cell.p if cell.test else ""]
        settings = [row.settings.get(name, "") for name in columns]
        writer.writerow([*settings, " ".join(sorted(row.seeds, key=_natural)), *numbers])
    return out.getvalue()


FORMATS: Mapping[str, Callable[[Comparison], str]] = {
    "markdown": to_markdown,
    "latex": to_latex,
    "csv": to_csv,
}
ENDINGS: Mapping[str, str] = {".md": "markdown", ".tex": "latex", ".csv": "csv"}


def title_of(comparison: Comparison) -> str:
    """What all rows have in common: ``amazon-electronic, protocol psl-iid, MF``."""
    same = {name: comparison.same(name) for name in ("dataset", "protocol", "backbone", "loss")}
    words = [f"protocol {v}" if name == "protocol" else v for name, v in same.items() if v]
    return ", ".join(words) or "Runs of several data sets"


def notes_of(comparison: Comparison, marks: Mapping[str, str]) -> list[str]:
    """What the numbers and marks mean."""
    cells = [cell for row in comparison.rows for cell in row.cells.values()]
    notes = []
    if any(cell.deviation is not None for cell in cells):
        notes.append("Mean and sample standard deviation over seeds.")
    if any(cell.best for cell in cells):
        notes.append("Best mean in bold.")
    tests = {cell.test for cell in cells if cell.test}
    for test in sorted(tests, reverse=True):
        notes.append(
            f"{marks[test]} differs from the best at level {comparison.level:g} "
            f"({_TEST[test]}, two-sided, Holm's correction)."
        )
    others = [cell for cell in cells if not cell.best]
    if any(not cell.test for cell in others) and any(cell.best for cell in cells):
        notes.append(
            f"Settings with fewer than {LEAST_SEEDS} seeds, or beside a best with fewer, are not "
            "tested."
        )
    if any(row.settings["selected_on"] == "test" for row in comparison.rows):
        notes.append(
            "Where the epoch was chosen on the test set, results are optimistic, and are not "
            "compared with others."
        )
    if comparison.implied:
        notes.append(f"Go with the parts, not shown: {', '.join(comparison.implied)}.")
    notes += [f"Left out: {count} runs {reason}." for reason, count in comparison.left_out.items()]
    return notes


def _heads(comparison: Comparison, style: _Style) -> list[str]:
    names = [_HEADS.get(name, name) for name in _columns(comparison)]
    return [style.escape(name) for name in (*names, "seeds", *comparison.metrics)]


def _columns(comparison: Comparison) -> list[str]:
    """Those in which rows differ; a choice on the test set is always told."""
    told = "selected_on" in comparison.columns or comparison.same("selected_on") != "test"
    return comparison.columns if told else ["selected_on", *comparison.columns]


def _line(comparison: Comparison, row: Row, style: _Style) -> list[str]:
    values = [_short(row.settings.get(name, "")) for name in _columns(comparison)]
    line = [style.escape(value) for value in values]
    line.append(str(len(row.seeds)))
    for metric in comparison.metrics:
        shown = [r.cells[metric].mean for r in comparison.rows if metric in r.cells]
        digits = 4 if max(map(abs, shown), default=0.0) < 10 else 1
        cell = row.cells.get(metric)
        line.append("" if cell is None else _number(cell, digits, comparison.level, style))
    return line


def _number(cell: Cell, digits: int, level: float, style: _Style) -> str:
    text = f"{cell.mean:.{digits}f}"
    if cell.deviation is not None:
        text += f"{style.plus_minus}{cell.deviation:.{digits}f}"
    if cell.best:
        return style.bold.format(text)
    return text + (style.marks[cell.test] if cell.test and cell.p < level else "")


def _short(value: str) -> str:
    """A number in few digits; nothing for what is not there."""
    if value == "None":
        return ""
    with suppress(ValueError):
        return f"{float(value):.6g}" if "." in value or "e" in value else value
    return value


def _natural(seed: str) -> tuple[int, str]:
    return (int(seed), "") if seed.lstrip("-").isdigit() else (0, seed)
