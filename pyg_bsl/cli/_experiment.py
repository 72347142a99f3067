"""An experiment from flags and a configuration file, for every command that trains."""

from __future__ import annotations

import json
import tomllib
from argparse import Namespace
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from pyg_bsl.data import from_files
from pyg_bsl.evaluation import PROTOCOLS
from pyg_bsl.experiment import DEFAULT_EPOCHS, NOT_ASKED, PARTS, Experiment, table_of
from pyg_bsl.flags import Parser, add_flags
from pyg_bsl.losses import LOSSES
from pyg_bsl.names import pick
from pyg_bsl.nn import BACKBONES
from pyg_bsl.sampling import SAMPLERS
from pyg_bsl.training import Trainer

MAX_THREADS = 1024  # PyTorch takes many more, and then fails to start them.


class ExperimentFlags:
    """The flags that say what to run, those of the chosen parts among them.

    Args:
        parser: Gets the flags.
        argv: The command line, read beforehand for the names of the parts: these decide what flags
            there are.

    Attributes:
        file: The settings of the configuration file (``--config``), which the flags go before.
        asked: What of them was asked for and not chosen to go with it; None where the file does
            not say.
    """

    def __init__(self, parser: Parser, argv: list[str]) -> None:
        self.parser = parser
        before = {action.dest for action in parser._actions}
        tables: dict[str, dict[str, Any]] = {
            "backbone": BACKBONES,
            "loss": LOSSES,
            "sampler": SAMPLERS,
        }
        names = Parser(add_help=False, prog=parser.prog)
        for name in (*PARTS, "dataset", "data", "config"):
            names.add_argument(f"--{name}")
        chosen, _ = names.parse_known_args(argv)
        self.file, self.asked = ({}, None) if chosen.config is None else _read_config(chosen.config)
        if self.asked is not None and self._differ(vars(chosen)):
            self.file = self.asked  # what flags there are is chosen anew too

        def chosen_name(part: str) -> str | None:
            in_file = table_of(self.file, part).get("name")
            return getattr(chosen, part) or in_file or getattr(Experiment, part)

        picked = self._picked = {part: chosen_name(part) for part in PARTS}
        classes = {
            part: pick(part, name, tables[part])
            for part, name in picked.items()
            if name is not None
        }

        what = parser.add_argument_group("what to run")
        what.add_argument("--dataset", help="name of a data set (see pyg-bsl datasets)")
        what.add_argument("--data", help="folder or file of your own data")
        what.add_argument(
            "--root", help=f"folder that keeps downloaded data sets [{Experiment.root}]"
        )
        for part in PARTS:
            choices = ", ".join(tables[part])
            default = getattr(Experiment, part) or "what suits the loss"
            what.add_argument(f"--{part}", help=f"{choices} [{default}]")
        what.add_argument("--epochs", type=int, help=f"passes over the pairs [{DEFAULT_EPOCHS}]")
        what.add_argument(
            "--seed", type=int, help="seed of validation split, start and training [0]"
        )
        what.add_argument("--config", help="file (JSON or TOML; a result.json too) that sets these")
        for part, chosen_class in classes.items():
            group = parser.add_argument_group(f"{part} {picked[part]}")
            add_flags(group, chosen_class, prefix=part, skip=NOT_ASKED.get(part, ()))
        group = parser.add_argument_group("training")
        own_protocol = {"protocol": f"that of the data set; {protocols()}"}
        add_flags(group, Trainer, skip=NOT_ASKED["trainer"], defaults=own_protocol)
        group = parser.add_argument_group("own data (--data)")
        add_flags(group, from_files, prefix="files", skip=NOT_ASKED["reader"])
        self._own = {action.dest for action in parser._actions} - before - {"config"}

    def experiment(self, values: Namespace) -> Experiment:
        """The experiment of the configuration file and the flags."""
        given = {
            key: value
            for key, value in vars(values).items()
            if key in self._own and value is not None
        }
        config = dict(self.file)
        if self.asked is not None and self._differ(given):
            config = dict(self.asked)
        for key, value in given.items():
            part, _, argument = key.partition(".")
            if key in PARTS:
                # Another part than the file's takes none of the arguments meant for that one.
                entry = table_of(config, key)
                same = entry.get("name", getattr(Experiment, key)) == value
                config[key] = {**entry, "name": value} if same else {"name": value}
            elif argument:
                # A part that was chosen for the file's run is asked for with its argument.
                own = {"name": self._picked[part]} if part in PARTS else {}
                config[part] = {**own, **table_of(config, part), argument: value}
            elif key in ("dataset", "data"):
                other = ("dataset",) if key == "data" else ("data", "files")
                config = {k: v for k, v in config.items() if k not in other} | {key: value}
            elif key in ("root", "epochs", "seed"):
                config[key] = value
            else:
                config["trainer"] = {**table_of(config, "trainer"), key: value}
        if given.get("dataset") and given.get("data"):
            self.parser.error("Give one of --dataset and --data, not both")
        if not config.get("dataset") and not config.get("data"):
            self.parser.error(
                "Say what to train on: --dataset NAME (see pyg-bsl datasets) or --data FOLDER"
            )
        return Experiment.from_config(config)

    def _differ(self, given: Mapping[str, Any]) -> bool:
        """Whether flags say anything else than the file. Its settings were chosen to go together.

        Where they do, what was asked for stays and what goes with it is chosen anew.
        """

        def in_file(key: str) -> Any:
            part, _, argument = key.partition(".")
            if key in PARTS:
                return table_of(self.file, key).get("name")
            if argument:
                return table_of(self.file, part).get(argument)
            if key in ("dataset", "data", "root", "epochs", "seed"):
                return self.file.get(key)
            return table_of(self.file, "trainer").get(key)

        def value(key: str) -> Any:
            return str(Path(given[key]).absolute()) if key == "data" else given[key]

        own = (key for key in given if given[key] is not None and key != "config")
        return any(value(key) != in_file(key) for key in own)


def set_threads(parser: Parser, threads: int | None) -> None:
    """Let PyTorch use so many threads; :obj:`None`: as many as it would."""
    if threads is None:
        return
    if not 1 <= threads <= MAX_THREADS:
        parser.error(f"--threads must be from 1 to {MAX_THREADS} (got {threads})")
    torch.set_num_threads(threads)


def protocols() -> str:
    """``one of holdout, psl-iid, ...``, for a help text."""
    return f"one of {', '.join(PROTOCOLS)}"


def _read_config(file: str) -> tuple[dict[str, Any], dict[str, Any] | None]:
    """The settings in a file, and what of them was asked for, which a ``result.json`` says."""
    path = Path(file)
    if not path.is_file():
        raise FileNotFoundError(f"There is no configuration file '{file}'")
    try:
        text = path.read_text()
        content = tomllib.loads(text) if path.suffix == ".toml" else json.loads(text)
    except ValueError as error:  # not JSON or TOML, or not even text
        raise ValueError(f"The configuration file '{file}' cannot be read: {error}") from error
    settings = content.get("config", content) if isinstance(content, dict) else None
    if not isinstance(settings, dict):
        raise ValueError(f"The configuration file '{file}' must hold one table of settings")
    asked = content.get("asked") if settings is not content else None
    return settings, asked if isinstance(asked, dict) else None
