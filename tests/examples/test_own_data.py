import json
import runpy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pyg_bsl.cli import main
from tests.planted import cluster, write_folder

EXAMPLES = Path(__file__).parents[2] / "examples"
Run = Callable[..., dict[str, Any]]


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch) -> Run:
    def run(*flags: object) -> dict[str, Any]:
        monkeypatch.setattr("sys.argv", ["own_data.py", *map(str, flags), "--no-tracking"])
        return runpy.run_path(str(EXAMPLES / "own_data.py"), run_name="__main__")

    monkeypatch.syspath_prepend(EXAMPLES)
    return run


def test_trains_saves_and_recommends_what_is_of_a_users_cluster(
    run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data, out = write_folder(tmp_path / "data"), tmp_path / "out"
    flags = ("--backbone", "LightGCN", "--loss", "BPR", "--users", "u7", "u2")
    run("--data", data, *flags, "--output", out)
    lines = capsys.readouterr().out.splitlines()
    for user in (7, 2):
        (line,) = (line for line in lines if line.startswith(f"u{user}: "))
        items = [int(word[1:]) for word in line.split() if word.startswith("i")]
        assert len(items) == 10
        # Eight of the user's ten items are known; the other two are found.
        assert [cluster(item) for item in items[:2]] == [cluster(user)] * 2
    result = json.loads((out / "result.json").read_text())
    assert main(["evaluate", str(out), "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == pytest.approx(result["metrics"]["test"])


@pytest.mark.parametrize("loss", ["BSL", "SL", "PSL", "SLatK", "BPR"])
@pytest.mark.parametrize("backbone", ["MF", "LightGCN", "XSimGCL"])
def test_one_file_is_split(run: Run, tmp_path: Path, loss: str, backbone: str) -> None:
    file = tmp_path / "likes.csv"
    rows = [f"{user},{item}\n" for user in "abcdef" for item in "klmnopqrst"]
    file.write_text("user,item\n" + "".join(rows))
    flags = ("--split", "random", "--epochs", 1, "--loss", loss, "--backbone", backbone)
    after = run("--data", file, *flags)
    assert after["result"].status == "finished"
    assert after["graph"].test.num_pairs > 0 and after["graph"].valid.num_pairs > 0


def test_what_is_wrong_is_said_before_the_training(run: Run, tmp_path: Path) -> None:
    data = write_folder(tmp_path / "data")
    with pytest.raises(SystemExit, match=r"--users must be ids in .*got 'bob'"):
        run("--data", data, "--users", "bob")
    with pytest.raises(SystemExit, match="nowhere"):
        run("--data", tmp_path / "nowhere")
