"""What holds for every loss, by name."""

import copy
import inspect
import itertools
import math
import pickle
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pyg_bsl import losses
from pyg_bsl.losses import LOSSES, Loss
from pyg_bsl.ops import DenseScores, LazyScores, reverse_gradient
from pyg_bsl.space import Choice, Integer, LogUniform, Uniform
from pyg_bsl.types import Ragged
from tests.losses.ready import call, make, needed
from tests.ops.cases import (
    BOTH_TYPES,
    EVERY_KIND,
    LargestTensor,
    NoReadBack,
    assert_same,
    lazy_scores,
    per_row,
    ragged,
    tiny_tiles,  # noqa: F401
)

EVERY_LOSS = pytest.mark.parametrize("name", LOSSES)

# Every loss with its defaults, and further arguments that take another way through the code.
CASES: list[tuple[str, dict[str, Any]]] = [(name, {}) for name in LOSSES] + [
    ("MSE", {"weight": 30.0}),
    ("BCE", {"weight": 0.0}),
    ("SL", {"tau": 0.005}),
    ("SL", {"include_positive": True}),
    ("BSL", {"tau1": 0.3, "tau2": 0.1, "weight": 1.3}),
    ("PSL", {"tau": 0.1}),
    ("PSL", {"tau": 0.07}),
    ("PSL", {"tau": 0.005}),
    ("PSL", {"activation": "tanh"}),
    ("PSL", {"activation": "atan"}),
    ("PSL", {"activation": "exp"}),
    ("PSL", {"activation": "softplus"}),
    ("PSL", {"tau": 0.7, "temperature": "inside"}),
    ("PSL", {"tau": 0.2, "activation": "tanh", "temperature": "inside"}),
    ("CCL", {"margin": -0.3, "weight": 2.0}),
    ("AdvInfoNCE", {"tau": 0.5, "weight": 1.0, "num_negatives": 1}),
    ("LLPAUC", {"alpha": 1.0, "beta": 0.5, "ascent": False}),
    ("SLatK", {"tau": 0.3, "tau_weight": 0.5, "num_negatives": 1}),
    ("DirectAU", {"gamma": 0.0}),
    ("BC", {"tau": 0.3, "weight": 0.1}),
    ("DrRL", {"margin": -0.4}),
    ("DrRL", {"omega": 50.0, "margin": 0.1, "weight": 2.0}),
    ("Talos", {"tau": 0.3, "k": 2}),
]
EVERY_CASE = pytest.mark.parametrize(
    ("name", "args"),
    CASES,
    ids=[" ".join([name, *(f"{k}={v}" for k, v in args.items())]) for name, args in CASES],
)

# A value unlike the default for every constructor argument of every loss.
OTHER_VALUES: dict[str, Any] = {
    "tau": 0.3,
    "tau1": 0.3,
    "tau2": 0.4,
    "weight": 1.7,
    "include_positive": True,
    "activation": "tanh",
    "temperature": "inside",
    "margin": 0.2,
    "margin_lr": 0.3,
    "tau_weight": 1.5,
    "tau_popularity": 0.2,
    "popularity_dim": 5,
    "k": 3,
    "every": 2,
    "num_negatives": 50,
    "adversary_lr": 0.2,
    "adversary_dim": 6,
    "threshold_lr": 0.2,
    "alpha": 0.3,
    "beta": 0.6,
    "gamma": 0.5,
    "ascent": False,
    "omega": 3.5,
}
FEW_DIMENSIONS = {"AdvInfoNCE": {"adversary_dim": 2}, "BC": {"popularity_dim": 2}}
OTHER_VALUES_OF: dict[str, dict[str, Any]] = {"BC": {"weight": 0.3}}


def arguments(name: str) -> list[str]:
    """Names of the constructor's arguments."""
    if LOSSES[name].__init__ is Loss.__init__:
        return []
    return list(inspect.signature(LOSSES[name]).parameters)


def cooled(name: str) -> Loss:
    """The loss with every temperature at 0.005."""
    return make(name, **{a: 0.005 for a in arguments(name) if a.startswith("tau")})


def batch(seed: int = 0, dtype: torch.dtype = torch.float64) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    pos, neg = (torch.rand(*s, generator=generator, dtype=dtype) * 2 - 1 for s in ((5,), (5, 8)))
    return pos, neg


# Names and arguments


def test_every_loss_stands_under_its_own_name() -> None:
    for name, loss in LOSSES.items():
        assert loss.__name__ == name
        assert getattr(losses, name) is loss
        assert name in losses.__all__
        assert issubclass(loss, Loss)
        assert loss.similarity in ("cosine", "dot")


@EVERY_LOSS
def test_docstring_has_formula_and_example(name: str) -> None:
    doc = LOSSES[name].__doc__ or ""
    for part in (".. math::", "Shapes:", "Example:", *(f"{a}:" for a in arguments(name))):
        assert part in doc


@EVERY_LOSS
def test_constructor_arguments_are_attributes_and_stand_in_the_printed_form(name: str) -> None:
    others = OTHER_VALUES | OTHER_VALUES_OF.get(name, {})
    given = {argument: others[argument] for argument in arguments(name)}
    loss = LOSSES[name](**given)
    assert {argument: getattr(loss, argument) for argument in given} == given
    printed = ", ".join(f"{argument}={value}" for argument, value in given.items())
    assert repr(loss) == f"{name}({printed})"


@EVERY_LOSS
def test_search_space_gives_valid_arguments(name: str) -> None:
    space = LOSSES[name].search_space
    assert set(space) <= set(arguments(name))
    for argument, where in space.items():
        assert isinstance(where, Choice | Integer | LogUniform | Uniform)
        for value in where.values if isinstance(where, Choice) else (where.low, where.high):
            assert call(make(name, **{argument: value}), *batch()).isfinite()


@EVERY_CASE
def test_state_round_trip(name: str, args: dict[str, Any]) -> None:
    loss, fresh = make(name, **args), LOSSES[name](**args)  # one that was never set up
    fresh.load_state_dict(loss.state_dict())
    for other in (fresh, copy.deepcopy(loss), pickle.loads(pickle.dumps(loss))):
        assert repr(other) == repr(loss)
        assert torch.equal(call(other, *batch()), call(loss, *batch()))


# Values and gradients


@EVERY_CASE
@EVERY_KIND
@pytest.mark.usefixtures("tiny_tiles")
def test_lazy_equals_dense(name: str, args: dict[str, Any], rows, drop, weighted) -> None:
    loss = make(name, **args).double()
    scores = lazy_scores(0, rows, drop, weighted)
    if loss.similarity == "dot":
        query = (3 * scores.query.detach()).requires_grad_()
        scores = replace(scores, query=query, bounded=False)
    pos = per_row(scores, 1)
    context = needed(loss, pos, scores)
    leaves = [pos, *loss.parameters(), *(x for x in context.values() if x.requires_grad)]
    assert_same(lambda s: loss(pos, s, reduction="none", **context), scores, leaves)
    mean, total = (loss(pos, scores, reduction=r, **context) for r in ("mean", "sum"))
    each = loss(pos, scores.dense(), reduction="none", **context)
    torch.testing.assert_close(mean, each.mean(), rtol=1e-10, atol=1e-12)
    torch.testing.assert_close(total, each.sum(), rtol=1e-10, atol=1e-12)


@EVERY_CASE
@pytest.mark.parametrize("rows", ["one", "ragged"])
@pytest.mark.usefixtures("tiny_tiles")
def test_lazy_equals_dense_in_float32(name: str, args: dict[str, Any], rows) -> None:
    loss = make(name, **args)
    scores = lazy_scores(1, rows, "ragged", dtype=torch.float32)
    pos = per_row(scores, 1)
    # A score over tau is off by that much more in float32, in either way.
    coldest = min([v for k, v in vars(loss).items() if k.startswith("tau")], default=1.0)
    tol = 1e-5 * max(1, 0.02 / coldest)
    context = needed(loss, pos, scores)
    assert_same(lambda s: loss(pos, s, reduction="none", **context), scores, [pos], tol)


@EVERY_CASE
@pytest.mark.parametrize("lead", [0.0, 0.6, 0.9, 0.99])
@pytest.mark.parametrize("rows", ["one", "ragged"])
def test_bfloat16_products_cost_the_loss_nothing_and_its_gradients_a_per_cent(
    name: str, args: dict[str, Any], lead: float, rows
) -> None:
    generator = torch.Generator().manual_seed(0)
    num_queries, num_keys, dim = 40, 120, 32
    query, key = (
        F.normalize(torch.randn(n, dim, generator=generator), dim=1)
        for n in (num_queries, num_keys)
    )
    # One key of each query above all others, so that nothing averages out.
    key[:num_queries] = math.sqrt(1 - lead**2) * key[:num_queries] + lead * query
    key = F.normalize(key, dim=1)
    ends = ragged([[0] * (q % 3) for q in range(num_queries)]) if rows == "ragged" else None
    loss = make(name, **args)
    pos = torch.rand(num_queries if ends is None else ends.row.numel(), generator=generator)
    kinds = (torch.float64, None), (torch.float32, None), (torch.float32, torch.bfloat16)
    results = []
    for dtype, gemm in kinds:
        leaves = [x.to(dtype).requires_grad_() for x in (query, key)]
        scores = LazyScores(*leaves, ends, bounded=loss.similarity == "cosine", gemm=gemm)
        out = call(loss.to(dtype), pos.to(dtype), scores)
        grads = torch.autograd.grad(out + 0 * leaves[0].sum(), leaves, materialize_grads=True)
        results.append((out.detach(), *grads))
    exact, full, low = results
    assert torch.equal(low[0], full[0])
    torch.testing.assert_close(low[0].double(), exact[0], rtol=1e-3, atol=0)
    for got, wanted in zip(low[1:], exact[1:], strict=True):
        assert got.dtype == torch.float32
        assert (got - wanted).norm() <= 0.02 * wanted.norm()
    if exact[2].any():
        assert not torch.equal(low[2], full[2])


@EVERY_CASE
@BOTH_TYPES
def test_tensor_of_negatives_is_dense_scores(
    name: str, args: dict[str, Any], dtype: torch.dtype
) -> None:
    loss, (pos, neg) = make(name, **args).to(dtype), batch(dtype=dtype)
    for log_weight in (None, torch.randn(8, dtype=dtype), torch.randn(5, 8, dtype=dtype)):
        out = call(loss, pos, neg, log_weight=log_weight)
        assert torch.equal(out, call(loss, pos, DenseScores(neg, log_weight)))
        assert out.dtype == dtype
        assert out.shape == ()


@EVERY_CASE
@pytest.mark.parametrize("lazy", [True, False], ids=["lazy", "dense"])
@pytest.mark.usefixtures("tiny_tiles")
def test_gradients_agree_with_finite_differences(
    name: str, args: dict[str, Any], lazy: bool
) -> None:
    loss = make(name, **args).double()
    scores = lazy_scores(1, "ragged", "ragged", True, num_queries=3, num_keys=5)
    rows = ragged([[0, 0], [], [0]])
    # Finite differences leave the unit sphere: inside it, no relu acts on the way.
    query, key = ((0.9 * x.detach()).requires_grad_() for x in (scores.query, scores.key))
    pos = torch.tensor([-0.8, 0.1, 0.7], dtype=torch.float64, requires_grad=True)

    def of(query: Tensor, key: Tensor, pos: Tensor) -> Tensor:
        negatives = LazyScores(query, key, rows, scores.drop, scores.log_weight, bounded=True)
        context = needed(loss, pos, negatives)
        return loss(pos, negatives if lazy else negatives.dense(), reduction="none", **context)

    # Talos learns its thresholds on constant scores: their part has no gradient.
    if loss.uses_negatives and name != "Talos":
        assert torch.autograd.gradcheck(of, (query, key, pos), atol=2e-5)


@EVERY_CASE
def test_dropping_a_negative_is_leaving_it_out(name: str, args: dict[str, Any]) -> None:
    loss, (pos, neg) = make(name, **args), batch()
    dropped = neg.clone()
    dropped[:, 3:5] = -torch.inf
    left = torch.tensor([0, 1, 2, 5, 6, 7])
    kept = call(loss, pos, neg[:, left], negatives=left)
    torch.testing.assert_close(call(loss, pos, dropped), kept)


@EVERY_CASE
def test_order_and_repetition_of_negatives_do_not_matter(name: str, args: dict[str, Any]) -> None:
    loss, (pos, neg) = make(name, **args), batch()
    items, expected = torch.arange(8), call(loss, pos, neg)
    torch.testing.assert_close(call(loss, pos, neg.flip(1), negatives=items.flip(0)), expected)
    if name != "BC" and not args.get("include_positive"):  # beside the positive, N does matter
        more = call(loss, pos, neg.repeat(1, 3), negatives=items.repeat(3))
        torch.testing.assert_close(more, expected)


@EVERY_CASE
def test_higher_positives_and_lower_negatives_cost_less(name: str, args: dict[str, Any]) -> None:
    pos, neg = (0.5 * x + 0.4 for x in batch())
    pos, neg = pos.requires_grad_(), neg.abs().requires_grad_()  # MSE draws negatives to 0
    loss = make(name, **args)
    if not loss.uses_negatives:
        return
    pull, push = torch.autograd.grad(call(loss, pos, neg), (pos, neg))
    assert (pull < 0).all()
    assert (push >= 0).all()


@EVERY_LOSS
def test_users_all_different_change_nothing(name: str) -> None:
    loss, (pos, neg) = make(name), batch()
    if "users" not in loss.needs:
        users = torch.tensor([4, 0, 9, 2, 7])
        torch.testing.assert_close(call(loss, pos, neg, users=users), call(loss, pos, neg))


# Extremes


def extremes(dtype: torch.dtype) -> list[tuple[Tensor, Tensor]]:
    """Scores at the ends, many negatives and one, and rows that have none left."""
    rows = [
        (p, n) for p in (-1.0, 1.0) for n in itertools.product((-1.0, 1.0, -torch.inf), repeat=2)
    ]
    pos = torch.tensor([p for p, _ in rows], dtype=dtype)
    neg = torch.tensor([n for _, n in rows], dtype=dtype)
    return [(pos, neg), (pos, neg[:, :1]), (pos, neg.repeat_interleave(500, 1))]


@EVERY_LOSS
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("made", [make, cooled], ids=["default", "0.005"])
def test_extremes_are_finite_with_finite_gradients(
    name: str, dtype: torch.dtype, made: Callable[[str], Loss]
) -> None:
    for pos, neg in extremes(dtype):
        p, n = pos.clone().requires_grad_(), neg.clone().requires_grad_()
        out = call(made(name), p, n, reduction="none")
        assert out.dtype == (torch.float64 if dtype == torch.float64 else torch.float32)
        assert out.isfinite().all()
        loss = out.sum() + 0 * p.sum()  # in case no score is used
        grads = torch.autograd.grad(loss, (p, n), materialize_grads=True)
        assert all(g.isfinite().all() for g in grads)
        assert not grads[1][neg == -torch.inf].any()


@EVERY_LOSS
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("made", [make, cooled], ids=["default", "0.005"])
def test_extremes_are_finite_with_finite_gradients_when_lazy(
    name: str, dtype: torch.dtype, made: Callable[[str], Loss]
) -> None:
    loss = made(name).double() if dtype == torch.float64 else made(name)
    query = torch.tensor([[-1.0], [1.0]], dtype=dtype, requires_grad=True)
    for item in ([[1.0]], [[1.0], [-1.0]], [[-1.0]] * 500):
        key = torch.tensor(item, dtype=dtype, requires_grad=True)
        everything = list(range(len(item)))
        for gone in ([[], []], [[0], []], [everything, everything[1:]]):
            for ends in itertools.product((-1.0, 1.0), repeat=2):
                pos = torch.tensor(ends, dtype=dtype, requires_grad=True)
                scores = LazyScores(query, key, drop=ragged(gone), bounded=True)
                out = call(loss, pos, scores)
                assert out.isfinite()
                torch.testing.assert_close(out, call(loss, pos, scores.dense()))
                grads = torch.autograd.grad(out, (pos, query, key), materialize_grads=True)
                assert all(g.isfinite().all() for g in grads)


def positive_term(loss: Any, pos: Tensor) -> Tensor:
    """What is left of each row where there are no negatives; rows are of different users."""
    user, zero = torch.arange(len(pos)), torch.zeros_like(pos)
    match type(loss).__name__:
        case "MSE":
            return (1 - pos) ** 2
        case "BCE":
            return F.softplus(-pos)
        case "CCL" | "DrRL":
            return 1 - pos
        case "SL":
            return zero if loss.include_positive else -pos / loss.tau
        case "BSL":
            return -pos / loss.tau1
        case "PSL":
            return -pos / (2 * loss.tau) if loss.activation == "exp" else zero
        case "SLatK":
            weight = torch.sigmoid((pos - loss.threshold[user]) / loss.tau_weight)
            return -weight * pos / loss.tau
        case "LLPAUC":
            x = pos.sigmoid()
            raised = reverse_gradient if loss.ascent else lambda x: x
            s_pos, gamma = raised(loss.s_pos), raised(loss.gamma)
            gain = 2 * (1 + gamma) * x - (x - loss.a) ** 2 - s_pos
            return -s_pos - F.softplus(5 * gain) / 5 / loss.alpha - gamma**2
        case "Talos":
            fixed, x = loss.threshold[user].detach(), pos.detach() - loss.threshold[user]
            pinball = torch.maximum((1 - loss.level) * x, -loss.level * x)
            return loss.share[user] * pinball - F.logsigmoid(pos - fixed) / loss.tau
        case "BPR" | "AdvInfoNCE" | "BC":
            return zero
    raise AssertionError(f"no positive term is written down for {loss}")


@EVERY_CASE
@pytest.mark.parametrize("lazy", [True, False], ids=["lazy", "dense"])
def test_row_without_negatives_is_its_positive_term(
    name: str, args: dict[str, Any], lazy: bool
) -> None:
    loss = make(name, **args).double()
    if not loss.uses_negatives:
        return
    user, item = (torch.rand(n, 3, dtype=torch.float64, requires_grad=True) for n in (5, 8))
    pos = batch()[0].requires_grad_()
    scores = LazyScores(user, item, drop=ragged([list(range(8))] * 5))
    neg = scores if lazy else scores.dense()
    rows = call(loss, pos, neg, reduction="none", users=torch.arange(5))
    expected = positive_term(loss, pos)
    torch.testing.assert_close(rows, expected.to(rows.dtype))
    leaves = user, item, pos, *loss.parameters()
    for got, wanted in zip(
        torch.autograd.grad(rows.sum() + 0 * pos.sum(), leaves, materialize_grads=True),
        torch.autograd.grad(expected.sum() + 0 * pos.sum(), leaves, materialize_grads=True),
        strict=True,
    ):
        torch.testing.assert_close(got, wanted)


@EVERY_CASE
def test_row_without_negatives_leaves_the_others_alone(name: str, args: dict[str, Any]) -> None:
    loss, (pos, neg) = make(name, **args), batch()
    none = torch.full_like(neg, -torch.inf).requires_grad_()
    rows = call(loss, pos, none, reduction="none")
    assert rows.isfinite().all()
    (grad,) = torch.autograd.grad(
        rows.sum() + pos.requires_grad_().sum(), none, materialize_grads=True
    )
    assert torch.equal(grad, torch.zeros_like(none))
    mixed = neg.clone()
    mixed[2] = -torch.inf  # such a row leaves the others alone
    expected = call(loss, pos, neg, reduction="none").detach()
    expected[2] = rows.detach()[2]
    torch.testing.assert_close(call(loss, pos, mixed, reduction="none"), expected)


@EVERY_CASE
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_computed_in_float32(
    name: str, args: dict[str, Any], dtype: torch.dtype
) -> None:
    loss, (pos, neg) = make(name, **args), (x.to(dtype) for x in batch())
    pos, neg = pos.requires_grad_(), neg.requires_grad_()
    context = needed(loss, pos, neg)
    out = loss(pos, neg, **context)
    assert out.dtype == torch.float32
    assert torch.equal(out, loss(pos.float(), neg.float(), **context))
    if loss.uses_negatives:
        assert [g.dtype for g in torch.autograd.grad(out, (pos, neg))] == [dtype, dtype]


@EVERY_CASE
def test_nan_scores_are_not_hidden(name: str, args: dict[str, Any]) -> None:
    pos, neg = batch()
    neg[1, 2] = torch.nan
    loss = make(name, **args)
    rows = call(loss, pos, neg, reduction="none")
    assert rows.isnan().tolist() == [False, loss.uses_negatives, False, False, False]


# Devices and memory


@EVERY_CASE
@pytest.mark.parametrize("kind", ["dense", "lazy", "lazy ragged", "lazy boolean"])
def test_training_step_runs_on_any_device_and_reads_nothing_back(
    monkeypatch: pytest.MonkeyPatch, name: str, args: dict[str, Any], kind: str
) -> None:
    # A tensor made on the CPU by mistake, or a number read back, fails on the meta device.
    monkeypatch.setattr("pyg_bsl.ops.tiles.DEVICE_TILE", 1 << 12)  # several tiles
    num_users, num_items = 50, 70
    loss = make(name, **args).to("meta")
    user, item = (nn.Parameter(torch.empty(n, 4, device="meta")) for n in (num_users, num_items))
    optimizer = torch.optim.SGD([user, item, *loss.parameters()])
    given: dict[str, Tensor] = {}
    rows = ragged([[q % 7] * (q % 3) for q in range(num_users)], device="meta")
    drop = ragged([list(range(q % 5)) for q in range(num_users)], device="meta")
    log_weight = torch.zeros(num_items, device="meta")
    with NoReadBack():
        pos = (user[rows.row] * item[rows.col]).sum(1)
        users = rows.row
        neg: Tensor | LazyScores
        if kind == "dense":
            neg = user[rows.row] @ item.t()
        elif kind == "lazy":
            pos, users = (user * item[:num_users]).sum(1), torch.empty_like(user[:, 0]).long()
            neg = LazyScores(user, item, bounded=True)
        else:
            gone = torch.empty(num_users, num_items, dtype=torch.bool, device="meta")
            neg = LazyScores(
                user, item, rows, drop if kind == "lazy ragged" else gone, log_weight, True
            )
        if not loss.uses_negatives:
            given = {"user_vectors": user[users], "item_vectors": item[users]}
        out = call(loss, pos, neg, users=users, **given)
        out.backward()
        optimizer.step()
    assert out.device.type == "meta"
    assert user.grad is not None
    assert item.grad is not None


@EVERY_CASE
@pytest.mark.parametrize(("drop", "weighted"), [("ragged", False), ("boolean", True)])
def test_lazy_scores_make_no_matrix_of_all_scores(
    monkeypatch: pytest.MonkeyPatch, name: str, args: dict[str, Any], drop: str, weighted: bool
) -> None:
    for block in ("tiles.CPU_TILE", "scores.KEPT_BLOCK"):
        monkeypatch.setattr(f"pyg_bsl.ops.{block}", 1 << 14)
    monkeypatch.setattr("pyg_bsl.ops.walk.LEAST_QUERIES", 1)
    shape = num_users, num_items = 100, 2000
    scores = lazy_scores(0, "one", "none", weighted, torch.float32, *shape)
    pos = per_row(scores, 0)
    gone: Ragged | Tensor = ragged([[q, q + 1] for q in range(num_users)])
    if drop == "boolean":
        gone = torch.rand(shape, generator=torch.Generator().manual_seed(0)) < 0.1
    scores = replace(scores, drop=gone)
    largest = LargestTensor()
    with largest:
        call(make(name, **args, **FEW_DIMENSIONS.get(name, {})), pos, scores).backward()
    assert largest.numel <= 20_000 == num_users * num_items / 10


@EVERY_CASE
def test_work_does_not_grow_with_the_positives_of_a_user_where_the_loss_says_so(
    name: str, args: dict[str, Any]
) -> None:
    loss = make(name, **args)
    work = []
    for positives in (1, 10):
        rows = ragged([[0] * positives] * 5)
        scores = replace(lazy_scores(0, num_queries=5, num_keys=1000), rows=rows)
        with LargestTensor() as made:
            call(loss, per_row(scores, 0), scores).backward()
        work.append(made.work)
    assert loss.per_user == (work[1] < 2 * work[0])


# Errors


@EVERY_LOSS
def test_bad_input_is_refused_with_rule_and_value(name: str) -> None:
    loss, (pos, neg) = make(name), batch()
    lazy = LazyScores(torch.ones(3, 2), torch.ones(4, 2))
    calls: list[tuple[str, Callable[[], Tensor]]] = [
        (
            r"'pos' must have one dimension \[B\] \(got shape \[5, 1\]\)",
            lambda: loss(pos[:, None], neg),
        ),
        (
            r"'neg' must have shape \[B, N\] with B = 5 rows as 'pos' \(got \[4, 8\]\)",
            lambda: loss(pos, neg[:4]),
        ),
        (r"'neg' must have shape \[B, N\] .* \(got \[8\]\)", lambda: loss(pos, neg[0])),
        (
            r"'neg' must hold at least one negative a row \(got N = 0\)",
            lambda: loss(pos, neg[:, :0]),
        ),
        (r"'neg' has 3 rows, but 'pos' has 5", lambda: loss(pos, lazy)),
        (r"'neg' has 4 rows, but 'pos' has 5", lambda: loss(pos, DenseScores(neg[:4]))),
        (
            r"'users' must have shape \[5\] as 'pos' \(got \[4\]\)",
            lambda: loss(pos, neg, users=torch.zeros(4, dtype=torch.long)),
        ),
        (
            r"'log_weight' must have shape \[8\] or \[5, 8\] \(got \[5\]\)",
            lambda: loss(pos, neg, log_weight=torch.zeros(5)),
        ),
        (
            r"'log_weight' goes with dense negatives; lazy scores carry their own",
            lambda: loss(pos[:3], lazy, log_weight=torch.zeros(4)),
        ),
        (
            r"'reduction' must be 'mean', 'sum' or 'none' \(got 'avg'\)",
            lambda: loss(pos, neg, reduction="avg"),  # type: ignore[arg-type]
        ),
    ]
    for message, wrong in calls:
        with pytest.raises(ValueError, match=message):
            wrong()


@EVERY_LOSS
def test_scores_that_are_no_tensors_are_an_error(name):
    with pytest.raises(TypeError, match="'pos' and 'neg' must be tensors"):
        LOSSES[name]()([0.5], torch.zeros(1, 2))


def test_text_for_a_number_is_an_error():
    with pytest.raises(ValueError, match=r"'tau' must be positive and finite \(got '0.1'\)"):
        LOSSES["SL"](tau="0.1")
