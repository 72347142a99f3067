"""``pyg-bsl evaluate``."""

from __future__ import annotations

import json
import logging
from typing import Any

from pyg_bsl import evaluation
from pyg_bsl.cli import COMMANDS
from pyg_bsl.cli._experiment import protocols
from pyg_bsl.cli._show import print_metrics
from pyg_bsl.experiment import Experiment
from pyg_bsl.flags import Parser, add_flags
from pyg_bsl.training.checkpoint import load_run


def run(argv: list[str]) -> int:
    """Evaluate a trained run again."""
    parser = Parser(prog="pyg-bsl evaluate", description=f"{COMMANDS['evaluate'].capitalize()}.")
    parser.add_argument("run", help="output folder of a training run")
    group = parser.add_argument_group("evaluation")
    of_run = "that of the run"
    add_flags(
        group,
        evaluation.evaluate,
        skip=("emb", "graph", "block_size", "metrics"),
        defaults={"k": of_run, "similarity": of_run, "protocol": f"{of_run}; {protocols()}"},
    )
    parser.add_argument("--root", help="folder that keeps downloaded data sets [that of the run]")
    parser.add_argument("--json", action="store_true", help="print the metrics as JSON")
    values = vars(parser.parse_all(argv))
    folder, root, as_json = values.pop("run"), values.pop("root"), values.pop("json")
    content, weights = load_run(folder)
    if root is not None:
        content["config"]["root"] = root
    experiment = Experiment.from_config(content["config"])
    graph = experiment.load()
    digest = content["data"].get("digest")
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
    content["selected_on"] = experiment.protocol.select_on
    if content["selected_on"] == "test":
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
        print_metrics({**content, "protocol": arguments["protocol"], "metrics": shown})
    return 0
