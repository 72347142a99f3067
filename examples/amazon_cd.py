"""Amazon-CD: split, protocol, losses and backbones of the PSL paper's Table 2.

    python examples/amazon_cd.py
    python examples/amazon_cd.py --loss PSL --output runs/psl
    python examples/amazon_cd.py --split iid   # which the paper has no results on

`--help` tells the flags, and the names of losses and backbones.
"""

import torch
from common import callbacks, flags, load, read, settings, show

from pyg_bsl import Trainer
from pyg_bsl.data import HoldoutValidation, build_graph
from pyg_bsl.losses import BPR, BSL, LLPAUC, PSL, SL, AdvInfoNCE, SLatK
from pyg_bsl.nn import MF, LightGCN, XSimGCL

# Knobs. Temperatures are those of the PSL paper (arXiv 2411.00163, Table B.3). It gives all on half
# the cosine: those of SL, BSL and AdvInfoNCE are twice that here, on the full one. BSL's weight,
# SL@K's tau_weight and the training are those of Gowalla; nothing was tried here.
LOSSES = {
    "popularity": {
        "BSL": BSL.as_released(0.1, 1.1),
        "BSL-paper": BSL(tau1=0.1, tau2=0.1),
        "SL": SL(tau=0.1),
        "PSL": PSL(tau=0.05),
        "PSL-tanh": PSL(tau=0.05, activation="tanh"),
        "PSL-atan": PSL(tau=0.05, activation="atan"),
        "SLatK": SLatK(tau=0.1, tau_weight=1.0, k=20, every=20),
        "AdvInfoNCE": AdvInfoNCE(tau=0.1),
        "LLPAUC": LLPAUC(alpha=0.7, beta=0.01),
        "BPR": BPR(),
    },
    "iid": {
        "BSL": BSL.as_released(0.1, 1.2),
        "BSL-paper": BSL(tau1=0.1, tau2=0.1),
        "SL": SL(tau=0.1),
        "PSL": PSL(tau=0.05),
        "PSL-tanh": PSL(tau=0.05, activation="tanh"),
        "PSL-atan": PSL(tau=0.05, activation="atan"),
        "SLatK": SLatK(tau=0.1, tau_weight=1.0, k=20, every=20),
        "AdvInfoNCE": AdvInfoNCE(tau=0.1),
        "LLPAUC": LLPAUC(alpha=0.7, beta=0.01),
        "BPR": BPR(),
    },
}
BACKBONES = {"MF": MF, "LightGCN": LightGCN, "XSimGCL": XSimGCL}
# Of a backbone, or of one with a loss: its arguments, epochs, the trainer's arguments.
SETTINGS = {
    "MF": ({"init": "svd"}, 12, {"batch_size": 2048, "lr": 0.05}),
    "MF BPR": ({"init": "normal", "init_std": 0.03}, 50, {"lr": 0.02, "weight_decay": 1e-6}),
    "LightGCN": ({"num_layers": 2, "init": "svd"}, 12, {"batch_size": 2048, "lr": 0.04}),
    "XSimGCL": ({"num_layers": 2, "init": "svd"}, 12, {"batch_size": 2048, "lr": 0.05}),
}

args = read(flags(__doc__, loss=LOSSES["popularity"], backbone=BACKBONES, split=LOSSES))

# Data: as published; where test pairs are like those of train, a tenth of train for validation.
iid = args.split == "iid"
dataset = "amazon-cd" if iid else f"amazon-cd-{args.split}"
protocol = "psl-iid" if iid else "psl-ood"
data = load(dataset, args)
graph = build_graph(HoldoutValidation(seed=args.seed)(data) if iid else data)

# Parts.
torch.manual_seed(args.seed)
pair = f"{args.backbone} {args.loss}"
of_backbone, epochs, of_trainer = SETTINGS.get(pair, SETTINGS[args.backbone])
epochs = args.epochs or epochs
backbone = BACKBONES[args.backbone](graph.num_users, graph.num_items, **of_backbone)
loss = LOSSES[args.split][args.loss]
own = {"protocol": protocol, "seed": args.seed, "callbacks": callbacks(args)}
trainer = Trainer(backbone, loss, **of_trainer, **own)

# Fit.
config = settings(trainer, epochs, args, dataset=dataset)
result = trainer.fit(graph, epochs, config=config)

# Print.
show(result, trainer, args)
