import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from pyg_bsl.data import build_graph
from pyg_bsl.data.hetero import make_hetero
from pyg_bsl.losses import Talos
from pyg_bsl.nn import MF
from pyg_bsl.training import Trainer
from pyg_bsl.types import UserItems
from tests.losses import naive
from tests.losses.naive import Row, assert_equals_naive
from tests.losses.ready import NUM_ITEMS, make, train


@pytest.mark.parametrize(("tau", "k"), [(0.15, 2), (1.0, 13), (0.005, 5)])
def test_equals_the_formula(tau: float, k: int) -> None:
    loss = make("Talos", tau=tau, k=k).double()
    level = float(torch.tensor(k / NUM_ITEMS))

    def formula(row: Row) -> Tensor:
        learned = loss.threshold[row.user]
        fixed = learned.detach()

        def power(s: Tensor) -> Tensor:
            return (1 / (1 + (fixed - s).exp())).log() / tau

        def pinball(s: Tensor) -> Tensor:
            x = s.detach() - learned
            return (1 - level) * x.clamp(min=0) + level * (-x).clamp(min=0)

        share = float(train().counts[row.user] / NUM_ITEMS)
        below = naive.mean(pinball(row.neg), row.weight)
        quantile = share * pinball(row.pos) + (1 - share) * below
        return naive.log_mean_exp(power(row.neg), row.weight) - power(row.pos) + quantile

    assert_equals_naive(loss, formula)


@pytest.mark.parametrize("k", [1, 4, 10])
def test_threshold_settles_where_k_scores_of_the_catalogue_lie_above_it(k: int) -> None:
    generator = torch.Generator().manual_seed(0)
    scores = torch.randn(2, 30, generator=generator)
    mine = [[3, 7, 11], [5]]
    users = torch.tensor([u for u, items in enumerate(mine) for _ in items])
    items = torch.tensor([i for items in mine for i in items])
    loss = Talos(k=k)
    loss.setup(UserItems.from_pairs(users, items, 2, 30))
    neg = scores.clone()
    neg[users, items] = -torch.inf
    groups = [{**g, "lr": 0.2} for g in loss.parameter_groups(0.1)]
    optimizer = torch.optim.Adam(groups)
    decay = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.01, total_iters=150)
    for _ in range(150):
        optimizer.zero_grad()
        loss(scores[users, items], neg[users], users=users).backward()
        optimizer.step()
        decay.step()
    ordered = scores.sort(dim=1, descending=True).values
    for user in range(2):  # between the K-th and the next one
        assert ordered[user, k] - 0.02 <= loss.threshold[user] <= ordered[user, k - 1] + 0.02


def test_scores_get_no_gradient_from_the_thresholds_nor_thresholds_from_the_ranking() -> None:
    loss = make("Talos").double()
    pos, neg = torch.rand(3).double().requires_grad_(), torch.rand(3, 5).double().requires_grad_()
    loss(pos, neg, users=torch.arange(3)).backward()
    before = pos.grad.clone(), neg.grad.clone()
    loss.share.fill_(0.5), loss.level.fill_(0.9)  # of the pinball loss alone
    pos.grad = neg.grad = None
    loss(pos, neg, users=torch.arange(3)).backward()
    assert torch.equal(pos.grad, before[0])
    assert torch.equal(neg.grad, before[1])


def test_thresholds_learn_at_their_own_rate() -> None:
    (group,) = make("Talos").parameter_groups(0.1)
    assert group["lr"] == 0.02


def test_thresholds_are_learned_in_a_training_with_the_defaults() -> None:
    num_users, num_items, k = 60, 100, 10
    generator = torch.Generator().manual_seed(0)
    pairs = [  # eight of the twenty items of the user's cluster
        (user, 5 * item + user % 5)
        for user in range(num_users)
        for item in torch.randperm(20, generator=generator)[:8].tolist()
    ]
    graph = build_graph(make_hetero(torch.tensor(pairs).t().contiguous(), num_users, num_items))
    torch.manual_seed(0)
    backbone, loss = MF(num_users, num_items, embedding_dim=8), Talos(k=k)
    Trainer(backbone, loss).fit(graph, epochs=20)
    emb = backbone(graph)
    scores = F.normalize(emb.user, dim=1) @ F.normalize(emb.item, dim=1).t()
    above = (scores > loss.threshold[:, None]).sum(1).double().mean()
    assert above == pytest.approx(k, rel=0.15)
