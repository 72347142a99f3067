"""What the transforms share: holding pairs out, and leaving out nodes without pairs."""

from __future__ import annotations

import torch
from torch import Tensor
from torch_geometric.data import HeteroData

from pyg_bsl.data.errors import DataError
from pyg_bsl.data.hetero import PAIR_KEYS, RATED_BY, RATES, keep_train, name_of


def require_unsplit(data: HeteroData, transform: str) -> None:
    """Refuse data without pairs, and data of which pairs are held out already.

    Raises:
        DataError: If there are no training pairs, or there are test or validation pairs.
    """
    if data[RATES].edge_index.size(1) == 0:
        raise DataError(f"{transform} needs pairs, but the data set '{name_of(data)}' has none")
    for key in (PAIR_KEYS["test"], PAIR_KEYS["valid"]):
        if key in data[RATES]:
            raise DataError(
                f"{transform} needs data that is not split yet, but it has '{key}': "
                f"apply {transform} before any split"
            )


def require_column(data: HeteroData, key: str, transform: str) -> Tensor:
    """The ``rating`` or ``time`` of each training pair, ``[E]``.

    Raises:
        DataError: If the data has none.
    """
    if key not in data[RATES]:
        raise DataError(
            f"{transform} needs the {key} of each pair, but the data set "
            f"'{name_of(data)}' has none: load it with a column for it (from_files(..., {key}=...))"
        )
    column: Tensor = data[RATES][key]
    return column


def require_share(name: str, share: float) -> None:
    """Refuse a share that is not between 0 and 1.

    Raises:
        ValueError: If it is not.
    """
    if not 0 < share < 1:
        raise ValueError(f"'{name}' must lie between 0 and 1, both excluded (got {share!r})")


def share_of_each(counts: Tensor, share: float) -> Tensor:
    r"""How many of a user's :math:`n` pairs are held out.

    .. math::
        \min(\max(1, \lfloor share \cdot n \rfloor), n - 1)

    so at least one where there are two, and one always stays.

    Args:
        counts: Number of pairs of each user, ``[num_users]``.
        share: Share to hold out.
    """
    wanted = (counts.double() * share + 1e-9).floor().long().clamp(min=1)
    return torch.minimum(wanted, (counts - 1).clamp(min=0))


def rank_in_user(users: Tensor, order: Tensor, counts: Tensor) -> Tensor:
    """Place of each pair among the pairs of its user, from 0, ``[E]``.

    Args:
        users: User of each pair, ``[E]``.
        order: The pairs in the order that ranks them, ``[E]``.
        counts: Number of pairs of each user, ``[num_users]``.
    """
    order = order[users[order].argsort(stable=True)]
    first = counts.cumsum(0) - counts
    rank = torch.empty_like(order)
    rank[order] = torch.arange(order.numel(), device=order.device) - first[users[order]]
    return rank


def hold_out_share(
    data: HeteroData, share: float, seed: int, key: str = "edge_label_index"
) -> HeteroData:
    """A copy in which a random share of each user's training pairs moved to ``key``."""
    users = data[RATES].edge_index[0]
    counts = torch.bincount(users, minlength=data["user"].num_nodes)
    generator = torch.Generator().manual_seed(seed)
    order = torch.randperm(users.numel(), generator=generator).to(users.device)
    rank = rank_in_user(users, order, counts)
    return hold_out(data, rank < share_of_each(counts, share)[users], key)


def hold_out(data: HeteroData, mask: Tensor, key: str = "edge_label_index") -> HeteroData:
    """A copy in which the training pairs where ``mask`` ``[E]`` holds moved to ``key``."""
    out = keep_train(data, ~mask)
    out[RATES][key] = data[RATES].edge_index[:, mask]
    return out


def drop_lonely_nodes(data: HeteroData) -> HeteroData:
    """A copy without the users and items that have no training pair, the ids closed up.

    What is known of each node (``raw_id``, titles) follows, and held-out pairs with a node that
    is gone go with it.
    """
    out = data.__copy__()
    new_id = []
    for row, node in enumerate(("user", "item")):
        store = out[node]
        degree = torch.bincount(data[RATES].edge_index[row], minlength=store.num_nodes)
        keep = degree > 0
        kept = keep.nonzero().view(-1)
        for key in [key for key in store if store.is_node_attr(key)]:
            value = store[key]
            at = kept.tolist()
            store[key] = value[kept] if isinstance(value, Tensor) else [value[i] for i in at]
        store.num_nodes = kept.numel()
        new_id.append(torch.where(keep, keep.cumsum(0) - 1, -1))
    for key in PAIR_KEYS.values():
        if key in out[RATES]:
            users, items = out[RATES][key]
            pairs = torch.stack([new_id[0][users], new_id[1][items]])
            out[RATES][key] = pairs[:, (pairs >= 0).all(0)]
    out[RATED_BY].edge_index = out[RATES].edge_index.flip(0).contiguous()
    return out
