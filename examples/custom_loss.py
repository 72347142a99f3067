"""A loss of one's own in ten lines: on tensors, streamed over a catalogue, and by its name.

`python examples/custom_loss.py` trains with it on MovieLens small, in half a minute and without a
download. With arguments it is the command line, to which the loss is known by now:

    python examples/custom_loss.py train --dataset movielens-small --loss SoftHinge --help
"""

import sys

import torch
from torch import Tensor

from pyg_bsl.cli import main
from pyg_bsl.losses import row_loss
from pyg_bsl.ops import LazyScores, Scores, log_mean_exp_map
from pyg_bsl.space import LogUniform, Uniform

# Knobs: what runs without arguments.
COMMAND = "train --dataset movielens-small --loss SoftHinge --epochs 20 --no-tracking"


@row_loss({"tau": LogUniform(0.02, 0.5), "margin": Uniform(0.0, 1.0)})
def SoftHinge(pos: Tensor, neg: Scores, *, tau: float = 0.1, margin: float = 0.5) -> Tensor:
    """Log-mean-exp of hinges: negatives near or above the positive push, the hardest the most.

    Args:
        pos: Positive scores, one a row.
        neg: Negative scores of each row, held in full or streamed.
        tau: Temperature; the smaller, the more the hardest negatives count.
        margin: How far below the positive a negative is left alone.
    """
    return log_mean_exp_map(neg, lambda s, p: torch.relu(s - p + margin) / tau, pos)


# On tensors: two positives with three negatives each.
loss = SoftHinge(margin=0.3)
print(loss, "on scores:", loss(torch.tensor([0.9, 0.1]), torch.rand(2, 3)).item())

# Streamed: 100 users against 50,000 items, whose scores are never held in full.
user, item = torch.randn(100, 8), torch.randn(50_000, 8)
print(loss, "on vectors:", loss((user * item[:100]).sum(1), LazyScores(user, item)).item())

# By its name: train, evaluate, tune.
if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:] or COMMAND.split()))
