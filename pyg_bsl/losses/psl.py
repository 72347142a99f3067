"""Pairwise softmax loss."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import ClassVar, Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from pyg_bsl.checks import check_positive
from pyg_bsl.losses.base import Loss
from pyg_bsl.losses.context import Context
from pyg_bsl.names import pick
from pyg_bsl.ops import Scores, has_power_sums, log_mean_exp, log_mean_exp_map, log_mean_power
from pyg_bsl.space import Choice, Space


def _log_tanh(d: Tensor) -> Tensor:
    return math.log(2) + F.logsigmoid(2 * d)  # tanh(d) + 1 = 2 sigmoid(2 d)


def _log_atan(d: Tensor) -> Tensor:
    return _log_positive(1 + torch.atan(d))  # below 0 from d = -1.56 on


def _log_relu(d: Tensor) -> Tensor:
    return _log_positive(1 + d)


def _log_positive(x: Tensor) -> Tensor:
    return x.clamp_min(torch.finfo(x.dtype).tiny).log()  # finite, with no gradient, up to 0


_LOG_ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "tanh": _log_tanh,
    "atan": _log_atan,
    "softplus": F.softplus,
    "relu": _log_relu,
}


class PSL(Loss):
    r"""Pairwise softmax loss.

    From `"PSL: Rethinking and Improving Softmax Loss from Pairwise Perspective for
    Recommendation" <https://arxiv.org/abs/2411.00163>`_.

    .. math::
        \ell_{ui} = \log \frac{1}{N} \sum_{j=1}^N \sigma(d_{uij})^{1 / \tau}, \quad
        d_{uij} = \frac{s_{uj} - s_{ui}}{2}

    with a surrogate activation :math:`\sigma(d)` of the gap on half cosines:
    ``relu``: :math:`\max(d + 1, 0)`; ``tanh``: :math:`\tanh d + 1`; ``atan``:
    :math:`\arctan d + 1`; ``exp``: :math:`e^d`, which is SL at twice the temperature;
    ``softplus``: :math:`e^d + 1`, an ablation.

    Args:
        tau: Temperature :math:`\tau`, as in the paper's tables.
        activation: Name of the surrogate activation.
        temperature: ``"outside"`` of the activation, :math:`\sigma(d)^{1 / \tau}`, or, the paper's
            ablation, ``"inside"``: :math:`\sigma(d / \tau)`, cut off at 0 where the arctangent
            goes below.

    Shapes:
        - **input:** positive scores :math:`(B)`, negative scores :math:`(B, N)`, full cosines in
          [-1, 1]: the loss halves the gap itself
        - **output:** scalar

    Raises:
        ValueError: If the temperature is not positive or the activation unknown.

    Example:
        >>> import torch
        >>> round(PSL(tau=0.5)(torch.tensor([1.0]), torch.zeros(1, 4)).item(), 4)
        -1.3863
    """

    # With a whole 1 / tau, PSL-relu over the whole catalogue needs one pass a user.
    search_space: ClassVar[Mapping[str, Space]] = {
        "tau": Choice(tuple(1 / m for m in (2, 3, 5, 7, 10, 14, 20, 28, 40)))
    }

    def __init__(
        self,
        tau: float = 0.05,
        activation: Literal["relu", "tanh", "atan", "exp", "softplus"] = "relu",
        *,
        temperature: Literal["outside", "inside"] = "outside",
    ) -> None:
        super().__init__()
        self.tau = check_positive("tau", tau)
        pick("activation", activation, dict.fromkeys(("exp", *_LOG_ACTIVATIONS)))
        pick("temperature", temperature, {"outside": None, "inside": None})
        self.activation = activation
        self.temperature = temperature

    @property
    def per_user(self) -> bool:
        r"""With ``exp``, and with ``relu`` when :math:`1 / \tau` is a whole number up to 40."""
        if self.activation == "relu":
            return self.temperature == "outside" and has_power_sums(1 / self.tau)
        return self.activation == "exp"

    def rows(self, pos: Tensor, neg: Scores, context: Context) -> Tensor:
        """Loss of each row."""
        tau, outside = self.tau, self.temperature == "outside"
        if self.activation == "exp":  # either way
            return log_mean_exp(neg, 2 * tau) - pos / (2 * tau)
        if self.activation == "relu" and outside:
            return log_mean_power(neg, pos, 1 / tau)
        log_sigma = _LOG_ACTIVATIONS[self.activation]
        if outside:
            return log_mean_exp_map(neg, lambda s, p: log_sigma((s - p) / 2) / tau, pos)
        return log_mean_exp_map(neg, lambda s, p: log_sigma((s - p) / (2 * tau)), pos)
