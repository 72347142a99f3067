"""Yelp2018: split, protocol and losses of the BSL paper (ICDE 2024).

    python examples/yelp2018.py
    python examples/yelp2018.py --loss SL --backbone LightGCN --output runs/sl
    python examples/yelp2018.py --protocol holdout   # epoch chosen on validation data

The released protocol has no validation data: it chooses the epoch on the test set.
"""

import torch
from common import callbacks, flags, load, read, settings, show

from pyg_bsl import Trainer
from pyg_bsl.data import HoldoutValidation, build_graph
from pyg_bsl.losses import BSL, PSL, SL
from pyg_bsl.nn import MF, LightGCN
from pyg_bsl.sampling import AllItems

# Knobs. Temperatures and BSL's weight are those of the BSL authors' logs (1.12 on LightGCN), PSL's
# is half of SL's. The training was chosen by the released protocol, on the test set.
LOSSES = {
    "MF": {
        "BSL": BSL.as_released(0.11, 1.1),
        "SL": SL(tau=0.11),
        "PSL": PSL(tau=1 / 18),
    },
    "LightGCN": {
        "BSL": BSL.as_released(0.15, 1.1),
        "SL": SL(tau=0.15),
        "PSL": PSL(tau=1 / 13),
    },
}
BACKBONES = {"MF": MF, "LightGCN": LightGCN}
# On LightGCN negatives are weighed by popularity and ranks are by inner product, as in the released
# code, whose negatives are the other items of the batch.
BY_POPULARITY = {"sampler": AllItems(power=1), "rank_by": "dot"}
# Of a backbone, or of one with a loss: its arguments, epochs, the trainer's arguments.
SETTINGS = {
    "MF": ({"init": "svd", "dropout": 0.1}, 11, {"batch_size": 2048, "lr": 0.05}),
    "LightGCN": (
        {"num_layers": 3, "init": "svd"},
        12,
        {"batch_size": 2048, "lr": 0.02, **BY_POPULARITY},
    ),
}
PROTOCOLS = ("bsl-released", "holdout")

args = read(flags(__doc__, loss=LOSSES["MF"], backbone=BACKBONES, protocol=PROTOCOLS))

# Data: as published; for the clean protocol, a tenth of train for validation.
data = load("yelp2018", args)
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
config = settings(trainer, epochs, args, dataset="yelp2018")
result = trainer.fit(graph, epochs, config=config)

# Print.
show(result, trainer, args)
