"""An elementwise kernel and its derivatives, written out as the lines of a C loop.

The kernel is run once on single numbers, and so is its backward pass; every operation that PyTorch
carries out on the way is written down. What a kernel is closed over thus counts with the value it
has now. All numbers become parameters: a kernel at another temperature has the same text.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

# Booleans are C ints, 0 or 1. The forms keep NaN as PyTorch does.
_OPERATIONS = {
    **dict.fromkeys(
        ("detach", "alias", "view", "expand", "clone", "contiguous", "_to_copy"), "{0}"
    ),
    **dict.fromkeys(("ones_like", "new_ones", "ones"), "1"),
    **dict.fromkeys(("zeros_like", "new_zeros", "zeros"), "0"),
    **{name: "F(" + name + ")({0})" for name in ("exp", "expm1", "log", "log1p", "tanh", "atan")},
    "scalar_tensor": "{0}",
    "full": "{1}",
    "full_like": "{1}",
    "new_full": "{2}",
    "neg": "-{0}",
    "abs": "F(fabs)({0})",
    "sqrt": "F(sqrt)({0})",
    "reciprocal": "(T)1 / {0}",
    "sgn": "({0} > 0) - ({0} < 0)",
    "sign": "({0} > 0) - ({0} < 0)",
    "add": "{0} + {1}",
    "sub": "{0} - {1}",
    "rsub": "{1} - {0}",
    "mul": "{0} * {1}",
    "div": "(T){0} / {1}",
    "addcmul": "{0} + {1} * {2}",
    "maximum": "({0} > {1}) | ({0} != {0}) ? {0} : {1}",
    "minimum": "({0} < {1}) | ({0} != {0}) ? {0} : {1}",
    "clamp_min": "{0} < {1} ? {1} : {0}",
    "clamp_max": "{0} > {1} ? {1} : {0}",
    "clamp": "{0} < {1} ? {1} : {0} > {2} ? {2} : {0}",
    "lt": "{0} < {1}",
    "le": "{0} <= {1}",
    "gt": "{0} > {1}",
    "ge": "{0} >= {1}",
    "eq": "{0} == {1}",
    "ne": "{0} != {1}",
    "logical_and": "({0} != 0) & ({1} != 0)",
    "logical_or": "({0} != 0) | ({1} != 0)",
    "logical_not": "!{0}",
    "bitwise_and": "{0} & {1}",
    "bitwise_or": "{0} | {1}",
    "bitwise_not": "!{0}",
    "where": "{0} ? {1} : {2}",
    "masked_fill": "{1} ? {2} : {0}",
    "relu": "{0} < 0 ? 0 : {0}",
    "threshold_backward": "{1} <= {2} ? 0 : {0}",
    "sigmoid": "1 / (1 + F(exp)(-{0}))",
    "sigmoid_backward": "{0} * (1 - {1}) * {1}",
    "softplus": "{0} * {1} > {2} ? {0} : F(log1p)(F(exp)({0} * {1})) / {1}",
    "softplus_backward": "{1} * {2} > {3} ? {0} : {0} * (1 / (1 + F(exp)(-{1} * {2})))",
    "tanh_backward": "{0} * (1 - {1} * {1})",
}


class _Unknown(Exception):
    """An operation that is not elementwise, or not listed."""


@dataclass(frozen=True)
class Formula:
    """Lines of C from ``s`` and ``a0, a1, ...`` to the kernel's value and its derivatives.

    Args:
        text: Definitions of ``t0, t1, ...`` in terms of earlier ones and of the constants.
        value: Name of the kernel's value.
        slopes: Names of its derivatives by the score and by each argument.
        constants: Values of ``c0, c1, ...``.
    """

    text: str
    value: str
    slopes: tuple[str, ...]
    constants: tuple[float, ...]


def formula(kernel: Callable[..., Tensor], num_args: int, dtype: torch.dtype) -> Formula | None:
    """What ``kernel(score, *args)`` computes, or None where that cannot be written out.

    Example:
        >>> formula(lambda s, p: s * p, 1, torch.float32).text.splitlines()[0]
        'const T t0 = s * a0;'
    """
    inputs = [
        torch.full((1, 1), 0.25, dtype=dtype, requires_grad=True) for _ in range(1 + num_args)
    ]
    names = ["s", *(f"a{n}" for n in range(num_args))]
    recorder = _Recorder(dict(zip(inputs, names, strict=True)), dtype)
    try:
        with torch.enable_grad(), recorder:
            out = kernel(*inputs)
            grads: tuple[Tensor | None, ...] = (None,) * len(inputs)
            if out.requires_grad:
                grads = torch.autograd.grad(out, inputs, torch.ones_like(out), allow_unused=True)
        slopes = tuple("0" if grad is None else recorder.name(grad) for grad in grads)
        value = recorder.name(out)
    except Exception:  # the kernel's own fault, if any, shows where it is run on the scores
        return None
    return Formula("".join(recorder.lines), value, slopes, tuple(recorder.constants))


class _Recorder(TorchDispatchMode):
    """Writes down each operation as a line of C. A value is known by its place in memory.

    A view is what it is a view of; numbers that lie in one storage side by side are two.
    """

    def __init__(self, inputs: dict[Tensor, str], dtype: torch.dtype) -> None:
        super().__init__()
        self.lines: list[str] = []
        self.constants: list[float] = []
        self._dtype = dtype
        self._names = {_place(x): name for x, name in inputs.items()}
        self._alive: list[Tensor] = list(inputs)  # no place is used twice

    def name(self, x: Any) -> str:
        """The C name of a tensor or a number."""
        if isinstance(x, Tensor):
            if x.numel() != 1 or x.device.type != "cpu":
                raise _Unknown
            name = self._names.get(_place(x))
            if name is not None:
                return name
            if x.requires_grad:
                raise _Unknown
            self._alive.append(x)
            x = x.item()
        if not isinstance(x, int | float):
            raise _Unknown
        known = [c.hex() for c in self.constants]  # -0.0 is not 0.0
        if float(x).hex() not in known:
            self.constants.append(float(x))
            known.append(float(x).hex())
        return f"c{known.index(float(x).hex())}"

    def _define(self, x: Tensor, expression: str) -> None:
        if x.numel() != 1 or x.dtype not in (self._dtype, torch.bool):
            raise _Unknown
        name = f"t{len(self.lines)}"
        kind = "T"
        if x.dtype == torch.bool:
            kind, expression = "int", f"({expression}) != 0"
        self.lines.append(f"const {kind} {name} = {expression};\n")
        self._names[_place(x)] = name
        self._alive.append(x)

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        # In place or not is the same here: a place takes a new name.
        operation = func.overloadpacket.__name__.removesuffix("_")
        expressions = self._expressions(operation, args, kwargs)
        out = func(*args, **kwargs)
        for x, text in zip(out if isinstance(out, tuple) else (out,), expressions, strict=True):
            self._define(x, text)
        return out

    def _expressions(self, operation: str, args: Any, kwargs: dict[str, Any]) -> list[str]:
        if not kwargs.keys() <= {"dtype", "layout", "device", "pin_memory", "memory_format"}:
            raise _Unknown
        if operation == "view" and isinstance(args[1], torch.dtype):  # the same bits, read anew
            raise _Unknown
        if operation == "pow":
            base, power = self.name(args[0]), args[1]
            if power not in (1, 2, 3, 4):
                raise _Unknown
            return [" * ".join([base] * int(power))]
        if operation == "div" and not isinstance(args[1], Tensor):
            operation, args = "mul", (args[0], 1 / args[1])
        if operation == "clamp":  # a missing bound is no bound
            low, high = (-math.inf if args[1] is None else args[1]), (*args[2:], None)[0]
            args = (args[0], low, math.inf if high is None else high)
        if operation == "softplus":
            args = (*args, *(1, 20)[len(args) - 1 :])
        if operation == "log_sigmoid_forward":
            x = self.name(args[0])
            small = f"F(exp)(-F(fabs)({x}))"
            return [f"({x} < 0 ? {x} : 0) - F(log1p)({small})", small]
        if operation == "log_sigmoid_backward":
            grad, x, small = map(self.name, args)
            return [f"{grad} * ({x} < 0 ? 1 : {small}) / (1 + {small})"]
        form = _OPERATIONS.get(operation)
        if form is None:
            raise _Unknown
        used = [n for n in range(len(args)) if "{" + str(n) + "}" in form]
        return [form.format(*(self.name(x) if n in used else "" for n, x in enumerate(args)))]


def _place(x: Tensor) -> int:
    return x.data_ptr()
