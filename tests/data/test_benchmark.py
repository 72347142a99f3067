"""Small files in the published formats, and the published files where there are some."""

import dataclasses
import io
import logging
import os
import subprocess
import sys
import tarfile
import time
import zipfile

import pytest
import torch

from pyg_bsl.data import DataError, build_graph, load_dataset
from pyg_bsl.data.datasets import BenchmarkDataset, benchmark
from pyg_bsl.data.hetero import RATED_BY, RATES
from pyg_bsl.data.table import DATASETS, DatasetRow, SourceFile

TRAIN = [(0, 0), (0, 3), (1, 1), (1, 2), (1, 3), (2, 0), (3, 2), (3, 4)]
TEST = [(0, 1), (1, 0), (3, 0)]
COUNTS = (4, 5, len(TRAIN), len(TEST))


def adjacency(pairs, users=range(4)):
    """As the LightGCN authors write it; a user without items has a line too."""
    lines = [" ".join(map(str, [user, *(i for u, i in pairs if u == user)])) for user in users]
    return "\n".join(lines) + "\n"


def table(pairs):
    """As the IR-Benchmark authors write it."""
    return "user_procid\titem_procid\n" + "".join(f"{user}\t{item}\n" for user, item in pairs)


def raw_ids(node, size):
    """In the order of the raw ids, not of the numbers."""
    lines = sorted(f"{(index * 7) % 10}X\t{index}" for index in range(size))
    return f"{node}_orgid\t{node}_procid\n" + "\n".join(lines) + "\n"


def members(**changed):
    texts = {
        "train.tsv": table(TRAIN),
        "test.tsv": table(TEST),
        "user_list.tsv": raw_ids("user", 4),
        "item_list.tsv": raw_ids("item", 5),
        "summary.txt": "Dataset: Small",
    }
    texts.update({name.replace("_tsv", ".tsv"): text for name, text in changed.items()})
    return {name: text for name, text in texts.items() if text is not None}


def write_zip(path, texts):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, text in texts.items():
            archive.writestr(name, text)


def write_tar(path, texts):
    with tarfile.open(path, "w:gz") as archive:
        for name, text in texts.items():
            member = tarfile.TarInfo(name)
            member.size = len(text)
            archive.addfile(member, io.BytesIO(text.encode()))


@pytest.fixture
def root(tmp_path, monkeypatch):
    """A root beside a mirror, and a table of one small data set a format."""
    rows = [
        DatasetRow(
            name,
            form,
            tuple(SourceFile(f"up/{file}", f"http://nowhere.invalid/{file}") for file in files),
            *COUNTS,
            "psl-iid",
            "",
        )
        for name, form, files in (
            ("text", "adjacency", ("train.txt", "test.txt")),
            ("tar", "adjacency-tar", ("small.tar.gz",)),
            ("zip", "ir-benchmark", ("proc.zip",)),
        )
    ]
    monkeypatch.setattr(benchmark, "DATASETS", {row.name: row for row in rows})
    monkeypatch.setenv("PYG_BSL_MIRROR", str(tmp_path / "mirror"))
    up = tmp_path / "mirror" / "up"
    up.mkdir(parents=True)
    (up / "train.txt").write_text(adjacency(TRAIN))
    (up / "test.txt").write_text(adjacency(TEST))
    write_tar(up / "small.tar.gz", {"d/train.txt": adjacency(TRAIN), "d/test.txt": adjacency(TEST)})
    write_zip(up / "proc.zip", members())
    return tmp_path / "data"


@pytest.fixture
def up(root):
    """The folder of the mirror."""
    return root.parent / "mirror" / "up"


def pairs_of(index):
    return [tuple(pair) for pair in index.t().tolist()]


@pytest.mark.parametrize("name", ["text", "tar", "zip"])
def test_each_format_gives_the_pairs_that_were_written(root, name):
    dataset = BenchmarkDataset(root, name)
    data = dataset[0]
    assert len(dataset) == 1
    assert repr(dataset) == f"BenchmarkDataset({name})"
    assert data.name == name
    assert (data["user"].num_nodes, data["item"].num_nodes) == (4, 5)
    assert pairs_of(data[RATES].edge_index) == TRAIN
    assert pairs_of(data[RATES].edge_label_index) == TEST
    assert torch.equal(data[RATED_BY].edge_index, data[RATES].edge_index.flip(0))
    assert data.validate()


def test_raw_ids_stand_at_their_number(root):
    data = BenchmarkDataset(root, "zip")[0]
    assert data["user"].raw_id == ["0X", "7X", "4X", "1X"]
    assert data["item"].raw_id == ["0X", "7X", "4X", "1X", "8X"]


def test_a_kept_graph_needs_no_files(root, up):
    first = BenchmarkDataset(root, "zip")[0]
    for file in (*up.iterdir(), *(root / "zip" / "raw").iterdir()):
        file.unlink()
    again = BenchmarkDataset(root, "zip")[0]
    assert again.to_dict().keys() == first.to_dict().keys()
    assert torch.equal(again[RATES].edge_index, first[RATES].edge_index)


def test_nothing_else_is_left_in_the_folder(root):
    BenchmarkDataset(root, "zip")
    assert sorted(os.listdir(root / "zip")) == [".lock", "processed", "raw"]
    assert sorted(os.listdir(root / "zip" / "raw")) == ["proc.zip"]
    assert len(os.listdir(root / "zip" / "processed")) == 3


@pytest.mark.parametrize("name", ["data.pt", "pre_transform.pt"])
@pytest.mark.parametrize("damage", [lambda b: b"", lambda b: b[: len(b) // 2], lambda b: b"junk"])
def test_a_kept_file_that_is_cut_off_is_made_anew(root, caplog, name, damage):
    whole = BenchmarkDataset(root, "text")[0]
    path = root / "text" / "processed" / name
    path.write_bytes(damage(path.read_bytes()))
    with caplog.at_level(logging.WARNING, "pyg_bsl"):
        again = BenchmarkDataset(root, "text")[0]
    assert torch.equal(again[RATES].edge_index, whole[RATES].edge_index)
    assert "made anew" in caplog.text
    caplog.clear()
    BenchmarkDataset(root, "text")
    assert not caplog.records


def test_transforms_are_applied(root):
    def half(data):
        data[RATES].edge_index = data[RATES].edge_index[:, ::2]
        return data

    assert (
        pairs_of(BenchmarkDataset(root, "text", transform=half)[0][RATES].edge_index)
        == (TRAIN[::2])
    )
    kept = BenchmarkDataset(root, "zip", pre_transform=half)
    assert pairs_of(kept[0][RATES].edge_index) == TRAIN[::2]


def test_duplicates_are_dropped_and_counted(root, up, caplog):
    text = adjacency(TRAIN).replace("0 0 3", "0 0 3 3 0") + "3 4\n"
    (up / "train.txt").write_text(text)
    with caplog.at_level(logging.WARNING, "pyg_bsl"):
        data = BenchmarkDataset(root, "text")[0]
    assert pairs_of(data[RATES].edge_index) == TRAIN
    assert [record.getMessage() for record in caplog.records] == [
        "text, train: dropped 3 duplicate pairs"
    ]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", r"raw/train.txt: the file has no pairs"),
        ("\n \n", r"raw/train.txt: the file has no pairs"),
        ("0\n1\n", r"raw/train.txt: the file has no pairs"),
        ("0 1\n1 B00X\n", r"raw/train.txt, line 2: ids must be integers from 0 \(got 'B00X'\)"),
        ("0 1\n\n1 2.5 7\n", r"raw/train.txt, line 3: ids must be integers from 0 \(got '2.5'\)"),
        ("0 1\n1 2 -3 4", r"raw/train.txt, line 2: ids must be integers from 0 \(got '-3'\)"),
        ("0 1\n1 99999999999999999999", r"raw/train.txt, line 2: .*9'\), of at most 18 digits"),
        ("0 1,2", r"raw/train.txt, line 1: ids must be integers from 0 \(got '1,2'\)"),
        ("0 \xe9", r"raw/train.txt, line 1: ids must be integers from 0"),
    ],
)
def test_a_bad_adjacency_list_is_refused_with_its_line(root, up, text, message):
    (up / "train.txt").write_text(text, encoding="utf-8")
    with pytest.raises(DataError, match=message):
        BenchmarkDataset(root, "text")
    assert not (root / "text" / "processed" / "data.pt").exists()


def test_a_bad_list_in_an_archive_is_refused_with_its_line(root, up):
    write_tar(up / "small.tar.gz", {"d/train.txt": adjacency(TRAIN), "d/test.txt": "0 1\n1 x\n"})
    with pytest.raises(
        DataError,
        match=r"small\.tar\.gz/test\.txt, line 2: ids must be integers from 0 \(got 'x'\)",
    ):
        BenchmarkDataset(root, "tar")


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"test_tsv": ""}, r"proc\.zip/test\.tsv: the file has no pairs"),
        ({"test_tsv": table([])}, r"proc\.zip/test\.tsv: the file has no pairs"),
        ({"train_tsv": "a\tb\n0\t1\n"}, r"train\.tsv, line 1: the header must be 'user_procid"),
        ({"train_tsv": table(TRAIN) + "2\n"}, r"train\.tsv, line 10: a line must be .*'2'"),
        ({"train_tsv": table([]) + "0\n1\n"}, r"train\.tsv, line 2: a line must be .*'0'"),
        ({"train_tsv": table([]) + "0 1 2 3\n"}, r"train\.tsv, line 2: a line must .*'0 1 2 3'"),
        (
            {"train_tsv": table(TRAIN) + "x\t2\n"},
            r"train\.tsv, line 10: ids must be integers from 0 \(got 'x'\)",
        ),
        (
            {"train_tsv": table(TRAIN) + "2\t-1\n"},
            r"train\.tsv, line 10: ids must be integers from 0 \(got '-1'\)",
        ),
        ({"train_tsv": table([*TRAIN, (2, 5)])}, r"train\.tsv: the item 5 is not in item_list"),
        ({"user_list_tsv": None}, r"proc\.zip: the archive must have one 'user_list.tsv' \(got 0"),
        ({"extra/train_tsv": "again"}, r"the archive must have one 'train.tsv' \(got 2\)"),
        ({"user_list_tsv": "id\n"}, r"user_list\.tsv, line 1: the header must be"),
        ({"user_list_tsv": raw_ids("user", 4) + "A\n"}, r"user_list\.tsv, line 6: a line must be"),
        ({"user_list_tsv": raw_ids("user", 4) + "A\t2\n"}, r"line 6: the id 2 stands twice"),
        ({"user_list_tsv": raw_ids("user", 4) + "A\t9\n"}, r"the 5 ids must be 0 ... 4 \(got 9\)"),
    ],
)
def test_a_bad_member_is_refused_with_its_line(root, up, changed, message):
    write_zip(up / "proc.zip", members(**changed))
    with pytest.raises(DataError, match=message):
        BenchmarkDataset(root, "zip")


def test_test_pairs_in_train_are_refused(root, up):
    (up / "test.txt").write_text(adjacency([*TEST[:-1], (1, 3)]))
    with pytest.raises(DataError, match=r"1 test pairs of 'text' are .* user 1, item 3"):
        BenchmarkDataset(root, "text")


def test_ids_too_large_for_keys_are_refused(root, up):
    (up / "train.txt").write_text(adjacency(TRAIN) + "10000000000 10000000000\n")
    with pytest.raises(DataError, match=r"'text' go up to user 10000000000 and item 10000000000"):
        BenchmarkDataset(root, "text")


def test_other_counts_than_the_published_are_refused(root, up):
    (up / "train.txt").write_text(adjacency([*TRAIN, (4, 6)], users=range(5)))
    with pytest.raises(DataError) as caught:
        BenchmarkDataset(root, "text")
    for part in ("users must be 4 (got 5)", "items must be 5 (got 7)", "train must be 8 (got 9)"):
        assert part in str(caught.value)
    assert "test must" not in str(caught.value)


@pytest.mark.parametrize(("name", "file"), [("zip", "proc.zip"), ("tar", "small.tar.gz")])
def test_archives_that_are_none_or_cut_off_are_refused(root, up, name, file):
    raw = root / name / "raw"
    raw.mkdir(parents=True)
    whole = (up / file).read_bytes()
    (raw / file).write_text("<html>")
    with pytest.raises(DataError, match=r"not a .* file \(it starts with b'<html>'\): delete it"):
        BenchmarkDataset(root, name)
    (raw / file).write_bytes(whole[: len(whole) - 30])
    with pytest.raises(DataError, match=f"{file}: (not a zip|broken tar)"):
        BenchmarkDataset(root, name)


def test_a_damaged_member_is_refused(root, up):
    text = table(TRAIN).encode()
    with zipfile.ZipFile(up / "proc.zip", "w") as archive:
        for name, content in members().items():
            archive.writestr(name, content)
    content = (up / "proc.zip").read_bytes()
    (up / "proc.zip").write_bytes(content.replace(text, text[:-2] + b"9\n"))
    with pytest.raises(DataError, match=r"broken zip file \(Bad CRC-32"):
        BenchmarkDataset(root, "zip")


def test_the_checksum_of_a_file_that_was_there_is_checked(root, up, monkeypatch):
    row = DATASETS["amazon-health"]
    monkeypatch.setattr(benchmark, "DATASETS", {row.name: row})
    raw = root / row.name / "raw"
    raw.mkdir(parents=True)
    write_zip(raw / "proc.zip", members())
    with pytest.raises(DataError, match=f"wrong checksum: sha256 must be {row.files[0].sha256}"):
        BenchmarkDataset(root, row.name)


def test_an_unwritable_root_is_told(root):
    root.write_text("a file, not a folder")
    with pytest.raises(PermissionError, match=r"Cannot write to the data folder.*'root'"):
        BenchmarkDataset(root, "zip")


def test_a_finished_set_is_read_from_where_nothing_can_be_written(root, monkeypatch):
    BenchmarkDataset(root, "zip")
    (root / "zip" / ".lock").unlink()
    monkeypatch.setattr(os, "access", lambda path, mode: mode != os.W_OK)
    assert BenchmarkDataset(root, "zip")[0]["user"].num_nodes == 4
    assert not (root / "zip" / ".lock").exists()
    with pytest.raises(PermissionError, match="Cannot write"):
        BenchmarkDataset(root, "text")


def test_an_unknown_name_is_told_with_the_nearest():
    with pytest.raises(ValueError, match=r"Unknown data set 'yelp18'; did you mean 'yelp2018'\?"):
        load_dataset("yelp18")


def test_nothing_is_printed(root, capfd, monkeypatch):
    monkeypatch.delenv("PYTEST_CURRENT_TEST")
    BenchmarkDataset(root, "zip")
    assert capfd.readouterr() == ("", "")


WORKER = """
import sys, time
from pathlib import Path
from pyg_bsl.data.datasets import BenchmarkDataset, benchmark
from pyg_bsl.data.table import DatasetRow, SourceFile

root = Path(sys.argv[1])
files = (SourceFile("up/proc.zip", "http://nowhere.invalid/proc.zip"),)
benchmark.DATASETS = {
    name: DatasetRow(name, "ir-benchmark", files, 4, 5, 8, 3, "psl-iid", "")
    for name in ("zip", "killed")
}
read = benchmark._read_ir_benchmark

def slow(path):
    print("reading", flush=True)
    time.sleep(0.5 if "killed" not in path else 60)
    return read(path)

benchmark._read_ir_benchmark = slow
BenchmarkDataset(root, "zip")
BenchmarkDataset(root, "killed")
"""


def test_a_second_process_waits_for_the_first_and_does_not_mind_its_death(root, monkeypatch):
    rows = benchmark.DATASETS
    monkeypatch.setitem(rows, "killed", dataclasses.replace(rows["zip"], name="killed"))
    reads = []
    read = benchmark._read_ir_benchmark
    monkeypatch.setattr(
        benchmark, "_read_ir_benchmark", lambda path: reads.append(path) or read(path)
    )
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "OMP_NUM_THREADS": "1"}
    with subprocess.Popen(
        [sys.executable, "-c", WORKER, str(root)], env=env, stdout=subprocess.PIPE, text=True
    ) as worker:
        assert worker.stdout.readline() == "reading\n"
        first = BenchmarkDataset(root, "zip")
        assert pairs_of(first[0][RATES].edge_index) == TRAIN
        assert reads == []
        assert worker.stdout.readline() == "reading\n"
        worker.kill()
        second = BenchmarkDataset(root, "killed")
        assert pairs_of(second[0][RATES].edge_index) == TRAIN
        assert len(reads) == 1


REAL = (
    "yelp2018",
    "amazon-electronic",
    "amazon-health",
    "gowalla-psl",
    "movielens-100k",
    "movielens-1m",
    "amazon-electronic-popularity",
    "gowalla-psl-popularity",
    "movielens-1m-temporal",
)


@pytest.mark.data
@pytest.mark.parametrize("name", REAL)
def test_published_sets_load_with_their_counts(name, tmp_path):
    start = time.process_time()
    data = load_dataset(name, tmp_path)
    assert time.process_time() - start < 5
    graph = build_graph(data)
    assert graph.valid is None
    row = DATASETS[name]
    assert (graph.num_users, graph.num_items) == (row.num_users, row.num_items)
    assert (graph.train.num_pairs, graph.test.num_pairs) == (row.num_train, row.num_test)
