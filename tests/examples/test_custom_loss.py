import json
import runpy
from collections.abc import Iterator
from pathlib import Path

import pytest

from pyg_bsl.losses import LOSSES
from tests.planted import write_folder

SCRIPT = Path(__file__).parents[2] / "examples" / "custom_loss.py"


@pytest.fixture(autouse=True)
def own_list() -> Iterator[None]:
    """The list of losses is afterwards what it was."""
    yield
    LOSSES.pop("SoftHinge", None)


def test_trains_by_its_name_and_its_arguments_are_flags(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data, output = write_folder(tmp_path / "data"), tmp_path / "out"
    flags = f"train --data {data} --loss SoftHinge --loss.margin 0.25 --epochs 1 --k 5 --quiet"
    more = f"--metric ndcg@5 --no-tracking --output {output}"
    monkeypatch.setattr("sys.argv", ["custom_loss.py", *flags.split(), *more.split()])
    with pytest.raises(SystemExit) as stop:
        runpy.run_path(str(SCRIPT), run_name="__main__")
    assert stop.value.code == 0
    assert "SoftHinge(tau=0.1, margin=0.3) on scores:" in capsys.readouterr().out
    result = json.loads((output / "result.json").read_text())
    assert result["config"]["loss"] == {"name": "SoftHinge", "tau": 0.1, "margin": 0.25}
    assert result["metrics"]["test"]["ndcg@5"] > 0


def test_its_help_tells_its_arguments(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.argv", ["custom_loss.py", "train", "--loss", "SoftHinge", "--help"])
    with pytest.raises(SystemExit) as stop:
        runpy.run_path(str(SCRIPT), run_name="__main__")
    assert stop.value.code == 0
    assert "How far below the positive a negative is left alone" in capsys.readouterr().out
