"""MLflow's own web page, on this machine."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

_START_SECONDS = 120.0  # It imports much; on a busy machine that takes long.
_STOP_SECONDS = 2.0  # Then it is made to end; what it wrote is in a database.


def answers(address: str, seconds: float = 5.0) -> bool:
    """Whether a server answers, if only to say no."""
    try:
        urllib.request.urlopen(f"{address.rstrip('/')}/health", timeout=seconds).close()
    except urllib.error.HTTPError:
        return True
    except OSError:
        return False
    return True


def check_port(port: int) -> None:
    """Raise unless this machine can open the port.

    Raises:
        ValueError: If there is no such port.
        OSError: If it is taken.
    """
    if not 1 <= port <= 65535:
        raise ValueError(f"'port' must be from 1 to 65535 (got {port})")
    with socket.socket() as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as the server does
        try:
            listener.bind(("127.0.0.1", port))
        except OSError as error:
            raise OSError(
                f"Port {port} cannot be opened ({error.strerror}). If another 'pyg-bsl ui' has it, "
                f"look at http://127.0.0.1:{port}; else give a free --port"
            ) from error


@contextmanager
def serve(uri: str, port: int) -> Iterator[subprocess.Popen[bytes]]:
    """A server for the runs at ``uri``, for this machine only; it ends with the block.

    Args:
        uri: Address of a database.
        port: Port to listen at.

    Raises:
        RuntimeError: If it does not start; the message has its last words.
    """
    command = [sys.executable, "-m", "mlflow", "server", "--backend-store-uri", uri]
    command += ["--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
    settings = {
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",  # Eight processes less, for other uses.
    }
    with tempfile.TemporaryDirectory() as folder:
        words = Path(folder, "log")
        with words.open("wb") as log:
            # A session of its own, so that an interrupt comes to us alone, and we end it whole.
            process = subprocess.Popen(
                command,
                cwd=folder,  # Nothing is to be written where one stands.
                env={**os.environ, **settings},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        try:
            _wait(process, f"http://127.0.0.1:{port}", words)
            yield process
        finally:
            _end(process)


def _wait(process: subprocess.Popen[bytes], address: str, words: Path) -> None:
    until = time.monotonic() + _START_SECONDS
    while not answers(address):
        if process.poll() is not None or time.monotonic() > until:
            last = words.read_text(errors="replace").strip().splitlines()[-5:]
            raise RuntimeError("MLflow's server did not start:\n" + "\n".join(last))
        time.sleep(0.1)


def _end(process: subprocess.Popen[bytes]) -> None:
    """End the server and all its processes."""
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGTERM)
        with suppress(subprocess.TimeoutExpired):
            process.wait(_STOP_SECONDS)
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
