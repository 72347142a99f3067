"""What backbones that contrast two views of the nodes share."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from pyg_bsl.nn._checks import check_number, check_size
from pyg_bsl.nn.backbone import EmbeddingBackbone, Init
from pyg_bsl.ops import LazyScores, log_mean_exp
from pyg_bsl.types import Batch, Embeddings


@dataclass(frozen=True)
class Views(Embeddings):
    """Embeddings together with two views of them to contrast.

    Args:
        user: ``[num_users, D]``.
        item: ``[num_items, D]``.
        one: The first view.
        two: The second view.
    """

    one: Embeddings
    two: Embeddings


class ContrastiveBackbone(EmbeddingBackbone):
    r"""A backbone that draws two views of a node together and those of different nodes apart.

    Its auxiliary loss is :math:`\lambda` times the sum of :func:`info_nce` over the users and over
    the items of the batch. In training, :meth:`forward` gives :class:`Views`; in evaluation, plain
    embeddings without any noise.

    A batch of users with all their positives may have many times the 2048 pairs of the authors'
    batches, and the term is quadratic in them: as many pairs are drawn from it.

    Args:
        num_users: Number of users.
        num_items: Number of items.
        embedding_dim: Size of an embedding.
        contrast_weight: Weight :math:`\lambda` of the contrastive term.
        contrast_tau: Its temperature.
        contrast_size: Most pairs of a batch whose nodes are contrasted.
        init: How the vectors start: ``"xavier"`` (uniform, Glorot), ``"normal"`` or ``"svd"``.
        init_std: Standard deviation of ``"normal"``.
    """

    def __init__(
        self,
        num_users: int,
        num_items: int,
        *,
        embedding_dim: int,
        contrast_weight: float,
        contrast_tau: float,
        contrast_size: int,
        init: Init,
        init_std: float,
    ) -> None:
        super().__init__(
            num_users, num_items, embedding_dim=embedding_dim, init=init, init_std=init_std
        )
        check_number("contrast_weight", contrast_weight, least=0)
        check_number("contrast_tau", contrast_tau, above=0)
        check_size("contrast_size", contrast_size)
        self.contrast_weight = contrast_weight
        self.contrast_tau = contrast_tau
        self.contrast_size = contrast_size

    def auxiliary_loss(self, emb: Embeddings, batch: Batch) -> Tensor | None:
        """The contrastive term of the nodes of ``batch``; :obj:`None` without views."""
        if not isinstance(emb, Views):
            return None
        users, items = batch.users, batch.items
        if items.numel() > self.contrast_size:
            key = torch.rand(items.numel(), device=items.device)
            some = key.topk(self.contrast_size, sorted=False).indices
            users, items = users[some], items[some]
        of_users = info_nce(emb.one.user, emb.two.user, users, self.contrast_tau)
        of_items = info_nce(emb.one.item, emb.two.item, items, self.contrast_tau)
        return self.contrast_weight * (of_users + of_items)


def info_nce(one: Tensor, two: Tensor, nodes: Tensor, tau: float) -> Tensor:
    r"""InfoNCE of two views, each node once.

    .. math::
        \frac{1}{|S|} \sum_{v \in S} \Big( \log \sum_{w \in S}
        e^{\cos(\mathbf{a}_v, \mathbf{b}_w) / \tau} - \cos(\mathbf{a}_v, \mathbf{b}_v) / \tau \Big)

    over the set :math:`S` of the nodes that are named.

    Args:
        one: First view :math:`\mathbf{a}` of all nodes, ``[V, D]``.
        two: Second view :math:`\mathbf{b}`, ``[V, D]``.
        nodes: Nodes to contrast, ``[B]``; who is named several times counts once.
        tau: Temperature.

    Shapes:
        - **output:** scalar

    Example:
        >>> view = torch.eye(3)
        >>> info_nce(view, view, torch.tensor([0, 2, 2]), tau=1.0)
        tensor(0.3133)
    """
    if nodes.device.type == "cpu":  # where nobody waits for a size that depends on the data
        return _info_nce(one, two, nodes.unique(), None, tau)
    return _info_nce(one, two, nodes, _one_over_count(nodes, one), tau)


def _one_over_count(nodes: Tensor, like: Tensor) -> Tensor:
    """One over how often each node is named, so that together its rows weigh 1, ``[B]``."""
    count = torch.zeros(like.size(0), device=nodes.device, dtype=like.dtype)
    count = count.index_add(0, nodes, torch.ones_like(nodes, dtype=like.dtype))
    return count.index_select(0, nodes).reciprocal()


def _info_nce(one: Tensor, two: Tensor, nodes: Tensor, weight: Tensor | None, tau: float) -> Tensor:
    """InfoNCE of rows with a weight each; :obj:`None` for even ones."""
    query, key = (F.normalize(view.index_select(0, nodes), dim=1) for view in (one, two))
    log_weight = None if weight is None else weight.log()
    scores = LazyScores(query, key, log_weight=log_weight, bounded=True)
    rows = log_mean_exp(scores, tau) - (query * key).sum(1) / tau
    if weight is None:
        return rows.mean() + math.log(nodes.numel())
    size = weight.sum()
    return (weight * rows).sum() / size + size.log()
