"""Softmax-family losses on MovieLens small: two backbones, four losses, and what they recommend.

Run it with `python examples/quickstart.py`; it needs no download and takes about two minutes.
"""

import torch
from rich.console import Console
from rich.table import Table

from pyg_bsl import MLflowTracker, Trainer, recommend
from pyg_bsl.data import HoldoutValidation, build_graph, load_dataset
from pyg_bsl.losses import BPR, BSL, PSL, SL
from pyg_bsl.nn import MF, LightGCN, Popularity
from pyg_bsl.sampling import Uniform
from pyg_bsl.tracking import ui_command
from pyg_bsl.training import ProgressBar

# Knobs, chosen on validation NDCG@20.
SEED = 0
EPOCHS = 40
USER = 9  # whose recommendations are shown
PAIRS = {"sampler": Uniform(4), "batch_size": 1024, "l2": 1e-4}  # how BPR is used to be trained
RUNS = [
    # backbone, its arguments, loss, arguments of the trainer
    (Popularity, {}, SL(), {}),
    (MF, {}, BPR(), {"lr": 0.003, **PAIRS}),
    (MF, {}, SL(tau=0.2), {}),
    (MF, {}, BSL(tau1=0.2, tau2=0.2, weight=1.15), {}),
    (MF, {}, PSL(tau=0.1), {}),
    (LightGCN, {"num_layers": 2}, BPR(), {"lr": 0.01, **PAIRS}),
    (LightGCN, {"num_layers": 2}, SL(tau=0.14), {}),
    (LightGCN, {"num_layers": 2}, BSL(tau1=0.14, tau2=0.14, weight=1.15), {}),
    (LightGCN, {"num_layers": 2}, PSL(tau=1 / 14), {}),
]

torch.set_num_threads(1)  # on data this small, threads wait for one another more than they work

# Data: ratings of at least 3, 5-core, 80/20 within each user, a tenth of train for validation.
data = HoldoutValidation(seed=SEED)(load_dataset("movielens-small"))
graph = build_graph(data)

# Parts and fit: the same loop for all of them.
results = []
for backbone_type, arguments, loss, options in RUNS:
    torch.manual_seed(SEED)
    backbone = backbone_type(graph.num_users, graph.num_items, **arguments)
    learns = backbone_type is not Popularity
    name = backbone_type.__name__ + (f" + {type(loss).__name__}" if learns else "")
    callbacks = [ProgressBar(name), MLflowTracker(run_name=None if learns else name)]
    options = {"precision": "float32", **options}  # the same on every processor, but for rounding
    trainer = Trainer(backbone, loss, callbacks=callbacks, seed=SEED, **options)
    results.append((name, backbone, trainer.fit(graph, EPOCHS)))

# Print: the test metrics at the epoch that validation chose.
table = Table(title=f"MovieLens small: {graph.num_users} users, {graph.num_items} films")
for column in ("model", "valid NDCG@20", "test NDCG@20", "test Recall@20", "seconds"):
    table.add_column(column, justify="left" if column == "model" else "right")
best = max(results, key=lambda row: row[2].metrics["valid"]["ndcg@20"])
for row in results:
    valid, test = row[2].metrics["valid"], row[2].metrics["test"]
    numbers = (valid["ndcg@20"], test["ndcg@20"], test["recall@20"])
    cells = [row[0], *(f"{x:.4f}" for x in numbers), f"{row[2].seconds['train']:.1f}"]
    table.add_row(*cells, style="bold" if row is best else None)
console = Console()
console.print(table)

# One user: what was liked beside what the model that did best on validation recommends.
name, backbone, _ = best
items, _ = recommend(backbone(graph), graph, [USER], k=10)
liked = graph.train.items[graph.train.users == USER][:10]
titles = data["item"].title
table = Table(title=f"User {USER}, by {name} (best on validation)")
table.add_column("liked")
table.add_column("recommended")
for left, right in zip(liked.tolist(), items[0].tolist(), strict=False):
    table.add_row(titles[left], titles[right])
console.print(table)
print(f"\nAll runs, with curves, in the browser under 'Model training':\n  {ui_command()}")
