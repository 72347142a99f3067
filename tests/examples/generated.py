"""Published data sets in their formats, with generated pairs in place of the published ones."""

import io
import tarfile
import zipfile
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from pyg_bsl.data.table import DATASETS, DatasetRow
from tests.planted import NUM_ITEMS, NUM_USERS, Pairs, pairs


def split() -> tuple[Pairs, Pairs]:
    """Pairs to train on, from which a script holds out its validation pairs, and to test on."""
    parts = pairs()
    return parts["train"] + parts["valid"], parts["test"]


def generated_rows() -> dict[str, DatasetRow]:
    """The rows of all data sets with the counts of the generated pairs and without checksums."""
    train, test = split()
    counts = {"num_train": len(train), "num_test": len(test)}
    return {
        name: replace(
            row,
            files=tuple(replace(file, sha256=None) for file in row.files),
            num_users=NUM_USERS,
            num_items=NUM_ITEMS,
            **counts,
        )
        for name, row in DATASETS.items()
    }


def write(row: DatasetRow, mirror: Path) -> None:
    """The files of a data set, where a mirror has them."""
    train, test = split()
    for file in row.files:
        (mirror / file.path).parent.mkdir(parents=True, exist_ok=True)
    if row.format == "ir-benchmark":
        texts = {"train.tsv": _table(train), "test.tsv": _table(test)}
        texts |= {f"{node}_list.tsv": _raw_ids(node, size) for node, size in _SIZES.items()}
        with zipfile.ZipFile(mirror / row.files[0].path, "w") as archive:
            for name, text in texts.items():
                archive.writestr(name, text)
        return
    lists = {"train.txt": _lists(train), "test.txt": _lists(test)}
    if row.format == "adjacency-tar":
        _write_tar(mirror / row.files[0].path, lists)
    else:
        for file in row.files:
            (mirror / file.path).write_text(lists[file.name])


_SIZES = {"user": NUM_USERS, "item": NUM_ITEMS}


def _table(rows: Pairs) -> str:
    """As the IR-Benchmark authors write it."""
    return "user_procid\titem_procid\n" + "".join(f"{user}\t{item}\n" for user, item in rows)


def _raw_ids(node: str, size: int) -> str:
    lines = [f"{node[0].upper()}{number:03}\t{number}\n" for number in range(size)]
    return f"{node}_orgid\t{node}_procid\n" + "".join(lines)


def _lists(rows: Pairs) -> str:
    """As the LightGCN authors write it."""
    items = {user: [item for other, item in rows if other == user] for user, _ in rows}
    return "".join(" ".join(map(str, [user, *items[user]])) + "\n" for user in items)


def _write_tar(path: Path, texts: Mapping[str, str]) -> None:
    with tarfile.open(path, "w:gz") as archive:
        for name, text in texts.items():
            member = tarfile.TarInfo(f"data/{name}")
            member.size = len(text)
            archive.addfile(member, io.BytesIO(text.encode()))
