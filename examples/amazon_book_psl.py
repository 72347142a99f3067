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
    "BSL-paper": BSL(tau1=0.5, tau2=0.05),
    "SL": SL(tau=0.05),
    "PSL": PSL(tau=0.025),
    "PSL-tanh": PSL(tau=0.025, activation="tanh"),
    "PSL-atan": PSL(tau=0.025, activation="atan"),
    "SLatK": SLatK(tau=0.05, tau_weight=0.5, k=20, every=20),
    "AdvInfoNCE": AdvInfoNCE(tau=0.05),
    "LLPAUC": LLPAUC(alpha=0.7, beta=0.01),
    "BPR": BPR(),
}
BACKBONES = {
    "MF": (MF, {"init": "svd"}),
    "LightGCN": (LightGCN, {"num_layers": 2, "init": "svd"}),
    "XSimGCL": (XSimGCL, {}),  # 3 layers
}
TRAINING = {  # of a backbone, and what a loss wants otherwise
    "MF": {"epochs": 12, "batch_size": 2048, "lr": 0.05},
    "LightGCN": {"epochs": 12, "batch_size": 2048, "lr": 0.04},
    "XSimGCL": {"epochs": 12, "batch_size": 2048},
}

args = read(flags(__doc__, loss=LOSSES, backbone=BACKBONES))

# Data: 80/20 within each user as published; a tenth of train for validation.
data = load("amazon-book-psl", args)
graph = build_graph(HoldoutValidation(seed=args.seed)(data))

# Parts.
torch.manual_seed(args.seed)
backbone_type, options = BACKBONES[args.backbone]
backbone = backbone_type(graph.num_users, graph.num_items, **options)
loss = LOSSES[args.loss]
training = TRAINING[args.backbone] | TRAINING.get(f"{args.backbone} {args.loss}", {})
if args.epochs is not None:
    training["epochs"] = args.epochs
epochs = training.pop("epochs")
own = {"protocol": "psl-iid", "seed": args.seed, "callbacks": callbacks(args)}
trainer = Trainer(backbone, loss, **training, **own)

# Fit.
config = settings(trainer, epochs, args, dataset="amazon-book-psl")
result = trainer.fit(graph, epochs, config=config)

# Print.
show(result, trainer, args)
