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
BACKBONES = {
    "MF": (MF, {}),
    "LightGCN": (LightGCN, {"num_layers": 1}),
}
TRAINING = {  # of a backbone, and what a loss wants otherwise
    "MF": {"epochs": 40},
    "LightGCN": {"epochs": 40},
}
PROTOCOLS = ("bsl-released", "holdout")

args = read(flags(__doc__, loss=LOSSES["MF"], backbone=BACKBONES, protocol=PROTOCOLS))

# Data: as published; for the clean protocol, a tenth of train for validation.
data = load("movielens-1m-bsl", args)
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
config = settings(trainer, epochs, args, dataset="movielens-1m-bsl")
result = trainer.fit(graph, epochs, config=config)

# Print.
show(result, trainer, args)
