"""What a store has not received: kept on disk, and sent when it answers again."""

from __future__ import annotations

import json
import logging
import shutil
import time
import uuid
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from filelock import FileLock, Timeout

from pyg_bsl.atomic import atomic_path
from pyg_bsl.tracking.address import resolve_uri
from pyg_bsl.tracking.start import log_start, open_run
from pyg_bsl.tracking.store import brief, cause, connect

if TYPE_CHECKING:
    from mlflow import MlflowClient

logger = logging.getLogger("pyg_bsl")

_MAX_METRICS = 900  # In a request; MLflow refuses many more.
_UPLOAD_SECONDS = 60  # A request may take this long.


class Point(NamedTuple):
    """A value of a curve."""

    key: str
    value: float
    timestamp: int
    step: int


class Outbox:
    """A folder with what is still to be sent of one run, ``<store>/unsent/<run>``.

    It holds ``run.json`` (where to, how the run started if the store does not know it yet, and how
    it ended), ``metrics.jsonl`` and ``artifacts/``.
    Whoever writes or sends has its lock, which a killed process loses.

    Args:
        folder: The folder.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.store = folder.parent.parent
        self.artifacts = folder / "artifacts"
        # Threads take turns with it.
        self._lock = FileLock(folder / "lock", thread_local=False)

    @classmethod
    def create(cls, store: Path, uri: str, run_id: str | None) -> Outbox:
        """A new one, locked; ``run_id`` is None for a run that the store does not know.

        Raises:
            OSError: If it cannot be written.
        """
        outbox = cls(store / "unsent" / (run_id or f"new-{uuid.uuid4().hex}"))
        outbox._lock.acquire()
        outbox.artifacts.mkdir(parents=True, exist_ok=True)
        outbox.describe({"tracking_uri": uri, "run_id": run_id})
        return outbox

    def describe(self, content: Mapping[str, Any]) -> None:
        """Add to ``run.json``."""
        before = self.content() or {}
        with atomic_path(self.folder / "run.json") as path:
            path.write_text(json.dumps({**before, **content}, indent=1))

    def content(self) -> dict[str, Any] | None:
        """What ``run.json`` says; :obj:`None` if there is none."""
        try:
            return json.loads((self.folder / "run.json").read_text())
        except FileNotFoundError:
            return None

    def add(self, points: Iterable[Point]) -> None:
        """Append points; they outlive the process from now on."""
        with (self.folder / "metrics.jsonl").open("a") as file:
            file.writelines(json.dumps(point) + "\n" for point in points)

    def points(self) -> list[Point]:
        """All points, but for a last one that was cut short."""
        found = []
        with suppress(FileNotFoundError), (self.folder / "metrics.jsonl").open() as file:
            for line in file:
                with suppress(ValueError):
                    found.append(Point(*json.loads(line)))
        return found

    def send(self) -> str:
        """Send all there is to the store; the run's id."""
        content = self.content()
        assert content is not None
        uri, run_id, points = content["tracking_uri"], content["run_id"], self.points()
        if run_id is None:
            client, run_id = open_run(uri, content["start"], content["start_time"], again=True)
            self.describe({"run_id": run_id})  # should the rest fail, it is not made twice
        else:
            client = connect(uri)
        if "start" in content:
            log_start(client, run_id, content["start"])
        end = content.get("end")
        if end is None:  # Killed while the server was away.
            last = max((point.timestamp for point in points), default=int(time.time() * 1000))
            tags = {"status": "killed", "mlflow.note.content": "killed while its server was away"}
            end = {"status": "KILLED", "end_time": last, "tags": tags}
        send_points(client, run_id, points, end["tags"])
        send_end(client, run_id, end, self.artifacts)
        return str(run_id)

    def remove(self) -> None:
        """All was sent."""
        shutil.rmtree(self.folder, ignore_errors=True)
        self._lock.release()
        with suppress(OSError):  # Others are there.
            self.folder.parent.rmdir()
        with suppress(OSError):  # The store itself, where it is a server elsewhere.
            self.store.rmdir()

    def leave(self) -> None:
        """Somebody else may send it from now on."""
        self._lock.release()

    def try_lock(self) -> bool:
        """Whether nobody else writes or sends it: then it is ours."""
        try:
            self._lock.acquire(timeout=0)
        except (Timeout, OSError):
            return False
        return True


def send_points(
    client: MlflowClient, run_id: str, points: Sequence[Point], tags: Mapping[str, str]
) -> None:
    """Send points and tags, in as few requests as can be.

    Sending points again after a lost answer is safe: MLflow keeps equal ones once.
    """
    from mlflow.entities import Metric, RunTag

    rows = [RunTag(*tag) for tag in tags.items()]
    for start in range(0, max(len(points), 1), _MAX_METRICS):
        metrics = [Metric(*point) for point in points[start : start + _MAX_METRICS]]
        if metrics or rows:
            client.log_batch(run_id, metrics=metrics, tags=rows)
        rows = []


def send_end(
    client: MlflowClient, run_id: str, end: Mapping[str, Any], artifacts: Path | None
) -> None:
    """Send files, and close the run."""
    if artifacts is not None and any(artifacts.iterdir()):
        client.log_artifacts(run_id, str(artifacts))
    client.set_terminated(run_id, end["status"], end["end_time"])


def send_unsent(
    store: str | Path = "mlruns",
    *,
    tracking_uri: str | None = None,
    say: Callable[[str], None] = logger.info,
) -> list[str]:
    """Send what earlier runs could not, since their server was away.

    Nothing is sent while its run goes on, nor by two processes at once. What cannot be sent now
    stays for the next time.

    Args:
        store: Folder of the local store, where unsent runs are kept.
        tracking_uri: Where to; by default ``MLFLOW_TRACKING_URI`` where it is set, else
            ``store``.
        say: Gets a line of what was sent.

    Returns:
        Ids of the runs that were sent.
    """
    uri = resolve_uri(Path(store).absolute(), tracking_uri)
    sent: list[str] = []
    for path in sorted((Path(store) / "unsent").glob("*/run.json")):
        outbox = Outbox(path.parent)
        if not outbox.try_lock():
            continue
        content = outbox.content()
        if content is None:  # Another process has sent it just now.
            outbox.remove()
            continue
        if content["tracking_uri"] != uri:
            outbox.leave()
            continue
        try:
            with brief(_UPLOAD_SECONDS):
                run_id = outbox.send()
        except Exception as error:
            outbox.leave()
            logger.warning(
                "MLflow at %s cannot take run %s yet (%s). It stays in %s, to be sent later; "
                "delete that folder if it is of no use",
                uri,
                content["run_id"] or content["start"]["run_name"],
                cause(error),
                outbox.folder,
            )
            if is_away(error):
                break
        else:
            outbox.remove()
            sent.append(run_id)
    if sent:
        say(f"MLflow: sent the rest of {len(sent)} earlier run(s) to {uri}")
    return sent


def is_away(error: BaseException) -> bool:
    """Whether there was no answer at all, so that another run would fare no better."""
    from mlflow.exceptions import MlflowException

    code = getattr(error, "error_code", None)
    return not isinstance(error, MlflowException) or code == "INTERNAL_ERROR"
