"""Whose a run is, and closing those whose process is gone."""

from __future__ import annotations

import hashlib
import logging
import os
import socket
import sys
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from pyg_bsl.tracking.address import resolve_uri
from pyg_bsl.tracking.store import brief, connect, runs_of

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run

logger = logging.getLogger("pyg_bsl")

_SECONDS = 5  # A request may take this long.


def process_tags() -> dict[str, str]:
    """Tags that tell this process from all others: ``host``, ``pid`` and ``process_start``."""
    pid = os.getpid()
    start = f"{_start_of(pid)}@{'/'.join(_machine())}"
    return {"host": socket.gethostname(), "pid": str(pid), "process_start": start}


def member_tags() -> dict[str, str]:
    """Tags with which this process joins a run of several: the last host, and one of its own."""
    own = process_tags()
    return {"host": own["host"], f"process.{own['host']}.{own['pid']}": own["process_start"]}


def is_gone(tags: Mapping[str, str]) -> bool:
    """Whether the process with these :func:`process_tags`, or all :func:`member_tags`, has ended.

    False wherever that cannot be known from here: of another machine, or another container.
    """
    if members := _members(tags):
        return all(map(is_gone, members))
    start, _, there = tags.get("process_start", "").partition("@")
    if not there or tags.get("host") != socket.gethostname():
        return False
    machine, boot, *pids = there.split("/")
    own_machine, own_boot, *own_pids = _machine()
    if boot != own_boot:
        return machine == own_machine != ""  # It was started anew since.
    return pids == own_pids and _start_of(int(tags["pid"])) != start


def close_dead_runs(store: str | Path = "mlruns", *, tracking_uri: str | None = None) -> list[str]:
    """Close, as killed, the open runs of processes of this machine that are gone.

    A process that is killed with ``SIGKILL``, or whose machine loses its power, leaves its run
    open. Runs of living processes, and those of other machines, stay as they are.

    Args:
        store: Folder of the local store.
        tracking_uri: Where the runs are instead; by default ``MLFLOW_TRACKING_URI`` where it is
            set, else ``store``.

    Returns:
        Ids of the runs that were closed.
    """
    uri = resolve_uri(store, tracking_uri)
    open_here = f"attributes.status = 'RUNNING' and tags.host = '{socket.gethostname()}'"
    closed = []
    with brief(_SECONDS):
        client = connect(uri)
        for run in list(runs_of(client, open_here)):
            if is_gone(run.data.tags):
                _close(client, run)
                closed.append(run.info.run_id)
    if closed:
        logger.info("MLflow: closed %d run(s) whose process was killed", len(closed))
    return closed


def is_running(pid: int) -> bool:
    """Whether a process of this machine lives; one that only waits to be waited for does not."""
    return _start_of(pid) != ""


def _members(tags: Mapping[str, str]) -> list[dict[str, str]]:
    """The :func:`process_tags` of those that joined by :func:`member_tags`."""
    found = []
    for name, start in tags.items():
        kind, _, process = name.partition(".")
        if kind == "process":
            host, _, pid = process.rpartition(".")
            found.append({"host": host, "pid": pid, "process_start": start})
    return found


def _close(client: MlflowClient, run: Run) -> None:
    """As killed, when it was last heard of."""
    run_id, tags = run.info.run_id, run.data.tags
    losses = client.get_metric_history(run_id, "train/loss")
    below = f"tags.mlflow.parentRunId = '{run_id}'"
    children = client.search_runs([run.info.experiment_id], below, max_results=1000)
    last = max(losses, key=lambda point: point.step, default=None)
    heard = [point.timestamp for point in losses]
    heard += [child.info.end_time or child.info.start_time for child in children]
    when = max(heard, default=run.info.start_time)
    at = f" after epoch {last.step} of {run.data.params.get('epochs', '?')}" if last else ""
    at = at if last or children else " at once"
    note = "\n\n".join(filter(None, [f"killed{at}", tags.get("mlflow.note.content")]))
    client.set_tag(run_id, "mlflow.note.content", note)
    client.set_tag(run_id, "status", "killed")
    client.set_terminated(run_id, "KILLED", when)


def _start_of(pid: int) -> str:
    """When a living process was started, by the clock of its machine; empty if there is none."""
    if sys.platform == "linux":
        with suppress(OSError):  # There is none.
            # A name with spaces stands in parentheses before the state and 18 more numbers.
            words = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
            return "" if words[0] in "ZX" else words[19]  # A zombie was killed and is not missed.
        return ""
    import psutil  # PyTorch Geometric needs it anyway.

    with suppress(psutil.NoSuchProcess):
        process = psutil.Process(pid)
        return "" if process.status() == psutil.STATUS_ZOMBIE else f"{process.create_time():.0f}"
    return ""


def _machine() -> tuple[str, str, str]:
    """Where numbers of processes mean the same: machine, its start, container; empty if unknown."""
    if sys.platform != "linux":
        return "", "", ""
    machine, boot, container = "", "", ""
    with suppress(OSError):
        # Not the number itself, which is not to leave the machine.
        text = Path("/etc/machine-id").read_text().strip()
        machine = hashlib.sha256(f"pyg_bsl {text}".encode()).hexdigest()[:12] if text else ""
    with suppress(OSError):
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    with suppress(OSError):
        container = os.readlink("/proc/self/ns/pid").strip("pid:[]")
    return machine, boot, container
