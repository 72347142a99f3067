"""``pyg-bsl train``."""

from __future__ import annotations

import logging
import signal
import sys
from datetime import datetime
from pathlib import Path

from pyg_bsl.cli import COMMANDS
from pyg_bsl.cli._experiment import ExperimentFlags, set_threads
from pyg_bsl.cli._show import print_metrics
from pyg_bsl.experiment import Experiment
from pyg_bsl.flags import Parser
from pyg_bsl.tracking import MLflowTracker, ui_command
from pyg_bsl.training.callbacks import Callback, ProgressBar
from pyg_bsl.training.checkpoint import Checkpoint


def run(argv: list[str]) -> int:
    """Train, and keep the result."""
    parser = Parser(
        prog="pyg-bsl train",
        description=f"{COMMANDS['train'].capitalize()}.\nFlags below are those of the parts "
        "chosen: name others (--loss PSL --help) to see theirs.",
    )
    flags = ExperimentFlags(parser, argv)
    group = parser.add_argument_group("the run")
    group.add_argument(
        "--output", help="folder for result.json and weights [a new one under outputs/]"
    )
    group.add_argument("--threads", type=int, help="CPU threads [all]")
    group.add_argument("--store", default="mlruns", help="folder of the MLflow store [mlruns]")
    group.add_argument(
        "--no-tracking",
        dest="tracking",
        action="store_false",
        help="do not record the run in MLflow",
    )
    group.add_argument("--quiet", action="store_true", help="no progress bar, no notes")
    values = parser.parse_all(argv)
    if values.quiet:
        logging.getLogger("pyg_bsl").setLevel(logging.WARNING)
    experiment = flags.experiment(values)
    set_threads(parser, values.threads)
    output = _fresh_folder(experiment) if values.output is None else Path(values.output)
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
    print_metrics(result.to_dict())
    if "test" not in result.metrics:
        print("No test metrics: the data have no test pairs (own data: try --files.split random)")
    print(f"\nSaved in {output}")
    if values.tracking:
        print(f"Browse runs: {ui_command(values.store)}")
    return 0 if checkpoint.saved else 1


def _fresh_folder(experiment: Experiment) -> Path:
    # Down to the microsecond, so that runs started together do not share a folder.
    stamp = datetime.now().strftime("%Y%m%d-%H%M%S-%f")
    parts = (experiment.source, experiment.backbone, experiment.loss, stamp)
    return Path("outputs") / "-".join(parts)
