"""Where studies are kept: opening and joining one, and clearing up after workers that died.

A running trial says where it runs and, every few seconds, that it lives. One whose process is
gone, or that was silent for a minute, is failed and put in the queue again with the same
parameters, once. It does not count as a trial; what takes its place does.

The default is an SQLite file. A journal file would cost 0.06 s a trial instead of 0.2 s, but a
process killed while it writes a line leaves one that no process can read past.
"""

from __future__ import annotations

import json
import logging
import os
import re
import socket
import sqlite3
import threading
import time
import warnings
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, closing, contextmanager, nullcontext, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from filelock import FileLock

from pyg_bsl.names import suggest
from pyg_bsl.tracking.processes import is_running

if TYPE_CHECKING:
    from optuna import Study, Trial
    from optuna.storages import BaseStorage
    from optuna.trial import FrozenTrial
    from sqlalchemy import Engine

BEAT_SECONDS = 5.0
GRACE_SECONDS = 60.0  # Of silence, after which a worker on another machine is taken for dead.
PATIENCE_SECONDS = 600.0  # A server that went away is waited for this long.
SQLITE = "sqlite:///"
IDENTITY = "pyg_bsl"  # User attribute with what the trials of a study have in common.

log = logging.getLogger("pyg_bsl")


def storage_url(store: str | Path, storage: str | None) -> str:
    """The URL asked for, else that of ``studies.db`` in the store."""
    return storage or f"{SQLITE}{(Path(store).absolute() / 'studies.db').as_posix()}"


@dataclass(frozen=True)
class Storage:
    """A place of studies, opened.

    Args:
        url: Its address.
        optuna: Optuna's own object.
        lock: File to lock where the storage itself does not keep two processes from taking the
            same trial (SQLite).
    """

    url: str
    optuna: BaseStorage
    lock: Path | None = None

    @classmethod
    def open(cls, url: str) -> Storage:
        """Open the storage, which is made if need be.

        Raises:
            ConnectionError: If it cannot be used.
        """
        import optuna
        from optuna.storages import RDBStorage

        optuna.logging.set_verbosity(optuna.logging.ERROR)
        try:
            if not url.startswith(SQLITE):
                storage = RDBStorage(url, engine_kwargs={"pool_pre_ping": True})
                _wait_for_server(storage.engine, _shown(url))
                return cls(url, storage)
            database = Path(url.removeprefix(SQLITE)).absolute()
            database.parent.mkdir(parents=True, exist_ok=True)
            lock = database.with_suffix(".lock")
            # Two processes that make the tables at once would crash one another.
            with FileLock(lock, timeout=60):
                with closing(sqlite3.connect(database, timeout=60)) as connection:
                    connection.execute("PRAGMA journal_mode=WAL")  # twice as quick
                engine = {"connect_args": {"timeout": 60}}
                return cls(url, RDBStorage(url, engine_kwargs=engine), lock)
        except Exception as error:
            raise ConnectionError(
                f"The storage of studies at {_shown(url)} cannot be used: {_told(error)}. "
                f"{_cure(error)}"
            ) from error

    def turn(self) -> AbstractContextManager[object]:
        """Let one process at a time read a study and change it."""
        return nullcontext() if self.lock is None else FileLock(self.lock, timeout=600)

    @contextmanager
    def used(self) -> Iterator[None]:
        """Say it clearly where the storage fails inside.

        Raises:
            ConnectionError: If so.
        """
        from optuna.exceptions import StorageInternalError
        from sqlalchemy.exc import DBAPIError

        try:
            yield
        except (StorageInternalError, DBAPIError) as error:
            raise ConnectionError(
                f"The storage of studies at {_shown(self.url)} failed: "
                f"{_told(error.__cause__ or error)}. The same command goes on from here"
            ) from error

    def create_or_join(
        self,
        name: str,
        identity: Mapping[str, Any],
        directions: Mapping[str, Literal["minimize", "maximize"]],
    ) -> tuple[Study, bool]:
        """The study called ``name``, and whether it was made here.

        Raises:
            ValueError: If it is there with another identity.
        """
        import optuna

        with self.turn():
            try:
                study = optuna.create_study(
                    storage=self.optuna, study_name=name, directions=list(directions.values())
                )
            except optuna.exceptions.DuplicatedStudyError:
                study = optuna.load_study(study_name=name, storage=self.optuna)
                if IDENTITY in study.user_attrs or len(study.get_trials(deepcopy=False)) > 0:
                    _check_identity(study, identity)
                    return study, False
                # Its maker died at once, or is about to say the same.
            with warnings.catch_warnings():  # Experimental, and only what dashboards show.
                warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
                study.set_metric_names(list(directions))
            study.set_user_attr(IDENTITY, dict(identity))
        return study, True

    def load(self, name: str) -> Study:
        """The study called ``name``.

        Raises:
            ValueError: If there is none.
        """
        import optuna

        try:
            return optuna.load_study(study_name=name, storage=self.optuna)
        except KeyError:
            names = dict.fromkeys(self.names())
            choices = f"Choices: {', '.join(names)}" if names else "There is none yet"
            hint = suggest(name, names)
            raise ValueError(f"There is no study '{name}'{hint} {choices}") from None

    def names(self) -> list[str]:
        """Names of the studies that were made here, but for those that belong to another."""
        studies = self.optuna.get_all_studies()
        return [s.study_name for s in studies if "config" in s.user_attrs.get(IDENTITY, {})]


def _wait_for_server(engine: Engine, name: str) -> None:
    """From now on, wait for the server where it is away when it is connected to."""
    from sqlalchemy import event

    @event.listens_for(engine, "do_connect")
    def connect(dialect: Any, record: Any, args: Any, kwargs: Any) -> Any:
        until, told = time.monotonic() + PATIENCE_SECONDS, False
        while True:
            try:
                return dialect.connect(*args, **kwargs)
            except Exception as error:
                if time.monotonic() > until:
                    raise
                if not told:  # As an error: trainings are hushed below that.
                    log.error("Waiting for the storage of studies at %s: %s", name, _told(error))
                told = True
                time.sleep(1.0)


def _shown(url: str) -> str:
    """A URL without its password."""
    return re.sub(r"(?<=://)([^:@/]*):.*@", r"\1:***@", url)


def _told(error: BaseException) -> str:
    text = " ".join(f"{type(error).__name__}: {error}".split())
    return text.partition(" (Background on this error")[0][:300].rstrip(".")


def _cure(error: BaseException) -> str:
    from sqlalchemy.exc import ArgumentError

    if isinstance(error, ImportError | ArgumentError):  # No driver, no such dialect, no URL.
        return (
            "Give a URL such as 'postgresql+psycopg2://user:password@host/database' (pip install "
            "psycopg2-binary), 'mysql+pymysql://user:password@host/database' (pip install pymysql) "
            "or 'sqlite:///file.db'"
        )
    return "Start its server, correct the URL, or give another one"


def identity_of(study: Study) -> dict[str, Any]:
    """What the trials of the study have in common.

    Raises:
        ValueError: If it is none of ours.
    """
    if IDENTITY in study.user_attrs:
        return study.user_attrs[IDENTITY]
    raise ValueError(f"The study '{study.study_name}' was not made by pyg_bsl: give another name")


def _check_identity(study: Study, identity: Mapping[str, Any]) -> None:
    there = json.loads(json.dumps(identity_of(study)))
    here = json.loads(json.dumps(identity))
    old, new = dict(_leaves(there)), dict(_leaves(here))
    other = [key for key in {**old, **new} if old.get(key) != new.get(key)]
    if other:
        key = other[0]
        raise ValueError(
            f"The study '{study.study_name}' is of another kind: its '{key}' is "
            f"{json.dumps(old.get(key))}, here it is {json.dumps(new.get(key))}. Ask for the same "
            "again, or give the new study another name (--study)"
        )


def _leaves(tree: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in tree.items():
        if isinstance(value, Mapping) and value and "kind" not in value:
            yield from _leaves(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


# Workers


@contextmanager
def alive(trial: Trial, beat: float = BEAT_SECONDS) -> Iterator[None]:
    """Say, for as long as the block runs, that the trial is being worked on."""
    trial.set_user_attr("worker", _here(os.getpid()))
    stop = threading.Event()

    def say() -> None:
        while not stop.is_set():
            with suppress(Exception):  # Finished by others, or the storage is busy: no matter.
                trial.set_user_attr("alive", time.time())
            stop.wait(beat)

    thread = threading.Thread(target=say, daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


def _here(pid: int) -> list[Any]:
    """A process, and the machine (or container) that its number belongs to."""
    machine = socket.gethostname()
    with suppress(OSError):
        machine += " " + os.readlink("/proc/self/ns/pid")
    return [machine, pid]


def _is_dead(trial: FrozenTrial, grace: float) -> bool:
    worker = trial.user_attrs.get("worker")
    if worker is not None and worker == _here(worker[1]):
        if not is_running(worker[1]):
            return True
    assert trial.datetime_start is not None
    last = trial.user_attrs.get("alive", trial.datetime_start.timestamp())
    return time.time() - last > grace


def sweep(study: Study, grace: float = GRACE_SECONDS) -> int:
    """Fail the trials of workers that died, and queue each again, once; how many there were."""
    from optuna.trial import TrialState

    running = study.get_trials(deepcopy=False, states=(TrialState.RUNNING,))
    dead = [trial for trial in running if _is_dead(trial, grace)]
    swept = 0
    for trial in dead:
        if fail(study, trial.number):
            swept += 1
            again = retry(study, trial)
            log.warning(
                "Trial %d was lost: its process died. %s",
                trial.number,
                "It is tried again" if again else "It was tried twice, and is given up",
            )
    return swept


def fail(study: Study, number: int) -> bool:
    """Fail a running trial; whether it was not finished already."""
    import optuna

    try:
        study.tell(number, state=optuna.trial.TrialState.FAIL)
    except (ValueError, optuna.exceptions.UpdateFinishedTrialError):
        return False
    return True


def retry(study: Study, trial: FrozenTrial, *, always: bool = False) -> bool:
    """Queue the trial's parameters again, unless it is a second try itself."""
    if "retry_of" in trial.user_attrs and not always:
        return False
    study.enqueue_trial(trial.params, user_attrs={"retry_of": trial.number})
    return True


def counts(trial: FrozenTrial) -> bool:
    """Whether a trial is one of those asked for: it was not lost, nor one too many."""
    from optuna.trial import TrialState

    return trial.state != TrialState.FAIL or "error" in trial.user_attrs
