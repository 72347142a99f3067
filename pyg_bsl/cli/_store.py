"""The store of runs, for every command that reads it."""

from __future__ import annotations

from argparse import Namespace

from pyg_bsl.flags import Parser
from pyg_bsl.tracking.address import database_of, resolve_uri
from pyg_bsl.tracking.outbox import send_unsent
from pyg_bsl.tracking.processes import close_dead_runs
from pyg_bsl.tracking.store import cause


def add_store_flags(parser: Parser) -> None:
    """``--store`` and ``--tracking-uri``."""
    parser.add_argument("--store", default="mlruns", help="folder of the MLflow store [mlruns]")
    parser.add_argument(
        "--tracking-uri",
        help="address of the runs instead, such as http://localhost:5000 [MLFLOW_TRACKING_URI, "
        "where it is set]",
    )


def check_store(values: Namespace) -> str:
    """The address of the runs.

    Raises:
        FileNotFoundError: If it is a local database that is not there.
    """
    uri = resolve_uri(values.store, values.tracking_uri)
    database = database_of(uri)
    if database is None:
        return uri
    if not database.is_file():
        raise FileNotFoundError(
            f"There are no runs in '{database.parent}' yet: pyg-bsl train records them in the "
            "folder 'mlruns' where it is called; name another with --store"
        )
    return f"sqlite:///{database.as_posix()}"


def tidy(values: Namespace) -> None:
    """Send what is unsent, and close the runs that were killed.

    Raises:
        ConnectionError: If there is no answer.
    """
    try:
        send_unsent(values.store, tracking_uri=values.tracking_uri)
        close_dead_runs(values.store, tracking_uri=values.tracking_uri)
    except Exception as error:
        uri = resolve_uri(values.store, values.tracking_uri)
        raise ConnectionError(f"The runs at {uri} cannot be read: {cause(error)}") from error
