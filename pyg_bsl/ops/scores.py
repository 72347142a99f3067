"""Scores of rows against negatives, held in full or made when needed."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from pyg_bsl.types import Ragged

KEPT_BLOCK = 1 << 19
"""Numbers that are made at once of booleans: as a whole they would be a matrix of all scores."""


@dataclass(frozen=True)
class DenseScores:
    """Scores that are held in full; ``-inf`` marks a negative that is dropped.

    Args:
        values: ``[B, N]``.
        log_weight: Log of each negative's weight, ``[N]`` or ``[B, N]``; :obj:`None` for equal
            weights.
    """

    values: Tensor
    log_weight: Tensor | None = None

    @property
    def num_rows(self) -> int:
        """Number of rows, ``B``."""
        return self.values.size(0)

    def dense(self) -> DenseScores:
        """Itself."""
        return self

    def with_largest_weight_1(self) -> DenseScores:
        """The same scores with weights that a mean cannot tell from these, and exp can take."""
        return replace(self, log_weight=_largest_0(self.log_weight, _float(self.values)))

    def mass(self) -> Tensor:
        """Total weight of the kept negatives of each row, ``[B]``."""
        keep = (self.values != -torch.inf).to(_float(self.values))
        return (keep if self.log_weight is None else keep * self.log_weight.exp()).sum(1)


@dataclass(frozen=True)
class LazyScores:
    r"""Scores that are never held in full: :math:`s_{bj} = q_{row(b)} \cdot k_j`.

    Args:
        query: ``[Q, D]``.
        key: ``[N, D]``.
        rows: Rows of the loss that each query stands for (its ``bounds`` and ``row``);
            :obj:`None` when row ``b`` is query ``b``.
        drop: Keys that are no negatives of a query: ragged rows of the queries, with no key twice
            in a row, or ``[Q, N]`` boolean.
        log_weight: Log of each key's weight, ``[N]``, a constant; :obj:`None` for equal weights.
        bounded: Whether all scores are known to lie in [-1, 1], as cosines do.
        gemm: Type of the numbers that the matrix products of the gradients take, two of three,
            such as ``torch.bfloat16``, where the queries are float32; :obj:`None` for that of the
            queries. It costs the gradients half a per cent. Scores, sums and so the values of
            losses are float32 all the same: what rounding a score to 8 bits costs an exponential
            has no such bound. (Compiled code adds up scores of rounded numbers all the same, finer
            ones: three products of bfloat16 on matrix units, or integers of 16 bits on vector
            units. They are off by about 1e-5 of the vectors' lengths, at most by some 5e-5.)

    Raises:
        ValueError: If there is no key, or ``log_weight`` asks for a gradient.
    """

    query: Tensor
    key: Tensor
    rows: Ragged | None = None
    drop: Ragged | Tensor | None = None
    log_weight: Tensor | None = None
    bounded: bool = False
    gemm: torch.dtype | None = None

    def __post_init__(self) -> None:
        if self.key.size(0) == 0:
            raise ValueError("'key' must hold at least one negative (got 0)")
        if self.log_weight is not None and self.log_weight.requires_grad:
            raise ValueError(
                "'log_weight' gets no gradient over lazy scores (got one with requires_grad=True): "
                "detach it, or use DenseScores"
            )

    @property
    def num_rows(self) -> int:
        """Number of rows, ``B``."""
        return self.query.size(0) if self.rows is None else self.rows.row.numel()

    def in_float32(self) -> LazyScores:
        """Half-precision queries and keys in float32, all others as they are."""
        query, key = at_least_float32(self.query), at_least_float32(self.key)
        return self if query is self.query else replace(self, query=query, key=key)

    def with_largest_weight_1(self) -> LazyScores:
        """The same scores with weights that a mean cannot tell from these, and exp can take."""
        return replace(self, log_weight=_largest_0(self.log_weight, _float(self.query)))

    def spread(self, x: Tensor) -> Tensor:
        """Values of queries ``[Q, ...]`` as values of rows ``[B, ...]``."""
        return x if self.rows is None else x.index_select(0, self.rows.row)

    def dense(self) -> DenseScores:
        """The same scores in full, ``[B, N]``: the plain way, for small sizes and as an oracle."""
        values = self.query @ self.key.t()
        if self.drop is not None:
            values = values.masked_fill(self._hole(), -torch.inf)
        return DenseScores(self.spread(values), self.log_weight)

    def mass(self) -> Tensor:
        """Total weight of the kept keys of each row, ``[B]``."""
        return self.spread(self.query_mass())

    def query_mass(self) -> Tensor:
        """Total weight of the kept keys of each query, ``[Q]``."""
        kind, drop, (num_queries, num_keys) = _float(self.query), self.drop, self._shape()
        if self.log_weight is None:
            full = self.query.new_full((num_queries,), num_keys, dtype=kind)
            if drop is None:
                return full
            return full - (drop.sum(1) if isinstance(drop, Tensor) else drop.counts())
        if isinstance(drop, Tensor):
            weight, most = self.log_weight.to(kind).exp(), max(1, KEPT_BLOCK // num_keys)
            return torch.cat([(~part).to(kind) @ weight for part in drop.split(most)])
        # In float64: what is kept may be a small difference of large sums.
        weight = self.log_weight.double().exp()
        total = weight.sum().repeat(num_queries)
        if drop is not None:
            gone = torch.zeros_like(total).index_add_(0, drop.row, weight[drop.col])
            total = (total - gone).clamp_min(0).masked_fill(drop.counts() == num_keys, 0)
        return total.to(kind)

    def _shape(self) -> tuple[int, int]:
        return self.query.size(0), self.key.size(0)

    def _hole(self) -> Tensor:
        if isinstance(self.drop, Tensor):
            return self.drop
        assert self.drop is not None
        hole = torch.zeros(self._shape(), dtype=torch.bool, device=self.query.device)
        hole[self.drop.row, self.drop.col] = True
        return hole


def _largest_0(log_weight: Tensor | None, dtype: torch.dtype) -> Tensor | None:
    """Log-weights less their largest."""
    if log_weight is None:
        return None
    log_weight = log_weight.to(dtype)
    top = log_weight.detach().amax(-1, keepdim=True)
    return log_weight - top.masked_fill(top == -torch.inf, 0)


def at_least_float32(x: Tensor) -> Tensor:
    """Float64 as it is, all else in float32."""
    return x if x.dtype == torch.float64 else x.float()


def _float(x: Tensor) -> torch.dtype:
    return torch.float64 if x.dtype == torch.float64 else torch.float32


Scores = DenseScores | LazyScores


def of_queries(scores: Scores, x: Tensor) -> Tensor:
    """Values of rows, ``[B, ...]``, as values of queries, ``[Q, ...]``: those of the first row.

    A query that stands for no row gets those of another one.
    """
    if isinstance(scores, DenseScores) or scores.rows is None:
        return x
    first = torch.tensor(scores.rows.bounds[:-1]).clamp_(max=x.size(0) - 1)
    return x.index_select(0, first.to(x.device, non_blocking=True))
