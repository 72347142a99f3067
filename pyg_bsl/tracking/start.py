"""Opening a run in a store."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from pyg_bsl.tracking.store import brief, no_garbage_collection, open_experiment

if TYPE_CHECKING:
    from mlflow import MlflowClient

_REQUEST_SECONDS = 10  # A request may take this long.
_MAX_PARAMS = 100  # In a request; MLflow refuses many more.


def dataset_of(
    name: str, digest: str, num_users: int, num_items: int, num_train: int
) -> dict[str, str]:
    """The fields of an MLflow data set, which keeps what it is told first."""
    sizes = {"users": num_users, "items": num_items, "train": num_train}
    return {
        "name": name,
        "digest": digest[:12] or "unknown",
        "source_type": "pyg_bsl",
        "source": json.dumps({"name": name}),
        "profile": json.dumps(sizes),
    }


def log_dataset(client: MlflowClient, run_id: str, dataset: Mapping[str, str]) -> None:
    """Say what a run is trained on."""
    from mlflow.entities import Dataset, DatasetInput, InputTag

    context = InputTag("mlflow.data.context", "training")
    client.log_inputs(run_id, [DatasetInput(Dataset(**dataset), [context])])


def open_run(
    uri: str, start: Mapping[str, Any], start_time: int, *, again: bool = False
) -> tuple[MlflowClient, str]:
    """Make the run in the store at ``uri``; a client, and the run's id.

    Args:
        uri: Address of the store.
        start: From :func:`~pyg_bsl.tracking.facts.start_of`.
        start_time: When the run started, in milliseconds.
        again: Whether it was tried before: a run that was made then, and whose answer was lost, is
            taken.
    """
    with no_garbage_collection(), brief(_REQUEST_SECONDS):
        client, experiment_id = open_experiment(uri, start["experiment"])
        run_id = _made_before(client, experiment_id, start["tags"], start_time) if again else None
        if run_id is None:
            run = client.create_run(
                experiment_id, start_time=start_time, run_name=start["run_name"], tags=start["tags"]
            )
            run_id = run.info.run_id
    return client, run_id


def log_start(client: MlflowClient, run_id: str, start: Mapping[str, Any]) -> None:
    """Send the parameters and the data set of a run; again, should it have failed, changes none."""
    with brief(_REQUEST_SECONDS):
        from mlflow.entities import Param

        rows = [Param(name, value) for name, value in start["params"].items()]
        for first in range(0, len(rows), _MAX_PARAMS):
            client.log_batch(run_id, params=rows[first : first + _MAX_PARAMS])
        log_dataset(client, run_id, start["dataset"])


def _made_before(
    client: MlflowClient, experiment_id: str, tags: Mapping[str, str], start_time: int
) -> str | None:
    """The run that this process made at that moment."""
    same = f"attributes.start_time = {start_time}"
    same += "".join(f" and tags.{name} = '{tags[name]}'" for name in ("pid", "process_start"))
    runs = client.search_runs([experiment_id], same, max_results=1)
    return runs[0].info.run_id if runs else None
