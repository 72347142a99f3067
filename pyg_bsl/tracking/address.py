"""Where runs are kept."""

from __future__ import annotations

import os
import shlex
from pathlib import Path

SQLITE = "sqlite:///"


def resolve_uri(store: str | Path, tracking_uri: str | None = None) -> str:
    """The address asked for, else ``MLFLOW_TRACKING_URI``, else the database in ``store``."""
    given = tracking_uri or os.environ.get("MLFLOW_TRACKING_URI")
    return given or f"{SQLITE}{(Path(store) / 'mlflow.db').as_posix()}"


def is_server(uri: str) -> bool:
    """Whether an MLflow server answers there."""
    return uri.startswith(("http://", "https://"))


def database_of(uri: str) -> Path | None:
    """The file of a local database, or :obj:`None` for a server of any kind."""
    return Path(uri.removeprefix(SQLITE)).absolute() if uri.startswith(SQLITE) else None


def ui_command(store: str | Path = "mlruns", *, tracking_uri: str | None = None) -> str:
    """The line to type to look at the runs in a browser.

    Example:
        >>> ui_command("my runs")
        "pyg-bsl ui --store 'my runs'"
    """
    words = ["pyg-bsl", "ui"]
    if tracking_uri is not None:
        words += ["--tracking-uri", tracking_uri]
    if Path(store) != Path("mlruns"):
        words += ["--store", str(store)]
    return shlex.join(words)
