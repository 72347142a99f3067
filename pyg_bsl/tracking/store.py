"""Opening an MLflow store, and asking it without waiting for minutes."""

from __future__ import annotations

import gc
import logging
import os
import re
import sqlite3
import sys
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

from filelock import FileLock

from pyg_bsl.tracking.address import database_of, is_server

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run

_MODEL_TRAINING = {"mlflow.experimentKind": "custom_model_development"}  # The UI's view of it.
_environment_lock = threading.RLock()


def make_database(database: Path) -> FileLock:
    """Make a local database if need be; its lock, for what two processes must not do at once.

    Raises:
        OSError: If there can be no file.
        sqlite3.Error: If the file is no database.
    """
    database.parent.mkdir(parents=True, exist_ok=True)
    lock = FileLock(database.with_suffix(".lock"), timeout=60)
    # MLflow tries for minutes to open what is no database: find out here. With several writers
    # this journal is several times quicker than the default one.
    with lock, closing(sqlite3.connect(database)) as connection:
        connection.execute("PRAGMA journal_mode=WAL")
    return lock


def open_experiment(uri: str, name: str) -> tuple[MlflowClient, str]:
    """A client for the store at ``uri`` and the id of its experiment ``name``, made if needed.

    A local database is made first if need be, its artifacts beside it.
    """
    database = database_of(uri)
    if database is None:
        client = connect(uri)
        return client, _experiment_id(client, name, None)
    with make_database(database):  # Two processes that make the tables at once crash one another.
        client = connect(uri)
        folder = database.parent / "artifacts" / re.sub(r"[^\w.-]+", "_", name)
        return client, _experiment_id(client, name, folder.as_uri())


def connect(uri: str) -> MlflowClient:
    """A client for the store at ``uri``."""
    from mlflow import MlflowClient

    return MlflowClient(uri)


def is_imported(uri: str) -> bool:
    """Whether the part of MLflow that opens ``uri`` is there; it takes a second to import."""
    kind = "rest_store" if is_server(uri) else "sqlalchemy_store"
    return f"mlflow.store.tracking.{kind}" in sys.modules


def runs_of(client: MlflowClient, text: str = "") -> Iterator[Run]:
    """All runs that a filter lets through, the newest first."""
    experiments, token = [], None
    while token != "":
        page = client.search_experiments(page_token=token)
        experiments += [experiment.experiment_id for experiment in page]
        token = page.token or ""
    token = None
    while token != "" and experiments:
        page = client.search_runs(experiments, text, max_results=1000, page_token=token)
        yield from page
        token = page.token or ""


def _experiment_id(client: MlflowClient, name: str, artifacts: str | None) -> str:
    from mlflow.exceptions import MlflowException

    experiment = client.get_experiment_by_name(name)
    if experiment is None:
        try:
            return client.create_experiment(name, artifact_location=artifacts, tags=_MODEL_TRAINING)
        except MlflowException:  # Another process may have been quicker.
            experiment = client.get_experiment_by_name(name)
            if experiment is None:
                raise
    if experiment.lifecycle_stage == "deleted":
        raise ValueError(
            f"the experiment '{name}' was deleted; restore it (mlflow experiments restore "
            f"--experiment-id {experiment.experiment_id}) or name another one"
        )
    return experiment.experiment_id


@contextmanager
def no_garbage_collection() -> Iterator[None]:
    """Importing MLflow, which takes a second and more, is a third quicker inside.

    Where the process has frozen what it imported (:func:`gc.freeze`), MLflow is frozen too.
    """
    collecting, imported = gc.isenabled(), "mlflow" in sys.modules
    gc.disable()
    try:
        yield
    finally:
        if not imported and gc.get_freeze_count():
            gc.freeze()
        if collecting:
            gc.enable()


@contextmanager
def brief(seconds: int) -> Iterator[None]:
    """Requests inside take at most ``seconds`` each, and MLflow prints neither errors nor links.

    MLflow would try for minutes. Its settings are environment variables, read at each request;
    those that the user has set stay.
    """
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    import_module("mlflow")  # Sets the level of its logger: before we do.
    ours = {"MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0", "MLFLOW_HTTP_REQUEST_TIMEOUT": str(seconds)}
    ours["MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT"] = "true"
    mlflow_logger = logging.getLogger("mlflow")
    with _environment_lock:
        ours = {name: value for name, value in ours.items() if name not in os.environ}
        level = mlflow_logger.level
        os.environ.update(ours)
        mlflow_logger.setLevel(logging.CRITICAL)
        try:
            yield
        finally:
            mlflow_logger.setLevel(level)
            for name in ours:
                del os.environ[name]


def cause(error: BaseException) -> str:
    """What is at the bottom of ``error``, in one line: ``Connection refused``."""
    bottom = error
    while bottom.__cause__ or bottom.__context__:
        bottom = bottom.__cause__ or bottom.__context__  # type: ignore[assignment]
    shown = bottom if isinstance(bottom, OSError | sqlite3.Error) else error
    return " ".join(f"{type(shown).__name__}: {shown}".split())[:400]
