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
SPLITS = ("popularity", "iid")
LOSSES = {  # on the one split, and on the other
    "BSL": (BSL.as_released(0.1, 1.1), BSL.as_released(0.1, 1.2)),
    "BSL-paper": (BSL(0.1, 0.1), BSL(0.1, 0.1)),
    "SL": (SL(0.1), SL(0.1)),
    "PSL": (PSL(0.05), PSL(0.05)),
    "PSL-tanh": (PSL(0.05, "tanh"), PSL(0.05, "tanh")),
    "PSL-atan": (PSL(0.05, "atan"), PSL(0.05, "atan")),
    "SLatK": (SLatK(0.1, 1.0, every=20), SLatK(0.1, 1.0, every=20)),
    "AdvInfoNCE": (AdvInfoNCE(0.1), AdvInfoNCE(0.1)),
    "LLPAUC": (LLPAUC(0.7, 0.01, ascent=False), LLPAUC(0.7, 0.01, ascent=False)),
    "BPR": (BPR(), BPR()),
}
BACKBONES = {"MF": MF, "LightGCN": LightGCN, "XSimGCL": XSimGCL}
# Of a backbone, or of one with a loss: its arguments, epochs, the trainer's arguments.
SETTINGS = {
    "MF": ({"init": "svd"}, 12, {"batch_size": 2048, "lr": 0.05}),
    "MF BPR": ({"init": "normal", "init_std": 0.03}, 50, {"lr": 0.02, "weight_decay": 1e-6}),
    "LightGCN": ({"num_layers": 2, "init": "svd"}, 12, {"batch_size": 2048, "lr": 0.04}),
    "XSimGCL": ({"num_layers": 2, "init": "svd"}, 12, {"batch_size": 2048, "lr": 0.05}),
}

args = read(flags(__doc__, loss=LOSSES, backbone=BACKBONES, split=SPLITS))

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
loss = LOSSES[args.loss][SPLITS.index(args.split)]
own = {"protocol": protocol, "seed": args.seed, "callbacks": callbacks(args)}
trainer = Trainer(backbone, loss, **of_trainer, **own)

# Fit.
config = settings(trainer, epochs, args, dataset=dataset)
result = trainer.fit(graph, epochs, config=config)

# Print.
show(result, trainer, args)
