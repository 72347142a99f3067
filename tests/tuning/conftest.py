"""The planted graph as one's own data."""

import pytest

from tests.planted import write_folder


@pytest.fixture(scope="session")
def data(tmp_path_factory):
    return write_folder(tmp_path_factory.mktemp("tuning") / "own")


@pytest.fixture(autouse=True)
def no_address_in_the_environment(monkeypatch):
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
