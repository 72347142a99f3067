"""Tables of runs, on a real database; the statistics are worked out a slow way beside."""

import csv
import io
import math
import re

import pytest

from pyg_bsl.tracking.comparison import compare_runs
from pyg_bsl.tracking.reports import log_comparison
from pyg_bsl.tracking.significance import compare_seeds, holm
from pyg_bsl.tracking.store import connect, open_experiment, runs_of
from pyg_bsl.tracking.tables import to_csv, to_latex, to_markdown

SL = {0: 0.50, 1: 0.52, 2: 0.51, 3: 0.53}
BSL = {0: 0.60, 1: 0.63, 2: 0.61, 3: 0.64}
NEAR = {0: 0.61, 1: 0.60, 2: 0.63, 3: 0.63}
OTHER_SEEDS = {7: 0.40, 8: 0.43, 9: 0.41}


def add(client, experiment, seeds, more=None, status="FINISHED", **params):
    """A run a seed, whose recall is twice its NDCG."""
    from mlflow.entities import Metric, Param

    facts = {"dataset": "toy", "protocol": "holdout", "backbone": "MF", "trainer.lr": "0.1"}
    facts |= {"root": "data", "num_train": "9"}
    made = []
    for seed, value in seeds.items():
        params = {key.replace("__", "."): text for key, text in params.items()}
        tags = {k: v for k, v in (facts | params).items() if k in ("dataset", "loss")}
        run = client.create_run(experiment, tags=tags | {"selected_on": "valid"} | (more or {}))
        made.append(run.info.run_id)
        own = facts | params | {"seed": str(seed), "root": f"in{seed}"}
        values = {"test/ndcg_20": value, "test/recall_20": 2 * value, "seconds_train": 100 * value}
        client.log_batch(
            made[-1],
            metrics=[Metric(name, number, 1, 0) for name, number in values.items()],
            params=[Param(*fact) for fact in own.items()],
        )
        client.set_terminated(made[-1], status)
    return made


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    store = tmp_path_factory.mktemp("store")
    client, experiment = open_experiment(f"sqlite:///{store}/mlflow.db", "toy")
    add(client, experiment, {0: 0.9}, loss="SL", loss__tau="0.2")  # superseded below
    add(client, experiment, SL, loss="SL", loss__tau="0.2")
    add(client, experiment, BSL, loss="BSL", loss__tau1="0.30000000000000004")
    add(client, experiment, NEAR, loss="BSL", loss__tau1="0.4", more={"phase": "search"})
    add(client, experiment, OTHER_SEEDS, loss="BPR", trainer__lr="0.01")
    add(client, experiment, {0: 0.7}, loss="PSL", dataset="other", protocol="psl-iid")
    on_test = {"selected_on": "test"}
    add(client, experiment, {0: 0.8, 1: 0.8}, on_test, loss="PSL", protocol="bsl-released")
    add(client, experiment, {0: 0.99}, loss="SL", loss__tau="0.2", status="FAILED")
    client.set_terminated(client.create_run(experiment, tags={"kind": "study"}).info.run_id)
    return store


def paired_p(x, y):
    """Two-sided p of the paired t-test, by integrating Student's density."""
    d = [a - b for a, b in zip(x, y, strict=True)]
    n, mean = len(d), sum(d) / len(d)
    t = mean / math.sqrt(sum((v - mean) ** 2 for v in d) / (n - 1) / n)
    return two_sided(abs(t), n - 1)


def welch_p(x, y):
    mean = [sum(v) / len(v) for v in (x, y)]
    part = [
        sum((a - m) ** 2 for a in v) / (len(v) - 1) / len(v)
        for v, m in zip((x, y), mean, strict=True)
    ]
    df = sum(part) ** 2 / sum(p**2 / (len(v) - 1) for p, v in zip(part, (x, y), strict=True))
    return two_sided(abs(mean[0] - mean[1]) / math.sqrt(sum(part)), df)


def two_sided(t, df):
    scale = math.gamma((df + 1) / 2) / math.sqrt(df * math.pi) / math.gamma(df / 2)
    steps = 20000  # Simpson's rule from 0 to t
    h = t / steps
    density = [scale * (1 + (i * h) ** 2 / df) ** (-(df + 1) / 2) for i in range(steps + 1)]
    inside = density[0] + density[-1] + 4 * sum(density[1:-1:2]) + 2 * sum(density[2:-1:2])
    return 1 - 2 * inside * h / 3


def named(comparison):
    """Rows by loss and what there is beside."""
    return {
        (row.settings["loss"], row.settings.get("loss.tau1", ""), row.settings["dataset"]): row
        for row in comparison.rows
    }


def test_runs_that_differ_in_the_seed_alone_are_one_line(store):
    comparison = compare_runs(["dataset=toy", "protocol=holdout"], store=store)
    rows = named(comparison)
    assert comparison.columns == ["loss", "loss.tau", "loss.tau1"]
    assert [row.settings["loss"] for row in comparison.rows] == ["BSL", "BSL", "SL", "BPR"]
    assert comparison.implied == ["trainer.lr"]  # that of BPR; with the loss it is told enough
    assert "not shown: trainer.lr" in to_markdown(comparison)
    sl = rows["SL", "", "toy"]
    assert sorted(sl.seeds) == ["0", "1", "2", "3"]
    cell = sl.cells["test/ndcg@20"]
    assert cell.values == {str(seed): value for seed, value in SL.items()}  # not the older .9
    mean = sum(SL.values()) / 4
    assert cell.mean == pytest.approx(mean)
    assert cell.deviation == pytest.approx(math.sqrt(sum((v - mean) ** 2 for v in SL.values()) / 3))
    assert comparison.left_out == {"older ones of the same setting and seed": 1}


def test_the_best_is_told_and_others_are_tested_against_it(store):
    rows = named(compare_runs(["dataset=toy", "protocol=holdout"], store=store))
    first, near = "0.30000000000000004", "0.4"
    best = rows["BSL", first, "toy"].cells["test/ndcg@20"]
    assert best.best and best.test == ""
    close, sl, bpr = (
        rows[row].cells["test/ndcg@20"]
        for row in (("BSL", near, "toy"), ("SL", "", "toy"), ("BPR", "", "toy"))
    )
    assert (close.test, sl.test, bpr.test) == ("paired", "paired", "Welch")
    raw = [
        paired_p([*NEAR.values()], [*BSL.values()]),
        paired_p([*SL.values()], [*BSL.values()]),
        welch_p([*OTHER_SEEDS.values()], [*BSL.values()]),
    ]
    # Holm: the smallest of three times 3, the next times 2, never below one before.
    order, least = sorted(range(3), key=raw.__getitem__), 0.0
    for rank, index in enumerate(order):
        least = max(least, min(1, raw[index] * (3 - rank)))
        assert (close, sl, bpr)[index].p == pytest.approx(least, rel=1e-6)
    assert close.p > 0.05 > sl.p


def test_marks_bold_and_notes_in_markdown(store):
    text = to_markdown(compare_runs(["dataset=toy", "protocol=holdout"], store=store))
    title, _, head, rule, *lines = text.splitlines()
    assert title == "toy, protocol holdout, MF"
    heads = "| loss | loss.tau | loss.tau1 | seeds | test/ndcg@20 | test/recall@20 |"
    assert head.split() == heads.split()
    assert len({len(line) for line in [head, rule, *lines[:4]]}) == 1
    table = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[:4]]
    assert table[0] == ["BSL", "", "0.3", "4", "**0.6200 ± 0.0183**", "**1.2400 ± 0.0365**"]
    assert table[1] == ["BSL", "", "0.4", "4", "0.6175 ± 0.0150", "1.2350 ± 0.0300"]
    assert table[2][4].endswith("†") and table[3][4].endswith("‡")
    notes = "\n".join(lines[5:])
    assert "paired t-test over the common seeds" in notes and "Welch" in notes
    assert "level 0.05" in notes and "Holm" in notes
    assert "Left out: 1 runs older" in notes


def test_settings_compare_within_a_data_set_and_a_way_of_choosing_only(store):
    comparison = compare_runs(store=store)
    rows = named(comparison)
    blocks = comparison.blocks
    assert len(blocks) == 3 and sum(map(len, blocks)) == len(comparison.rows)
    alone = [row for block in blocks if len(block) == 1 for row in block]
    assert {row.settings["protocol"] for row in alone} == {"psl-iid", "bsl-released"}
    assert not any(cell.best or cell.test for row in alone for cell in row.cells.values())
    assert rows["BSL", "0.30000000000000004", "toy"].cells["test/ndcg@20"].best
    text = to_markdown(comparison)
    assert "epoch chosen on" in text and "results are optimistic" in text
    assert any("| test " in line and "bsl-released" in line for line in text.splitlines())
    only = to_markdown(compare_runs(["protocol=bsl-released"], store=store))
    assert "| epoch chosen on |" in only and "results are optimistic" in only


def test_fewer_than_three_seeds_get_no_mark(store):
    a, b = {"0": 1.0, "1": 1.1}, {"0": 2.0, "1": 2.2, "2": 2.1}
    assert compare_seeds(a, b) is None
    assert compare_seeds({"0": 1.0, "1": 1.0, "2": 1.0}, {"0": 2.0, "1": 2.0, "2": 2.0}) is None
    assert compare_seeds({"7": 1.0, "8": 1.1, "9": 1.2}, b)[0] == "Welch"
    assert holm([]) == []
    text = to_markdown(compare_runs(["loss=SL,BPR", "seed=0,7"], store=store))
    assert "are not tested" in text and "±" not in text and "†" not in text


def test_seconds_are_better_when_fewer(store):
    comparison = compare_runs(["loss=SL,BSL"], metrics=["seconds_train"], store=store)
    best = [row for row in comparison.rows if row.cells["seconds_train"].best]
    assert [row.settings["loss"] for row in best] == ["SL"] == [comparison.rows[0].settings["loss"]]
    assert "**51.5 ± 1.3**" in to_markdown(comparison)


@pytest.mark.parametrize(
    ("where", "losses"),
    [
        (["loss=SL"], {"SL"}),
        (["loss=SL,BPR"], {"SL", "BPR"}),
        (["loss!=SL,BPR", "dataset=toy"], {"BSL", "PSL"}),
        (["phase!=search", "loss=BSL"], {"BSL"}),
        (["trainer.lr=0.1", "loss.tau=0.2"], {"SL"}),
    ],
)
def test_runs_are_filtered_by_tag_or_parameter(store, where, losses):
    comparison = compare_runs(where, store=store)
    assert {row.settings["loss"] for row in comparison.rows} == losses
    if "phase!=search" in where:
        assert [row.settings["loss.tau1"] for row in comparison.rows] == ["0.30000000000000004"]


@pytest.mark.parametrize(
    ("where", "metrics", "message"),
    [
        (["los=SL"], None, "No run has a tag or parameter 'los'; did you mean 'loss'?"),
        (["loss=S"], None, "No finished run has loss=S; 'loss' of the runs is: BPR, BSL, PSL, SL"),
        (["loss"], None, "A condition must be NAME=VALUE or NAME!=VALUE (got 'loss')"),
        ([], ["test/ndcg@2"], "Unknown metric 'test/ndcg@2'; did you mean 'test/ndcg@20'?"),
    ],
)
def test_what_is_not_there_is_told(store, where, metrics, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        compare_runs(where, metrics=metrics, store=store)


def test_csv_has_all_numbers(store):
    comparison = compare_runs(["dataset=toy", "protocol=holdout"], store=store)
    rows = list(csv.DictReader(io.StringIO(to_csv(comparison))))
    assert [row["loss"] for row in rows] == ["BSL", "BSL", "SL", "BPR"]
    first, last = rows[0], rows[-1]
    assert (first["dataset"], first["seeds"], first["loss.tau1"]) == (
        "toy",
        "0 1 2 3",
        "0.30000000000000004",
    )
    assert float(first["test/ndcg@20 mean"]) == sum(BSL.values()) / 4
    assert (first["test/ndcg@20 best"], first["test/ndcg@20 p"]) == ("True", "")
    assert (first["trainer.lr"], last["trainer.lr"]) == ("0.1", "0.01")
    assert (last["test/ndcg@20 seeds"], last["test/ndcg@20 test"]) == ("3", "Welch")
    assert 0 < float(last["test/ndcg@20 p"]) < 1


def test_latex_escapes_and_marks(store):
    comparison = compare_runs(
        ["dataset=toy"], metrics=["test/ndcg@20", "seconds_train"], store=store
    )
    text = to_latex(comparison)
    lines = [line for line in text.splitlines() if not line.startswith("%")]
    assert lines[0].startswith(r"\begin{tabular}{") and lines[-1] == r"\end{tabular}"
    assert r"seconds\_train" in text and r"\textbf{0.6200 $\pm$ 0.0183}" in text
    assert r"$^\dagger$" in text and r"$^\ddagger$" in text
    assert lines.count(r"\midrule") == 2  # a block each
    columns = len(re.fullmatch(r"\\begin{tabular}{(\w+)}", lines[0])[1])
    cells = [line for line in lines if line.endswith(r"\\")]
    assert len(cells) == 6 and {line.count(" & ") + 1 for line in cells} == {columns}


def test_a_table_is_kept_beside_its_runs_and_is_no_run_of_its_own(store, tmp_path):
    comparison = compare_runs(["dataset=toy", "loss=SL,BSL"], store=store)
    name = log_comparison(comparison, store=store)
    assert name == "comparison of 3 settings: toy, protocol holdout, MF"
    client = connect(f"sqlite:///{store}/mlflow.db")
    (run,) = runs_of(client, "tags.kind = 'comparison'")
    assert (run.info.status, run.info.run_name) == ("FINISHED", name)
    assert run.data.tags["mlflow.note.content"] == to_markdown(comparison)
    client.download_artifacts(run.info.run_id, "", str(tmp_path))
    assert (tmp_path / "comparison.tex").read_text() == to_latex(comparison)
    assert {path.suffix for path in tmp_path.iterdir()} == {".md", ".tex", ".csv"}
    again = compare_runs(["dataset=toy", "loss=SL,BSL"], store=store)
    assert len(again.rows) == 3
