"""The command line, ``pyg-bsl``."""

from __future__ import annotations

import json
import logging
import os
import signal
import sys
import tomllib
from argparse import Namespace
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pyg_bsl.flags import Parser, add_flags
from pyg_bsl.names import suggest

if TYPE_CHECKING:
    from pyg_bsl.experiment import Experiment

COMMANDS = {
    "train": "train a recommender and report its test metrics",
    "evaluate": "evaluate a trained run again, at other list lengths or by another protocol",
    "datasets": "list the data sets",
}

MAX_THREADS = 1024  # PyTorch takes many more, and then fails to start them.


def main(argv: list[str] | None = None) -> int:
    """Run the command line; returns the exit status.

    0: done; 1: the run failed; 2: the command was wrong; 130 or 143: interrupted.
    """
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
        return {"train": train, "evaluate": evaluate, "datasets": datasets}[command](rest)
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


def train(argv: list[str]) -> int:
    """``pyg-bsl train``."""
    from pyg_bsl.tracking import MLflowTracker, ui_command
    from pyg_bsl.training.callbacks import Callback, ProgressBar
    from pyg_bsl.training.checkpoint import Checkpoint

    parser, values = _parse_train(argv)
    if values.quiet:
        logging.getLogger("pyg_bsl").setLevel(logging.WARNING)
    experiment = _experiment(parser, values)
    if "threads" in values:
        import torch

        if not 1 <= values.threads <= MAX_THREADS:
            parser.error(f"--threads must be from 1 to {MAX_THREADS} (got {values.threads})")
        torch.set_num_threads(values.threads)
    output = Path(values.output) if "output" in values else _fresh_folder(experiment)
    callbacks: list[Callback] = [] if values.quiet else [ProgressBar(experiment.name)]
    if values.tracking:
        callbacks.append(MLflowTracker(values.store))
    checkpoint = Checkpoint(output)
    callbacks.append(checkpoint)  # last to start, first to end: before a server may stall

    def stop(number: int, frame: object) -> None:
        raise SystemExit(128 + number)

    before = signal.signal(signal.SIGTERM, stop)
    try:
        result = experiment.run(callbacks)
    except (KeyboardInterrupt, SystemExit):
        if checkpoint.saved:
            print(f"\nInterrupted: what was finished is kept in {output}", file=sys.stderr)
        raise
    finally:
        signal.signal(signal.SIGTERM, before)
    _print_metrics(result.to_dict())
    if "test" not in result.metrics:
        print("No test metrics: the data have no test pairs (own data: try --files.split random)")
    print(f"\nSaved in {output}")
    if values.tracking:
        print(f"Browse runs: {ui_command(values.store)}")
    return 0 if checkpoint.saved else 1


def evaluate(argv: list[str]) -> int:
    """``pyg-bsl evaluate``."""
    from pyg_bsl import evaluation
    from pyg_bsl.experiment import Experiment
    from pyg_bsl.training.checkpoint import load_run

    parser = Parser(prog="pyg-bsl evaluate", description=f"{COMMANDS['evaluate'].capitalize()}.")
    parser.add_argument("run", help="output folder of a training run")
    group = parser.add_argument_group("evaluation")
    of_run = "that of the run"
    add_flags(
        group,
        evaluation.evaluate,
        skip=("emb", "graph", "block_size", "metrics"),
        defaults={"k": of_run, "similarity": of_run, "protocol": f"{of_run}; {_protocols()}"},
    )
    parser.add_argument("--root", help="folder that keeps downloaded data sets [that of the run]")
    parser.add_argument("--json", action="store_true", help="print the metrics as JSON")
    values = vars(parser.parse_all(argv))
    folder, root, as_json = values.pop("run"), values.pop("root"), values.pop("json")
    run, weights = load_run(folder)
    if root is not None:
        run["config"]["root"] = root
    experiment = Experiment.from_config(run["config"])
    graph = experiment.load()
    digest = run["data"].get("digest")
    if graph.digest != digest:
        raise ValueError(
            f"The data are not those of the run '{folder}': their digest is {graph.digest}, "
            f"the run's {digest}"
        )
    trainer = experiment.build(graph)
    trainer.backbone.similarity = trainer.rank_by
    try:
        trainer.backbone.load_state_dict(weights)
    except RuntimeError as error:
        raise ValueError(f"The weights in '{folder}' do not fit its result: {error}") from error
    own: dict[str, Any] = {"protocol": experiment.protocol.name, "split": "test", "k": trainer.k}
    arguments = own | values
    run["selected_on"] = experiment.protocol.select_on
    if run["selected_on"] == "test":
        logging.getLogger("pyg_bsl").warning(
            "The epoch of this run was chosen on the test set (protocol '%s'): its results on the "
            "test set are optimistic by any protocol",
            experiment.protocol.name,
        )
    metrics = evaluation.evaluate(trainer.backbone.eval()(graph).detach(), graph, **arguments)
    if as_json:
        print(json.dumps(metrics, indent=2))
    else:
        shown = {arguments["split"]: metrics}
        _print_metrics({**run, "protocol": arguments["protocol"], "metrics": shown})
    return 0


def datasets(argv: list[str]) -> int:
    """``pyg-bsl datasets``."""
    from rich import box
    from rich.console import Console
    from rich.table import Table

    from pyg_bsl.data.table import DATASETS

    Parser(prog="pyg-bsl datasets", description="List the data sets.").parse_all(argv)
    table = Table(box=box.SIMPLE_HEAD)
    for title in ("name", "users", "items", "train", "test", "protocol"):
        numeric = title not in ("name", "protocol")
        table.add_column(title, justify="right" if numeric else "left", no_wrap=True)
    table.add_column("what it is")
    for name, row in DATASETS.items():
        counts = (row.num_users, row.num_items, row.num_train, row.num_test)
        shown = ["-" if n is None else f"{n:,}" for n in counts]
        table.add_row(name, *shown, row.protocol, row.description)
    Console(width=max(Console().width, 120)).print(table)
    print("Files are downloaded on first use, or taken from PYG_BSL_MIRROR (a folder or base URL).")
    return 0


def _protocols() -> str:
    from pyg_bsl.evaluation import PROTOCOLS

    return f"one of {', '.join(PROTOCOLS)}"


def _overview() -> str:
    commands = "\n".join(f"  pyg-bsl {name:<10} {text}" for name, text in COMMANDS.items())
    return (
        "pyg-bsl: softmax-family losses for recommendation, on PyTorch Geometric\n\n"
        f"{commands}\n\n"
        "pyg-bsl COMMAND --help tells the flags of a command, for example\n"
        "  pyg-bsl train --dataset movielens-small --backbone LightGCN --loss BSL --help"
    )


def _parse_train(argv: list[str]) -> tuple[Parser, Namespace]:
    """Parse in two goes: the names of the parts first, since they decide what flags there are."""
    from pyg_bsl.data import from_files
    from pyg_bsl.experiment import DEFAULT_EPOCHS, NOT_ASKED, PARTS, Experiment, table_of
    from pyg_bsl.losses import LOSSES
    from pyg_bsl.names import pick
    from pyg_bsl.nn import BACKBONES
    from pyg_bsl.sampling import SAMPLERS
    from pyg_bsl.training import Trainer

    tables: dict[str, dict[str, Any]] = {
        "backbone": BACKBONES,
        "loss": LOSSES,
        "sampler": SAMPLERS,
    }
    names = Parser(add_help=False, prog="pyg-bsl train")
    for name in (*PARTS, "dataset", "data", "config"):
        names.add_argument(f"--{name}")
    chosen, _ = names.parse_known_args(argv)
    config = {} if chosen.config is None else _read_config(chosen.config, vars(chosen))

    def chosen_name(part: str) -> str | None:
        in_file = table_of(config, part).get("name")
        return getattr(chosen, part) or in_file or getattr(Experiment, part)

    picked = {part: chosen_name(part) for part in PARTS}
    classes = {
        part: pick(part, name, tables[part]) for part, name in picked.items() if name is not None
    }

    parser = Parser(
        prog="pyg-bsl train",
        description=f"{COMMANDS['train'].capitalize()}.\nFlags below are those of the parts "
        "chosen: name others (--loss PSL --help) to see theirs.",
    )
    what = parser.add_argument_group("what to run")
    what.add_argument("--dataset", help="name of a data set (see pyg-bsl datasets)")
    what.add_argument("--data", help="folder or file of your own data")
    what.add_argument("--root", help=f"folder that keeps downloaded data sets [{Experiment.root}]")
    for part in PARTS:
        choices = ", ".join(tables[part])
        default = getattr(Experiment, part) or "what suits the loss"
        what.add_argument(f"--{part}", help=f"{choices} [{default}]")
    what.add_argument("--epochs", type=int, help=f"passes over the pairs [{DEFAULT_EPOCHS}]")
    what.add_argument("--seed", type=int, help="seed of validation split, start and training [0]")
    what.add_argument("--config", help="file (JSON or TOML; a result.json too) that sets these")
    for part, chosen_class in classes.items():
        group = parser.add_argument_group(f"{part} {picked[part]}")
        add_flags(group, chosen_class, prefix=part, skip=NOT_ASKED.get(part, ()))
    group = parser.add_argument_group("training")
    own_protocol = {"protocol": f"that of the data set; {_protocols()}"}
    add_flags(group, Trainer, skip=NOT_ASKED["trainer"], defaults=own_protocol)
    group = parser.add_argument_group("own data (--data)")
    add_flags(group, from_files, prefix="files", skip=NOT_ASKED["reader"])
    run = parser.add_argument_group("the run")
    run.add_argument(
        "--output",
        default=None,
        help="folder for result.json and weights [a new one under outputs/]",
    )
    run.add_argument("--threads", type=int, help="CPU threads [all]")
    run.add_argument("--store", default="mlruns", help="folder of the MLflow store [mlruns]")
    run.add_argument(
        "--no-tracking",
        dest="tracking",
        action="store_false",
        help="do not record the run in MLflow",
    )
    run.add_argument("--quiet", action="store_true", help="no progress bar, no notes")
    values = parser.parse_all(argv)
    given = {key: value for key, value in vars(values).items() if value is not None}
    return parser, Namespace(**given, file=config)


def _experiment(parser: Parser, values: Namespace) -> Experiment:
    """The experiment of a configuration file and the flags, which go before it."""
    from pyg_bsl.experiment import PARTS, Experiment, table_of

    config = dict(values.file)
    own = {"output", "threads", "store", "tracking", "quiet", "config", "file"}
    for key, value in vars(values).items():
        part, _, argument = key.partition(".")
        if key in own:
            continue
        if key in PARTS:
            # Another part than the file's takes none of the arguments meant for that one.
            entry = table_of(config, key)
            same = entry.get("name", getattr(Experiment, key)) == value
            config[key] = {**entry, "name": value} if same else {"name": value}
        elif argument:
            config[part] = {**table_of(config, part), argument: value}
        elif key in ("dataset", "data"):
            other = ("dataset",) if key == "data" else ("data", "files")
            config = {k: v for k, v in config.items() if k not in other} | {key: value}
        elif key in ("root", "epochs", "seed"):
            config[key] = value
        else:
            config["trainer"] = {**table_of(config, "trainer"), key: value}
    if vars(values).get("dataset") and vars(values).get("data"):
        parser.error("Give one of --dataset and --data, not both")
    if not config.get("dataset") and not config.get("data"):
        parser.error("Say what to train on: --dataset NAME (see pyg-bsl datasets) or --data FOLDER")
    return Experiment.from_config(config)


def _read_config(file: str, names: dict[str, str | None]) -> dict[str, Any]:
    """The settings in a file.

    Those in a ``result.json`` were chosen to go together. Where a flag names another part or other
    data, what was asked for stays and what goes with it is chosen anew.

    Args:
        file: The file.
        names: What the flags name: parts, dataset, data.
    """
    from pyg_bsl.experiment import PARTS, table_of

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
    before = {part: table_of(settings, part).get("name") for part in PARTS}
    before |= {"dataset": settings.get("dataset"), "data": settings.get("data")}
    if names["data"] is not None:
        names = names | {"data": str(Path(names["data"]).absolute())}
    other = any(names[key] not in (None, name) for key, name in before.items())
    asked = content.get("asked") if settings is not content else None
    return asked if other and isinstance(asked, dict) else settings


def _fresh_folder(experiment: Experiment) -> Path:
    # Down to the microsecond, so that runs started together do not share a folder.
    stamp = datetime.now().strftime("%Y%m%d-%H%M%S-%f")
    parts = (experiment.source, experiment.backbone, experiment.loss, stamp)
    return Path("outputs") / "-".join(parts)


def _print_metrics(result: dict[str, Any]) -> None:
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    from pyg_bsl.evaluation import PROTOCOLS

    metrics: dict[str, dict[str, float]] = result["metrics"]
    title = f"{result['data']['name']}, protocol {result['protocol']}, epoch {result['best_epoch']}"
    if result["selected_on"] == "test":
        title += "\n(chosen on the test set)"
    valid = "test, as valid" if PROTOCOLS[result["protocol"]].select_on == "test" else "valid"
    if not metrics:
        print(f"{title}: no validation or test pairs to measure on")
        return
    table = Table(title=Text(title), box=box.SIMPLE_HEAD, title_justify="left")
    table.add_column("metric")
    for split in metrics:
        table.add_column(valid if split == "valid" else split, justify="right")
    for name in next(iter(metrics.values()), {}):
        table.add_row(name, *(f"{values[name]:.4f}" for values in metrics.values()))
    Console().print(table)


def _fail(message: str, status: int) -> int:
    print(f"pyg-bsl: error: {message}", file=sys.stderr)
    return status
