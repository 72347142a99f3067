"""The fast parsers against slow ones; their errors are tested where files are read."""

import random

import pytest

from pyg_bsl.data.parse import parse_adjacency, parse_pairs, parse_raw_ids


def pairs_of(parsed):
    return list(zip(*parsed.tolist(), strict=True))


@pytest.mark.parametrize("seed", range(3))
def test_adjacency_agrees_with_a_slow_reader(seed):
    rng = random.Random(seed)
    rows = [(user, rng.sample(range(1000), rng.randrange(6))) for user in range(300)]
    rng.shuffle(rows)
    text = ""
    for user, items in rows:
        ids = rng.choice([" ", "\t", "  "]).join(map(str, [user, *items]))
        text += rng.choice(["", " "]) + ids + rng.choice(["\n", "\r\n", " \n", "\n\n"])
    expected = [(user, item) for user, items in rows for item in items]
    assert pairs_of(parse_adjacency(text.encode(), "train.txt")) == expected
    assert pairs_of(parse_adjacency(text.strip().encode(), "train.txt")) == expected


@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_pairs_agree_with_a_slow_reader(end):
    rng = random.Random(0)
    pairs = [(rng.randrange(10**9), rng.randrange(10**9)) for _ in range(500)]
    text = f"user\titem{end}" + end.join(f"{user}\t{item}" for user, item in pairs)
    for ending in ("", end, end * 2):
        got = parse_pairs((text + ending).encode(), "train.tsv", ("user", "item"))
        assert pairs_of(got) == pairs


@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_raw_ids_may_hold_anything_but_a_line_break(end):
    ids = ["a b", "日本", "tab\tinside", "7", "x\u2028y"]
    order = [3, 0, 4, 1, 2]
    text = end.join(["raw\tid", *(f"{ids[index]}\t{index}" for index in order)]) + end
    assert parse_raw_ids(text.encode(), "users.tsv", ("raw", "id")) == ids
