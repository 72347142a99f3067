"""``pyg-bsl compare`` on runs that ``pyg-bsl train`` recorded."""

import csv

import pytest

from tests.cli.commands import call

TRAIN = "--quiet --epochs 2 --k 5 --metric ndcg@5 --backbone.embedding_dim 4"


@pytest.fixture(scope="module")
def store(data, tmp_path_factory):
    folder = tmp_path_factory.mktemp("recorded")
    for more in ("--loss SL --seed 0", "--loss SL --seed 1", "--loss BPR --seed 0"):
        where = f"--output {folder}/out --store {folder}/mlruns --data {data}"
        assert call(f"train {TRAIN} {more} {where}") == 0
    return folder / "mlruns"


def test_the_runs_of_train_become_a_table(store, here, capsys):
    flags = "--metrics test/ndcg@5 --where dataset=own backbone=MF"
    assert call(f"compare --store {store} {flags} --output table.csv --format markdown --log") == 0
    out, err = capsys.readouterr()
    assert out.startswith("own, protocol holdout, MF\n\n| loss ")
    assert (here / "table.csv").read_text() == out  # the format was asked for
    assert "Saved in table.csv" in err and "Kept in MLflow as 'comparison of 2 settings" in err
    assert call(f"compare --store {store} {flags} --output table.csv") == 0
    with (here / "table.csv").open() as file:
        rows = {row["loss"]: row for row in csv.DictReader(file)}
    assert {loss: row["seeds"] for loss, row in rows.items()} == {"SL": "0 1", "BPR": "0"}
    assert 0 < float(rows["SL"]["test/ndcg@5 mean"]) <= 1


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ("--output table.txt", "Unknown file ending '.txt'"),
        ("--output nowhere/table.md", "There is no folder 'nowhere'"),
        ("--where los=SL", "did you mean 'loss'?"),
        ("--metrics test/ndcg@7", "Unknown metric 'test/ndcg@7'; did you mean 'test/ndcg@5'?"),
        ("--level 2", "'level' must be in [0, 1] (got 2.0)"),
    ],
)
def test_wrong_flags_are_told(store, here, capsys, flags, message):
    assert call(f"compare --store {store} {flags}") == 2
    out, err = capsys.readouterr()
    assert out == "" and message in err
    assert not list(here.iterdir())


def test_a_store_that_is_not_there_is_told_and_not_made(here, capsys):
    assert call("compare") == 2
    err = capsys.readouterr().err
    assert f"There are no runs in '{here / 'mlruns'}' yet" in err and "--store" in err
    assert not list(here.iterdir())
