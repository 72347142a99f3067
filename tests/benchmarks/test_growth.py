from benchmarks.growth import run
from tests.benchmarks.tables import QUICK, check_well_formed


def test_every_size_grows() -> None:
    tables = run(QUICK)
    check_well_formed(tables, names=1)
    assert len(tables[0].rows) == 5
