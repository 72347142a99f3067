"""Members of zip and tar archives, read in memory."""

from __future__ import annotations

import gzip
import tarfile
import zipfile
import zlib
from pathlib import PurePosixPath
from typing import TypeVar

from pyg_bsl.data.errors import DataError

T = TypeVar("T")


def read_zip(path: str, names: tuple[str, ...]) -> dict[str, bytes]:
    """Content of the members with these names; nothing is written to disk.

    Args:
        path: The archive.
        names: Names of the members, without folders.

    Raises:
        DataError: If the archive is broken, or has not just one member of each name.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            members = [(member.filename, member) for member in archive.infolist()]
            chosen = _choose(members, names, path)
            return {name: archive.read(member) for name, member in chosen.items()}
    except (zipfile.BadZipFile, zlib.error, EOFError, RuntimeError) as error:
        raise DataError(f"broken zip file ({error}): delete it and load again", path) from error


def read_tar(path: str, names: tuple[str, ...]) -> dict[str, bytes]:
    """Content of the members with these names; nothing is written to disk.

    Args:
        path: The archive.
        names: Names of the members, without folders.

    Raises:
        DataError: If the archive is broken, or has not just one member of each name.
    """
    texts = {}
    try:
        with tarfile.open(path) as archive:
            members = [(member.name, member) for member in archive if member.isfile()]
            for name, member in _choose(members, names, path).items():
                opened = archive.extractfile(member)
                assert opened is not None  # it is a regular file
                texts[name] = opened.read()
    except (tarfile.TarError, zlib.error, EOFError, gzip.BadGzipFile) as error:
        raise DataError(f"broken tar file ({error}): delete it and load again", path) from error
    return texts


def _choose(members: list[tuple[str, T]], names: tuple[str, ...], path: str) -> dict[str, T]:
    """The one member with each name, in whichever folder of the archive."""
    chosen = {}
    for name in names:
        found = [member for place, member in members if PurePosixPath(place).name == name]
        if len(found) != 1:
            raise DataError(f"the archive must have one '{name}' (got {len(found)})", path)
        chosen[name] = found[0]
    return chosen
