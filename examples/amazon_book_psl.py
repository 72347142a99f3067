"""Amazon-Book: split, protocol, losses and backbones of the PSL paper's Table 1.

    python examples/amazon_book_psl.py
    python examples/amazon_book_psl.py --loss PSL --backbone LightGCN --output runs/psl

`--help` tells the flags, and the names of losses and backbones.
"""

import torch
from common import callbacks, flags, load, read, settings, show

from pyg_bsl import Trainer
from pyg_bsl.data import HoldoutValidation, build_graph
from pyg_bsl.losses import BPR, BSL, LLPAUC, PSL, SL, AdvInfoNCE, SLatK
from pyg_bsl.nn import MF, LightGCN, XSimGCL

# Knobs. Temperatures are those of the PSL paper (arXiv 2411.00163, Table B.2). It gives all on half
# the cosine: those of SL, BSL and AdvInfoNCE are twice that here, on the full one. SL@K's are those
# of its own paper (arXiv 2508.05673, Table 14), BSL's weight and the training those of Gowalla;
# nothing was tried here.
LOSSES = {
    "BSL": BSL.as_released(0.05, 1.2),
    "BSL-paper": BSL(0.5, 0.05),
    "SL": SL(0.05),
    "PSL": PSL(0.025),
    "PSL-tanh": PSL(0.025, "tanh"),
    "PSL-atan": PSL(0.025, "atan"),
    "SLatK": SLatK(0.05, 0.5, every=20),
    "AdvInfoNCE": AdvInfoNCE(0.05),
    "LLPAUC": LLPAUC(0.7, 0.01, ascent=False),
    "BPR": BPR(),
}
BACKBONES = {"MF": MF, "LightGCN": LightGCN, "XSimGCL": XSimGCL}
# Of a backbone, or of one with a loss: its arguments, epochs, the trainer's arguments.
SETTINGS = {
    "MF": ({"init": "svd"}, 12, {"batch_size": 2048, "lr": 0.05}),
    "MF BPR": ({"init": "normal", "init_std": 0.03}, 50, {"lr": 0.02, "weight_decay": 0.0}),
    "LightGCN": ({"num_layers": 2, "init": "svd"}, 12, {"batch_size": 2048, "lr": 0.04}),
    "XSimGCL": ({"num_layers": 2, "init": "svd"}, 12, {"batch_size": 2048, "lr": 0.05}),
}

args = read(flags(__doc__, loss=LOSSES, backbone=BACKBONES))

# Data: 80/20 within each user as published; a tenth of train for validation.
data = load("amazon-book-psl", args)
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
config = settings(trainer, epochs, args, dataset="amazon-book-psl")
result = trainer.fit(graph, epochs, config=config)

# Print.
show(result, trainer, args)
