"""Amazon-Health: split, protocol, losses and backbones of the SL@K paper (KDD 2025), Table 2.

    python examples/amazon_health.py
    python examples/amazon_health.py --loss SLatK --backbone LightGCN --output runs/slatk

`--help` tells the flags, and the names of losses and backbones.
"""

import torch
from common import callbacks, flags, load, read, settings, show

from pyg_bsl import Trainer
from pyg_bsl.data import HoldoutValidation, build_graph
from pyg_bsl.losses import BPR, BSL, LLPAUC, PSL, SL, AdvInfoNCE, SLatK
from pyg_bsl.nn import MF, LightGCN, XSimGCL

# Knobs. Temperatures are those of the SL@K paper (arXiv 2508.05673, Table 11, on the full cosine
# except PSL's). BSL's weight was chosen on validation.
LOSSES = {
    "BSL": BSL.as_released(0.2, 1.3),
    "BSL-paper": BSL(0.2, 0.2),
    "SL": SL(0.2),
    "PSL": PSL(0.1),
    "PSL-tanh": PSL(0.1, "tanh"),
    "PSL-atan": PSL(0.1, "atan"),
    "SLatK": SLatK(0.2, 2.5, every=5),
    "AdvInfoNCE": AdvInfoNCE(0.2),
    "LLPAUC": LLPAUC(0.7, 0.01, ascent=False),
    "BPR": BPR(),
}
BACKBONES = {"MF": MF, "LightGCN": LightGCN, "XSimGCL": XSimGCL}
# Of a backbone, or of one with a loss: its arguments, epochs, the trainer's arguments.
SETTINGS = {
    "MF": ({}, 40, {}),
    "MF BPR": ({"init": "normal", "init_std": 0.03}, 50, {"lr": 0.02, "weight_decay": 1e-4}),
    "LightGCN": ({"num_layers": 2, "init": "svd"}, 40, {"lr": 0.04}),
    "XSimGCL": ({"num_layers": 2, "init": "svd"}, 40, {"lr": 0.05}),
}

args = read(flags(__doc__, loss=LOSSES, backbone=BACKBONES))

# Data: 80/20 within each user as published; a tenth of train for validation.
data = load("amazon-health", args)
graph = build_graph(HoldoutValidation(seed=args.seed)(data))

# Parts.
torch.manual_seed(args.seed)
pair = f"{args.backbone} {args.loss}"
of_backbone, epochs, of_trainer = SETTINGS.get(pair, SETTINGS[args.backbone])
epochs = args.epochs or epochs
backbone = BACKBONES[args.backbone](graph.num_users, graph.num_items, **of_backbone)
loss = LOSSES[args.loss]
own = {"protocol": "psl-iid", "seed": args.seed, "callbacks": callbacks(args)}
trainer = Trainer(backbone, loss, **of_trainer, **own)

# Fit.
config = settings(trainer, epochs, args, dataset="amazon-health")
result = trainer.fit(graph, epochs, config=config)

# Print.
show(result, trainer, args)
