"""Gowalla: split, protocol and losses of the BSL paper (ICDE 2024).

    python examples/gowalla.py
    python examples/gowalla.py --loss SL --backbone LightGCN --output runs/sl
    python examples/gowalla.py --protocol holdout   # epoch chosen on validation data

The released protocol has no validation data: it chooses the epoch on the test set.
"""

import torch
from common import callbacks, flags, load, read, settings, show

from pyg_bsl import Trainer
from pyg_bsl.data import HoldoutValidation, build_graph
from pyg_bsl.losses import BSL, PSL, SL
from pyg_bsl.nn import MF, LightGCN
from pyg_bsl.sampling import AllItems

# Knobs. On LightGCN temperatures and BSL's weight are those of the BSL authors' logs. On MF they
# and the training are those that did best on validation on the PSL paper's split of the same data
# (the logs have 0.08 and 1.22). PSL's temperature is half of SL's.
LOSSES = {
    "MF": {
        "BSL": BSL.as_released(0.1, 1.2),
        "SL": SL(tau=0.1),
        "PSL": PSL(tau=1 / 20),
    },
    "LightGCN": {
        "BSL": BSL.as_released(0.12, 0.84),
        "SL": SL(tau=0.12),
        "PSL": PSL(tau=1 / 17),
    },
}
BACKBONES = {
    "MF": (MF, {"init": "svd"}),
    "LightGCN": (LightGCN, {"num_layers": 1, "init": "svd"}),
}
TRAINING = {  # of a backbone, and what a loss wants otherwise
    "MF": {"epochs": 12, "batch_size": 2048, "lr": 0.05},
    # As in the released code popular items weigh more among the negatives, and ranks are by inner
    # product. There they are the other items of the batch; here, all, weighed by popularity.
    "LightGCN": {
        "epochs": 12,
        "batch_size": 2048,
        "lr": 0.02,
        "sampler": AllItems(power=1),
        "rank_by": "dot",
    },
}
PROTOCOLS = ("bsl-released", "holdout")

args = read(flags(__doc__, loss=LOSSES["MF"], backbone=BACKBONES, protocol=PROTOCOLS))

# Data: as published; for the clean protocol, a tenth of train for validation.
data = load("gowalla", args)
clean = args.protocol == "holdout"
graph = build_graph(HoldoutValidation(seed=args.seed)(data) if clean else data)

# Parts.
torch.manual_seed(args.seed)
backbone_type, options = BACKBONES[args.backbone]
backbone = backbone_type(graph.num_users, graph.num_items, **options)
loss = LOSSES[args.backbone][args.loss]
training = TRAINING[args.backbone] | TRAINING.get(f"{args.backbone} {args.loss}", {})
if args.epochs is not None:
    training["epochs"] = args.epochs
epochs = training.pop("epochs")
own = {"protocol": args.protocol, "seed": args.seed, "callbacks": callbacks(args)}
trainer = Trainer(backbone, loss, **training, **own)

# Fit.
config = settings(trainer, epochs, args, dataset="gowalla")
result = trainer.fit(graph, epochs, config=config)

# Print.
show(result, trainer, args)
