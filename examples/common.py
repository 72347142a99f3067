"""What the scripts of the data sets share: flags, missing data, and what goes on around a training.

The library is in the scripts; nothing here is needed to use it.
"""

from __future__ import annotations

import argparse
import logging
from collections.abc import Iterable
from typing import Any

import torch
from torch_geometric.data import HeteroData

from pyg_bsl import FitResult, MLflowTracker, Trainer
from pyg_bsl.data import load_dataset
from pyg_bsl.training import Callback, ProgressBar
from pyg_bsl.training.checkpoint import Checkpoint


def flags(doc: str, **choices: Iterable[str]) -> argparse.ArgumentParser:
    """The flags of a script; of each one's choices the first is what runs without it."""
    parser = argparse.ArgumentParser(
        description=doc, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    for name, of_it in choices.items():
        names = list(of_it)
        what = f"{', '.join(names)} [{names[0]}]"
        parser.add_argument(
            f"--{name}", choices=names, default=names[0], metavar=name.upper(), help=what
        )
    parser.add_argument("--seed", type=int, default=0, help="of validation split and training [0]")
    parser.add_argument("--epochs", type=_count, help="passes over the pairs [the script's]")
    parser.add_argument("--threads", type=_count, help="CPU threads [all]")
    parser.add_argument("--output", help="folder for result.json and weights [none is kept]")
    parser.add_argument("--root", default="data", help="folder of downloaded data sets [data]")
    parser.add_argument("--no-tracking", dest="tracking", action="store_false", help="no MLflow")
    return parser


def read(parser: argparse.ArgumentParser) -> argparse.Namespace:
    """What was typed; threads are set, and the library's notes go to the terminal."""
    args = parser.parse_args()
    logging.basicConfig(format="%(message)s")
    logging.getLogger("pyg_bsl").setLevel(logging.INFO)
    if args.threads is not None:
        torch.set_num_threads(args.threads)
    return args


def load(dataset: str, args: argparse.Namespace) -> HeteroData:
    """The data set, or an end that says where it comes from and how to point at a mirror."""
    try:
        return load_dataset(dataset, args.root)
    except (OSError, ValueError) as error:
        raise SystemExit(f"{dataset}: {error}") from None


def callbacks(args: argparse.Namespace) -> list[Callback]:
    """A progress bar; a run in MLflow, unless switched off; weights and result, if asked for."""
    out: list[Callback] = [ProgressBar(f"{args.backbone} {args.loss}")]
    if args.tracking:
        out.append(MLflowTracker())
    if args.output is not None:
        out.append(Checkpoint(args.output))
    return out


def settings(
    trainer: Trainer, epochs: int, args: argparse.Namespace, **data: Any
) -> dict[str, Any]:
    """All of a run's settings, so that `pyg-bsl evaluate` and `pyg-bsl train --config` know it."""
    own = {"root": args.root, "epochs": epochs, "seed": args.seed}
    return {**trainer.config(), **data, **own}


def show(result: FitResult, trainer: Trainer, args: argparse.Namespace) -> None:
    """Print what was trained and its metrics at the epoch that was chosen."""
    chosen = f"epoch {result.best_epoch} of {result.epochs}, chosen on {result.selected_on}"
    print(f"{result.data['name']}, {args.backbone} + {trainer.loss}, seed {result.seed}")
    print(f"protocol {result.protocol}, {chosen}, {result.seconds['train']:.1f} s of training")
    print(" " * 10, *(f"{split:>7}" for split in result.metrics))
    for metric in (f"{name}@{k}" for name in ("recall", "ndcg") for k in trainer.k):
        print(f"{metric:10}", *(f"{values[metric]:7.4f}" for values in result.metrics.values()))
    if args.output is not None:
        print(f"Saved in {args.output}: see `pyg-bsl evaluate {args.output} --help`")


def _count(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"must be a whole number of at least 1 (got '{text}')")
    return int(text)
