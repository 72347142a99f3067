"""MLflow: every run with its parameters, curves, results and weights, to look up and compare."""

from __future__ import annotations

import json
import logging
import os
import shlex
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from safetensors.torch import save_file

from pyg_bsl._mlflow_facts import clip_tags, key, params_of, run_name_of, summary_of, tags_of
from pyg_bsl._mlflow_store import (
    SQLITE,
    brief,
    cause,
    no_garbage_collection,
    open_experiment,
    resolve_uri,
)
from pyg_bsl.training.callbacks import Callback
from pyg_bsl.training.result import EpochRecord, FitResult
from pyg_bsl.types import BipartiteGraph

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Metric

    from pyg_bsl.training.trainer import Trainer

logger = logging.getLogger("pyg_bsl")

_FLUSH_SECONDS = 5.0  # Numbers wait this long to be sent together.
_START_SECONDS = 10  # A request to a server may take this long before training,
_REQUEST_SECONDS = 5  # this long during it,
_UPLOAD_SECONDS = 60  # and this long for the weights, when it has just answered.
_MAX_PARAMS, _MAX_METRICS = 100, 900  # In a request; MLflow refuses many more.


class MLflowTracker(Callback):
    """Records a training run in MLflow.

    A run gets its parameters, data set, versions and git commit, the curves of loss, learning rate
    and validation metrics, the test metrics, ``result.json`` and the weights
    (``model.safetensors``). Runs are grouped by data set, one MLflow experiment each. MLflow
    allows no ``@`` in names: ``valid/ndcg_20`` is a curve, ``valid_best/ndcg_20`` its value at the
    chosen epoch, ``test/ndcg_20`` the result there.

    A store that cannot be used stops the run before training. One that breaks later costs the
    tracking, not the training: what could not be sent, except the weights, is written into the
    folder ``<store>/unsent``, and the log says so.

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
        self._client: MlflowClient | None = None
        self._buffer: list[Metric] = []
        self._failures = 0
        self._next_flush = 0.0

    def on_fit_start(self, trainer: Trainer, graph: BipartiteGraph, result: FitResult) -> None:
        """Open the run.

        Raises:
            ConnectionError: If the store cannot be used.
        """
        self._client, self.run_id, self._buffer, self._failures = None, None, [], 0
        params = params_of(result)
        tags = tags_of(result, params) | self.tags
        if self.description:
            tags["mlflow.note.content"] = self.description
        if self.parent_run_id:
            tags["mlflow.parentRunId"] = self.parent_run_id
        try:
            with no_garbage_collection(), brief(_START_SECONDS):
                self._open(result, params, clip_tags(tags))
        except Exception as error:
            raise ConnectionError(
                f"MLflow tracking at {self.tracking_uri} cannot be used: {cause(error)}. "
                f"{self._cure()}, or switch tracking off"
            ) from error
        self._next_flush = time.monotonic() + _FLUSH_SECONDS

    def on_epoch_end(self, trainer: Trainer, record: EpochRecord) -> None:
        """Keep the epoch's numbers; send them when there are some seconds' worth."""
        train = {"loss": record.loss, "lr": record.lr, "seconds": record.seconds}
        self._keep("train/", train, record.epoch)
        self._keep("valid/", record.valid, record.epoch)
        if time.monotonic() >= self._next_flush:
            self._attempt(self._flush)

    def on_fit_end(self, trainer: Trainer, result: FitResult) -> None:
        """Record the results and close the run."""
        self._finish(result, "FINISHED", {})

    def on_fit_error(self, trainer: Trainer, result: FitResult, error: BaseException) -> None:
        """Record what there is; close the run as killed when it was interrupted, else failed."""
        interrupted = isinstance(error, KeyboardInterrupt | SystemExit)
        text = f"{type(error).__name__}: {error}"
        self._finish(result, "KILLED" if interrupted else "FAILED", {"error": text})

    def _open(self, result: FitResult, params: dict[str, str], tags: dict[str, str]) -> None:
        client, experiment_id = open_experiment(
            self.tracking_uri, self.experiment or result.data["name"]
        )
        from mlflow.entities import Dataset, DatasetInput, InputTag, Param

        run = client.create_run(
            experiment_id, run_name=self.run_name or run_name_of(params), tags=tags
        )
        self._client, self.run_id = client, run.info.run_id
        rows = [Param(name, value) for name, value in params.items()]
        for start in range(0, len(rows), _MAX_PARAMS):
            client.log_batch(self.run_id, params=rows[start : start + _MAX_PARAMS])
        sizes = {"users": result.num_users, "items": result.num_items, "train": result.num_train}
        dataset = Dataset(
            name=result.data["name"],
            digest=result.data["digest"][:12] or "unknown",
            source_type="pyg_bsl",
            source=json.dumps({"name": result.data["name"]}),
            profile=json.dumps(sizes),
        )
        context = InputTag("mlflow.data.context", "training")
        client.log_inputs(self.run_id, [DatasetInput(dataset, [context])])

    def _keep(self, prefix: str, metrics: Mapping[str, float], step: int) -> None:
        from mlflow.entities import Metric

        now = int(time.time() * 1000)
        for name, value in metrics.items():
            self._buffer.append(Metric(f"{prefix}{key(name)}", float(value), now, step))

    def _flush(self, tags: Mapping[str, str] | None = None) -> None:
        from mlflow.entities import RunTag

        assert self._client is not None
        rows = [RunTag(*tag) for tag in (tags or {}).items()]
        while self._buffer or rows:
            batch = self._buffer[:_MAX_METRICS]
            # Sending a batch again after a lost answer is safe: equal points are kept once.
            self._client.log_batch(self.run_id, metrics=batch, tags=rows)
            del self._buffer[: len(batch)]
            rows = []

    def _attempt(self, send: Callable[[], Any], seconds: int = _REQUEST_SECONDS) -> bool:
        """Whether ``send`` succeeded. After a failure the next attempts come ever more rarely."""
        try:
            with brief(seconds):
                send()
        except Exception as error:
            if self._failures == 0:
                logger.warning(
                    "MLflow tracking at %s failed (%s). Training goes on; the numbers of run %s "
                    "are kept and sent when it answers again",
                    self.tracking_uri,
                    cause(error),
                    self.run_id,
                )
            self._failures += 1
            self._next_flush = time.monotonic() + min(5.0 * 2**self._failures, 300.0)
            return False
        self._failures = 0
        self._next_flush = time.monotonic() + _FLUSH_SECONDS
        return True

    def _finish(self, result: FitResult, status: str, tags: dict[str, str]) -> None:
        client, run_id = self._client, self.run_id
        if client is None:  # The run was never opened.
            return
        # At step 0 the UI draws bars, one a run, instead of curves of one point.
        for split, metrics in result.metrics.items():
            group = "valid_best/" if split == "valid" else f"{split}/"
            self._keep(group, metrics, 0)
        self._keep("seconds_", result.seconds, 0)
        self._keep("", {"best_epoch": result.best_epoch}, 0)
        note = "\n\n".join(filter(None, [summary_of(result), self.description]))
        tags = clip_tags(tags | {"status": result.status, "mlflow.note.content": note})

        sent = self._attempt(lambda: self._flush(tags))
        sent = sent and self._attempt(lambda: self._upload(result), _UPLOAD_SECONDS)
        closed = self._attempt(lambda: client.set_terminated(run_id, status))
        if not (sent and closed):
            self._save_unsent({"status": status, "tags": tags, "result": result.to_dict()})
        self._client = None

    def _upload(self, result: FitResult) -> None:
        assert self._client is not None
        with tempfile.TemporaryDirectory() as folder:
            Path(folder, "result.json").write_text(result.to_json())
            if result.state_dict:
                weights = {name: t.contiguous() for name, t in result.state_dict.items()}
                save_file(weights, Path(folder, "model.safetensors"))
            self._client.log_artifacts(self.run_id, folder)

    def _save_unsent(self, rest: dict[str, Any]) -> None:
        path = self.store / "unsent" / f"{self.run_id}.json"
        head = {"tracking_uri": self.tracking_uri, "run_id": self.run_id}
        metrics = [dict(metric) for metric in self._buffer]
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(json.dumps(head | rest | {"metrics": metrics}, indent=1, default=str))
        except OSError as error:
            logger.warning("MLflow missed the end of run %s, lost: %s", self.run_id, error)
        else:
            logger.warning("MLflow missed the end of run %s; it is in %s", self.run_id, path)

    def _cure(self) -> str:
        if "://" in self.tracking_uri and not self.tracking_uri.startswith(SQLITE):
            if self.tracking_uri == os.environ.get("MLFLOW_TRACKING_URI"):
                return "Start the server, unset MLFLOW_TRACKING_URI to track in a local folder"
            return "Start the server, give another tracking_uri"
        return "Give another store"


def ui_command(store: str | Path = "mlruns", *, tracking_uri: str | None = None) -> str:
    """The line to type to look at the runs in a browser, there under "Model training".

    Example:
        >>> ui_command("my runs", tracking_uri="sqlite:///my runs/mlflow.db")
        "mlflow ui --backend-store-uri 'sqlite:///my runs/mlflow.db'"
    """
    uri = resolve_uri(Path(store), tracking_uri)
    if uri.startswith(("http://", "https://")):
        return f"python -m webbrowser {shlex.quote(uri)}"
    return f"mlflow ui --backend-store-uri {shlex.quote(uri)}"
