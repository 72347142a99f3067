import os
from functools import partial
from types import SimpleNamespace

import pytest

from benchmarks.__main__ import README, SUBJECTS, replace_section
from benchmarks.measure import Options, Table, in_fresh_process, medians


def test_ways_take_turns_after_a_round_to_warm_up() -> None:
    calls: list[str] = []
    ways = {"a": lambda: calls.append("a"), "b": lambda: calls.append("b")}
    found = medians(ways, Options(rounds=2, quick=True))
    assert calls == ["a", "b"] * 3
    assert list(found) == ["a", "b"] and all(seconds >= 0 for seconds in found.values())


def test_a_turn_has_a_least_length_and_counts_with_its_mean(monkeypatch) -> None:
    calls: list[str] = []
    clock = SimpleNamespace(now=0.0, perf_counter=lambda: clock.now)
    monkeypatch.setattr("benchmarks.measure.time", clock)

    def way(name: str, seconds: float) -> None:
        calls.append(name)
        clock.now += seconds

    ways = {"short": partial(way, "a", 0.0625), "long": partial(way, "b", 0.5)}
    assert medians(ways, Options(rounds=1)) == {"short": 0.0625, "long": 0.5}
    assert calls == list("aaaaaaaabaaaaaaaab")


def test_a_table_is_markdown() -> None:
    table = Table(["way", "ms"], [["ours", "1.0"]], "A note.")
    assert table.markdown() == "A note.\n\n| way | ms |\n| --- | --- |\n| ours | 1.0 |"


def test_a_fresh_process_gets_the_environment_and_ours_is_as_before() -> None:
    assert in_fresh_process(os.getenv, "BENCHMARKS_TEST", env={"BENCHMARKS_TEST": "x"}) == "x"
    assert "BENCHMARKS_TEST" not in os.environ


def test_results_have_their_place_and_the_prose_stays() -> None:
    text = README.read_text()
    for subject in SUBJECTS:
        text = replace_section(text, subject, f"results of {subject} \\1")
        assert f"<!-- {subject} -->\n\nresults of {subject} \\1\n\n<!-- end" in text
    assert text.startswith("# Benchmarks\n")
    with pytest.raises(ValueError, match="must stand there once"):
        replace_section("no marks", "growth", "")
