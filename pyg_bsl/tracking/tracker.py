"""The callback that records a training run."""

from __future__ import annotations

import logging
import os
import tempfile
import threading
import time
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from safetensors.torch import save_file

from pyg_bsl.tracking.address import database_of, resolve_uri, ui_command
from pyg_bsl.tracking.facts import start_of, summary_of
from pyg_bsl.tracking.figures import learning_curves, prepare, save_figure
from pyg_bsl.tracking.names import clip_tags, key
from pyg_bsl.tracking.outbox import Outbox, Point, send_end, send_points, send_unsent
from pyg_bsl.tracking.processes import close_dead_runs
from pyg_bsl.tracking.start import log_start, open_run
from pyg_bsl.tracking.store import (
    brief,
    cause,
    is_imported,
    make_database,
    no_garbage_collection,
)
from pyg_bsl.training.callbacks import Callback
from pyg_bsl.training.result import EpochRecord, FitResult
from pyg_bsl.types import BipartiteGraph

if TYPE_CHECKING:
    from mlflow import MlflowClient

    from pyg_bsl.training.trainer import Trainer

logger = logging.getLogger("pyg_bsl")

_FLUSH_SECONDS = 5.0  # Numbers wait at least this long to be sent together.
_REQUEST_SECONDS = 5  # A request to a server may take this long during training,
_UPLOAD_SECONDS = 60  # and this long for the weights, when it has just answered.
_PATIENCE_SECONDS = 10.0  # A server that is away at the end is waited for this long.


class MLflowTracker(Callback):
    """Records a training run in MLflow.

    A run gets its parameters, data set, versions and git commit, the curves of loss, learning rate
    and validation metrics, the test metrics, ``result.json``, the weights (``model.safetensors``)
    and, where matplotlib is installed, ``figures/learning_curves.png``. Runs are grouped by data
    set, one MLflow experiment each. MLflow allows no ``@`` in names: ``valid/ndcg_20`` is a curve,
    ``valid_best/ndcg_20`` its value at the chosen epoch, ``test/ndcg_20`` the result there.

    A store that cannot be used stops the run: before training, or in its first epoch where that is
    only found out then. One that breaks later costs the training nothing: what cannot be sent is
    kept in the folder ``<store>/unsent``, at each epoch, and sent when the store answers again, in
    this run or at the start of a later one. A thread does the sending.

    A run of a study (``parent_run_id``) was preceded by others: a store that is away when it starts
    costs it nothing either.

    Args:
        store: Folder of the local store, made when needed.
        tracking_uri: Where to track instead, such as ``"http://localhost:5000"``; by default the
            environment variable ``MLFLOW_TRACKING_URI`` where it is set, else ``store``.
        experiment: Name of the MLflow experiment; by default that of the data set.
        run_name: By default such as ``"MF SL tau=0.2 seed=0"``.
        tags: Tags beside ``dataset``, ``backbone``, ``loss``, ``protocol``, ``seed``, versions.
        description: Text (Markdown) for the run's page, under the result.
        parent_run_id: Run to which this one belongs, such as a study.

    Example:
        >>> tracker = MLflowTracker("mlruns", run_name="first try")
        >>> # Trainer(backbone, loss, sampler, callbacks=[tracker]).fit(graph)
    """

    def __init__(
        self,
        store: str | Path = "mlruns",
        *,
        tracking_uri: str | None = None,
        experiment: str | None = None,
        run_name: str | None = None,
        tags: Mapping[str, str] | None = None,
        description: str | None = None,
        parent_run_id: str | None = None,
    ) -> None:
        self.store = Path(store).absolute()
        self.tracking_uri = resolve_uri(self.store, tracking_uri)
        self.experiment = experiment
        self.run_name = run_name
        self.tags = dict(tags or {})
        self.description = description
        self.parent_run_id = parent_run_id
        self.run_id: str | None = None
        self._worker: ThreadPoolExecutor | None = None
        self._start: dict[str, Any] = {}
        self._start_time = 0
        self._is_described = False  # Whether its parameters and data set have arrived.
        self._client: MlflowClient | None = None
        self._opened: Future[None] = Future()
        self._sending: Future[bool] | None = None
        self._points: list[Point] = []
        self._outbox: Outbox | None = None
        self._lock = threading.Lock()  # of the points and the outbox
        self._failures = 0
        self._next_flush = 0.0

    @property
    def unsent(self) -> Path | None:
        """The folder with what the store has not received, where there is one."""
        return None if self._outbox is None else self._outbox.folder

    def on_fit_start(self, trainer: Trainer, graph: BipartiteGraph, result: FitResult) -> None:
        """Open the run.

        Raises:
            ConnectionError: If the store cannot be used.
        """
        self.run_id, self._points, self._outbox, self._sending = None, [], None, None
        self._failures, self._next_flush = 0, time.monotonic() + _FLUSH_SECONDS
        self._client, self._start_time = None, int(time.time() * 1000)
        self._is_described = False
        database = database_of(self.tracking_uri)
        if database is not None and not self.parent_run_id:
            self._open_or_tell(lambda: make_database(database))
        # The import of MLflow takes a second. For a database that is there it is no error to
        # start training meanwhile, and a study has no error to wait for.
        wait = not self.parent_run_id and (database is None or is_imported(self.tracking_uri))
        self._worker = ThreadPoolExecutor(1, thread_name_prefix="mlflow")
        self._opened = self._worker.submit(self._open, result)
        if wait:
            self._open_or_tell(self._opened.result)
        self._worker.submit(self._tidy)

    def on_epoch_end(self, trainer: Trainer, record: EpochRecord) -> None:
        """Keep the epoch's numbers; send them when there are some seconds' worth.

        Raises:
            ConnectionError: If the store turned out to be of no use at the start.
        """
        train = {"loss": record.loss, "lr": record.lr, "seconds": record.seconds}
        points = _points("train/", train, record.epoch)
        self._keep(points + _points("valid/", record.valid, record.epoch))
        if self._opened.done():
            self._open_or_tell(self._opened.result)
        idle = self._sending is None or self._sending.done()
        if idle and time.monotonic() >= self._next_flush:
            assert self._worker is not None
            self._sending = self._worker.submit(self._attempt, self._send_points)

    def on_fit_end(self, trainer: Trainer, result: FitResult) -> None:
        """Record the results and close the run, as killed if it was pruned."""
        self._finish(result, "KILLED" if result.status == "pruned" else "FINISHED", {})

    def on_fit_error(self, trainer: Trainer, result: FitResult, error: BaseException) -> None:
        """Record what there is; close the run as killed when it was interrupted, else failed."""
        interrupted = isinstance(error, KeyboardInterrupt | SystemExit)
        text = f"{type(error).__name__}: {error}"
        self._finish(result, "KILLED" if interrupted else "FAILED", {"error": text})

    def _open_or_tell(self, work: Callable[[], Any]) -> None:
        try:
            work()
        except Exception as error:
            raise ConnectionError(
                f"MLflow tracking at {self.tracking_uri} cannot be used: {cause(error)}. "
                f"{self._cure()}, or switch tracking off"
            ) from error

    def _open(self, result: FitResult) -> None:
        more = {"mlflow.note.content": self.description, "mlflow.parentRunId": self.parent_run_id}
        self._start = start_of(
            result,
            experiment=self.experiment,
            run_name=self.run_name,
            tags=self.tags | {name: value for name, value in more.items() if value},
        )
        try:
            self._reach()
        except Exception as error:
            if not self.parent_run_id:
                raise
            self._missed(error)

    def _reach(self) -> tuple[MlflowClient, str]:
        """A client, and the run, which is made where it is not there yet, but never twice."""
        if self._client is None or self.run_id is None:
            again = self._failures > 0
            opened = open_run(self.tracking_uri, self._start, self._start_time, again=again)
            with self._lock:
                self._client, self.run_id = opened
                self._save(lambda outbox: outbox.describe({"run_id": opened[1]}))
        if not self._is_described:
            log_start(self._client, self.run_id, self._start)
            self._is_described = True
        return self._client, self.run_id

    def _tidy(self) -> None:
        """See to what earlier runs left behind."""
        if self._client is None:  # It is away.
            return
        for work in (send_unsent, close_dead_runs):
            try:
                work(self.store, tracking_uri=self.tracking_uri)
            except Exception as error:
                logger.debug("MLflow: earlier runs stay as they are: %s", cause(error))
        with no_garbage_collection(), suppress(ImportError):
            prepare()

    def _keep(self, points: list[Point]) -> None:
        with self._lock:
            self._points += points
            if self._outbox is not None:
                self._save(lambda outbox: outbox.add(points))

    def _send_points(self, tags: Mapping[str, str] | None = None) -> None:
        client, run_id = self._reach()
        points = list(self._points)
        send_points(client, run_id, points, tags or {})
        with self._lock:
            del self._points[: len(points)]
            if self._outbox is not None and not self._points and tags is None:
                self._outbox.remove()
                self._outbox = None

    def _attempt(self, send: Callable[[], Any], seconds: int = _REQUEST_SECONDS) -> bool:
        """Whether ``send`` succeeded. After a failure the next attempts come ever more rarely."""
        began = time.monotonic()
        try:
            with brief(seconds):
                send()
        except Exception as error:
            if self._opened.exception() is not None:
                return False
            self._missed(error)
            return False
        self._failures = 0
        self._next_flush = time.monotonic() + _pause(time.monotonic() - began)
        return True

    def _missed(self, error: Exception) -> None:
        """Say it once, keep what was to be sent, and try again later."""
        if self._failures == 0:
            logger.warning(
                "MLflow tracking at %s failed (%s). Training goes on; the numbers of run %s are "
                "kept and sent when it answers again",
                self.tracking_uri,
                cause(error),
                self._name,
            )
        self._failures += 1
        self._next_flush = time.monotonic() + min(5.0 * 2**self._failures, 300.0)
        self._start_outbox()

    @property
    def _name(self) -> str:
        return self.run_id or self._start["run_name"]

    def _start_outbox(self) -> None:
        """From now on numbers are kept on disk, those that wait first."""
        with self._lock:
            if self._outbox is not None:
                return
            # A server may be used from where nothing can be written.
            for store in (self.store, Path(tempfile.gettempdir(), "pyg_bsl")):
                try:
                    self._outbox = Outbox.create(store, self.tracking_uri, self.run_id)
                    break
                except OSError as error:
                    logger.warning("MLflow: nothing can be kept in %s: %s", store, error)
            if not self._is_described:
                start = {"start": self._start, "start_time": self._start_time}
                self._save(lambda outbox: outbox.describe(start))
            self._save(lambda outbox: outbox.add(self._points))

    def _save(self, write: Callable[[Outbox], None]) -> None:
        outbox = self._outbox
        if outbox is None:
            return
        try:
            write(outbox)
        except Exception as error:  # Files have many ways to fail; the training goes on.
            logger.warning("MLflow: %s is not kept whole: %s", outbox.folder, error)

    def _finish(self, result: FitResult, status: str, tags: dict[str, str]) -> None:
        worker, self._worker = self._worker, None
        if worker is None:  # The store was of no use.
            return
        hurry = threading.Event()
        try:
            if self._sending is not None:
                self._sending.result()
            error = self._opened.exception()
            if error is None:
                self._end(
                    result, status, tags, lambda end: worker.submit(self._deliver, hurry, end)
                )
            elif status == "FINISHED":
                logger.warning("MLflow has nothing of this run: %s", cause(error))
        except BaseException:  # An interrupt.
            hurry.set()
            raise
        finally:
            worker.shutdown(wait=False)

    def _end(
        self,
        result: FitResult,
        status: str,
        tags: dict[str, str],
        deliver: Callable[[dict[str, Any]], Future[bool]],
    ) -> None:
        # At step 0 the UI draws bars, one a run, instead of curves of one point.
        for split, metrics in result.metrics.items():
            group = "valid_best/" if split == "valid" else f"{split}/"
            self._keep(_points(group, metrics, 0))
        self._keep(_points("seconds_", result.seconds, 0))
        self._keep(_points("", {"best_epoch": result.best_epoch}, 0))
        note = "\n\n".join(filter(None, [summary_of(result), self.description]))
        tags = clip_tags(tags | {"status": result.status, "mlflow.note.content": note})
        end = {"status": status, "end_time": int(time.time() * 1000), "tags": tags}

        # All is on disk before it is sent: a kill from here on loses nothing.
        self._start_outbox()
        for write in (_write_result, _write_weights, _write_figures):
            self._save(partial(write, result))
        self._save(lambda outbox: outbox.describe({"end": end}))
        delivered, outbox = deliver(end).result(), self._outbox
        if delivered and outbox is not None:
            outbox.remove()
            self._outbox = None
        elif outbox is not None:
            outbox.leave()
            logger.warning(
                "MLflow missed the end of run %s. It is kept in %s, and sent when the next run "
                "starts that is tracked there, or by: %s",
                self._name,
                outbox.folder,
                ui_command(outbox.store, tracking_uri=self.tracking_uri),
            )
        elif not delivered:
            logger.warning("MLflow missed the end of run %s, which is lost", self._name)

    def _deliver(self, hurry: threading.Event, end: dict[str, Any]) -> bool:
        """Whether the end of the run was sent. A server that has just gone away is waited for."""
        artifacts = None if self._outbox is None else self._outbox.artifacts
        patience = 0 if self._client is None else _PATIENCE_SECONDS
        until, pause = time.monotonic() + patience, 1.0
        while True:
            sent = self._attempt(lambda: self._send_points(end["tags"]))
            if sent and self._attempt(
                lambda: send_end(*self._reach(), end, artifacts), _UPLOAD_SECONDS
            ):
                return True
            if time.monotonic() + pause > until or hurry.wait(pause):
                return False
            pause *= 2

    def _cure(self) -> str:
        if database_of(self.tracking_uri) is None:
            if self.tracking_uri == os.environ.get("MLFLOW_TRACKING_URI"):
                return "Start the server, unset MLFLOW_TRACKING_URI to track in a local folder"
            return "Start the server, give another tracking_uri"
        return "Give another store"


def _pause(took: float) -> float:
    """Seconds until the next numbers are sent, when these took so many.

    Training waits meanwhile, for Python's lock. That is to be a thousandth of its time, up to six
    times the least pause.
    """
    return _FLUSH_SECONDS * min(max(1.0, 200 * took), 6.0)


def _points(prefix: str, metrics: Mapping[str, float], step: int) -> list[Point]:
    now = int(time.time() * 1000)
    return [Point(f"{prefix}{key(name)}", float(x), now, step) for name, x in metrics.items()]


def _write_result(result: FitResult, outbox: Outbox) -> None:
    (outbox.artifacts / "result.json").write_text(result.to_json())


def _write_weights(result: FitResult, outbox: Outbox) -> None:
    if result.state_dict:
        weights = {name: x.contiguous() for name, x in result.state_dict.items()}
        save_file(weights, outbox.artifacts / "model.safetensors")


def _write_figures(result: FitResult, outbox: Outbox) -> None:
    if not result.history:
        return
    try:
        figure = learning_curves(result)
    except ImportError as error:
        logger.debug("No figure of the run: %s; pip install 'pyg-bsl[plots]'", error)
    else:
        save_figure(figure, outbox.artifacts / "figures" / "learning_curves.png")
