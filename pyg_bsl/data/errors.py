"""The error for data that cannot be used."""

from __future__ import annotations

import os


class DataError(ValueError):
    """Data that breaks a rule; the message says where, the rule, the value and the cure.

    Args:
        message: The rule, what was got, and what to do.
        path: The file at fault.
        line: The line at fault, counted from 1.
        unit: What ``line`` counts: ``"row"`` in files without lines (parquet).

    Example:
        >>> print(DataError("ids must be integers (got 'x')", "train.txt", 3))
        train.txt, line 3: ids must be integers (got 'x')
    """

    def __init__(
        self,
        message: str,
        path: str | os.PathLike[str] | None = None,
        line: int | None = None,
        unit: str = "line",
    ) -> None:
        place = [] if path is None else [os.fspath(path)]
        place += [] if line is None else [f"{unit} {line}"]
        super().__init__(f"{', '.join(place)}: {message}" if place else message)
