import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from pyg_bsl.losses import SL, AdvInfoNCE
from pyg_bsl.nn import MF
from pyg_bsl.ops import LazyScores
from pyg_bsl.training import Trainer
from tests.losses.naive import Row, assert_equals_naive
from tests.losses.ready import NUM_ITEMS, make, train
from tests.planted import planted


@pytest.mark.parametrize("moves", [True, False], ids=["raised", "still"])
@pytest.mark.parametrize(("tau", "weight"), [(0.2, 64.0), (0.05, 1.0), (0.005, 64.0)])
def test_equals_the_formula_and_the_adversary_raises_it(
    tau: float, weight: float, moves: bool
) -> None:
    loss = make("AdvInfoNCE", tau=tau, weight=weight, adversary_dim=3).double()
    loss.adversary_moves = moves

    def formula(row: Row) -> Tensor:
        user, item = loss.user, loss.item
        if not moves:
            user, item = user.detach(), item.detach()
        hard = F.cosine_similarity(user[row.user][None], item[row.negatives]).exp() * row.weight
        p = hard / hard.sum()
        e = (row.pos / tau).exp()
        return -(e / (e + weight * 1000 * (p * (row.neg / tau).exp()).sum())).log()

    assert_equals_naive(loss, formula, raised=("user", "item"))


def test_a_step_lowers_the_loss_in_the_model_and_raises_it_in_the_adversary() -> None:
    loss = make("AdvInfoNCE", tau=0.5, weight=1.0, num_negatives=1).double()
    loss.adversary_moves = True
    generator = torch.Generator().manual_seed(1)
    user, item = (torch.randn(n, 4, generator=generator).double() for n in (7, NUM_ITEMS))
    user.requires_grad_()

    def value() -> Tensor:
        return loss((user * item[:7]).sum(1), user @ item.t(), users=torch.arange(7))

    before = value()
    before.backward()
    for x, sign in ((user, -1), (loss.user, 1), (loss.item, 1)):
        with torch.no_grad():
            held = x.clone()
            x -= 1e-3 * x.grad / x.grad.norm()  # what an optimizer does with it
            assert sign * (value() - before) > 0
            x.copy_(held)


def test_the_adversary_moves_every_so_often() -> None:
    loss = AdvInfoNCE(every=3)
    loss.setup(train())
    moves = []
    for epoch in range(1, 8):
        loss.on_epoch_start(epoch, train(), lambda: None)
        moves.append(loss.adversary_moves)
    assert moves == [False, False, True, False, False, True, False]
    assert [group["lr"] for group in loss.parameter_groups(0.1)] == [0.005]


def test_the_adversary_changes_its_mind_in_a_training_with_the_defaults() -> None:
    graph, loss = planted(), AdvInfoNCE()
    torch.manual_seed(0)
    backbone = MF(graph.num_users, graph.num_items, embedding_dim=8)
    loss.setup(graph.train)

    def hardness() -> Tensor:
        user, item = (F.normalize(x.detach(), dim=1) for x in (loss.user, loss.item))
        return (user @ item.t()).softmax(1)

    before = hardness()
    Trainer(backbone, loss).fit(graph, epochs=20)
    change = hardness() - before
    assert change.std() > 0.1 * before.std()


def test_an_adversary_without_opinion_is_sl_with_the_positive_and_its_weight() -> None:
    loss = make("AdvInfoNCE", tau=0.2, weight=1.0, num_negatives=9).double()
    with torch.no_grad():
        loss.item.copy_(torch.ones_like(loss.item))
    pos, neg = torch.rand(4).double(), torch.rand(4, 9).double()
    more = {"users": torch.arange(4), "negatives": torch.arange(9)}
    expected = SL(0.2, include_positive=True)(pos, neg) + torch.tensor(10.0).double().log()
    torch.testing.assert_close(loss(pos, neg, **more), expected)


def test_the_catalogue_needs_no_ids_and_others_do() -> None:
    loss = make("AdvInfoNCE")
    users, pos = torch.arange(3), torch.zeros(3)
    whole = torch.rand(3, NUM_ITEMS)
    ids = torch.arange(NUM_ITEMS)
    assert torch.equal(loss(pos, whole, users=users), loss(pos, whole, users=users, negatives=ids))
    wrong = r"'negatives' must tell the item of each negative, .* catalogue of 13 items \(got 4 neg"
    with pytest.raises(ValueError, match=wrong):
        loss(pos, whole[:, :4], users=users)
    with pytest.raises(ValueError, match=wrong):
        loss(pos, LazyScores(torch.ones(3, 1), torch.ones(4, 1)), users=users)
