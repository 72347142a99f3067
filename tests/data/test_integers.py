"""The one reader of integers with their lines, against a slow one."""

import random

import pytest

from pyg_bsl.data.errors import DataError
from pyg_bsl.data.integers import MAX_DIGITS, read_adjacency, read_integers


def odd_text(rng):
    """Lines of integers with all the spaces and line ends that are allowed."""
    rows = [[rng.randrange(10 ** rng.randint(1, MAX_DIGITS)) for _ in range(rng.randrange(6))]]
    rows = rows * 3 + [[rng.randrange(1000) for _ in range(rng.randrange(6))] for _ in range(99)]
    text = "".join(
        rng.choice(["", " ", "\t"])
        + rng.choice([" ", "\t", "  "]).join(map(str, row))
        + rng.choice(["\n", "\r\n", " \n"])
        for row in rows
    )
    return text.encode(), rows


@pytest.mark.parametrize("seed", range(5))
def test_integers_and_lines_agree_with_a_slow_reader(seed):
    text, rows = odd_text(random.Random(seed))
    ids, lines = read_integers(text, "f.txt", "mend it", first_line=2)
    expected = [(each, line) for line, row in enumerate(rows, 2) for each in row]
    assert list(zip(ids.tolist(), lines.tolist(), strict=True)) == expected


@pytest.mark.parametrize("seed", range(5))
def test_adjacency_agrees_with_a_slow_reader(seed):
    text, rows = odd_text(random.Random(seed))
    users, lines, counts, items = (each.tolist() for each in read_adjacency(text, "f.txt", "mend"))
    expected = [(row[0], line, len(row) - 1) for line, row in enumerate(rows, 1) if row]
    assert list(zip(users, lines, counts, strict=True)) == expected
    assert items == [item for row in rows for item in row[1:]]


def test_the_longest_ids_are_read_and_longer_ones_are_not():
    most = "9" * MAX_DIGITS
    assert read_integers(most.encode(), "f.txt", "mend it")[0].tolist() == [int(most)]
    with pytest.raises(DataError, match=f"f.txt, line 1: .*9'\\), of at most {MAX_DIGITS} digits"):
        read_integers(f"{most}9".encode(), "f.txt", "mend it")


@pytest.mark.parametrize("text", ["1 2\n{} 3\nx 4\n", "1 2\nx 3\n{} 4\n"])
def test_the_first_fault_is_named(text):
    long = "7" * (MAX_DIGITS + 1)
    first = text.split("\n")[1].split()[0].format(long)
    with pytest.raises(DataError, match=rf"f.txt, line 2: .*\(got '{first}'\).*: mend it"):
        read_integers(text.format(long).encode(), "f.txt", "mend it")


@pytest.mark.parametrize("text", [b"", b"\n", b" \r\n\t\n"])
def test_nothing_is_no_integers(text):
    assert [each.size for each in read_adjacency(text, "f.txt", "mend it")] == [0, 0, 0, 0]
