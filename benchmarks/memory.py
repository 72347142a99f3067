"""Peak memory of one step of each way, over what is held before and after it.

Each way runs once in a process of its own, forked from one that has only imported PyTorch, with
the allocator as it is by default. Held before are the data and, for training steps, parameters,
gradients and the state of Adam; the peak is that of a whole step, Adam included. Linux only.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context

import torch

from benchmarks import evaluation, propagation, training_step
from benchmarks.data import large_graph
from benchmarks.measure import Options, Table
from benchmarks.training_step import Sizes
from pyg_bsl.types import Embeddings

MILLION = Sizes(users=10_000, items=1_000_000, pairs=170_000)
TINY = Options(quick=True)
TINY_STEP = Sizes(64, 48, 400, 8, 16, 4)
Step = Callable[[], object]


def training(name: str, way: str, sizes: Sizes) -> Step:
    """A whole training step."""
    emb, ways = training_step.ways(name, sizes)
    optimizer = torch.optim.Adam([emb.user, emb.item], fused=True)
    for table in (emb.user, emb.item):
        table.grad = torch.zeros_like(table)
    optimizer.step()

    def run() -> None:
        optimizer.zero_grad(set_to_none=True)
        ways[way].loss().backward()
        optimizer.step()

    return run


def propagating(name: str, options: Options) -> Step:
    """Three layers, forward and backward."""
    graph = large_graph(options)
    model = propagation.backbone(graph, name)
    grads = [torch.randn_like(table) for table in model.tables()]
    return lambda: propagation.step(model, graph, grads)


def evaluating(name: str, options: Options) -> Step:
    """One evaluation, of random vectors."""
    graph = large_graph(options)
    emb = Embeddings(torch.randn(graph.num_users, 64), torch.randn(graph.num_items, 64))
    return lambda: evaluation.WAYS[name](emb, graph)


def peak(prepare: Callable[..., Step], tiny: tuple[object, ...], full: tuple[object, ...]) -> float:
    """MiB that the step of ``prepare(*full)`` takes at most, over what is held before it.

    The step of ``prepare(*tiny)`` comes first, so that code is loaded.
    """
    prepare(*tiny)()
    step = prepare(*full)
    ctypes.CDLL(None).malloc_trim(0)
    # The high-water mark of preparing is filled up, so that the step starts at it.
    ballast = b"\x01" * max(0, _resident("VmHWM") - _resident("VmRSS"))
    base = _resident("VmHWM")
    step()
    del ballast
    return (_resident("VmHWM") - base) / 2**20


def _resident(field: str) -> int:
    """``VmRSS``, resident memory in bytes, or ``VmHWM``, the most so far."""
    with open("/proc/self/status") as file:
        return 1024 * next(int(line.split()[1]) for line in file if line.startswith(field))


def in_own_process(*args: object) -> float:
    """:func:`peak` in a process forked from a fresh one."""
    context = get_context("forkserver")
    context.set_forkserver_preload([__name__])
    with ProcessPoolExecutor(1, mp_context=context) as pool:
        return pool.submit(peak, *args).result()


def run(options: Options) -> list[Table]:
    """Measure every way."""
    small = Sizes(300, 200, 3_000, 32, 50, 16) if options.quick else Sizes()
    large = Sizes(300, 2_000, 3_000, 32, 50, 16) if options.quick else MILLION
    rows = []

    def add(what: str, way: str, *args: object) -> None:
        rows.append([what, way, f"{in_own_process(*args):,.0f}"])

    for name, sizes, ways in (
        ("SL", small, list(training_step.ways("SL", TINY_STEP)[1])),
        ("BSL", small, ["literal", "library, users"]),
        ("PSL-relu", small, ["literal", "plain, pairs", "library, pairs", "library, users"]),
        ("PSL-tanh", small, ["literal", "library, pairs"]),
        ("BPR", small, ["literal", "library, pairs"]),
        ("SL", large, ["literal", "F.linear_cross_entropy, pairs", "library, users"]),
    ):
        known = training_step.ways(name, TINY_STEP)[1]
        for way in ways:
            if way in known:
                args = (name, way, TINY_STEP), (name, way, sizes)
                add(f"training step, {name}, {sizes.items:,} items", way, training, *args)
    graph = large_graph(TINY)
    for name in (*propagation.products(graph), "library"):
        add("propagation", name, propagating, (name, TINY), (name, options))
    for name in evaluation.WAYS:
        add("evaluation", name, evaluating, (name, TINY), (name, options))
    note = (
        f"MiB over data, parameters, gradients and optimizer state. Training: batches of "
        f"{small.batch:,}, d = {small.dim}; held in full, a matrix of scores with "
        f"{large.items:,} items takes {large.batch * large.items / 2**28:,.1f} GiB a copy and is "
        f"not tried."
    )
    return [Table(["step", "way", "MiB at the peak"], rows, note)]
