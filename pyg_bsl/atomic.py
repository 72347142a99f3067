"""Files that are either whole or not there."""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def atomic_path(target: str | os.PathLike[str]) -> Iterator[Path]:
    """A path beside ``target`` to write to, which becomes ``target`` when the block ends well.

    When the block raises, what was written is removed and ``target`` stays as it was.

    Example:
        >>> folder = getfixture("tmp_path")
        >>> with atomic_path(folder / "notes.txt") as path:
        ...     _ = path.write_text("whole")
        >>> [file.name for file in folder.iterdir()]
        ['notes.txt']
    """
    target = Path(target)
    path = target.with_name(f".{target.name}.{uuid.uuid4().hex}.part")
    try:
        yield path
        with open(path, "rb+") as file:
            os.fsync(file.fileno())
        os.replace(path, target)
    finally:
        path.unlink(missing_ok=True)
