from pathlib import Path

from benchmarks import published, quality
from benchmarks.ledger import FIELDS, read, run_missing


def line(recipe: str, seed: int) -> dict[str, object]:
    return dict.fromkeys(FIELDS, 1) | {
        "recipe": recipe,
        "seed": seed,
        "command": f"pyg-bsl train --x y --seed {seed}",
        "ndcg@20": 0.04 + 0.02 * seed,
    }


def test_only_what_has_no_line_is_run(tmp_path: Path):
    path, ran = tmp_path / "lines.csv", []

    def run(recipe: str, seed: int) -> dict[str, object]:
        ran.append((recipe, seed))
        return line(recipe, seed)

    run_missing(path, ["a"], 1, run)
    run_missing(path, ["a", "b"], 2, run)
    assert ran == [("a", 0), ("b", 0), ("a", 1), ("b", 1)]
    assert [(x["recipe"], x["seed"]) for x in read(path)] == [(a, str(b)) for a, b in ran]


def test_quality_gives_means_and_the_command():
    text = quality.table([line("some", 0), line("some", 1)])
    assert "| some | 2 | 1.0000 ± 0.0000 | 0.0500 ± 0.0141 |" in text
    assert "# some\npyg-bsl train --x y --seed SEED" in text


def test_published_stands_beside_ours():
    text = published.table([line("MF SLatK", 0), line("MF BSL", 1)])
    assert "| MF SLatK | 1 | 1.0000 | 0.0400 | 0.0901 | 0.0590 | -32.2 % |" in text
    assert "| MF BSL | 1 | 1.0000 | 0.0600 |  |  |  |" in text
