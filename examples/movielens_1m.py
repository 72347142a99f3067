"""MovieLens-1M: split, protocol and losses of the BSL paper (ICDE 2024).

    python examples/movielens_1m.py
    python examples/movielens_1m.py --loss SL --backbone LightGCN --output runs/sl
    python examples/movielens_1m.py --protocol holdout   # epoch chosen on validation data

The released protocol has no validation data: it chooses the epoch on the test set.
"""

import torch
from common import callbacks, flags, load, read, settings, show

from pyg_bsl import Trainer
from pyg_bsl.data import HoldoutValidation, build_graph
from pyg_bsl.losses import BSL, PSL, SL
from pyg_bsl.nn import MF, LightGCN

# Knobs. Temperatures and BSL's weight are those of the BSL authors' logs, PSL's is half of SL's;
# the training is the library's default. Nothing was tried here.
LOSSES = {
    "MF": {
        "BSL": BSL.as_released(0.17, 1.06),
        "SL": SL(tau=0.17),
        "PSL": PSL(tau=1 / 12),
    },
    "LightGCN": {
        "BSL": BSL.as_released(0.15, 1.1),
        "SL": SL(tau=0.15),
        "PSL": PSL(tau=1 / 13),
    },
}
BACKBONES = {"MF": MF, "LightGCN": LightGCN}
# Of a backbone, or of one with a loss: its arguments, epochs, the trainer's arguments.
SETTINGS = {
    "MF": ({}, 40, {}),
    "LightGCN": ({"num_layers": 1}, 40, {}),
}
PROTOCOLS = ("bsl-released", "holdout")

args = read(flags(__doc__, loss=LOSSES["MF"], backbone=BACKBONES, protocol=PROTOCOLS))

# Data: as published; for the clean protocol, a tenth of train for validation.
data = load("movielens-1m-bsl", args)
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
config = settings(trainer, epochs, args, dataset="movielens-1m-bsl")
result = trainer.fit(graph, epochs, config=config)

# Print.
show(result, trainer, args)
