"""What every loss is."""

from __future__ import annotations

import inspect
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn

from pyg_bsl.losses.context import Context
from pyg_bsl.ops import DenseScores, LazyScores, Scores
from pyg_bsl.ops.scores import at_least_float32
from pyg_bsl.space import Space
from pyg_bsl.types import Embeddings, UserItems

Reduction = Literal["mean", "sum", "none"]


class Loss(nn.Module, ABC):
    r"""Base class of losses over one positive and many negatives a row.

    A subclass implements :meth:`rows` from a positive term and the reductions of
    :mod:`pyg_bsl.ops`. It then works on a dense ``[B, N]`` tensor of negative scores and,
    unchanged, on lazy scores over a whole catalogue. Constructor arguments are kept as attributes
    of the same names.

    One rule for a row whose negatives are all dropped: the mean over negatives is left out, with
    all that stands inside it or goes with it alone, and so is the gradient to them. The row keeps
    its positive term. Where the positive is one more term beside the negatives, as in InfoNCE, it
    is then the only one, and the loss is :math:`-\log 1 = 0`; so it is where the positive stands
    in nothing but gaps (BPR, PSL).

    What a loss learns or remembers is a parameter or a buffer of it. One whose size depends on the
    data is registered as :obj:`None` by the constructor and made by :meth:`setup`, which a trainer
    calls (or by loading a state). The other hooks, all empty by default, are
    :meth:`on_epoch_start`, :meth:`after_step` and :meth:`parameter_groups`.
    """

    similarity: ClassVar[Literal["cosine", "dot"]] = "cosine"
    """Scores the loss is meant for; a trainer uses them unless told otherwise."""

    search_space: ClassVar[Mapping[str, Space]] = {}
    """Where to look for the constructor's arguments."""

    needs: ClassVar[tuple[str, ...]] = ()
    """Fields of :class:`~pyg_bsl.losses.context.Context` that :meth:`rows` uses."""

    uses_negatives: ClassVar[bool] = True
    """Whether negatives play a part; if not, they may be :obj:`None`."""

    @property
    def per_user(self) -> bool:
        """Whether the negatives are reduced once a user, however many positives it has.

        Then the loss over the whole catalogue is cheap, and a trainer takes it by default.
        """
        return True

    @abstractmethod
    def rows(self, pos: Tensor, neg: Scores, context: Context) -> Tensor:
        """Loss of each row, ``[B]``.

        Args:
            pos: Positive scores, ``[B]``.
            neg: Scores of the negatives of ``B`` rows, for the reductions of :mod:`pyg_bsl.ops`.
            context: What else is known of the rows.
        """

    def setup(self, train: UserItems) -> None:
        """Make what depends on the data, before training or standalone use.

        What is there already and fits is kept.

        Args:
            train: The training interactions; standalone,
                ``UserItems.from_pairs(users, items, num_users, num_items)``.
        """

    def on_epoch_start(
        self, epoch: int, train: UserItems, embeddings: Callable[[], Embeddings]
    ) -> None:
        """Before the first step of an epoch. Buffers are to be changed in place.

        Args:
            epoch: Its number, from 1.
            train: The training interactions.
            embeddings: Runs the backbone and gives the vectors whose inner products are the
                scores, without gradients.
        """

    def after_step(self) -> None:
        """After each step of the optimizer, such as to put parameters back into their range."""

    def parameter_groups(self, lr: float) -> list[dict[str, Any]]:
        """The loss's own parameters as groups for an optimizer.

        Args:
            lr: Learning rate of the backbone.
        """
        parameters = list(self.parameters())
        return [{"params": parameters, "lr": lr}] if parameters else []

    def forward(
        self,
        pos: Tensor,
        neg: Tensor | Scores | None,
        *,
        users: Tensor | None = None,
        items: Tensor | None = None,
        negatives: Tensor | None = None,
        user_vectors: Tensor | None = None,
        item_vectors: Tensor | None = None,
        log_weight: Tensor | None = None,
        reduction: Reduction = "mean",
    ) -> Tensor:
        """Loss of a batch.

        Args:
            pos: Positive scores, ``[B]``.
            neg: Negative scores, ``[B, N]``, ``-inf`` where a negative is dropped, or lazy scores
                of ``B`` rows. A row whose negatives are all dropped keeps its positive term (see
                :class:`Loss`).
            users: User of each row, ``[B]``. This and the next four are what some losses need
                (:attr:`needs`), and the others ignore; BSL pools a user's positives with it.
            items: Positive item of each row, ``[B]``.
            negatives: Item of each negative, ``[N]`` or ``[B, N]``; :obj:`None` for the whole
                catalogue in its order.
            user_vectors: Vector of each row's user, ``[B, D]``.
            item_vectors: Vector of each row's positive item, ``[B, D]``.
            log_weight: Log of each negative's weight in the mean over negatives, ``[N]`` or
                ``[B, N]`` (dense negatives; lazy scores carry their own).
            reduction: ``"mean"`` over rows, ``"sum"``, or ``"none"``.

        Shapes:
            - **output:** scalar, or ``[B]`` with ``reduction="none"``. Half-precision scores give
              a float32 loss.

        Raises:
            TypeError: If the scores are no tensors.
            ValueError: If the shapes do not fit one another, or what the loss needs is missing.
        """
        if neg is None and not self.uses_negatives and isinstance(pos, Tensor):
            neg = pos[..., None].detach()
        if not isinstance(pos, Tensor) or not isinstance(neg, Tensor | DenseScores | LazyScores):
            raise TypeError(
                "'pos' and 'neg' must be tensors (got "
                f"{type(pos).__name__} and {type(neg).__name__}): torch.as_tensor makes them"
            )
        if reduction not in ("mean", "sum", "none"):
            raise ValueError(f"'reduction' must be 'mean', 'sum' or 'none' (got {reduction!r})")
        if pos.dim() != 1:
            raise ValueError(f"'pos' must have one dimension [B] (got shape {list(pos.shape)})")
        scores = _scores(neg, log_weight, pos.size(0))
        context = Context(users, items, negatives, user_vectors, item_vectors)
        context.check(pos.size(0))
        self._check_complete(context)
        loss = self.rows(at_least_float32(pos), scores, context)
        if reduction == "none":
            return loss
        return loss.mean() if reduction == "mean" else loss.sum()

    def extra_repr(self) -> str:
        """Constructor arguments in the printed form."""
        parameters = inspect.signature(type(self)).parameters.values()
        named = (p.name for p in parameters if p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD))
        values = ((name, getattr(self, name)) for name in named)
        return ", ".join(f"{k}={v:g}" if isinstance(v, float) else f"{k}={v}" for k, v in values)

    def _check_complete(self, context: Context) -> None:
        name = type(self).__name__
        for field in self.needs:
            if field != "negatives" and getattr(context, field) is None:
                raise ValueError(f"{name} needs '{field}': hand them over, one for each row")
        for table in (self._parameters, self._buffers):
            for key, x in table.items():
                if x is None:
                    raise ValueError(
                        f"The '{key}' of {name} depend on the data: call its setup(train) first, "
                        "with the training interactions (pyg_bsl.types.UserItems)"
                    )

    def _load_from_state_dict(self, state_dict: Mapping[str, Any], prefix: str, *args: Any) -> None:
        # A loss that was never set up takes its sizes from the state.
        for table in (self._parameters, self._buffers):
            for key, x in table.items():
                saved = state_dict.get(prefix + key)
                if x is None and saved is not None:
                    new = torch.empty_like(saved)
                    setattr(self, key, nn.Parameter(new) if table is self._parameters else new)
        super()._load_from_state_dict(state_dict, prefix, *args)


def _scores(neg: Tensor | Scores, log_weight: Tensor | None, num_rows: int) -> Scores:
    """Scores of ``num_rows`` rows from what was handed over as negatives."""
    if not isinstance(neg, Tensor):
        if log_weight is not None:
            raise ValueError("'log_weight' goes with dense negatives; lazy scores carry their own")
        if neg.num_rows != num_rows:
            raise ValueError(f"'neg' has {neg.num_rows} rows, but 'pos' has {num_rows}")
        return neg
    if neg.dim() != 2 or neg.size(0) != num_rows:
        raise ValueError(
            f"'neg' must have shape [B, N] with B = {num_rows} rows as 'pos' "
            f"(got {list(neg.shape)})"
        )
    if neg.size(1) == 0:
        raise ValueError("'neg' must hold at least one negative a row (got N = 0)")
    if log_weight is not None and log_weight.shape not in (neg.shape, neg.shape[1:]):
        raise ValueError(
            f"'log_weight' must have shape {list(neg.shape[1:])} or {list(neg.shape)} "
            f"(got {list(log_weight.shape)})"
        )
    return DenseScores(neg, log_weight)
