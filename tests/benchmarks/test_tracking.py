import subprocess
import sys

import pytest

from benchmarks.tracking import in_turns, main, seconds, table
from tests.planted import write_folder


def test_a_command_costs_wall_and_processor_time() -> None:
    wall, used = seconds([sys.executable, "-c", "sum(range(3_000_000))"])
    assert 0 < used and 0 < wall
    with pytest.raises(subprocess.CalledProcessError):
        seconds([sys.executable, "-c", "raise SystemExit(3)"])


def test_every_other_pair_is_turned_round(tmp_path) -> None:
    code = "import sys; open(sys.argv[1], 'a').write(sys.argv[2])"
    log = tmp_path / "log"
    ways = {name: [sys.executable, "-c", code, str(log), name] for name in ("a", "b")}
    found = in_turns(ways, 3)
    assert log.read_text() == "abbaab"
    assert [len(runs) for runs in found.values()] == [3, 3]


def test_the_table_compares_medians_and_means() -> None:
    found = {"off": [(10.0, 20.0), (10.0, 20.0), (40.0, 20.0)], "on": [(11.0, 21.0)] * 3}
    assert table("x", found).rows == [
        ["wall, median", "10.00", "11.00", "+10.0 %"],
        ["wall, mean", "20.00", "11.00", "-45.0 %"],
        ["processor, median", "20.00", "21.00", "+5.0 %"],
        ["processor, mean", "20.00", "21.00", "+5.0 %"],
    ]


def test_a_training_is_run_both_ways(tmp_path, capsys) -> None:
    data = write_folder(tmp_path / "own")
    words = f"--data {data} --epochs 1 --k 5 --metric ndcg@5 --threads 1"
    command = f"{sys.executable} -m pyg_bsl train {words}"
    assert main(["--command", command, "--pairs", "1"]) == 0
    assert "1 pairs." in capsys.readouterr().out
