"""``pyg-bsl datasets``."""

from pyg_bsl.data.table import DATASETS
from tests.cli.commands import call


def test_datasets_lists_every_one_with_its_numbers(capsys):
    assert call("datasets") == 0
    out = capsys.readouterr().out
    for name, row in DATASETS.items():
        line = next(line for line in out.splitlines() if line.split()[:1] == [name])
        assert f"{row.num_users:,}" in line and f"{row.num_train:,}" in line
        assert row.protocol in line and row.description.split()[0] in line
    assert "PYG_BSL_MIRROR" in out and "…" not in out
