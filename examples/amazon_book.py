"""Amazon-Book: LightGCN's split, with the losses and protocol of the BSL paper (ICDE 2024).

    python examples/amazon_book.py
    python examples/amazon_book.py --loss SL --backbone LightGCN --output runs/sl
    python examples/amazon_book.py --protocol holdout   # epoch chosen on validation data

The released protocol has no validation data: it chooses the epoch on the test set.
"""

import torch
from common import callbacks, flags, load, read, settings, show

from pyg_bsl import Trainer
from pyg_bsl.data import HoldoutValidation, build_graph
from pyg_bsl.losses import BSL, PSL, SL
from pyg_bsl.nn import MF, LightGCN
from pyg_bsl.sampling import AllItems

# Knobs. SL's temperature is that of the PSL paper for its own split of Amazon-Book (Table B.2,
# there on half the cosine), PSL's half of it; BSL's weight and the training are those of Yelp2018.
# Nothing was tried here.
LOSSES = {
    "MF": {
        "BSL": BSL.as_released(0.05, 1.1),
        "SL": SL(tau=0.05),
        "PSL": PSL(tau=1 / 40),
    },
    "LightGCN": {
        "BSL": BSL.as_released(0.05, 1.1),
        "SL": SL(tau=0.05),
        "PSL": PSL(tau=1 / 40),
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
        {"num_layers": 3, "init": "svd"},
        12,
        {"batch_size": 2048, "lr": 0.02, **BY_POPULARITY},
    ),
}
PROTOCOLS = ("bsl-released", "holdout")

args = read(flags(__doc__, loss=LOSSES["MF"], backbone=BACKBONES, protocol=PROTOCOLS))

# Data: as published; for the clean protocol, a tenth of train for validation.
data = load("amazon-book", args)
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
config = settings(trainer, epochs, args, dataset="amazon-book")
result = trainer.fit(graph, epochs, config=config)

# Print.
show(result, trainer, args)
