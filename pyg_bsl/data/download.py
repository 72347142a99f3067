"""Fetching the files of a data set, whole or not at all."""

from __future__ import annotations

import hashlib
import http.client
import logging
import os
import shutil
import ssl
import sys
import tarfile
import time
import urllib.error
import urllib.request
import zipfile
from pathlib import Path

from tqdm.auto import tqdm

from pyg_bsl.atomic import atomic_path
from pyg_bsl.data.errors import DataError
from pyg_bsl.data.table import SourceFile

MIRROR = "PYG_BSL_MIRROR"
"""Environment variable with a folder or a base URL from which data sets come instead."""

TIMEOUT = 30.0
"""Seconds without an answer after which an attempt has failed."""

PAUSES = (1.0, 3.0, 9.0)
"""Seconds before each further attempt."""

_BLOCK = 1 << 20
_NETWORK_FAULTS = (
    urllib.error.URLError,
    http.client.HTTPException,
    ConnectionError,
    TimeoutError,
    ssl.SSLError,
)
_PASSING_STATUS = {408, 425, 429, 500, 502, 503, 504}

log = logging.getLogger("pyg_bsl")


def fetch(file: SourceFile, folder: str | os.PathLike[str]) -> Path:
    """Bring ``file`` into ``folder``, unless it is there.

    It comes from the folder or base URL in the environment variable ``PYG_BSL_MIRROR`` where that
    is set, else from its URL. Passing network faults are tried again; what is broken or fails
    :func:`check_file` leaves nothing behind.

    Args:
        file: The file.
        folder: Where it goes.

    Returns:
        Its path in ``folder``.

    Raises:
        DataError: If what came is not the file.
        FileNotFoundError: If the source has no such file.
        ConnectionError: If the source could not be reached.
        PermissionError: If ``folder`` cannot be written to.
    """
    target = Path(folder) / file.name
    if target.exists():
        return target
    make_folder(target.parent)
    mirror = os.environ.get(MIRROR, "")
    with atomic_path(target) as path:
        if mirror and "://" not in mirror:
            source = os.path.join(os.path.expanduser(mirror), *file.path.split("/"))
            _copy(source, path, file)
        else:
            source = f"{mirror.rstrip('/')}/{file.path}" if mirror else file.url
            _download(source, path, target, file)
        check_file(path, file, name=source, cure="nothing was kept of it; mend the source")
    return target


def check_file(
    path: str | os.PathLike[str],
    file: SourceFile,
    *,
    name: str | os.PathLike[str] | None = None,
    cure: str = "delete it and load again",
) -> None:
    """Raise unless ``path`` holds ``file``.

    Args:
        path: What to check.
        file: What it should be.
        name: What to call it in the message; ``path`` by default.
        cure: What to do, for the message.

    Raises:
        DataError: If the checksum is wrong, or if it is no archive though it should be.
    """
    cure = f"{cure}, or get the file of {file.url}"
    for ending, is_archive in ((".zip", zipfile.is_zipfile), (".tar.gz", tarfile.is_tarfile)):
        if file.name.endswith(ending) and not is_archive(path):
            with open(path, "rb") as opened:
                start = opened.read(24)
            raise DataError(
                f"not a {ending[1:]} file (it starts with {start!r}): {cure}", name or path
            )
    if file.sha256 is not None:
        with open(path, "rb") as opened:
            got = hashlib.file_digest(opened, "sha256").hexdigest()
        if got != file.sha256:
            raise DataError(
                f"wrong checksum: sha256 must be {file.sha256} (got {got}): {cure}", name or path
            )


def make_folder(folder: str | os.PathLike[str]) -> None:
    """Make ``folder`` where it is missing.

    Raises:
        PermissionError: If it cannot be made or written to.
    """
    reason = "permission denied"
    try:
        os.makedirs(folder, exist_ok=True)
    except OSError as error:
        reason = str(error.strerror).lower()
    if not (os.path.isdir(folder) and os.access(folder, os.W_OK)):
        raise PermissionError(
            f"Cannot write to the data folder '{os.fspath(folder)}' ({reason}): make it writable, "
            "or choose another 'root'"
        )


def _copy(source: str, path: Path, file: SourceFile) -> None:
    if not os.path.isfile(source):
        raise FileNotFoundError(
            f"The mirror '{os.environ[MIRROR]}' has no file '{file.path}': put it there, or unset "
            f"{MIRROR} to download it from {file.url}"
        )
    shutil.copyfile(source, path)


def _download(url: str, path: Path, target: Path, file: SourceFile) -> None:
    """Write what ``url`` gives to ``path``, in as many attempts as are allowed."""
    for pause in (*PAUSES, None):
        try:
            return _attempt(url, path)
        except _NETWORK_FAULTS as error:
            status = None
            if isinstance(error, urllib.error.HTTPError):
                status = error.code
                error.close()
            cure = f"Download it by hand to '{target}', or set {MIRROR} to a folder or a base URL "
            cure += f"that holds '{file.path}'"
            if status in (404, 410):
                raise FileNotFoundError(f"There is no {url} (HTTP {status}). {cure}") from error
            if pause is None or (status is not None and status not in _PASSING_STATUS):
                raise ConnectionError(f"Could not download {url} ({error}). {cure}") from error
            log.info("%s: %s; trying again in %g s", url, error, pause)
            time.sleep(pause)


def _attempt(url: str, path: Path) -> None:
    with urllib.request.urlopen(url, timeout=TIMEOUT) as answer, open(path, "wb") as out:
        length = answer.headers.get("Content-Length")
        total = None if length is None else int(length)
        quiet = not sys.stderr.isatty()
        name = url.rpartition("/")[2]
        with tqdm(total=total, desc=name, unit="B", unit_scale=True, disable=quiet) as bar:
            while block := answer.read(_BLOCK):
                out.write(block)
                bar.update(len(block))
        if total is not None and out.tell() != total:
            raise ConnectionError(f"it broke off after {out.tell()} of {total} bytes")
