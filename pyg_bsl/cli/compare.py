"""``pyg-bsl compare``."""

from __future__ import annotations

import sys
from pathlib import Path

from pyg_bsl.atomic import atomic_path
from pyg_bsl.cli import COMMANDS
from pyg_bsl.cli._store import add_store_flags, check_store, tidy
from pyg_bsl.flags import Parser
from pyg_bsl.names import pick
from pyg_bsl.tracking.comparison import compare_runs
from pyg_bsl.tracking.reports import log_comparison
from pyg_bsl.tracking.tables import ENDINGS, FORMATS


def run(argv: list[str]) -> int:
    """Print and save a table of runs."""
    parser = Parser(
        prog="pyg-bsl compare",
        description=f"{COMMANDS['compare'].capitalize()}.\nRuns that are equal in all but the seed "
        "are one line; columns are the parameters in which lines differ.",
    )
    add_store_flags(parser)
    parser.add_argument(
        "--where",
        nargs="+",
        default=[],
        metavar="NAME=VALUE",
        help="which runs, by tag or parameter, such as dataset=amazon-electronic loss=SL,PSL "
        "phase!=search [all finished ones]",
    )
    parser.add_argument(
        "--metrics",
        nargs="+",
        metavar="METRIC",
        help="such as valid_best/recall@20 seconds_train [test/ndcg@20 test/recall@20]",
    )
    parser.add_argument("--level", type=float, default=0.05, help="level of the marks [0.05]")
    parser.add_argument("--format", choices=FORMATS, help="[that of --output, else markdown]")
    parser.add_argument("--output", help=f"file to save it in ({', '.join(ENDINGS)})")
    parser.add_argument(
        "--log", action="store_true", help="keep the table in MLflow, as a run with its files"
    )
    values = parser.parse_all(argv)
    output = None if values.output is None else Path(values.output)
    form = values.format or "markdown"
    if output is not None and values.format is None:
        form = pick("file ending", output.suffix, ENDINGS)
    if output is not None and not output.parent.is_dir():
        raise FileNotFoundError(f"There is no folder '{output.parent}' to save in")
    check_store(values)
    tidy(values)
    comparison = compare_runs(
        values.where,
        metrics=values.metrics,
        store=values.store,
        tracking_uri=values.tracking_uri,
        level=values.level,
    )
    text = FORMATS[form](comparison)
    print(text, end="")
    if output is not None:
        with atomic_path(output) as path:
            path.write_text(text)
        print(f"Saved in {output}", file=sys.stderr)
    if values.log:
        name = log_comparison(comparison, store=values.store, tracking_uri=values.tracking_uri)
        print(f"Kept in MLflow as '{name}'", file=sys.stderr)
    return 0
