"""From interactions to the graph that is trained and evaluated on."""

from __future__ import annotations

import hashlib
import logging
import warnings
from typing import Literal

import torch
from torch import Tensor
from torch_geometric.data import HeteroData

from pyg_bsl.data.errors import DataError
from pyg_bsl.data.hetero import PAIR_KEYS, RATES, name_of
from pyg_bsl.types import BipartiteGraph, UserItems

log = logging.getLogger("pyg_bsl")

Layout = Literal["csr", "sparse_tensor"]


def build_graph(data: HeteroData, layout: Layout = "csr") -> BipartiteGraph:
    r"""The graph of a ``HeteroData`` of this package.

    Its adjacency, over users followed by items, has the weights

    .. math::
        \tilde A = D^{-1/2} A D^{-1/2}, \qquad \tilde A_{ui} = \frac{1}{\sqrt{d_u d_i}}

    of the training pairs, where :math:`d` counts the training pairs of a node.

    Args:
        data: Interactions, as from :func:`pyg_bsl.data.load_dataset`, ``from_files`` or
            :func:`pyg_bsl.data.hetero.make_hetero`.
        layout: ``"csr"`` for a sparse CSR tensor of torch, ``"sparse_tensor"`` for a
            ``SparseTensor`` of torch-sparse.

    Raises:
        DataError: If there are no training pairs, ids are no integers or out of range, pairs
            stand twice, or held-out pairs are training pairs too.
        ModuleNotFoundError: If ``layout`` needs torch-sparse and it is not installed.

    Example:
        >>> from pyg_bsl.data.hetero import make_hetero
        >>> train = torch.tensor([[0, 0, 1], [0, 1, 1]])
        >>> graph = build_graph(make_hetero(train, num_users=2, num_items=2))
        >>> graph.num_users, graph.num_items, graph.train.items.tolist()
        (2, 2, [0, 1, 1])
    """
    if layout not in ("csr", "sparse_tensor"):
        raise ValueError(f"'layout' must be 'csr' or 'sparse_tensor' (got {layout!r})")
    name = name_of(data)
    for node in ("user", "item"):
        if "num_nodes" not in data[node]:
            raise DataError(
                f"The data set '{name}' does not say how many {node}s there are: set "
                f"data['{node}'].num_nodes"
            )
    rows = {
        split: _rows(data, key, f"the {split} pairs ('{key}') of '{name}'")
        for split, key in PAIR_KEYS.items()
        if key in data[RATES]
    }
    if "train" not in rows or rows["train"].num_pairs == 0:
        raise DataError(f"The data set '{name}' has no training pairs ('edge_index')")
    train = rows["train"]
    for split in ("valid", "test"):
        if split in rows:
            _refuse_overlap(train, rows[split], split, name)
    lonely = int((train.counts == 0).sum())
    if lonely:
        log.warning("%s: %d users have no training pair", name, lonely)
    return BipartiteGraph(
        train=train,
        valid=rows.get("valid"),
        test=rows.get("test"),
        adjacency=_adjacency(train, layout),
        name=name,
        digest=_digest(rows),
        user_ids=data["user"].get("raw_id"),
        item_ids=data["item"].get("raw_id"),
    )


def _rows(data: HeteroData, key: str, what: str) -> UserItems:
    """The pairs under ``key``, checked."""
    pairs = data[RATES][key]
    num_users, num_items = data["user"].num_nodes, data["item"].num_nodes
    if pairs.dtype != torch.long or pairs.dim() != 2 or pairs.size(0) != 2:
        raise DataError(
            f"{what} must be an int64 tensor of shape [2, E] "
            f"(got {pairs.dtype} of shape {list(pairs.shape)})"
        )
    for node, ids, size in (("user", pairs[0], num_users), ("item", pairs[1], num_items)):
        wrong = ids[(ids < 0) | (ids >= size)]
        if wrong.numel():
            raise DataError(
                f"{what}: {node} ids must lie in 0 ... {size - 1} "
                f"(got {int(wrong[0])}, and {wrong.numel() - 1} more)"
            )
    rows = UserItems.from_pairs(pairs[0], pairs[1], num_users, num_items)
    repeats = int((rows.keys.diff() == 0).sum())
    if repeats:
        raise DataError(
            f"{what}: {repeats} pairs stand there more than once; keep one of each "
            "(torch.unique(pairs, dim=1))"
        )
    return rows


def _refuse_overlap(train: UserItems, held_out: UserItems, split: str, name: str) -> None:
    both = train.contains(held_out.users, held_out.items)
    if both.any():
        first = int(both.nonzero()[0])
        user, item = int(held_out.users[first]), int(held_out.items[first])
        raise DataError(
            f"{int(both.sum())} {split} pairs of '{name}' are training pairs too (the first: user "
            f"{user}, item {item}): training items are never ranked, so they cannot be hits; take "
            "them out of one of the two"
        )


def _adjacency(train: UserItems, layout: Layout) -> Tensor:
    """Symmetrically normalised adjacency of users followed by items."""
    num_users, num_items = train.num_users, train.num_items
    size = num_users + num_items
    by_item = UserItems.from_pairs(train.items, train.users, num_items, num_users)
    ptr = torch.cat((train.ptr, by_item.ptr[1:] + train.num_pairs))
    columns = torch.cat((train.items + num_users, by_item.items))
    rows = torch.cat((train.users, by_item.users + num_users))
    scale = torch.cat((train.counts, by_item.counts)).clamp(min=1).double().rsqrt()
    values = (scale[rows] * scale[columns]).float()
    if layout == "csr":
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Sparse CSR tensor support is in beta", UserWarning)
            return torch.sparse_csr_tensor(
                ptr, columns, values, (size, size), check_invariants=True
            )
    try:
        from torch_sparse import SparseTensor
    except ImportError as error:
        raise ModuleNotFoundError(
            "layout='sparse_tensor' needs torch-sparse: "
            "pip install --no-build-isolation \"pyg-bsl[sparse]\", or use layout='csr'"
        ) from error
    return SparseTensor(
        row=rows,
        rowptr=ptr,
        col=columns,
        value=values,
        sparse_sizes=(size, size),
        is_sorted=True,
        trust_data=True,
    )


def _digest(rows: dict[str, UserItems]) -> str:
    """Digest of the sizes and the sorted pairs of all splits."""
    sha256 = hashlib.sha256(repr((rows["train"].num_users, rows["train"].num_items)).encode())
    for split in PAIR_KEYS:
        if split in rows:
            sha256.update(f"{split} {rows[split].num_pairs} ".encode())
            sha256.update(rows[split].keys.cpu().numpy().astype("<i8").tobytes())
    return sha256.hexdigest()[:16]
