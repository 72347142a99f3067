"""A loss of one's own from a function."""

from __future__ import annotations

import inspect
import typing
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, Literal

from torch import Tensor

from pyg_bsl.losses.base import Loss
from pyg_bsl.losses.context import Context
from pyg_bsl.ops import Scores
from pyg_bsl.space import Space


def row_loss(
    search_space: Mapping[str, Space] = MappingProxyType({}),
    *,
    similarity: Literal["cosine", "dot"] = "cosine",
    per_user: bool = False,
) -> Callable[[Callable[..., Tensor]], type[Loss]]:
    """Make a loss of a function ``(pos, neg, *, arguments) -> rows``.

    The loss is a class with the function's name and keyword arguments: ``Name(argument=...)``. It
    takes dense and lazy scores, and stands in :data:`~pyg_bsl.losses.LOSSES`, so that command line
    and studies know it by its name. (A subclass of :class:`~pyg_bsl.losses.Loss` gets there by
    ``LOSSES["Name"] = Name``.)

    Args:
        search_space: Where to look for the arguments.
        similarity: Scores the loss is meant for.
        per_user: Whether no kernel takes ``pos``, so that negatives are reduced once a user.

    Raises:
        ValueError: If the name is taken, or an argument has no default.

    Example:
        >>> import torch
        >>> from pyg_bsl.losses import LOSSES
        >>> from pyg_bsl.ops import mean_map
        >>> @row_loss()
        ... def Hinge(pos, neg, *, margin: float = 0.5):
        ...     return mean_map(neg, lambda s, p: torch.relu(s - p + margin), pos)
        >>> Hinge(margin=1.0)(torch.ones(1), torch.tensor([[0.5, -1.0]])).item()
        0.25
        >>> del LOSSES["Hinge"]
    """
    from pyg_bsl.losses import LOSSES

    def decorate(function: Callable[..., Tensor]) -> type[Loss]:
        name = function.__name__
        parameters = list(inspect.signature(function).parameters.values())[2:]
        for parameter in parameters:
            if parameter.default is parameter.empty:
                raise ValueError(f"Argument '{parameter.name}' of '{name}' needs a default")
        if name in LOSSES and LOSSES[name].__module__ != function.__module__:
            raise ValueError(f"There is a loss called '{name}' already: choose another name")

        def __init__(self: Loss, **arguments: Any) -> None:
            Loss.__init__(self)
            signature.bind(self, **arguments)  # refuses unknown names
            for parameter in parameters:
                value = arguments.get(parameter.name, parameter.default)
                setattr(self, parameter.name, value)

        def rows(self: Loss, pos: Tensor, neg: Scores, context: Context) -> Tensor:
            return function(pos, neg, **{p.name: getattr(self, p.name) for p in parameters})

        own = inspect.Parameter("self", inspect.Parameter.POSITIONAL_ONLY)
        keywords = [p.replace(kind=inspect.Parameter.KEYWORD_ONLY) for p in parameters]
        signature = inspect.Signature([own, *keywords])
        hints = typing.get_type_hints(function)
        __init__.__signature__ = signature  # type: ignore[attr-defined]
        __init__.__annotations__ = {p.name: hints.get(p.name, Any) for p in parameters}
        body = {
            "__init__": __init__,
            "__doc__": function.__doc__,
            "__module__": function.__module__,
            "__qualname__": function.__qualname__,
            "rows": rows,
            "per_user": property(lambda self: per_user),
            "search_space": search_space,
            "similarity": similarity,
        }
        LOSSES[name] = type(name, (Loss,), body)
        return LOSSES[name]

    return decorate
