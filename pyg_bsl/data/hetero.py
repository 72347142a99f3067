"""The one form in which interactions are kept: a bipartite ``HeteroData``."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor
from torch_geometric.data import HeteroData

RATES = ("user", "rates", "item")
RATED_BY = ("item", "rated_by", "user")
PAIR_KEYS = {
    "train": "edge_index",
    "valid": "valid_edge_label_index",
    "test": "edge_label_index",
}
"""Where the pairs of each split are kept on the edge type ``RATES``."""


def make_hetero(
    train: Tensor,
    num_users: int,
    num_items: int,
    *,
    test: Tensor | None = None,
    valid: Tensor | None = None,
    user_ids: Sequence[str] | None = None,
    item_ids: Sequence[str] | None = None,
    name: str = "unnamed",
    rating: Tensor | None = None,
    time: Tensor | None = None,
) -> HeteroData:
    """Interactions as a ``HeteroData``.

    Node types ``user`` and ``item`` (with ``raw_id`` where raw ids are known); edge type
    ``(user, rates, item)`` with ``edge_index`` for the training pairs (and ``rating`` and ``time``
    of each where known), ``edge_label_index`` for the test pairs and ``valid_edge_label_index``
    for the validation pairs; and the reverse edge type ``(item, rated_by, user)``.

    Args:
        train: Training pairs, ``[2, E]``, int64.
        num_users: Number of users.
        num_items: Number of items.
        test: Test pairs, ``[2, T]``.
        valid: Validation pairs, ``[2, V]``.
        user_ids: Raw id of each user.
        item_ids: Raw id of each item.
        name: Name of the data set.
        rating: Rating of each training pair, ``[E]``.
        time: Time of each training pair, ``[E]``.
    """
    data = HeteroData()
    data.name = name
    for node, size, ids in (("user", num_users, user_ids), ("item", num_items, item_ids)):
        data[node].num_nodes = size
        if ids is not None:
            data[node].raw_id = list(ids)
    data[RATES].edge_index = train
    data[RATED_BY].edge_index = train.flip(0).contiguous()
    if rating is not None:
        data[RATES].rating = rating
    if time is not None:
        data[RATES].time = time
    if test is not None:
        data[RATES].edge_label_index = test
    if valid is not None:
        data[RATES].valid_edge_label_index = valid
    return data


def name_of(data: HeteroData) -> str:
    """Name of the data set, ``"unnamed"`` if it has none."""
    return data.name if "name" in data else "unnamed"


def keep_train(data: HeteroData, keep: Tensor) -> HeteroData:
    """A shallow copy of ``data`` with only the training pairs ``keep`` (mask or index, ``[E]``)."""
    out = data.__copy__()
    store = out[RATES]
    for key in ("edge_index", "rating", "time"):
        if key in store:
            store[key] = store[key][..., keep]
    out[RATED_BY].edge_index = store.edge_index.flip(0).contiguous()
    return out
