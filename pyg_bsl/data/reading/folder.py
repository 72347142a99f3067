"""Which files of a folder hold the training, validation and test pairs."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

from pyg_bsl.data.errors import DataError
from pyg_bsl.names import suggest

SUFFIXES = (".tsv", ".csv", ".txt", ".tsv.gz", ".csv.gz", ".txt.gz", ".parquet")
STEMS = {
    "train": ("train", "training"),
    "valid": ("valid", "validation", "val", "dev"),
    "test": ("test", "testing"),
}


def suffix(path: Path) -> str:
    """The suffix of a file, without that of packing: ``".csv"`` for ``Train.CSV.gz``."""
    return Path(path.name.lower().removesuffix(".gz")).suffix


def stem(path: Path) -> str | None:
    """The name of a file without its suffix, or :obj:`None` when no such file can be read."""
    name = path.name.lower()
    end = next((end for end in SUFFIXES if name.endswith(end)), None)
    return None if end is None else path.name[: -len(end)]


def find_files(path: Path, *, split: bool) -> Mapping[str, Path]:
    """The files called ``train``, and where there are such ``valid`` and ``test``.

    Args:
        path: A folder, or a file, which is ``train``.
        split: Whether the pairs are to be split, so that there must be one file.

    Raises:
        DataError: If there is no such path, or it is not clear which file is which.
    """
    if path.is_file():
        if stem(path) is None:
            raise DataError(f"the suffix must be one of {', '.join(SUFFIXES)}", path)
        return {"train": path}
    if not path.is_dir():
        raise DataError(f"there is no such file or folder{_near(path)}", path)
    files = sorted(file for file in path.iterdir() if file.is_file() and stem(file) is not None)
    files = [file for file in files if not file.name.startswith(".")]
    found = {}
    for role, stems in STEMS.items():
        named = [file for file in files if (stem(file) or "").lower() in stems]
        if len(named) > 1:
            raise DataError(f"there must be one {role} file (got {_join(named)}): remove one", path)
        if named:
            found[role] = named[0]
    if not found and len(files) == 1:
        return {"train": files[0]}
    if "train" not in found:
        raise DataError(
            f"there must be a train file (got {_join(files)}): call it train with one of the "
            f"suffixes {', '.join(SUFFIXES)}, or pass the file itself",
            path,
        )
    if split and len(found) > 1:
        raise DataError(
            f"the data is split already (got {_join(found.values())}): leave 'split' out, or pass "
            "the file to be split itself",
            path,
        )
    if len(found) == 1 and len(files) > 1 and not split:
        raise DataError(
            f"there is a train file and no test file (got {_join(files)}): call it test, say "
            "split=..., or pass the train file itself",
            path,
        )
    return found


def _join(files: Iterable[Path]) -> str:
    return ", ".join(f"'{file.name}'" for file in files) or "nothing"


def _near(path: Path) -> str:
    if not path.parent.is_dir():
        return f": there is no folder '{path.parent}' either"
    return suggest(path.name, dict.fromkeys(file.name for file in path.parent.iterdir()))
