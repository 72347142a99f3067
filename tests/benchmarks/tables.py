"""What every table of results must be."""

import re

from benchmarks.measure import Options, Table

QUICK = Options(rounds=1, quick=True)


def check_well_formed(tables: list[Table], names: int) -> None:
    """Rows as long as the head, and finite numbers after the first ``names`` columns."""
    assert tables
    for table in tables:
        assert table.note and table.rows
        for row in table.rows:
            assert len(row) == len(table.head)
            assert all(re.fullmatch(r"-?[\d,]+(\.\d+)?", cell) for cell in row[names:]), row
