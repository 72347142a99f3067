"""Tables kept in MLflow."""

from __future__ import annotations

import tempfile
from pathlib import Path

from pyg_bsl.tracking.address import resolve_uri
from pyg_bsl.tracking.comparison import Comparison
from pyg_bsl.tracking.names import clip_tags
from pyg_bsl.tracking.store import brief, open_experiment
from pyg_bsl.tracking.tables import ENDINGS, FORMATS, title_of, to_markdown

_SECONDS = 60  # A request may take this long.


def log_comparison(
    comparison: Comparison, *, store: str | Path = "mlruns", tracking_uri: str | None = None
) -> str:
    """Keep a table as a run of its own: on its page, and as files in all formats.

    It stands beside the runs of the data set, or in the experiment "comparisons" where there are
    several.

    Args:
        comparison: The table.
        store: Folder of the local store.
        tracking_uri: Where to instead.

    Returns:
        Name of the run.
    """
    uri = resolve_uri(Path(store).absolute(), tracking_uri)
    name = f"comparison of {len(comparison.rows)} settings: {title_of(comparison)}"
    same = {fact: comparison.same(fact) for fact in ("dataset", "protocol", "backbone", "loss")}
    tags = {"kind": "comparison"} | {fact: value for fact, value in same.items() if value}
    tags["mlflow.note.content"] = to_markdown(comparison)
    with brief(_SECONDS), tempfile.TemporaryDirectory() as folder:
        for ending, form in ENDINGS.items():
            Path(folder, f"comparison{ending}").write_text(FORMATS[form](comparison))
        client, experiment = open_experiment(uri, same["dataset"] or "comparisons")
        run_id = client.create_run(experiment, run_name=name, tags=clip_tags(tags)).info.run_id
        client.log_artifacts(run_id, folder)
        client.set_terminated(run_id)
    return name
