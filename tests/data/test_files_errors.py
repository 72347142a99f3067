"""from_files on bad data: every error names file, line, rule, value and cure."""

from __future__ import annotations

import random
import re

import pandas as pd
import pytest

from pyg_bsl.data.errors import DataError
from pyg_bsl.data.files import from_files
from pyg_bsl.data.hetero import RATES
from tests.data.test_files import named, write

GOOD = "user,item,rating,timestamp\na,x,1,10\nb,y,2,20\n"


def fails(path, *parts, **arguments):
    """The message of the error, which holds all the parts."""
    with pytest.raises(DataError) as caught:
        from_files(path, **arguments)
    message = str(caught.value)
    for part in parts:
        assert part in message
    return message


@pytest.mark.parametrize("name", ["d.csv", "d.tsv", "d.txt", "d.csv.gz"])
@pytest.mark.parametrize("text", ["", "\n\n", "\ufeff", "  \r\n \n"])
def test_empty_file(tmp_path, name, text):
    write(tmp_path / name, text)
    fails(tmp_path, name, "is empty")


def test_header_and_nothing_else(tmp_path):
    fails(write(tmp_path / "d.csv", "user,item\n"), "d.csv", "has a header and no pairs")
    pd.DataFrame({"user": [], "item": []}).to_parquet(tmp_path / "d.parquet")
    fails(tmp_path / "d.parquet", "d.parquet", "is empty")


@pytest.mark.parametrize(
    ("name", "text", "line", "got"),
    [
        ("d.csv", "a1,x1\nb1\nc1,x1\n", 2, "(got 1: 'b1')"),
        ("d.csv", "a1,x1\n\n\nb1,x1,3\n", 4, "(got 3: 'b1,x1,3')"),
        ("d.csv", "a1 x1\nb1 x1\n", 1, "with commas between them (got 1: 'a1 x1')"),
        ("d.tsv", "a1\tx1\r\nb1 x1\r\n", 2, "with tabs between them (got 1: 'b1 x1')"),
        ("d.txt", "a1 x1\na1 x2\n\nb1\n", 4, "with spaces between them (got 1: 'b1')"),
        ("d.txt", "1 5\n1 6 7\n", 2, "or pass layout='lists'"),
        ("d.csv", 'u,i,t\na,x,"1\n2"\nb,y\n', 4, "it must have 3 fields, like the first line"),
        ("d.csv", GOOD + "c," + "y" * 500, 4, "yyy...')"),
        ("d.csv.gz", GOOD + "c", 4, "(got 1: 'c')"),
    ],
)
def test_a_line_that_is_not_a_pair(tmp_path, name, text, line, got):
    fails(write(tmp_path / name, text), name, f"line {line}: the line is not a pair", got)


def test_ids_have_no_line_breaks(tmp_path):
    path = write(tmp_path / "d.csv", 'user,item\na,x\nb,"y\nc,"\nd,w\n')
    fails(path, "d.csv, line 3: item ids must be text on one line", r"(got 'y\nc,')")


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ('user,item,title\na,x,"one\nb,y,two\nc,z,three\n', 2),
        ('user,item\na,x\nb,"y\nc,z"oops\nd,w\n', 3),
    ],
)
def test_quotes_that_would_swallow_lines(tmp_path, text, line):
    fails(write(tmp_path / "d.csv", text), f"d.csv, line {line}: the quotes", "close each quote")


@pytest.mark.parametrize("bad", ["x", "1.5", "-1", "²", "1e3", "9" * 19, "+1", "1,", "2\x0b3"])
def test_ids_of_adjacency_lists_must_be_integers(tmp_path, bad):
    path = write(tmp_path / "train.txt", f"0 1 2\n\n1 4 {bad} 5\n")
    fails(path, "train.txt, line 3", f"must be integers from 0 (got {bad!r})", "layout='pairs'")


def test_a_user_without_train_items(tmp_path):
    write(tmp_path / "train.txt", "0 1 2\n1\n2 3 4\n")
    write(tmp_path / "test.txt", "0 3\n2\n")
    fails(tmp_path, "train.txt, line 2", "the user 1 has no train items", "leave the line out")
    write(tmp_path / "train.txt", "0 1 2\n1 2\n2 3 4\n")
    assert named(from_files(tmp_path), "edge_label_index") == [("0", "3")]


def test_adjacency_lists_have_no_columns(tmp_path):
    write(tmp_path / "d.txt", "0 1 2\n1 2 3\n")
    fails(tmp_path, "d.txt", "have no columns", layout="lists", rating=2)
    fails(tmp_path, "d.txt", "min_rating=3 needs ratings", "rating=...", min_rating=3)


def test_lists_are_apart_by_spaces_in_txt_files(tmp_path):
    path = write(tmp_path / "d.txt", "0 1 2\n1,2,3\n")
    fails(path, "d.txt, line 2", "(got '1,2,3'), with spaces between them")
    path = write(tmp_path / "d.txt", "0,1,2\n1,2\n")
    fails(path, "d.txt, line 1", "(got '0,1,2')", layout="lists")
    fails(write(tmp_path / "d.csv", "0 1 2\n"), "is for .txt files", layout="lists")


def test_lists_without_any_items(tmp_path):
    write(tmp_path / "train.txt", "0 1 2\n1 2\n")
    write(tmp_path / "test.txt", "0\n1\n")
    fails(tmp_path, "test.txt", "users without items")


def test_no_such_file_or_folder(tmp_path):
    write(tmp_path / "ratings.csv", GOOD)
    fails(tmp_path / "rating.csv", "there is no such file or folder; did you mean 'ratings.csv'?")
    fails(tmp_path / "no" / "such", "there is no folder", "either")
    fails(write(tmp_path / "d.json", "{}"), "the suffix must be one of .tsv, .csv")


def test_train_must_be_one_file(tmp_path):
    fails(tmp_path, "there must be a train file (got nothing)")
    write(tmp_path / "a.csv", GOOD)
    write(tmp_path / "b.csv", GOOD)
    fails(tmp_path, "there must be a train file (got 'a.csv', 'b.csv')", "pass the file itself")
    write(tmp_path / "train.csv", GOOD)
    fails(tmp_path, "a train file and no test file (got 'a.csv', 'b.csv', 'train.csv')")
    write(tmp_path / "Train.tsv.gz", GOOD)
    fails(tmp_path, "there must be one train file (got 'Train.tsv.gz', 'train.csv'): remove one")


def test_a_split_of_split_data(tmp_path):
    write(tmp_path / "train.csv", GOOD)
    write(tmp_path / "test.csv", GOOD)
    fails(tmp_path, "is split already (got 'train.csv', 'test.csv')", split="random")


def test_test_pairs_that_stand_in_train_too(tmp_path):
    write(tmp_path / "train.csv", "user,item\na,x\na,y\nb,y\n")
    write(tmp_path / "test.csv", "user,item\nb,x\na,y\na,x\n")
    fails(
        tmp_path,
        "test.csv, line 3: 2 of 3 pairs stand in 'train.csv' too, first user 'a' with item 'y'",
        "pass overlap='drop'",
    )
    write(tmp_path / "test.csv", "user,item\na,y\n")
    fails(tmp_path, "no pair is left to hold out: 1 of 1", overlap="drop")


def test_validation_pairs_that_stand_in_test_too(tmp_path):
    write(tmp_path / "train.csv", "user,item\na,x\na,y\nb,y\n")
    for part in ("valid", "test"):
        write(tmp_path / f"{part}.csv", "user,item\nb,x\n")
    fails(tmp_path, "valid.csv, line 2: 1 of 1 pairs stand in 'test.csv' too")


def test_users_and_items_unknown_to_train(tmp_path):
    write(tmp_path / "train.csv", "user,item\na,x\nb,y\n")
    write(tmp_path / "valid.csv", "user,item\na,y\n")
    rows = ["b,x", "c,x", "a,w", "c,w", "d,x", "e,x", "f,x"]
    write(tmp_path / "test.csv", "\n".join(["user,item", *rows]))
    fails(
        tmp_path,
        "test.csv, line 3: 6 of 7 pairs have users or items without train pairs: ",
        "4 users ('c', 'd', 'e', ...), 1 items ('w')",
        "pass unknown='drop'",
    )
    write(tmp_path / "test.csv", "user,item\nc,x\n")
    fails(tmp_path, "no pair is left to hold out", unknown="drop")


def test_unknown_in_adjacency_lists_names_the_line(tmp_path):
    write(tmp_path / "train.txt", "0 1 2\n1 2\n")
    write(tmp_path / "test.txt", "0\n\n1 1 7 8\n")
    fails(tmp_path, "test.txt, line 3: 2 of 3 pairs", "0 users, 2 items ('7', '8')")


@pytest.mark.parametrize("value", ["", "  ", "nan", "NaN"])
def test_missing_ids(tmp_path, value):
    path = write(tmp_path / "d.csv", f"user,item\na,x\n\nb,{value}\n")
    fails(path, "d.csv, line 4: the item id is missing")
    path = write(tmp_path / "d.tsv", f"a1\tx1\n{value}\tx1\n")
    fails(path, "d.tsv, line 2: the user id is missing")


@pytest.mark.parametrize("column", [["a", None], [1.0, None], [1, float("nan")]])
def test_missing_ids_in_parquet(tmp_path, column):
    pd.DataFrame({"user": column, "item": [1, 2]}).to_parquet(tmp_path / "d.parquet")
    fails(tmp_path, "d.parquet, row 2: the user id is missing")


def test_ids_in_parquet_must_be_text_or_whole(tmp_path):
    pd.DataFrame({"user": [1, 2.5], "item": [1, 2]}).to_parquet(tmp_path / "d.parquet")
    fails(
        tmp_path, "d.parquet, row 2: user ids must be text on one line or whole numbers (got 2.5)"
    )
    pd.DataFrame({"user": [[1], [2]], "item": [1, 2]}).to_parquet(tmp_path / "d.parquet")
    fails(tmp_path, "d.parquet", "user ids must be text on one line or whole numbers")


@pytest.mark.parametrize("value", ["", "good", "nan", "inf", "1,5", "0x10", "1_0", "2020-01-01"])
def test_ratings_that_are_not_numbers(tmp_path, value):
    cell = f'"{value}"'
    path = write(tmp_path / "d.csv", f"user,item,rating\na,x,1\n\nb,x,{cell}\nc,y,bad\n")
    fails(path, "d.csv, line 4: the rating must be a number", f"(got '{value}')")


@pytest.mark.parametrize(
    ("first", "value"),
    [("5", "soon"), ("5", "2020-01-01"), ("2020-01-01", "2020-13-01"), ("2020-01-01", "5")],
)
def test_times_that_are_not_numbers_or_dates(tmp_path, first, value):
    rows = [f"u{n},x,{first}" for n in range(300)]
    rows[217] = f"v,x,{value}"
    rows[250] = "w,x,?"
    path = write(tmp_path / "d.csv", "\n".join(["user,item,timestamp", *rows]))
    rule = "a number" if first == "5" else "a date like the first"
    fails(path, f"d.csv, line 219: the time must be {rule} (got '{value}')")


def test_missing_numbers_in_parquet(tmp_path):
    frame = pd.DataFrame({"user": [1, 2], "item": [1, 2], "rating": [None, 1.0]})
    frame.to_parquet(tmp_path / "d.parquet")
    fails(tmp_path, "d.parquet, row 1: the rating must be a number (got None)")
    times = pd.to_datetime(["2020-01-01", None])
    pd.DataFrame({"user": [1, 2], "item": [1, 2], "time": times}).to_parquet(tmp_path / "d.parquet")
    fails(tmp_path, "d.parquet, row 2: the time must be a date", "(got None)")


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ({"user": "usr"}, "user='usr' is not a column; did you mean 'user'? Columns: user, item"),
        ({"time": "zzz"}, "time='zzz' is not a column. Columns: user, item, rating, timestamp"),
        ({"item": 4}, "item=4 must be a position from 0 to 3: the file has 4 columns"),
        ({"item": -1}, "item=-1 must be a position from 0 to 3"),
        ({"user": "item", "item": "item"}, "user and item must be different columns"),
        ({"user": 3, "time": 3}, "user and time must be different columns"),
    ],
)
@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
def test_columns_that_do_not_exist(tmp_path, asked, message, suffix):
    path = write(tmp_path / "d.csv", GOOD)
    if suffix == ".parquet":
        frame = pd.read_csv(path)
        path = tmp_path / "d.parquet"
        frame.to_parquet(path)
    fails(path, f"d{suffix}: ", message, **asked)


def test_column_by_name_without_header(tmp_path):
    path = write(tmp_path / "d.csv", "a,x\nb,y\n")
    fails(path, "user='id' needs a header", "position", user="id", header=False)
    fails(path, "user='id' is not a column", "Columns: a, x", user="id")


def test_unclear_columns(tmp_path):
    path = write(tmp_path / "d.csv", "user_id,age,sku\na,30,x\n")
    fails(path, "not clear which column holds the item ids; say item=...", "user_id, age, sku")
    assert named(from_files(path, item="sku")) == [("a", "x")]
    fails(write(tmp_path / "e.csv", "user,rating\na,3\n"), "which column holds the item ids")


def test_files_that_are_not_what_they_seem(tmp_path):
    fails(write(tmp_path / "d.csv", "a,x\nb,\xe9\n".encode("latin-1")), "line 2", "UTF-8", r"\xe9")
    fails(write(tmp_path / "d.csv", "a,x\n".encode("utf-16")), "line 1", "save it as UTF-8")
    (tmp_path / "d.csv.gz").write_bytes(b"a,x\n")
    fails(tmp_path / "d.csv.gz", "is not a whole gzip file")
    whole = write(tmp_path / "d.csv.gz", GOOD * 100).read_bytes()
    (tmp_path / "d.csv.gz").write_bytes(whole[:-9])
    fails(tmp_path / "d.csv.gz", "is not a whole gzip file")
    (tmp_path / "d.parquet").write_bytes(b"a,x\n" * 10)
    fails(tmp_path / "d.parquet", "is not a parquet file")


def test_nothing_rated_well_enough(tmp_path):
    path = write(tmp_path / "d.csv", GOOD)
    fails(path, "no pair is rated 3 or better (the best is 2): lower 'min_rating'", min_rating=3)


def test_split_without_times(tmp_path):
    path = write(tmp_path / "d.csv", "a,x\na,y\n")
    fails(path, "LeaveLastOut needs the time of each pair", "time=...", split="leave-last-out")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"split": "randm"}, "Unknown split rule 'randm'; did you mean 'random'?"),
        ({"overlap": "keep"}, "Unknown value of 'overlap' 'keep'"),
        ({"unknown": "dorp"}, "Unknown value of 'unknown' 'dorp'; did you mean 'drop'?"),
        ({"layout": "list"}, "Unknown layout 'list'; did you mean 'lists'?"),
        ({"header": "yes"}, "'header' must be True, False or 'auto' (got 'yes')"),
    ],
)
def test_arguments_with_unknown_values(tmp_path, arguments, message):
    path = write(tmp_path / "d.csv", GOOD)
    with pytest.raises(ValueError, match=re.escape(message)):
        from_files(path, **arguments)


@pytest.mark.parametrize("suffix", [".csv", ".tsv", ".txt"])
@pytest.mark.parametrize("seed", range(40))
def test_damaged_files_are_refused_or_read_whole(tmp_path, suffix, seed):
    rng = random.Random(f"{suffix}{seed}")
    mark = {".csv": ",", ".tsv": "\t", ".txt": " "}[suffix]
    rows = [(f"u{rng.randrange(4)}", f"i{n}", str(rng.randint(1, 5))) for n in range(12)]
    text = list("\n".join(map(mark.join, rows)))
    for _ in range(rng.randint(1, 3)):
        at = rng.randrange(len(text))
        text[at : at + rng.randint(0, 2)] = rng.choice(["", mark, "\n", '"', " ", "x", "\r", "é"])
    path = write(tmp_path / f"d{suffix}", "".join(text))
    try:
        data = from_files(path, header=False, rating=2)
    except DataError as error:
        assert path.name in str(error)
        return
    lines = [line.strip(" ") for line in re.split("[\r\n]", "".join(text)) if line.strip(" ")]
    between = {".csv": " *, *", ".tsv": " *\t *", ".txt": " +"}[suffix]
    split = [re.split(between, line) for line in lines]
    assert len({tuple(fields[:2]) for fields in split}) == data[RATES].edge_index.size(1)


def test_errors_are_value_errors_and_leave_good_data_alone(tmp_path):
    assert issubclass(DataError, ValueError)
    assert from_files(write(tmp_path / "d.csv", GOOD))[RATES].edge_index.size(1) == 2
