"""``pyg-bsl ui``, with MLflow's real server."""

import json
import signal
import socket
import urllib.request

import pytest

from pyg_bsl.tracking.address import ui_command
from pyg_bsl.tracking.server import answers
from pyg_bsl.tracking.store import open_experiment
from tests.cli.commands import call, command
from tests.tracking.servers import free_port


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    store = tmp_path_factory.mktemp("a store")
    client, experiment = open_experiment(f"sqlite:///{store}/mlflow.db", "toy")
    client.set_terminated(client.create_run(experiment, run_name="a run").info.run_id)
    return store


def test_the_page_is_served_to_this_machine_and_ends_with_the_command(store, capsys):
    port = free_port()
    words = ui_command(store).split(" ", 1)[1].replace("'", "")
    assert words == f"ui --store {store}"
    child = command("ui", "--store", store, "--port", port, "--no-browser")
    address = f"http://127.0.0.1:{port}"
    with child:
        said = [child.stdout.readline() for _ in range(3)]
        assert address in said[1]
        request = urllib.request.Request(
            f"{address}/api/2.0/mlflow/experiments/search?max_results=10"
        )
        with urllib.request.urlopen(request, timeout=30) as answer:
            names = {each["name"] for each in json.load(answer)["experiments"]}
        assert "toy" in names
        assert call(f"ui --port {port} --no-browser --store", store) == 1
        assert f"Port {port} cannot be opened" in capsys.readouterr().err

        # A server elsewhere: its address is told.
        assert call(f"ui --no-browser --tracking-uri {address}") == 0
        assert address in capsys.readouterr().out
        child.send_signal(signal.SIGINT)
        _, err = child.communicate(timeout=60)
    assert (child.returncode, err) == (0, "")
    assert not answers(address, seconds=1.0)
    with socket.socket() as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(("127.0.0.1", port))  # All its processes have ended.


def test_a_server_that_is_down_is_told(here, capsys):
    address = f"http://127.0.0.1:{free_port()}"
    assert call(f"ui --no-browser --tracking-uri {address}") == 1
    assert f"No MLflow server answers at {address}" in capsys.readouterr().err


def test_an_empty_store_and_a_wrong_port_are_told(store, here, capsys):
    assert call("ui --no-browser") == 2
    assert "There are no runs in" in capsys.readouterr().err
    assert not list(here.iterdir())
    assert call("ui --port 70000 --no-browser --store", store) == 2
    assert "'port' must be from 1 to 65535 (got 70000)" in capsys.readouterr().err
