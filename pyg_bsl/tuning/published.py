"""Hyper-parameters that the papers report as their best."""

from __future__ import annotations

import csv
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any


@dataclass(frozen=True)
class Published:
    """Best values by a paper's own search.

    Args:
        source: Paper and table.
        dataset: Name of the data set here.
        backbone: Name of the backbone here.
        loss: Name of the loss here.
        values: The values, by the names of a search space and on the scale of the losses here.
        note: What else to know.
    """

    source: str
    dataset: str
    backbone: str
    loss: str
    values: dict[str, Any]
    note: str = ""


@cache
def all_published() -> tuple[Published, ...]:
    """Every entry of ``published.csv``, beside this file."""
    text = (files("pyg_bsl.tuning") / "published.csv").read_text()
    rows = csv.DictReader(text.splitlines())
    return tuple(
        Published(
            row["source"],
            row["dataset"],
            row["backbone"],
            row["loss"],
            {name: _value(word) for name, _, word in map(_split, row["values"].split())},
            row["note"],
        )
        for row in rows
    )


def published(dataset: str, backbone: str, loss: str) -> list[Published]:
    """The entries for a data set, a backbone and a loss.

    Example:
        >>> [entry.values["loss.tau"] for entry in published("amazon-electronic", "MF", "SL")]
        [0.2, 0.2]
    """
    asked = (dataset, backbone, loss)
    return [e for e in all_published() if (e.dataset, e.backbone, e.loss) == asked]


def _split(word: str) -> tuple[str, str, str]:
    return word.partition("=")


def _value(word: str) -> float | int | str:
    for kind in (int, float):
        try:
            return kind(word)
        except ValueError:
            continue
    return word
