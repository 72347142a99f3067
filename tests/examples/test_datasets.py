"""The scripts of the data sets, on generated data of the published formats."""

import json
import runpy
from collections.abc import Callable, Iterator
from itertools import product
from pathlib import Path
from typing import Any

import pytest

from benchmarks.published import PUBLISHED
from pyg_bsl.cli import main
from pyg_bsl.data.datasets import benchmark
from pyg_bsl.nn import Backbone
from tests.examples.generated import generated_rows, write

EXAMPLES = Path(__file__).parents[2] / "examples"
# A script, and the data set that it trains on without flags.
SCRIPTS = {
    "yelp2018": "yelp2018",
    "gowalla": "gowalla",
    "amazon_book": "amazon-book",
    "movielens_1m": "movielens-1m-bsl",
    "amazon_electronic": "amazon-electronic",
    "amazon_cd": "amazon-cd-popularity",
    "amazon_movie": "amazon-movie",
    "amazon_book_psl": "amazon-book-psl",
    "gowalla_psl": "gowalla-psl",
    "yelp2018_psl": "yelp2018-psl-popularity",
    "amazon_health": "amazon-health",
}
EVERY_SCRIPT = pytest.mark.parametrize("script", SCRIPTS)
Run = Callable[..., dict[str, Any]]


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Where the data sets are kept, with a mirror of generated files to come from."""
    folder, rows = tmp_path_factory.mktemp("examples"), generated_rows()
    for row in rows.values():
        if row.files:
            write(row, folder / "mirror")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(benchmark, "DATASETS", rows)
        patch.setenv("PYG_BSL_MIRROR", str(folder / "mirror"))
        yield folder / "data"


@pytest.fixture
def run(root: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Runs a script as `python examples/SCRIPT.py FLAGS` does, and gives what it leaves."""

    def run(script: str, *flags: object, tracking: bool = False) -> dict[str, Any]:
        own = ["--root", str(root), *([] if tracking else ["--no-tracking"])]
        monkeypatch.setattr("sys.argv", [f"{script}.py", *own, *map(str, flags)])
        return runpy.run_path(str(EXAMPLES / f"{script}.py"), run_name="__main__")

    monkeypatch.syspath_prepend(EXAMPLES)
    return run


def test_every_data_set_of_the_issue_has_its_script() -> None:
    others = {"common", "quickstart", "custom_loss", "own_data"}
    assert {path.stem for path in EXAMPLES.glob("*.py")} >= {*SCRIPTS, *others}


@EVERY_SCRIPT
def test_one_epoch_leaves_a_run_that_the_command_line_knows(
    script: str, run: Run, root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    run(script, "--epochs", 1, "--seed", 3, "--output", out)
    printed = capsys.readouterr().out
    result = json.loads((out / "result.json").read_text())
    dataset = SCRIPTS[script]
    assert result["data"]["name"] == result["config"]["dataset"] == dataset
    assert result["protocol"] == generated_rows()[dataset].protocol
    assert (result["status"], result["epochs_run"], result["seed"]) == ("finished", 1, 3)
    test = result["metrics"]["test"]
    assert f"{test['ndcg@20']:.4f}" in printed
    assert main(["evaluate", str(out), "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == pytest.approx(test)
    again = ["train", "--config", str(out / "result.json"), "--no-tracking", "--quiet"]
    assert main([*again, "--output", str(tmp_path / "again")]) == 0
    assert json.loads((tmp_path / "again" / "result.json").read_text())["metrics"]["test"] == test


@EVERY_SCRIPT
def test_every_loss_every_backbone_and_every_split_runs(script: str, run: Run) -> None:
    first = run(script, "--epochs", 1)
    backbones = list(first["BACKBONES"])
    # The released protocol's scripts have losses of each backbone, the others one list.
    losses = list(first["LOSSES"]["MF"] if "PROTOCOLS" in first else first["LOSSES"])
    known = {*backbones, *(f"{one} {two}" for one, two in product(backbones, losses))}
    assert known >= set(first["SETTINGS"]) >= set(backbones)
    more: list[list[str]] = [[]]
    for flag, name in (("--split", "SPLITS"), ("--protocol", "PROTOCOLS")):
        if name in first:
            more = [[flag, choice] for choice in first[name]]
    # Each of the longest list once, and of the others in turn.
    for at, loss in enumerate(losses):
        backbone, flags = backbones[at % len(backbones)], more[at % len(more)]
        after = run(script, "--epochs", 1, "--loss", loss, "--backbone", backbone, *flags)
        assert isinstance(after["backbone"], Backbone)
        assert type(after["backbone"]) is first["BACKBONES"][backbone]
        assert after["result"].status == "finished"
        if "SPLITS" in first:
            assert (after["result"].protocol == "psl-iid") == (flags[1] == "iid")
        if "PROTOCOLS" in first:
            assert after["result"].protocol == flags[1]


def test_without_flags_it_trains_as_long_as_its_knobs_say(run: Run) -> None:
    after = run("amazon_health")
    loss, backbone = next(iter(after["LOSSES"])), next(iter(after["BACKBONES"]))
    found = after["SETTINGS"].get(f"{backbone} {loss}", after["SETTINGS"][backbone])
    assert after["result"].epochs_run == found[1]


def test_the_published_tables_name_what_the_script_has(run: Run) -> None:
    after = run("amazon_electronic", "--epochs", 1)
    for name in PUBLISHED:
        backbone, loss = name.split()
        assert backbone in after["BACKBONES"] and loss in after["LOSSES"]


@pytest.mark.parametrize("script", ["amazon_movie", "gowalla"])
def test_missing_data_says_where_it_comes_from(
    script: str, run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYG_BSL_MIRROR", str(tmp_path))
    file = generated_rows()[SCRIPTS[script]].files[0]
    with pytest.raises(SystemExit) as stop:
        run(script, "--root", tmp_path / "data")
    for part in (SCRIPTS[script], file.path, file.url, "PYG_BSL_MIRROR"):
        assert part in str(stop.value.code)


def test_runs_are_recorded_unless_switched_off(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    run("amazon_health", "--epochs", 1)
    assert not (tmp_path / "mlruns").exists()
    run("amazon_health", "--epochs", 1, tracking=True)
    assert (tmp_path / "mlruns" / "mlflow.db").exists()


@pytest.mark.parametrize("flags", [["--epochs", "0"], ["--threads", "x"], ["--loss", "BLS"]])
def test_wrong_flags_are_refused(
    flags: list[str], run: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as stop:
        run("amazon_health", *flags)
    assert stop.value.code == 2
    assert flags[0] in capsys.readouterr().err
