"""Your own data: train, keep the model, and see what it recommends.

    python examples/own_data.py --data clicks.csv --split random --users alice bob
    python examples/own_data.py --data FOLDER --backbone LightGCN --output runs/mine

A file has a user and an item a row; a folder, `train` and `test` files of such rows, and `valid` if
you like. `--help` tells the flags, and the names of losses and backbones.
"""

from pathlib import Path

import torch
from common import callbacks, flags, read, settings, show

from pyg_bsl import Trainer, recommend
from pyg_bsl.data import HoldoutValidation, build_graph, from_files
from pyg_bsl.losses import BPR, BSL, PSL, SL, SLatK
from pyg_bsl.nn import MF, LightGCN, XSimGCL

# Knobs. What to tune first are the temperature, 0.05 to 0.3, and BSL's weight, 1 to 1.4.
LOSSES = {
    "BSL": BSL.as_released(0.15, 1.2),
    "SL": SL(tau=0.15),
    "PSL": PSL(tau=1 / 14),
    "SLatK": SLatK(tau=0.15, k=20),
    "BPR": BPR(),
}
BACKBONES = {
    "MF": (MF, {}),
    "LightGCN": (LightGCN, {"num_layers": 2}),
    "XSimGCL": (XSimGCL, {"num_layers": 2}),
}
EPOCHS = 40
SHOWN = 10  # items recommended to a user

parser = flags(__doc__, loss=LOSSES, backbone=BACKBONES)
parser.add_argument("--data", required=True, help="folder or file with your interactions")
parser.add_argument("--split", help="of a single file: random, leave-last-out or global-time")
parser.add_argument("--users", nargs="+", help="ids to recommend to [the first three]")
args = read(parser)

# Data: your own ids are kept; a tenth of train for validation, unless you have a file of it.
try:
    data = from_files(args.data, split=args.split)
except (OSError, ValueError) as error:
    raise SystemExit(str(error)) from None
if "valid_edge_label_index" not in data["user", "rates", "item"]:
    data = HoldoutValidation(seed=args.seed)(data)
graph = build_graph(data)
users = graph.user_ids[:3] if args.users is None else args.users
for user in users:
    if user not in graph.user_ids:
        raise SystemExit(f"--users must be ids in '{args.data}' (got '{user}')")

# Parts.
torch.manual_seed(args.seed)
backbone_type, options = BACKBONES[args.backbone]
backbone = backbone_type(graph.num_users, graph.num_items, **options)
trainer = Trainer(backbone, LOSSES[args.loss], seed=args.seed, callbacks=callbacks(args))

# Fit.
epochs = EPOCHS if args.epochs is None else args.epochs
files = {"data": str(Path(args.data).absolute()), "files": {"split": args.split}}
result = trainer.fit(graph, epochs, config=settings(trainer, epochs, args, **files))

# Print, and recommend what a user has not met.
show(result, trainer, args)
numbers = [graph.user_ids.index(user) for user in users]
items, scores = recommend(backbone(graph), graph, numbers, k=SHOWN)
for user, best, values in zip(users, items.tolist(), scores.tolist(), strict=True):
    shown = (f"{graph.item_ids[i]} {s:.2f}" for i, s in zip(best, values, strict=True) if i >= 0)
    print(f"{user}: {', '.join(shown)}")
