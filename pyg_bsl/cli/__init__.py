"""The command line, ``pyg-bsl``: a file a command, each with a function ``run``."""

from __future__ import annotations

import gc
import logging
import os
import sys
from importlib import import_module
from typing import Any

from pyg_bsl.names import suggest

COMMANDS = {
    "train": "train a recommender and report its test metrics",
    "evaluate": "evaluate a trained run again, at other list lengths or by another protocol",
    "tune": "search for good settings, on validation data; show what was found",
    "compare": "print a table of recorded runs over their seeds, with significance marks",
    "ui": "show the recorded runs in a browser (MLflow)",
    "datasets": "list the data sets",
}
"""Each is ``run(argv) -> exit status`` in the file of its name, imported when it is called."""


def main(argv: list[str] | None = None) -> int:
    """Run the command line; returns the exit status.

    0: done; 1: the run failed; 2: the command was wrong; 130 or 143: interrupted.
    """
    own = argv is None  # Whether the process is ours alone.
    argv = sys.argv[1:] if argv is None else argv
    # Read when torch is loaded, which is later. Threads that spin while they wait for one another
    # take the cores from those they wait for, several times over on a machine that is busy.
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    logging.basicConfig(level=logging.INFO, format="%(message)s", force=True)
    logging.getLogger().setLevel(logging.WARNING)
    logging.getLogger("pyg_bsl").setLevel(logging.INFO)
    if not argv or argv[0] in ("-h", "--help"):
        print(_overview())
        return 0 if argv else 2
    if argv[0] == "--version":
        from importlib.metadata import version

        print(f"pyg-bsl {version('pyg-bsl')}")
        return 0
    command, rest = argv[0], argv[1:]
    if command not in COMMANDS:
        hint = suggest(command, COMMANDS)
        return _fail(f"Unknown command '{command}'{hint} Choices: {', '.join(COMMANDS)}", 2)
    try:
        return _imported(command, own).run(rest)
    except SystemExit as stop:
        return stop.code if isinstance(stop.code, int) else 1
    except KeyboardInterrupt:
        return 130
    except (ValueError, FileNotFoundError) as error:
        return _fail(str(error), 2)
    except (OSError, ArithmeticError, ImportError) as error:
        return _fail(str(error), 1)
    except (MemoryError, RuntimeError) as error:
        # What torch raises has no type of its own on the CPU.
        if isinstance(error, RuntimeError) and "allocate" not in str(error):
            raise
        return _fail(f"out of memory: make the batch or the embeddings smaller ({error})", 1)


def _imported(command: str, own: bool) -> Any:
    """The file of a command. What it imports stays: it is not looked through for garbage."""
    if not own:
        return import_module(f"pyg_bsl.cli.{command}")
    gc.disable()
    try:
        return import_module(f"pyg_bsl.cli.{command}")
    finally:
        gc.freeze()
        gc.enable()


def _overview() -> str:
    commands = "\n".join(f"  pyg-bsl {name:<10} {text}" for name, text in COMMANDS.items())
    return (
        "pyg-bsl: softmax-family losses for recommendation, on PyTorch Geometric\n\n"
        f"{commands}\n\n"
        "pyg-bsl COMMAND --help tells the flags of a command, for example\n"
        "  pyg-bsl train --dataset movielens-small --backbone LightGCN --loss BSL --help"
    )


def _fail(message: str, status: int) -> int:
    print(f"pyg-bsl: error: {message}", file=sys.stderr)
    return status
