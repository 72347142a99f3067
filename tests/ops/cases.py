"""Lazy scores of every kind, and how results are compared."""

import shutil
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Literal

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from pyg_bsl.ops import LazyScores
from pyg_bsl.ops.compiler import compiled
from pyg_bsl.types import Ragged

RowKind = Literal["one", "ragged"]
DropKind = Literal["none", "ragged", "boolean", "all"]

EVERY_KIND = pytest.mark.parametrize(
    ("rows", "drop", "weighted"),
    [
        (rows, drop, weighted)
        for rows in ("one", "ragged")
        for drop in ("none", "ragged", "boolean", "all")
        for weighted in (False, True)
    ],
)
BOTH_TYPES = pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=["f64", "f32"])


def tolerance(dtype: torch.dtype) -> float:
    return 1e-10 if dtype == torch.float64 else 1e-5


@pytest.fixture
def tiny_tiles(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tiles so small that each walk takes many of them and heavy users come in parts."""
    monkeypatch.setattr("pyg_bsl.ops.tiles.CPU_TILE", 60)
    monkeypatch.setattr("pyg_bsl.ops.scores.KEPT_BLOCK", 60)
    monkeypatch.setattr("pyg_bsl.ops.walk.KEYS_PER_TILE", 7)
    monkeypatch.setattr("pyg_bsl.ops.walk.LEAST_QUERIES", 1)


def ragged(rows: Sequence[Sequence[int]], device: str = "cpu") -> Ragged:
    """Columns of each row, laid end to end."""
    bounds = [0]
    for row in rows:
        bounds.append(bounds[-1] + len(row))
    index = [q for q, row in enumerate(rows) for _ in row]
    return Ragged(
        tuple(bounds),
        torch.tensor(index, dtype=torch.long, device=device),
        torch.tensor([col for row in rows for col in row], dtype=torch.long, device=device),
    )


def lazy_scores(
    seed: int,
    rows: RowKind = "one",
    drop: DropKind = "none",
    weighted: bool = False,
    dtype: torch.dtype = torch.float64,
    num_queries: int | None = None,
    num_keys: int | None = None,
) -> LazyScores:
    """Cosine scores of random size. Ragged rows: users with none and one with very many.

    Drops: ragged and boolean ones leave some user all its keys and some user none of them;
    ``"all"`` drops every key of every user.
    """
    generator = torch.Generator().manual_seed(seed)

    def whole(low: int, high: int) -> int:
        return int(torch.randint(low, high + 1, (), generator=generator))

    q = num_queries or whole(3, 12)
    n = num_keys or whole(1, 20)
    dim = whole(1, 6)
    query, key = (
        F.normalize(torch.randn(size, dim, generator=generator, dtype=dtype), dim=1)
        for size in (q, n)
    )
    counts = [whole(0, 3) for _ in range(q)]
    counts[whole(0, q - 1)] = 20
    gone = [torch.randperm(n, generator=generator)[: whole(0, n)].tolist() for _ in range(q)]
    gone[0], gone[1] = [], list(range(n))
    if drop == "all":
        gone = [list(range(n))] * q
    dropped: Ragged | Tensor | None = None
    if drop in ("ragged", "all"):
        dropped = ragged(gone)
    elif drop == "boolean":
        dropped = torch.tensor([[j in row for j in range(n)] for row in gone])
    return LazyScores(
        query.requires_grad_(),
        key.requires_grad_(),
        rows=ragged([[0] * count for count in counts]) if rows == "ragged" else None,
        drop=dropped,
        log_weight=torch.randn(n, generator=generator, dtype=dtype) if weighted else None,
        bounded=True,
    )


def per_row(scores: LazyScores, seed: int, low: float = -1.0, high: float = 1.0) -> Tensor:
    """One random number a row, such as its positive score, ``[B]``."""
    generator = torch.Generator().manual_seed(seed)
    x = torch.rand(scores.num_rows, generator=generator, dtype=scores.query.dtype)
    return (low + (high - low) * x).requires_grad_()


def assert_near(actual: Tensor, expected: Tensor, tol: float) -> None:
    """The difference is small beside the expected tensor as a whole."""
    assert actual.shape == expected.shape
    assert actual.isfinite().all(), actual
    actual, expected = actual.detach().double(), expected.detach().double()
    scale = float(expected.abs().max()) if expected.numel() else 0.0
    error = float((actual - expected).abs().max()) if expected.numel() else 0.0
    assert error <= tol * max(scale, 1e-3), f"off by {error:.2e} at a size of {scale:.2e}"


def assert_same(
    reduce: Callable[[Any], Tensor],
    scores: LazyScores,
    leaves: Sequence[Tensor] = (),
    tol: float | None = None,
) -> None:
    """``reduce`` gives the same values and gradients on lazy scores and on dense ones.

    Gradients are those of the mean over rows and of an uneven weighing of rows.
    """
    if tol is None:
        tol = tolerance(scores.query.dtype)
    lazy, dense = reduce(scores), reduce(scores.dense())
    assert lazy.dtype == dense.dtype
    assert_near(lazy, dense, tol)
    inputs = (scores.query, scores.key, *leaves)
    even = torch.full_like(lazy, 1 / max(lazy.numel(), 1))
    uneven = torch.randn(lazy.shape, generator=torch.Generator().manual_seed(1)).to(lazy)
    for upstream in (even, uneven):
        pair = [
            torch.autograd.grad(out, inputs, upstream, retain_graph=True, materialize_grads=True)
            for out in (lazy, dense)
        ]
        for got, wanted in zip(*pair, strict=True):
            assert_near(got, wanted, tol)


READS_BACK = (
    torch.ops.aten._local_scalar_dense,
    torch.ops.aten.nonzero,
    torch.ops.aten.nonzero_static,
    torch.ops.aten.masked_select,
    torch.ops.aten._unique,
    torch.ops.aten._unique2,
    torch.ops.aten.unique_consecutive,
    torch.ops.aten.unique_dim,
    torch.ops.aten.equal,
    torch.ops.aten.is_nonzero,
    torch.ops.aten.bincount,
    torch.ops.aten.repeat_interleave,
)


class NoReadBack(TorchDispatchMode):
    """Fails on what makes the host wait for a device: a number or a size that depends on data."""

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        packet = func.overloadpacket
        assert packet not in READS_BACK, f"{func} reads back"
        if packet in (torch.ops.aten.index, torch.ops.aten.index_put, torch.ops.aten.index_put_):
            masks = [i for i in args[1] if i is not None and i.dtype in (torch.bool, torch.uint8)]
            assert not masks, f"{func} by a mask reads back"
        return func(*args, **(kwargs or {}))


class LargestTensor(TorchDispatchMode):
    """Records the most elements of any tensor that is made, and the elements of all of them."""

    def __init__(self) -> None:
        super().__init__()
        self.numel = self.work = 0

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        out = func(*args, **(kwargs or {}))
        for x in out if isinstance(out, tuple | list) else [out]:
            if isinstance(x, Tensor):
                # What is held in memory: an expanded view is small.
                held = x.untyped_storage().nbytes() // x.element_size()
                self.numel = max(self.numel, min(held, x.numel()))
                self.work += x.numel()
        return out


@contextmanager
def calls_of(
    monkeypatch: pytest.MonkeyPatch, path: str, real: Callable[..., Any]
) -> Iterator[list[str]]:
    """One entry for each call of the function at ``path``, which still does its work."""
    calls: list[str] = []

    def counted(*args: Any, **kwargs: Any) -> Any:
        calls.append(path)
        return real(*args, **kwargs)

    with monkeypatch.context() as patch:
        patch.setattr(path, counted)
        yield calls


needs_compiler = pytest.mark.skipif(
    sys.platform != "linux" or shutil.which("gcc") is None, reason="no GCC with glibc"
)


@pytest.fixture
def always(monkeypatch: pytest.MonkeyPatch) -> None:
    """Compile, and fail where that fails."""

    def working(source: str) -> object:
        library = compiled(source)
        assert library is not None, source
        return library

    monkeypatch.setenv("PYG_BSL_COMPILE", "always")
    for module in ("native", "native_powers"):
        monkeypatch.setattr(f"pyg_bsl.ops.{module}.compiled", working)
