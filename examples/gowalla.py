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
BACKBONES = {"MF": MF, "LightGCN": LightGCN}
# On LightGCN negatives are weighed by popularity and ranks are by inner product, as in the released
# code, whose negatives are the other items of the batch.
BY_POPULARITY = {"sampler": AllItems(power=1), "rank_by": "dot"}
# Of a backbone, or of one with a loss: its arguments, epochs, the trainer's arguments.
SETTINGS = {
    "MF": ({"init": "svd"}, 12, {"batch_size": 2048, "lr": 0.05}),
    "LightGCN": (
        {"num_layers": 1, "init": "svd"},
        12,
        {"batch_size": 2048, "lr": 0.02, **BY_POPULARITY},
    ),
}
PROTOCOLS = ("bsl-released", "holdout")

args = read(flags(__doc__, loss=LOSSES["MF"], backbone=BACKBONES, protocol=PROTOCOLS))

# Data: as published; for the clean protocol, a tenth of train for validation.
data = load("gowalla", args)
clean = args.protocol == "holdout"
graph = build_graph(HoldoutValidation(seed=args.seed)(data) if clean else data)

# Parts.
torch.manual_seed(args.seed)
pair = f"{args.backbone} {args.loss}"
of_backbone, epochs, of_trainer = SETTINGS.get(pair, SETTINGS[args.backbone])
epochs = args.epochs or epochs
backbone = BACKBONES[args.backbone](graph.num_users, graph.num_items, **of_backbone)
loss = LOSSES[args.backbone][args.loss]
own = {"protocol": args.protocol, "seed": args.seed, "callbacks": callbacks(args)}
trainer = Trainer(backbone, loss, **of_trainer, **own)

# Fit.
config = settings(trainer, epochs, args, dataset="gowalla")
result = trainer.fit(graph, epochs, config=config)

# Print.
show(result, trainer, args)
