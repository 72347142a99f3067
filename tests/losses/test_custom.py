import pickle
from typing import Literal

import pytest
import torch
from torch import Tensor

from pyg_bsl.experiment import Experiment
from pyg_bsl.losses import BPR, LOSSES, Loss, row_loss
from pyg_bsl.ops import Scores, log_mean_exp, mean_map
from pyg_bsl.space import LogUniform
from pyg_bsl.training.trainer import describe
from tests.losses import plain
from tests.losses.plain import assert_equals_plain
from tests.ops.cases import assert_same, lazy_scores, per_row

SPACE = {"margin": LogUniform(0.1, 1.0)}


@row_loss(SPACE, similarity="dot")
def Squared(
    pos: Tensor, neg: Scores, *, margin: float = 0.5, side: Literal["up", "down"] = "up"
) -> Tensor:
    """Squared hinge on the gap.

    Args:
        margin: Gap that is wanted.
        side: Which way.
    """
    sign = 1 if side == "up" else -1
    return mean_map(neg, lambda s, p: torch.relu(sign * (s - p) + margin) ** 2, pos)


@row_loss(per_user=True)
def Soft(pos, neg):
    return log_mean_exp(neg, 0.5) - pos


LOSSES.pop("Squared"), LOSSES.pop("Soft")  # of this file alone


@pytest.fixture
def listed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(LOSSES, "Squared", Squared)


def test_equals_plain_loops_dense() -> None:
    def row(s: float, neg: list[float], w: list[float]) -> float:
        return plain.mean([max(x - s + 0.7, 0) ** 2 for x in neg], w)

    assert_equals_plain(Squared(margin=0.7), row)


def test_is_streamed_unchanged() -> None:
    for loss in (Squared(margin=0.7), Soft()):
        scores = lazy_scores(0, "ragged", "ragged", True)
        pos = per_row(scores, 1)
        assert_same(lambda s, loss=loss, pos=pos: loss(pos, s, reduction="none"), scores, [pos])


def test_is_a_loss_like_any_other() -> None:
    assert issubclass(Squared, Loss)
    assert Squared.__doc__ is not None and Squared.__doc__.startswith("Squared hinge")
    assert (Squared.similarity, Squared.search_space) == ("dot", SPACE)
    loss = Squared(margin=0.7)
    assert (loss.margin, loss.side, loss.per_user, Soft().per_user) == (0.7, "up", False, True)
    assert repr(loss) == "Squared(margin=0.7, side=up)"
    assert repr(pickle.loads(pickle.dumps(loss))) == repr(loss)
    assert describe(loss) == {"name": "Squared", "margin": 0.7, "side": "up"}
    assert repr(Soft()) == "Soft()"


@pytest.mark.usefixtures("listed")
def test_experiments_know_it_by_name_and_check_its_arguments() -> None:
    Experiment(dataset="movielens-small", loss="Squared", loss_args={"margin": 0.3})
    with pytest.raises(ValueError, match=r"'margin' must be float \(got 'wide'\)"):
        Experiment(dataset="movielens-small", loss="Squared", loss_args={"margin": "wide"})
    with pytest.raises(ValueError, match=r"Squared has no argument 'margn'; did you mean 'margin'"):
        Experiment(dataset="movielens-small", loss="Squared", loss_args={"margn": 1.0})


def test_unknown_arguments_are_errors() -> None:
    with pytest.raises(TypeError, match="margn"):
        Squared(margn=1.0)


def test_a_name_that_is_taken_or_an_argument_without_default_is_an_error() -> None:
    def BPR(pos, neg):
        return pos

    with pytest.raises(ValueError, match="There is a loss called 'BPR' already"):
        row_loss()(BPR)

    def Wrong(pos, neg, *, tau):
        return pos

    with pytest.raises(ValueError, match="Argument 'tau' of 'Wrong' needs a default"):
        row_loss()(Wrong)
    assert LOSSES["BPR"].__module__ == "pyg_bsl.losses.bpr"


def test_a_decorated_name_stands_in_the_list() -> None:
    def Mine(pos, neg):
        return pos

    try:
        assert LOSSES.get("Mine") is None
        assert row_loss()(Mine) is LOSSES["Mine"]
    finally:
        LOSSES.pop("Mine", None)
    assert LOSSES["BPR"] is BPR
