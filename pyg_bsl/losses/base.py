"""What every loss is."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from numbers import Real
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn

from pyg_bsl.ops import DenseScores, LazyScores, Scores
from pyg_bsl.space import Space

Reduction = Literal["mean", "sum", "none"]


class Loss(nn.Module, ABC):
    """Base class of losses over one positive and many negatives a row.

    A subclass implements :meth:`rows` from a positive term and the reductions of
    :mod:`pyg_bsl.ops`. It then works on a dense ``[B, N]`` tensor of negative scores and,
    unchanged, on lazy scores over a whole catalogue.
    """

    similarity: ClassVar[Literal["cosine", "dot"]] = "cosine"
    """Scores the loss is meant for; a trainer uses them unless told otherwise."""

    search_space: ClassVar[Mapping[str, Space]] = {}
    """Where to look for the constructor's arguments."""

    @property
    def per_user(self) -> bool:
        """Whether the negatives are reduced once a user, however many positives it has.

        Then the loss over the whole catalogue is cheap, and a trainer takes it by default.
        """
        return True

    @abstractmethod
    def rows(self, pos: Tensor, neg: Scores, users: Tensor | None) -> Tensor:
        """Loss of each row, ``[B]``, from positive scores ``[B]`` and negatives of ``B`` rows."""

    def forward(
        self,
        pos: Tensor,
        neg: Tensor | Scores,
        *,
        users: Tensor | None = None,
        log_weight: Tensor | None = None,
        reduction: Reduction = "mean",
    ) -> Tensor:
        """Loss of a batch.

        Args:
            pos: Positive scores, ``[B]``.
            neg: Negative scores, ``[B, N]``, ``-inf`` where a negative is dropped, or lazy scores
                of ``B`` rows. A row whose negatives are all dropped keeps its positive term.
            users: User of each row, ``[B]``; losses that pool a user's positives need it, the
                others ignore it.
            log_weight: Log of each negative's weight in the mean over negatives, ``[N]`` or
                ``[B, N]`` (dense negatives; lazy scores carry their own).
            reduction: ``"mean"`` over rows, ``"sum"``, or ``"none"``.

        Shapes:
            - **output:** scalar, or ``[B]`` with ``reduction="none"``. Half-precision scores give
              a float32 loss.

        Raises:
            TypeError: If the scores are no tensors.
            ValueError: If the shapes do not fit one another.
        """
        if not isinstance(pos, Tensor) or not isinstance(neg, Tensor | DenseScores | LazyScores):
            raise TypeError(
                "'pos' and 'neg' must be tensors (got "
                f"{type(pos).__name__} and {type(neg).__name__}): torch.as_tensor makes them"
            )
        if pos.dim() != 1:
            raise ValueError(f"'pos' must have one dimension [B] (got shape {list(pos.shape)})")
        if isinstance(neg, Tensor):
            if neg.dim() != 2 or neg.size(0) != pos.size(0):
                raise ValueError(
                    f"'neg' must have shape [B, N] with B = {pos.size(0)} rows as 'pos' "
                    f"(got {list(neg.shape)})"
                )
            if neg.size(1) == 0:
                raise ValueError("'neg' must hold at least one negative a row (got N = 0)")
            if log_weight is not None and log_weight.shape not in (neg.shape, neg.shape[1:]):
                raise ValueError(
                    f"'log_weight' must have shape {list(neg.shape[1:])} or {list(neg.shape)} "
                    f"(got {list(log_weight.shape)})"
                )
            neg = DenseScores(neg, log_weight)
        elif log_weight is not None:
            raise ValueError("'log_weight' goes with dense negatives; lazy scores carry their own")
        elif neg.num_rows != pos.size(0):
            raise ValueError(f"'neg' has {neg.num_rows} rows, but 'pos' has {pos.size(0)}")
        if users is not None and users.shape != pos.shape:
            raise ValueError(
                f"'users' must have shape [{pos.size(0)}] as 'pos' (got {list(users.shape)})"
            )
        loss = self.rows(pos if pos.dtype == torch.float64 else pos.float(), neg, users)
        if reduction == "mean":
            return loss.mean()
        if reduction == "sum":
            return loss.sum()
        if reduction == "none":
            return loss
        raise ValueError(f"'reduction' must be 'mean', 'sum' or 'none' (got {reduction!r})")


def positive(name: str, value: float) -> float:
    """``value`` if it is a positive finite number."""
    if not isinstance(value, Real) or not 0 < value < float("inf"):
        raise ValueError(f"'{name}' must be positive and finite (got {value!r})")
    return float(value)


def non_negative(name: str, value: float) -> float:
    """``value`` if it is a finite number of at least 0."""
    if not isinstance(value, Real) or not 0 <= value < float("inf"):
        raise ValueError(f"'{name}' must be at least 0 and finite (got {value!r})")
    return float(value)
