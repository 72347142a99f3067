r"""Metrics of top-K lists, on PyTorch Geometric's link-prediction metrics.

Let :math:`R_u = (i_1, \ldots, i_K)` be the list of user :math:`u` (shorter where fewer items
remain), :math:`T_u` the user's targets, :math:`h_r = [i_r \in T_u]` and :math:`n_i` the number of
training interactions of item :math:`i`. Each of these is averaged over users:

.. math::
    \mathrm{recall@}K &= \frac{1}{|T_u|} \sum_{r \le K} h_r, \qquad
    \mathrm{precision@}K = \frac{1}{K} \sum_{r \le K} h_r, \qquad
    \mathrm{hit\_rate@}K = \max_{r \le K} h_r \\
    \mathrm{ndcg@}K &= \sum_{r \le K} \frac{h_r}{\log_2(r + 1)} \Big/
        \sum_{r \le \min(K, |T_u|)} \frac{1}{\log_2(r + 1)}, \qquad
    \mathrm{mrr@}K = \max_{r \le K} \frac{h_r}{r} \\
    \mathrm{map@}K &= \frac{1}{\min(K, |T_u|)} \sum_{r \le K} h_r
        \frac{1}{r} \sum_{q \le r} h_q

and these two are of all lists together:

.. math::
    \mathrm{coverage@}K = \frac{|\bigcup_u R_u|}{|I|}, \qquad
    \mathrm{average\_popularity@}K = \sum_u \sum_{i \in R_u} n_i \Big/ \sum_u |R_u|

K may exceed the size of the catalogue: the lists are then rankings of the whole of it, and K
stands in the formulas as it is.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor
from torch_geometric.metrics import (
    LinkPredAveragePopularity,
    LinkPredCoverage,
    LinkPredHitRatio,
    LinkPredMAP,
    LinkPredMetric,
    LinkPredMetricCollection,
    LinkPredMRR,
    LinkPredNDCG,
    LinkPredPrecision,
    LinkPredRecall,
)

from pyg_bsl.names import pick
from pyg_bsl.types import UserItems

_LISTS = 2**14  # lists at a time, so that temporaries stay small


class Coverage(LinkPredCoverage):
    """PyG's coverage, with the item id after the last one for "no item"."""

    def __init__(self, k: int, num_items: int) -> None:
        super().__init__(k, num_items + 1)

    def compute(self) -> Tensor:
        """Share of the catalogue that stands in a list."""
        return self.mask[:-1].float().mean()


class AveragePopularity(LinkPredAveragePopularity):
    """PyG's average popularity, with the item id after the last one for "no item"."""

    def __init__(self, k: int, popularity: Tensor) -> None:
        super().__init__(k, torch.cat([popularity, popularity.new_zeros(1)]))

    def update(self, pred_index_mat: Tensor, *_: Tensor | tuple[Tensor, Tensor] | None) -> None:
        """Add the lists ``[batch_size, k]``."""
        items = pred_index_mat[:, : self.k]
        self.accum += self.popularity[items].sum()
        self.total += (items < self.popularity.numel() - 1).sum()


METRICS: Mapping[str, Callable[[int, Tensor], torch.nn.Module]] = {
    "recall": lambda k, popularity: LinkPredRecall(k),
    "ndcg": lambda k, popularity: LinkPredNDCG(k),
    "precision": lambda k, popularity: LinkPredPrecision(k),
    "hit_rate": lambda k, popularity: LinkPredHitRatio(k),
    "mrr": lambda k, popularity: LinkPredMRR(k),
    "map": lambda k, popularity: LinkPredMAP(k),
    "coverage": lambda k, popularity: Coverage(k, popularity.numel()),
    "average_popularity": AveragePopularity,
}
"""What makes each metric, by name, from K and the items' numbers of training interactions."""


def parse_metric(text: str) -> tuple[str, int]:
    """Name and K of a metric as it stands in results.

    Raises:
        ValueError: If the form is not ``name@K``, K is not positive, or the name is unknown.

    Example:
        >>> parse_metric("ndcg@20")
        ('ndcg', 20)
    """
    name, _, k = text.partition("@")
    if not k.isdecimal() or int(k) < 1:
        raise ValueError(
            "A metric is written 'name@K' with a positive whole number K, such as 'ndcg@20' "
            f"(got '{text}')"
        )
    pick("metric", name, METRICS)
    return name, int(k)


def rank_metrics(
    items: Tensor,
    targets: UserItems,
    popularity: Tensor,
    *,
    metrics: Sequence[str] = tuple(METRICS),
    k: Sequence[int] = (10, 20),
    num_users: int | None = None,
) -> dict[str, float]:
    """Metrics of ranked lists.

    Args:
        items: Ranked items of each list, best first, without repeats; at least as long as the
            largest K or the catalogue; :obj:`-1` where there is no item (only at the end).
        targets: What each list should hold; its rows are the lists.
        popularity: Number of training interactions of each item.
        metrics: Names of metrics, keys of :data:`METRICS`.
        k: Lengths at which the lists are cut.
        num_users: Number of users that the means over users run over, those beyond the lists
            counting 0. By default the lists that have targets.

    Shapes:
        - **items:** :math:`(Q, K)`; **popularity:** :math:`(I)`

    Returns:
        ``{"recall@10": ..., "recall@20": ..., "ndcg@10": ...}``: metrics in the order given, K
        ascending.

    Raises:
        ValueError: If a name is unknown or a K is not positive.

    Example:
        >>> items = torch.tensor([[2, 0], [1, -1]])
        >>> targets = UserItems.from_pairs(torch.tensor([0, 1]), torch.tensor([0, 1]), 2, 3)
        >>> rank_metrics(items, targets, torch.tensor([4, 2, 6]), metrics=["mrr"], k=[1, 2])
        {'mrr@1': 0.5, 'mrr@2': 0.75}
    """
    asked = [f"{name}@{cut}" for name in metrics for cut in sorted(set(k))]
    parsed = {text: parse_metric(text) for text in asked}
    collection = LinkPredMetricCollection(
        {text: METRICS[name](cut, popularity) for text, (name, cut) in parsed.items()}
    ).to(items.device)
    items = items.where(items >= 0, popularity.numel())  # PyG takes ids from 0 on
    every = torch.arange(items.size(0), device=items.device)
    for lists in every.split(_LISTS):
        part = targets.select(lists)
        collection.update(items[lists], (part.users, part.items))
    values = torch.stack(list(collection.compute().values())).double()  # [M]
    if num_users is not None:
        share = int((targets.counts > 0).sum()) / num_users
        per_user = [isinstance(metric, LinkPredMetric) for metric in collection.values()]
        values[per_user] *= share
    return dict(zip(collection, values.tolist(), strict=True))
