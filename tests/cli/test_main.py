"""The command line as a whole."""

import gc
import re
import subprocess
import sys
from importlib import metadata

import pytest

from pyg_bsl.cli import COMMANDS, main
from pyg_bsl.losses import LOSSES
from tests.cli.commands import call, command


def test_the_overview_names_the_commands(capsys):
    assert call("--help") == 0
    overview = capsys.readouterr().out
    for name in COMMANDS:
        assert re.search(rf"pyg-bsl {name} +\w", overview)
    assert call("-h") == 0
    assert capsys.readouterr().out == overview
    assert main([]) == 2


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_a_file_and_a_help(name, capsys):
    assert call(f"{name} --help") == 0
    out, err = capsys.readouterr()
    assert out.startswith(f"usage: pyg-bsl {name} ") and err == ""


def test_the_version(capsys):
    assert call("--version") == 0
    assert capsys.readouterr().out == f"pyg-bsl {metadata.version('pyg-bsl')}\n"


def test_the_command_in_a_process_of_its_own():
    child = command("train", "--data", "x", "--loss", "bls")
    out, err = child.communicate(timeout=60)
    assert (child.returncode, out) == (2, "")
    choices = ", ".join(sorted(LOSSES))
    assert err == (f"pyg-bsl: error: Unknown loss 'bls'; did you mean 'BSL'? Choices: {choices}\n")


def test_what_a_command_imports_is_no_garbage():
    code = """
import gc, sys
from pyg_bsl.cli import main
sys.argv = ["pyg-bsl", "train", "--help"]
main()
frozen = gc.get_freeze_count()
from pyg_bsl.tracking.store import no_garbage_collection
with no_garbage_collection():
    import mlflow
more = gc.get_freeze_count()
with no_garbage_collection():
    import mlflow
print(gc.isenabled(), frozen > 100_000, more > frozen + 50_000, gc.get_freeze_count() == more)
gc.unfreeze()
"""
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.splitlines()[-1] == "True True True True", found.stdout


def test_a_program_that_calls_the_command_keeps_its_garbage_collection(capsys):
    before = gc.get_freeze_count()
    assert main(["datasets"]) == 0
    assert gc.isenabled() and gc.get_freeze_count() == before
