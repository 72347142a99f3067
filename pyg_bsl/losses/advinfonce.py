"""Adversarial InfoNCE."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pyg_bsl.checks import check_count, check_positive
from pyg_bsl.losses.base import Loss
from pyg_bsl.losses.context import Context
from pyg_bsl.ops import Scores, add_scores, log_mean_exp, reverse_gradient, with_vectors
from pyg_bsl.space import LogUniform, Space
from pyg_bsl.types import Embeddings, UserItems


class AdvInfoNCE(Loss):
    r"""Adversarial InfoNCE.

    From `"Empowering Collaborative Filtering with Principled Adversarial Contrastive Loss"
    <https://arxiv.org/abs/2310.18700>`_.

    .. math::
        \ell_{ui} = -\log \frac{e^{s_{ui} / \tau}}
        {e^{s_{ui} / \tau} + w M \sum_j p_{uj} \, e^{s_{uj} / \tau}}, \quad
        p_{uj} = \frac{e^{\cos(\mathbf{g}_u, \mathbf{h}_j)}}
        {\sum_{j'} e^{\cos(\mathbf{g}_u, \mathbf{h}_{j'})}}

    An adversary with vectors :math:`\mathbf{g}, \mathbf{h}` of its own says how hard each negative
    is. The model lowers the loss; the adversary **raises** it, by gradient reversal, in each
    ``every``-th epoch, and stands still in the others. (In the released code the model stands still
    while the adversary moves; here it goes on, so that no epoch is lost.)

    The weighted sum is exact over whatever the negatives are, the whole catalogue too:
    :math:`\log \sum_j p_{uj} e^{s_{uj} / \tau}` is the log-mean-exp of the inner products of
    :math:`[\mathbf{u} / \tau, \mathbf{g}_u]` and :math:`[\mathbf{i}, \mathbf{h}_j]` less that of
    :math:`\mathbf{g}_u^\top \mathbf{h}_j`. As in :class:`~pyg_bsl.losses.SLatK`, a mean over any
    number of negatives stands for the sum over the paper's :math:`M`.

    Args:
        tau: Temperature :math:`\tau`.
        weight: Weight :math:`w` of the negatives, :math:`K` in the paper.
        every: Epochs from one move of the adversary to the next.
        adversary_lr: Learning rate of the adversary. The paper's 0.00005 is for a thousand small
            steps an epoch, and a dozen of them move nothing. On MovieLens small the adversary does
            not pay: validation NDCG@20 0.155 without it, 0.154 at 0.005, the most that costs next
            to nothing, 0.150 at 0.01 and 0.136 at 0.02 (MF, 40 epochs, one seed).
        adversary_dim: Size of the adversary's vectors.
        num_negatives: Number :math:`M` of negatives that the sum stands for.

    Shapes:
        - **input:** positive scores :math:`(B)`, negative scores :math:`(B, N)`, users
          :math:`(B)`, negatives :math:`(N)` or :math:`(B, N)` or none for the whole catalogue
        - **output:** scalar

    Raises:
        ValueError: If a number is not positive.

    Example:
        >>> loss = AdvInfoNCE(tau=0.5, weight=1.0, num_negatives=1)
        >>> loss.setup(UserItems.from_pairs(torch.tensor([0]), torch.tensor([0]), 1, 4))
        >>> round(loss(torch.zeros(1), torch.zeros(1, 4), users=torch.tensor([0])).item(), 4)
        0.6931
    """

    search_space: ClassVar[Mapping[str, Space]] = {
        "tau": LogUniform(0.02, 1.0),
        "adversary_lr": LogUniform(0.0005, 0.02),
    }
    needs = ("users", "negatives")

    user: nn.Parameter | None
    item: nn.Parameter | None

    def __init__(
        self,
        tau: float = 0.1,
        weight: float = 64.0,
        *,
        every: int = 5,
        adversary_lr: float = 0.005,
        adversary_dim: int = 64,
        num_negatives: int = 1000,
    ) -> None:
        super().__init__()
        self.tau = check_positive("tau", tau)
        self.weight = check_positive("weight", weight)
        self.every = check_count("every", every)
        self.adversary_lr = check_positive("adversary_lr", adversary_lr)
        self.adversary_dim = check_count("adversary_dim", adversary_dim)
        self.num_negatives = check_count("num_negatives", num_negatives)
        self.adversary_moves = False
        self.register_parameter("user", None)
        self.register_parameter("item", None)

    def setup(self, train: UserItems) -> None:
        """Random vectors of the adversary, of length about 1."""
        sizes = (train.num_users, train.num_items)
        if self.user is None or self.item is None or (len(self.user), len(self.item)) != sizes:
            std = self.adversary_dim**-0.5
            self.user, self.item = (
                nn.Parameter(std * torch.randn(n, self.adversary_dim, device=train.ptr.device))
                for n in sizes
            )

    def on_epoch_start(
        self, epoch: int, train: UserItems, embeddings: Callable[[], Embeddings]
    ) -> None:
        """Say whether it is the adversary's turn."""
        self.adversary_moves = epoch % self.every == 0

    def parameter_groups(self, lr: float) -> list[dict[str, Any]]:
        """The adversary at its own learning rate."""
        return [{"params": list(self.parameters()), "lr": self.adversary_lr}]

    def rows(self, pos: Tensor, neg: Scores, context: Context) -> Tensor:
        """Loss of each row."""
        assert self.user is not None and self.item is not None
        assert context.users is not None
        turn = reverse_gradient if self.adversary_moves else Tensor.detach
        g = F.normalize(turn(self.user).index_select(0, context.users), dim=1)  # [B, E]
        h = F.normalize(context.of_negatives(turn(self.item), neg), dim=-1)
        hardness = log_mean_exp(with_vectors(neg, g, h, bounded=True), 1.0, alike=False)
        log_mean = log_mean_exp(add_scores(neg, self.tau, g, h), 1.0, alike=False) - hardness
        size = math.log(self.weight * self.num_negatives)
        rows = F.softplus(size + log_mean - pos / self.tau)
        return torch.where(neg.mass() > 0, rows, 0)
