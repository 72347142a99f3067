"""from_files on good data: what was written is what is read."""

from __future__ import annotations

import csv
import gzip
import logging
import os
import random
import tarfile
import zipfile
from pathlib import Path

import pandas as pd
import pytest
import torch

from pyg_bsl.data.files import from_files
from pyg_bsl.data.hetero import RATED_BY, RATES
from pyg_bsl.data.transforms import LeaveLastOut, RandomSplit

ODD_IDS = [
    "007",
    "7",
    "ann lee",
    "Żółć",
    "日本",
    'say "hi"',
    "a,b",
    "x;y",
    "NA",
    "None",
    "1e5",
    "-3",
]


def named(data, key="edge_index"):
    users, items = data["user"].raw_id, data["item"].raw_id
    return [(users[u], items[i]) for u, i in data[RATES][key].T.tolist()]


def write(path, text):
    """Write text as it is, whatever its line ends."""
    data = text if isinstance(text, bytes) else text.encode()
    path.write_bytes(gzip.compress(data) if path.suffix == ".gz" else data)
    return path


def random_rows(rng, users, items, count):
    """Distinct pairs with rating and time, and every user and item at least once."""
    pairs = {(user, rng.choice(items)) for user in users} | {(rng.choice(users), i) for i in items}
    pairs |= {(rng.choice(users), rng.choice(items)) for _ in range(count)}
    rows = [(u, i, rng.randint(1, 10) / 2, rng.randint(0, 10**9)) for u, i in sorted(pairs)]
    rng.shuffle(rows)
    return rows


def write_table(path, rows, header, end, blank_lines):
    name = path.name.removesuffix(".gz")
    if name.endswith(".parquet"):
        pd.DataFrame(rows, columns=["user_id", "item_id", "rating", "timestamp"]).to_parquet(path)
        return
    lines = [("user_id", "item_id", "rating", "timestamp")] * header + rows
    out = []
    for row in lines:
        cells = [str(cell) for cell in row]
        if name.endswith(".txt"):
            out.append(" ".join(cells))
            continue
        delimiter = "\t" if name.endswith(".tsv") else ","
        odd = ('"', delimiter, "\n")
        quoted = (
            '"' + cell.replace('"', '""') + '"' if any(mark in cell for mark in odd) else cell
            for cell in cells
        )
        out.append(delimiter.join(quoted))
    write(path, "\ufeff" * (end == "\r\n") + end.join(out) + end * blank_lines)


FORMATS = [".tsv", ".csv", ".txt", ".parquet", ".csv.gz", ".tsv.gz", ".txt.gz"]


@pytest.mark.parametrize("suffix", FORMATS)
@pytest.mark.parametrize("seed", range(6))
def test_every_format_gives_back_what_was_written(tmp_path, suffix, seed):
    rng = random.Random(f"{suffix}{seed}")
    text = suffix.startswith(".txt")  # apart by spaces: ids without spaces
    odd = [name for name in ODD_IDS if not (text and (" " in name or "," in name))]
    users = rng.choice([[f"u{n}" for n in range(9)], [str(n) for n in range(3, 14)], odd])
    items = rng.choice([[f"i{n}" for n in range(5)], [str(n) for n in range(12)], odd])
    rows = random_rows(rng, users, items, 30)
    cut = sorted({row[0] for row in rows}), sorted({row[1] for row in rows})
    header = bool(rng.getrandbits(1))
    path = tmp_path / f"anything{suffix}"
    write_table(path, rows, header, rng.choice(["\n", "\r\n"]), rng.choice([0, 1, 3]))
    asked = {} if header or suffix == ".parquet" else {"rating": 2, "time": 3}
    data = from_files(path, header="auto" if header else False, **asked)
    assert named(data) == [row[:2] for row in rows]
    assert data[RATES].rating.tolist() == [row[2] for row in rows]
    assert data[RATES].time.tolist() == [row[3] for row in rows]
    assert data[RATES].time.dtype == torch.long
    assert (sorted(data["user"].raw_id), sorted(data["item"].raw_id)) == cut
    assert data[RATED_BY].edge_index.equal(data[RATES].edge_index.flip(0))
    assert data.name == "anything"


@pytest.mark.parametrize("suffix", FORMATS)
def test_folder_of_train_valid_and_test(tmp_path, suffix):
    rng = random.Random(suffix)
    users, items = [f"ü{n}" for n in range(6)], [f"i{n}" for n in range(8)]
    rows = random_rows(rng, users, items, 30)
    seen: dict[str, set[str]] = {"user": set(), "item": set()}
    parts: dict[str, list[tuple]] = {"train": [], "valid": [], "test": []}
    for row in rows:  # the first pair of each user and item is a train pair
        new = row[0] not in seen["user"] or row[1] not in seen["item"]
        seen["user"].add(row[0])
        seen["item"].add(row[1])
        parts["train" if new else rng.choice(list(parts))].append(row)
    for part, some in parts.items():
        write_table(tmp_path / f"{part}{suffix}", some, True, "\n", 1)
    data = from_files(tmp_path)
    assert named(data) == [row[:2] for row in parts["train"]]
    assert named(data, "valid_edge_label_index") == [row[:2] for row in parts["valid"]]
    assert named(data, "edge_label_index") == [row[:2] for row in parts["test"]]
    assert data.name == tmp_path.name


@pytest.mark.parametrize("seed", range(5))
def test_adjacency_lists_equal_pairs(tmp_path, seed):
    rng = random.Random(seed)
    lists = {user: rng.sample(range(20), rng.randint(2, 6)) for user in range(8)}
    (tmp_path / "lists").mkdir()
    (tmp_path / "pairs").mkdir()
    held = {user: items.pop() for user, items in lists.items()}
    known = {item for items in lists.values() for item in items}
    for part, rows in (
        ("train", lists),
        ("test", {user: [item] for user, item in held.items() if item in known}),
    ):
        lines = [" ".join(map(str, [user, *items])) for user, items in rows.items()]
        write(tmp_path / "lists" / f"{part}.txt", " \r\n".join(lines) + "\r\n\r\n")
        pairs = [f"{user}\t{item}" for user, items in rows.items() for item in items]
        write(tmp_path / "pairs" / f"{part}.tsv", "\n".join(pairs))
    one, other = (from_files(tmp_path / kind, name="n") for kind in ("lists", "pairs"))
    assert str(one.to_dict()) == str(other.to_dict())


def test_ids_without_gaps_stay_as_they_are(tmp_path):
    write(tmp_path / "train.txt", "1 10 2\n0 3 4 5 6\n2 7 8 9 0 1\n")
    write(tmp_path / "test.txt", "2 10\n1\n0 7 8\n")
    data = from_files(tmp_path)
    assert data["user"].raw_id == ["0", "1", "2"]
    assert data["item"].raw_id == [str(n) for n in range(11)]
    assert data[RATES].edge_label_index.tolist() == [[2, 0, 0], [10, 7, 8]]


@pytest.mark.parametrize("suffix", [".csv", ".tsv", ".txt"])
def test_numbering_does_not_depend_on_the_order_of_rows(tmp_path, suffix):
    rows = random_rows(random.Random(0), ["b", "ä", "A", "007", "7"], ["10", "9", "0"], 20)
    write_table(tmp_path / f"one{suffix}", rows, True, "\n", 0)
    write_table(tmp_path / f"two{suffix}", rows[::-1], True, "\n", 0)
    one, two = (from_files(tmp_path / f"{name}{suffix}") for name in ("one", "two"))
    assert one["user"].raw_id == two["user"].raw_id == ["007", "7", "A", "b", "ä"]
    assert one["item"].raw_id == two["item"].raw_id == ["0", "9", "10"]
    assert one[RATES].edge_index.flip(1).equal(two[RATES].edge_index)


@pytest.mark.parametrize(
    ("text", "header"),
    [
        ("user,item\nann,tea\nbob,rum\n", True),
        ("user_procid\titem_procid\n0\t1\n1\t1\n", True),
        ("reviewerID,asin,overall\nann,tea,1\n", True),
        ("user_id:token\titem_id:token\trating:float\nx\ty\t3\n", True),
        ("USERID,Movie\nann,tea\n", True),
        ("customer,product\nc1,p1\nc2,p2\n", True),
        ("customer_key,sku\nc1,p1\nc2,p7\n", True),
        ("c0,p0\nc1,p1\n", False),
        ("ann,tea\nbob,rum\n", False),
        ("ann,tea\nbob,rum2\n", False),
        ("1,2\n3,4\n", False),
        ("ann,tea\n", False),
    ],
)
def test_header_is_told_from_a_pair(tmp_path, text, header):
    path = write(tmp_path / ("d.tsv" if "\t" in text else "d.csv"), text)
    rows = [line.split("\t" if "\t" in text else ",")[:2] for line in text.splitlines()]
    assert named(from_files(path)) == [tuple(row) for row in rows[header:]]
    assert len(named(from_files(path, header=False))) == len(rows)


@pytest.mark.parametrize(
    ("first", "asked", "roles"),
    [
        ("timestamp,user,item,stars", {}, "tuir"),
        ("movieId,userId,rating", {}, "iur"),
        ("name,sku,rating", {}, "uir"),
        ("ts,name,sku", {}, "tui"),
        ("a,b,c,d", {"user": "d", "item": "b", "rating": "a"}, "ri-u"),
        ("a,b,c,d", {"user": 3, "item": 1, "time": 2}, "-itu"),
        ("user,sku", {}, "ui"),
        ("sku,user", {}, "iu"),
        ("a,b,c", {"item": "c", "user": "a"}, "u-i"),
    ],
)
@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
def test_columns_are_found_by_name_by_position_or_by_common_name(
    tmp_path, first, asked, roles, suffix
):
    value = {"u": "7x", "i": "8y", "r": "4.5", "t": "1000", "-": "?"}
    row = [value[role] for role in roles]
    path = tmp_path / f"d{suffix}"
    if suffix == ".csv":
        write(path, f"{first}\n{','.join(row)}\n")
    else:
        pd.DataFrame([row], columns=first.split(",")).to_parquet(path)
    data = from_files(path, header=True, **asked)
    assert named(data) == [("7x", "8y")]
    assert ("rating" in data[RATES]) == ("r" in roles)
    assert ("time" in data[RATES]) == ("t" in roles)


def test_positions_without_header(tmp_path):
    path = write(tmp_path / "d.txt", "10  a   x 5\n20\tb x 4 \n\n 30 a\ty 3\n")
    data = from_files(path, time=0, user=1, item=2, rating=3)
    assert named(data) == [("a", "x"), ("b", "x"), ("a", "y")]
    assert data[RATES].time.tolist() == [10, 20, 30]
    assert data[RATES].rating.tolist() == [5, 4, 3]


def test_semicolons_and_line_breaks_inside_quotes(tmp_path):
    text = 'user;item;text\nann;tea;"good,\n\nreally ""good"""\nbob;"a;b";x\n'
    assert named(from_files(write(tmp_path / "d.csv", text))) == [("ann", "tea"), ("bob", "a;b")]


def test_csv_module_agrees_on_awkward_fields(tmp_path):
    rng = random.Random(3)
    marks = ["a", "b", '"', ",", ";", "é", "1"]
    rows = [
        [f"u{n}" + "".join(rng.choices(marks, k=4)) + "z", f"i{rng.random()}", "\n".join(marks)]
        for n in range(200)
    ]
    with (tmp_path / "d.csv").open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([["user", "item", "text"], *rows])
    assert named(from_files(tmp_path / "d.csv")) == [(user, item) for user, item, _ in rows]


def test_quotes_in_tsv_count_only_if_all_are_well_formed(tmp_path):
    raw = 'ann\t"weird al" yankovic\nbob\t"x\ncid\t12" disc\n'
    expected = [("ann", '"weird al" yankovic'), ("bob", '"x'), ("cid", '12" disc')]
    assert named(from_files(write(tmp_path / "d.tsv", raw))) == expected
    assert named(from_files(write(tmp_path / "d.tsv", '"a"\t"x\ty"\n'))) == [("a", "x\ty")]


def test_values_of_further_columns_do_not_make_a_header(tmp_path):
    path = write(tmp_path / "d.csv", "ann,tea,Book\nbob,rum,Movie\n")
    assert named(from_files(path)) == [("ann", "tea"), ("bob", "rum")]


@pytest.mark.parametrize("suffix", [".txt", ".csv", ".tsv"])
def test_wide_spaces_belong_to_ids_and_old_line_ends_end_lines(tmp_path, suffix):
    mark = {".txt": " ", ".csv": ",", ".tsv": "\t"}[suffix]
    lines = [f"日\u3000本{mark}x\xa0y", f"b{mark}2"]
    path = write(tmp_path / f"d{suffix}", "\r".join(lines) + "\r")
    assert named(from_files(path)) == [("日\u3000本", "x\xa0y"), ("b", "2")]


def test_pairs_that_could_be_lists(tmp_path):
    folder = tmp_path / "folder"
    folder.mkdir()
    write(folder / "train.txt", "0\t25\t5\t100\n0\t26\t4\t200\n1\t25\t3\t300\n")
    write(folder / "test.txt", "0\t25\t5\t400\n1\t26\t4\t500\n")
    data = from_files(folder, overlap="drop")
    assert named(data) == [("0", "25"), ("0", "26"), ("1", "25")]
    assert named(data, "edge_label_index") == [("1", "26")]
    path = write(tmp_path / "d.txt", "0 1 2\n1 2 3\n")
    assert named(from_files(path)) == [("0", "1"), ("0", "2"), ("1", "2"), ("1", "3")]
    assert named(from_files(path, layout="pairs")) == [("0", "1"), ("1", "2")]
    assert named(from_files(path, rating=2)) == [("0", "1"), ("1", "2")]
    path = write(tmp_path / "e.txt", "0 1 2\n0 3\n")
    assert named(from_files(path, layout="lists")) == [("0", "1"), ("0", "2"), ("0", "3")]


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (["1", " 2 ", "03"], [1, 2, 3]),
        (["1.0", "2e3", "-4"], [1, 2000, -4]),
        (["1.5", "2", "3"], [1.5, 2, 3]),
        (["1700000000123456789", "5", "6"], [1700000000123456789, 5, 6]),
        (["1970-01-02", "1970-01-01 00:00:05", "1970-01-01T00:01"], [86400, 5, 60]),
        (["1970-01-02T00:00:00Z", "1970-01-01T02:00:00+02:00", "1970-01-01Z"], None),
        (["1970-01-01 00:00:05.5", "1970-01-01", "1970-01-02"], [5.5, 0, 86400]),
    ],
)
def test_times_are_numbers_or_dates(tmp_path, values, expected):
    if expected is None:
        values, expected = values[:2], [86400, 0]
    rows = [f"u{n},i,{value}" for n, value in enumerate(values)]
    time = from_files(write(tmp_path / "d.csv", "\n".join(rows)), time=2)[RATES].time
    assert time.tolist() == expected
    assert time.dtype == (torch.float64 if any(x % 1 for x in expected) else torch.int64)


def test_parquet_columns_of_any_type(tmp_path):
    frame = pd.DataFrame(
        {
            "user": [1.0, 2.0, 1.0],
            "item": pd.Categorical(["b", "a", "a"]),
            "rating": [1, 2, 3],
            "time": pd.to_datetime(["1970-01-02", "1970-01-01", "1970-01-03"]),
        }
    )
    frame.to_parquet(tmp_path / "d.parquet")
    data = from_files(tmp_path)
    assert named(data) == [("1", "b"), ("2", "a"), ("1", "a")]
    assert data[RATES].time.tolist() == [86400, 0, 172800]
    assert data[RATES].rating.dtype == torch.float32
    frame.astype({"user": int}).to_parquet(tmp_path / "d.parquet")
    assert named(from_files(tmp_path)) == named(data)


@pytest.mark.parametrize("seed", range(5))
def test_of_equal_pairs_the_latest_stays(tmp_path, seed, caplog):
    rng = random.Random(seed)
    rows = [
        (rng.choice("abc"), rng.choice("xyz"), rng.randint(1, 5), rng.randint(0, 4))
        for _ in range(30)
    ]
    write_table(tmp_path / "d.csv", rows, True, "\n", 1)
    latest: dict[tuple[str, str], int] = {}
    for at, row in enumerate(rows):
        if row[:2] not in latest or row[3] >= rows[latest[row[:2]]][3]:
            latest[row[:2]] = at
    kept = [rows[at] for at in sorted(latest.values())]
    with caplog.at_level(logging.WARNING, logger="pyg_bsl"):
        data = from_files(tmp_path)
    assert named(data) == [row[:2] for row in kept]
    assert data[RATES].rating.tolist() == [row[2] for row in kept]
    assert data[RATES].time.tolist() == [row[3] for row in kept]
    assert f"{30 - len(kept)} duplicate pairs dropped" in caplog.text


def test_without_times_the_last_of_equal_pairs_stays(tmp_path):
    path = write(tmp_path / "d.csv", "user,item,rating\na,x,1\nb,x,2\na,x,5\n")
    data = from_files(path)
    assert (named(data), data[RATES].rating.tolist()) == ([("b", "x"), ("a", "x")], [2, 5])


def test_min_rating_filters_every_file_after_duplicates(tmp_path, caplog):
    write(tmp_path / "train.csv", "user,item,rating\na,x,5\na,y,2\nb,x,4\nb,y,4\nb,x,1\nc,z,1\n")
    write(tmp_path / "test.csv", "user,item,rating\na,y,3\nb,z,1\nc,x,2\n")
    with caplog.at_level(logging.INFO, logger="pyg_bsl"):
        data = from_files(tmp_path, min_rating=3)
    assert named(data) == [("a", "x"), ("b", "y")]  # b changed their mind about x
    assert named(data, "edge_label_index") == [("a", "y")]
    assert (data["user"].raw_id, data["item"].raw_id) == (["a", "b"], ["x", "y"])
    assert "2 of 5 pairs rated 3 or better" in caplog.text


def test_drop_policies_drop_and_count(tmp_path, caplog):
    write(tmp_path / "train.csv", "user,item\na,x\na,y\nb,x\nb,z\n")
    write(tmp_path / "valid.csv", "user,item\na,x\nb,y\na,z\n")
    write(tmp_path / "test.csv", "user,item\na,z\nc,x\nb,w\nb,x\nc,w\n")
    with caplog.at_level(logging.WARNING, logger="pyg_bsl"):
        data = from_files(tmp_path, overlap="drop", unknown="drop")
    assert named(data, "edge_label_index") == [("a", "z")]
    assert named(data, "valid_edge_label_index") == [("b", "y")]
    assert (data["user"].num_nodes, data["item"].num_nodes) == (2, 3)
    assert (
        "test.csv: dropped, as 3 of 5 pairs have users or items without train pairs: "
        "1 users ('c'), 1 items ('w')"
    ) in caplog.text
    assert "test.csv: dropped, as 1 of 2 pairs stand in 'train.csv' too" in caplog.text
    assert "valid.csv: dropped, as 1 of 3 pairs stand in 'train.csv' too" in caplog.text
    assert "valid.csv: dropped, as 1 of 2 pairs stand in 'test.csv' too" in caplog.text


@pytest.mark.parametrize(
    ("split", "transform"),
    [("random", RandomSplit()), ("leave-last-out", LeaveLastOut()), (LeaveLastOut(2),) * 2],
)
def test_split_rule_by_name_or_transform(tmp_path, split, transform):
    rows = random_rows(random.Random(1), ["a", "b", "c"], ["x", "y", "z"], 20)
    write_table(tmp_path / "ratings.tsv", rows, True, "\n", 1)
    expected = transform(from_files(tmp_path))
    for path in (tmp_path, tmp_path / "ratings.tsv", str(tmp_path)):
        data = from_files(path, split=split, name="same")
        assert named(data, "edge_label_index") == named(expected, "edge_label_index")
        assert named(data) == named(expected)


def test_a_train_file_alone_can_be_split_and_others_are_left_alone(tmp_path):
    write(tmp_path / "train.csv", "a1,x1\na1,x2\na1,x3\n")
    assert "edge_label_index" not in from_files(tmp_path)[RATES]
    write(tmp_path / "items.csv", "x1,a title\n")
    write(tmp_path / "notes.md", "no data")
    data = from_files(tmp_path, split="random")
    assert data[RATES].edge_label_index.size(1) == 1


def test_same_files_give_the_same_data(tmp_path):
    rows = random_rows(random.Random(5), ODD_IDS, ODD_IDS, 50)
    write_table(tmp_path / "d.csv", rows, True, "\n", 0)
    one, two = (from_files(tmp_path, split="random") for _ in range(2))
    assert str(one.to_dict()) == str(two.to_dict())


@pytest.mark.data
def test_published_files_have_their_published_counts(tmp_path):
    mirror = Path(os.environ["PYG_BSL_MIRROR"])
    with tarfile.open(mirror / "bsl/yelp2018.tar.gz") as archive:
        archive.extractall(tmp_path / "yelp", filter="data")
    electronic = "ir-benchmark/data_iid/amazon2014-electronic/proc.zip"
    with zipfile.ZipFile(mirror / electronic) as archive:
        archive.extractall(tmp_path / "electronic")
    for folder, counts in (
        (next((tmp_path / "yelp").rglob("train.txt")).parent, (31668, 38048, 1237259, 324147)),
        (tmp_path / "electronic", (13455, 8360, 182398, 52123)),
    ):
        data = from_files(folder)
        store = data[RATES]
        sizes = store.edge_index.size(1), store.edge_label_index.size(1)
        assert (data["user"].num_nodes, data["item"].num_nodes, *sizes) == counts
        assert data["user"].raw_id == [str(n) for n in range(counts[0])]


# What is said about how a file was read


def test_lists_are_told_from_pairs_in_the_log(tmp_path, caplog):
    write(tmp_path / "train.txt", "0 1 2\n1 2 3 4\n")
    with caplog.at_level(logging.INFO, "pyg_bsl"):
        from_files(tmp_path)
    assert "each line is a user with all items of the user" in caplog.text
    assert not [record for record in caplog.records if record.levelno > logging.INFO]


@pytest.mark.parametrize("more", ["", " 1234"])
def test_lists_that_could_be_pairs_with_ratings_are_a_warning(tmp_path, caplog, more):
    path = write(tmp_path / "log.txt", f"0 7 5{more}\n1 8 4{more}\n2 7 3{more}\n")
    data = from_files(path)
    assert "they are a user, an item and a rating or time, pass layout='pairs'" in caplog.text
    assert data[RATES].edge_index.size(1) == (9 if more else 6)
    caplog.clear()
    assert from_files(path, layout="pairs")[RATES].edge_index.size(1) == 3
    assert not [record for record in caplog.records if record.levelno > logging.INFO]


@pytest.mark.parametrize("min_rating", [None, 2])
def test_ratings_that_nothing_is_made_of_are_told(tmp_path, caplog, min_rating):
    path = write(tmp_path / "log.csv", "user,item,rating\na,x,1\na,y,5\nb,x,2\n")
    with caplog.at_level(logging.INFO, "pyg_bsl"):
        from_files(path, min_rating=min_rating)
    told = "rated 1 to 5, and every pair counts as a positive: say min_rating=..." in caplog.text
    assert told == (min_rating is None)
