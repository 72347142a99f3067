"""``pyg-bsl datasets``."""

from __future__ import annotations

from rich import box
from rich.console import Console
from rich.table import Table

from pyg_bsl.data.table import DATASETS
from pyg_bsl.flags import Parser


def run(argv: list[str]) -> int:
    """List the data sets."""
    Parser(prog="pyg-bsl datasets", description="List the data sets.").parse_all(argv)
    table = Table(box=box.SIMPLE_HEAD)
    for title in ("name", "users", "items", "train", "test", "protocol"):
        numeric = title not in ("name", "protocol")
        table.add_column(title, justify="right" if numeric else "left", no_wrap=True)
    table.add_column("what it is")
    for name, row in DATASETS.items():
        counts = (row.num_users, row.num_items, row.num_train, row.num_test)
        shown = ["-" if n is None else f"{n:,}" for n in counts]
        table.add_row(name, *shown, row.protocol, row.description)
    Console(width=max(Console().width, 120)).print(table)
    print("Files are downloaded on first use, or taken from PYG_BSL_MIRROR (a folder or base URL).")
    return 0
