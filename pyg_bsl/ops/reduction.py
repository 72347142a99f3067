"""A streamed reduction: what is reduced, and where its results go."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from pyg_bsl.ops.scores import LazyScores
from pyg_bsl.ops.tiles import RowBlock


@dataclass(frozen=True)
class Reduction:
    """Sums over the keys of ``kernel(score, *args)``, or of its exponentials.

    Args:
        kernel: Elementwise function of scores ``[b, n]`` and of arguments ``[b, 1]``.
        log: Whether to sum exponentials, and to take the log of the sum.
        scores: The scores, :math:`B` rows.
        arg: Arguments of each row, ``[B, A]``.
        scale: What the gradient of each row is multiplied by, ``[B]``; None for no gradients.
        out: Takes the value of each row, ``[B]``; 0 where all keys are dropped.
        grad_arg: Takes the gradients by the arguments, ``[B, A]``.
    """

    kernel: Callable[..., Tensor]
    log: bool
    scores: LazyScores
    arg: Tensor
    scale: Tensor | None
    out: Tensor
    grad_arg: Tensor

    @cached_property
    def query(self) -> Tensor:
        """Query of each row, ``[B]``."""
        if self.scores.rows is None:
            return torch.arange(self.scores.num_rows, device=self.arg.device)
        return self.scores.rows.row

    @cached_property
    def bounds(self) -> Sequence[int]:
        """Where the rows of each query begin; one more for the end of the last."""
        if self.scores.rows is None:
            return range(self.scores.num_rows + 1)
        return self.scores.rows.bounds

    @cached_property
    def weight(self) -> Tensor | None:
        """Weight of each key, ``[N]``; None for 1."""
        return None if self.scores.log_weight is None else self.scores.log_weight.exp()


Reduce = Callable[[RowBlock, Tensor, Tensor], None]
"""Reduces a block of rows from the scores of its queries, ``[Q, N]``, ``-inf`` where dropped, and
adds the gradients by the scores to the last argument. Calls run side by side in threads."""
