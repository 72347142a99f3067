"""What a run is called and said to be in MLflow."""

from __future__ import annotations

import getpass
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from pyg_bsl.tracking.names import clip_tags, key
from pyg_bsl.tracking.processes import process_tags
from pyg_bsl.tracking.start import dataset_of
from pyg_bsl.training.result import FitResult, versions

_MAX_PARAM = 6000  # Characters; MLflow refuses more.


def start_of(
    result: FitResult, *, experiment: str | None, run_name: str | None, tags: Mapping[str, str]
) -> dict[str, Any]:
    """The start of a run as data that JSON can hold: its names, tags, parameters and data set.

    Args:
        result: What is known of the training.
        experiment: Name of the MLflow experiment; by default that of the data set.
        run_name: Name of the run, or None for one made of its parameters.
        tags: Tags beside those that every run has.
    """
    params = params_of(result)
    sizes = result.num_users, result.num_items, result.num_train
    return {
        "experiment": experiment or result.data["name"],
        "run_name": run_name or run_name_of(params),
        "tags": clip_tags({**tags_of(result, params), **tags}),
        "params": params,
        "dataset": dataset_of(result.data["name"], result.data["digest"], *sizes),
    }


def params_of(result: FitResult) -> dict[str, str]:
    """Everything that was chosen, flat, as text."""
    facts = {
        "dataset": result.data,
        "protocol": result.protocol,
        "seed": result.seed,
        "epochs": result.epochs,
        "num_users": result.num_users,
        "num_items": result.num_items,
        "num_train": result.num_train,
    }
    flat = dict(_flatten(result.config)) | dict(_flatten(facts))
    return {key(name): value[:_MAX_PARAM] for name, value in flat.items()}


def _flatten(tree: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    """``{"loss": {"name": "SL", "tau": 0.2}}`` as ``loss: SL`` and ``loss.tau: 0.2``."""
    for name, value in tree.items():
        key = prefix.removesuffix(".") if prefix and name == "name" else f"{prefix}{name}"
        if isinstance(value, Mapping):
            yield from _flatten(value, f"{key}.")
        else:
            yield key, str(value)


def run_name_of(params: Mapping[str, str]) -> str:
    """``MF PSL tau=0.1 relu seed=0``, ``LightGCN-3 BSL tau1=0.2 tau2=0.1 seed=0``."""
    layers = params.get("backbone.num_layers")
    words = [params.get("backbone", "") + (f"-{layers}" if layers else ""), params.get("loss", "")]
    for name, value in params.items():
        if name.startswith("loss.") and value not in ("None", "False"):
            try:
                words.append(f"{name.removeprefix('loss.')}={float(value):.4g}")
            except ValueError:
                words.append(value)
    return " ".join(filter(None, [*words, f"seed={params['seed']}"]))


def tags_of(result: FitResult, params: Mapping[str, str]) -> dict[str, str]:
    """What to filter runs by, and where they come from."""
    names = ("dataset", "backbone", "loss", "protocol", "seed")
    tags = {name: params[name] for name in names if name in params}
    tags |= {f"version.{name}": version for name, version in versions().items()}
    tags |= {"selected_on": result.selected_on} | process_tags()
    tags |= {"mlflow.source.name": Path(sys.argv[0]).name, "mlflow.source.type": "LOCAL"}
    with suppress(KeyError, OSError):  # A container may run as a user without a name.
        tags["mlflow.user"] = getpass.getuser()
    if commit := _git_commit():
        tags["mlflow.source.git.commit"] = commit.removesuffix("-dirty")
        tags["git_dirty"] = str(commit.endswith("-dirty")).lower()
    return tags


def _git_commit() -> str | None:
    """Commit of the working tree, ``-dirty`` behind it when it has changes."""
    command = ["git", "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=5)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() or None


def summary_of(result: FitResult) -> str:
    """The result in a line: ``test ndcg@20 0.0529, recall@20 0.0824 at epoch 37 (finished)``."""
    parts = []
    on_test = result.selected_on == "test"
    for split in ("test",) if on_test else ("test", "valid"):
        metrics = result.metrics.get(split, {})
        shown = [name for name in ("ndcg@20", "recall@20") if name in metrics] or list(metrics)[:2]
        if shown:
            parts.append(f"{split} " + ", ".join(f"{name} {metrics[name]:.4f}" for name in shown))
    at = f"epoch {result.best_epoch} of {result.epochs_run}" if parts else "no metrics"
    at += " (chosen on the test set: optimistic)" if on_test else ""
    return "; ".join([*parts, at, f"protocol {result.protocol}", result.status])
