"""The best items of each query over the whole catalogue."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from pyg_bsl.ops.native_topk import native_topk
from pyg_bsl.types import UserItems

_SCORES_BYTES = 16 * 2**20  # of the one score buffer: near the caches, and allocated once
_WAYS = 16  # catalogue positions that share one maximum


@torch.no_grad()
def masked_topk(
    query: Tensor,
    key: Tensor,
    k: int,
    drop: UserItems | None = None,
    *,
    block_size: int | None = None,
) -> tuple[Tensor, Tensor]:
    r"""The :math:`k` items of largest inner product with each query, exactly.

    .. math::
        \operatorname{top}_k \{ (\mathbf{q}_u^\top \mathbf{x}_i, -i) : i \notin
        \mathrm{drop}(u) \}

    Larger scores come first; of equal scores the smaller item id, at the last place as well.
    Dropped items never come back: where fewer than :math:`k` items remain, the tail is item
    :obj:`-1` with score :math:`-\infty`.

    One pass makes blocks of scores in a buffer that is used again and again, and nothing is read
    back to the host between blocks. Scores are made in the precision of the arguments, at least
    float32; scores that differ by less than its rounding may change places when the size of the
    blocks does. On processors that multiply bytes, and where a C compiler is at hand, large
    catalogues are filtered first (:mod:`pyg_bsl.ops.native_topk`), several times as fast and as
    exact.

    Args:
        query: Query vectors.
        key: Item vectors.
        k: Length of the lists.
        drop: Items that each query must not get; its rows are the queries.
        block_size: Number of queries scored at once without a filter; by default what keeps the
            scores in 16 MiB.

    Shapes:
        - **query:** :math:`(Q, D)`; **key:** :math:`(I, D)`
        - **output:** scores :math:`(Q, k)` and items :math:`(Q, k)`

    Raises:
        ValueError: If :obj:`k` or :obj:`block_size` is not positive, shapes disagree, or a score
            is NaN.

    Example:
        >>> query, key = torch.ones(1, 1), torch.tensor([[1.0], [3.0], [2.0], [3.0]])
        >>> masked_topk(query, key, k=3)[1]
        tensor([[1, 3, 2]])
        >>> seen = UserItems.from_pairs(torch.tensor([0]), torch.tensor([1]), 1, 4)
        >>> masked_topk(query, key, k=4, drop=seen)[1]
        tensor([[ 3,  2,  0, -1]])
    """
    _check(query, key, k, drop, block_size)
    num_items = key.size(0)
    size = min(k, num_items)
    dtype = torch.promote_types(torch.promote_types(query.dtype, key.dtype), torch.float32)
    found = native_topk(query.to(dtype), key.to(dtype), k, drop)
    if found is not None:
        return found
    query, keys = query.to(dtype), key.to(dtype).T.contiguous()  # [D, I]: the faster layout
    scores = query.new_full((query.size(0), k), -torch.inf)
    items = torch.full_like(scores, -1, dtype=torch.long)

    # One more than asked for shows where the last place is shared with an item left out.
    more = min(size + 1, num_items)
    shared = torch.zeros(query.size(0), dtype=torch.bool, device=query.device)
    for rows, block in _score_blocks(query, keys, drop, block_size):
        values, ids = _largest(block, more)
        scores[rows, :size], items[rows, :size] = values[:, :size], ids[:, :size]
        if more > size:
            shared[rows] = (values[:, -2] == values[:, -1]) & (values[:, -1] > -torch.inf)
    if scores[:, :1].isnan().any():  # NaN sorts first
        raise ValueError("Scores must be numbers (got NaN): look for NaN or huge embeddings")

    again = shared.nonzero().view(-1)
    if again.numel() > 0:
        left = None if drop is None else drop.select(again)
        for rows, block in _score_blocks(query[again], keys, left, block_size):
            values, ids = _largest_smallest_ids(block, size)
            scores[again[rows], :size], items[again[rows], :size] = values, ids

    by_id = items.argsort(dim=1)  # then, stably, by score: equal scores keep ascending ids
    scores, items = scores.gather(1, by_id), items.gather(1, by_id)
    scores, by_score = scores.sort(dim=1, descending=True, stable=True)
    return scores, items.gather(1, by_score).masked_fill_(scores == -torch.inf, -1)


def _score_blocks(
    query: Tensor, keys: Tensor, drop: UserItems | None, block_size: int | None
) -> Iterator[tuple[slice, Tensor]]:
    """Scores ``[B, W]`` of the queries at each slice, ``-inf`` where dropped.

    W is the size of the catalogue made a multiple of 16, ``-inf`` beyond its end. The scores
    stand in one buffer, which the next block overwrites.
    """
    num_queries, num_items = query.size(0), keys.size(1)
    width = -(-num_items // _WAYS) * _WAYS
    if block_size is None:
        block_size = max(16, _SCORES_BYTES // (width * query.element_size()))
    block_size = max(1, min(block_size, num_queries))
    buffer = query.new_full((block_size, width), -torch.inf)
    starts = range(0, num_queries, block_size)
    ends = [] if drop is None else drop.ptr[[*starts, num_queries]].tolist()  # read back once
    for n, start in enumerate(starts):
        rows = slice(start, min(start + block_size, num_queries))
        block = buffer[: rows.stop - rows.start]
        torch.mm(query[rows], keys, out=block[:, :num_items])
        if drop is not None:
            pairs = slice(ends[n], ends[n + 1])
            at = (drop.users[pairs] - start) * width + drop.items[pairs]
            buffer.view(-1).index_fill_(0, at, -torch.inf)
        yield rows, block


def _largest(block: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """The k largest entries of each row with their columns, descending, ties in any order.

    The k largest entries lie in the k groups of largest maximum (a group left out has k others
    before it, each with an entry at least as large as all of its own), so that a wide row is
    read once, for the maxima of its groups, and only ``16 k`` entries compete.
    """
    groups = block.size(1) // _WAYS
    if groups < 4 * k:
        values, ids = block.topk(k)
        return values, ids
    best = block.view(-1, _WAYS, groups).amax(1).topk(k, sorted=False).indices
    step = torch.arange(0, block.size(1), groups, device=block.device)
    ids = (best[:, :, None] + step).flatten(1)  # [B, 16 k]
    values, at = block.gather(1, ids).topk(k)
    return values, ids.gather(1, at)


def _largest_smallest_ids(block: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """The k largest entries of each row with their columns, of equal ones the smallest columns."""
    values, ids = _largest(block, k)
    last = values[:, -1:]
    width = block.size(1)
    from_end = torch.arange(width, 0, -1, dtype=torch.int32, device=block.device)
    equal = width - _largest((block == last) * from_end, k)[0].long()  # [B, k], ascending
    rank = torch.arange(k, device=block.device) - (values > last).sum(1, keepdim=True)
    return values, torch.where(rank < 0, ids, equal.gather(1, rank.clamp(min=0)))


def _check(
    query: Tensor, key: Tensor, k: int, drop: UserItems | None, block_size: int | None
) -> None:
    if k < 1:
        raise ValueError(f"'k' must be positive (got {k})")
    if block_size is not None and block_size < 1:
        raise ValueError(f"'block_size' must be positive (got {block_size})")
    if query.dim() != 2 or key.dim() != 2 or query.size(1) != key.size(1):
        raise ValueError(
            "'query' and 'key' must be matrices of the same width "
            f"(got {list(query.shape)} and {list(key.shape)})"
        )
    if drop is not None and (drop.num_users, drop.num_items) != (query.size(0), key.size(0)):
        raise ValueError(
            "'drop' must have a row for each query and the catalogue of 'key' "
            f"(got {drop.num_users} rows over {drop.num_items} items for {query.size(0)} queries "
            f"over {key.size(0)} items)"
        )
