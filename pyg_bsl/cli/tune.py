"""``pyg-bsl tune``."""

from __future__ import annotations

import logging
import signal
from argparse import Namespace
from collections.abc import Mapping
from pathlib import Path

from rich.console import Console
from rich.markdown import Markdown

from pyg_bsl.cli import COMMANDS
from pyg_bsl.cli._experiment import ExperimentFlags, set_threads
from pyg_bsl.experiment import Experiment
from pyg_bsl.flags import Parser
from pyg_bsl.space import Space
from pyg_bsl.tracking import ui_command
from pyg_bsl.tuning.plan import ALGORITHMS, PRUNERS, Plan
from pyg_bsl.tuning.presets import PRESETS, preset_space
from pyg_bsl.tuning.report import EXPERIMENT, Report
from pyg_bsl.tuning.search import retrain
from pyg_bsl.tuning.search import run as run_study
from pyg_bsl.tuning.spaces import SYNTAX, from_data, parse_fix, parse_space, with_values
from pyg_bsl.tuning.storage import SQLITE, Storage, identity_of, storage_url

log = logging.getLogger("pyg_bsl")

EXAMPLES = """
Flags of the experiment are those of train, and hold a value fixed. Examples:

  pyg-bsl tune --dataset amazon-electronic --loss PSL --trials 30 --study psl
  pyg-bsl tune --dataset movielens-small --loss SL --space loss.tau=0.05:0.5:log epochs=10,20,40
  pyg-bsl tune --dataset amazon-electronic --loss SL --preset psl --algorithm grid --workers 2
  pyg-bsl tune --show --study psl
  pyg-bsl tune --show --study psl --retrain 5

The same command again continues a study; in another terminal, or with --workers, it shares it."""


def run(argv: list[str]) -> int:
    """Run a study, or show one."""
    parser = Parser(
        prog="pyg-bsl tune", description=f"{COMMANDS['tune'].capitalize()}.\n{EXAMPLES}"
    )
    flags = ExperimentFlags(parser, argv)
    _add_flags(parser)
    values = parser.parse_all(argv)
    if values.quiet:
        logging.getLogger("pyg_bsl").setLevel(logging.WARNING)
    if values.workers < 1:
        parser.error(f"--workers must be at least 1 (got {values.workers})")
    if values.retrain is not None and values.retrain < 1:
        parser.error(f"--retrain must be at least 1 (got {values.retrain})")
    set_threads(parser, values.threads)

    stopped: list[int] = []

    def stop(number: int, frame: object) -> None:
        signal.signal(number, signal.SIG_IGN)  # A second one would break off the clearing up.
        stopped.append(number)
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, stop)
    try:
        report = _show(parser, values) if values.show else _search(parser, flags, values)
    except KeyboardInterrupt:
        print("\nInterrupted: the same command goes on from here")
        if stopped:
            return 128 + stopped[0]
        raise
    finally:
        signal.signal(signal.SIGTERM, before)
    folder = report.folder(values.store)
    console = Console(width=max(Console().width, 100))
    console.print(Markdown(report.note()))
    print(f"\nBest configuration: {folder / 'best.json'}  (pyg-bsl train --config takes it)")
    if values.tracking:
        print(f"Browse runs: {ui_command(values.store)}")
    return 0


def _add_flags(parser: Parser) -> None:
    group = parser.add_argument_group("the study")
    group.add_argument("--study", default="", help="its name [data, backbone and loss]")
    group.add_argument("--trials", type=int, help="number of trials [30; a grid: all points]")
    group.add_argument(
        "--preset",
        default="default",
        help="where to look: default (what the parts say), none (only --space), "
        + "; ".join(f"{name}: {preset.description}" for name, preset in PRESETS.items()),
    )
    group.add_argument(
        "--space",
        nargs="+",
        action="extend",
        default=[],
        metavar="SPACE",
        help=f"narrow or widen it: {SYNTAX}, such as loss.tau=0.05:0.5:log epochs=10,20",
    )
    group.add_argument(
        "--fix",
        nargs="+",
        action="extend",
        default=[],
        metavar="NAME[=VALUE]",
        help="do not tune this one: hold it at the value, or at its default",
    )
    group.add_argument("--algorithm", default="tpe", help=_choices(ALGORITHMS, "tpe"))
    group.add_argument("--pruner", help=_choices(PRUNERS, "median; none with --also"))
    group.add_argument("--seeds", type=int, default=1, help="trainings of a trial, averaged [1]")
    group.add_argument(
        "--also",
        type=lambda text: text.split(","),
        default=[],
        metavar="NAME,NAME,...",
        help="objectives beside the validation metric: other metrics, tail_ndcg@20, seconds",
    )
    group.add_argument(
        "--finalists",
        type=int,
        default=3,
        help="best trials that are trained on fresh seeds, to choose by their mean [3]",
    )
    group.add_argument("--final-seeds", type=int, default=3, help="number of those seeds [3]")
    group.add_argument("--workers", type=int, default=1, help="processes that share the work [1]")
    group.add_argument("--threads", type=int, help="CPU threads of each [their share of the cores]")
    group.add_argument("--storage", help="Optuna URL (PostgreSQL, ...) [studies.db in --store]")
    group.add_argument("--store", default="mlruns", help="folder of studies and MLflow [mlruns]")
    group.add_argument(
        "--no-tracking",
        dest="tracking",
        action="store_false",
        help="do not record the study in MLflow",
    )
    group.add_argument("--quiet", action="store_true", help="no line a trial, no notes")
    group.add_argument("--show", action="store_true", help="show a study, and run nothing")
    group.add_argument(
        "--retrain",
        type=int,
        metavar="N",
        help="train what was found, and the default, on N fresh seeds, and compare them",
    )


def _choices(table: Mapping[str, str], default: str) -> str:
    return "; ".join(f"{name}: {text}" for name, text in table.items()) + f" [{default}]"


def _search(parser: Parser, flags: ExperimentFlags, values: Namespace) -> Report:
    if values.retrain is not None and not (values.dataset or values.data or values.config):
        parser.error("To train what a study found: --show --study NAME --retrain N")
    experiment = flags.experiment(values)
    given = {"epochs"} if values.epochs is not None or "epochs" in flags.file else set()
    fixed = dict(parse_fix(text, experiment) for text in values.fix)
    experiment = with_values(experiment, {k: v for k, v in fixed.items() if v is not None})
    space: dict[str, Space] = preset_space(values.preset, experiment, {*given, *fixed})
    if values.preset in PRESETS:
        log.info("Preset '%s': %s", values.preset, PRESETS[values.preset].description)
    for text in values.space:
        name, each = parse_space(text, experiment)
        if name in fixed:
            parser.error(f"'{name}' is both in --space and in --fix")
        space[name] = each
    plan = Plan(
        experiment=experiment,
        space=space,
        **{name: getattr(values, name) for name in _OF_PLAN},
    )
    report = run_study(plan, values.workers, values.threads)
    return report if values.retrain is None else retrain(plan, values.retrain, values.threads)


_OF_PLAN = (
    *("study", "trials", "algorithm", "pruner", "seeds", "also", "finalists", "final_seeds"),
    *("storage", "store", "tracking"),
)


def _show(parser: Parser, values: Namespace) -> Report:
    """The report of a study that is there, perhaps with more trainings."""
    url = storage_url(values.store, values.storage)
    if url.startswith(SQLITE) and not Path(url.removeprefix(SQLITE)).is_file():
        where, flag = (values.storage, "storage") if values.storage else (values.store, "store")
        raise FileNotFoundError(f"There are no studies in '{where}': give another --{flag}")
    storage = Storage.open(url)
    names = storage.names()
    if not values.study and len(names) != 1:
        parser.error(f"Say which study: --study NAME. There are {', '.join(names) or 'none'}")
    name = values.study or names[0]
    if values.retrain is None:
        report = Report.of(storage, name)
        report.save(values.store)
        return report
    study = storage.load(name)
    identity = identity_of(study)
    config = study.user_attrs[EXPERIMENT]
    config |= {} if values.root is None else {"root": values.root}
    plan = Plan(
        experiment=Experiment.from_config(config),
        study=name,
        space=from_data(identity["space"]),
        seeds=identity["seeds"],
        also=identity["also"],
        storage=values.storage,
        store=values.store,
        tracking=values.tracking,
    )
    return retrain(plan, values.retrain, values.threads)
