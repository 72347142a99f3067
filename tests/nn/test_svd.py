import pytest
import torch
import torch.nn.functional as F

from pyg_bsl.losses import SL
from pyg_bsl.nn import MF, LightGCN
from pyg_bsl.nn.svd import svd_vectors
from pyg_bsl.training import Trainer
from pyg_bsl.types import UserItems
from tests.planted import planted


def interactions(num_users=30, num_items=20) -> tuple[UserItems, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    met = torch.rand(num_users, num_items, generator=generator) < 0.3
    met[4], met[:, 7] = False, False  # a user and an item without interactions
    users, items = met.nonzero(as_tuple=True)
    return UserItems.from_pairs(users, items, num_users, num_items), met.double()


# With 12 and more, all 20 singular vectors are looked for, and nothing is left to chance.
@pytest.mark.parametrize(("dim", "atol"), [(2, 0.1), (12, 1e-4), (64, 1e-4)])
def test_inner_products_are_those_of_the_truncated_decomposition(dim, atol):
    train, met = interactions()
    degree = met.sum(1).clamp(min=1)[:, None] * met.sum(0).clamp(min=1)
    u, s, vh = torch.linalg.svd(met / degree.sqrt(), full_matrices=False)
    dim_ = min(dim, int((s > 1e-9).sum()))
    expected = [F.normalize(x[:, :dim_] * s[:dim_].sqrt(), dim=1) for x in (u, vh.T)]
    torch.manual_seed(0)
    user, item = svd_vectors(train, dim)
    assert user.shape == (30, dim) and item.shape == (20, dim)
    products = expected[0] @ expected[1].T
    products[4], products[:, 7] = 0, 0
    torch.testing.assert_close((user @ item.T).double(), products, atol=atol, rtol=0)


def test_vectors_have_length_1_or_no_interactions():
    user, item = svd_vectors(interactions()[0], 8)
    assert user[4].eq(0).all() and item[7].eq(0).all()
    for table, left_out in ((user, 4), (item, 7)):
        length = table.norm(dim=1)
        length[left_out] = 1
        torch.testing.assert_close(length, torch.ones_like(length))


def test_components_beyond_the_rank_are_zero():
    user, item = svd_vectors(interactions()[0], 64)
    assert user[:, 20:].eq(0).all() and item[:, 20:].eq(0).all()


@pytest.mark.parametrize("backbone", [MF, LightGCN])
def test_training_starts_at_singular_vectors(backbone):
    graph = planted()
    model = backbone(graph.num_users, graph.num_items, embedding_dim=8, init="svd")
    random = model.user_embedding.detach().clone()
    torch.manual_seed(3)
    user, item = svd_vectors(graph.train, 8)
    torch.manual_seed(3)
    model.setup(graph)
    assert not torch.equal(model.user_embedding, random)
    assert torch.equal(model.user_embedding, user) and torch.equal(model.item_embedding, item)


def test_who_has_no_interactions_keeps_a_random_vector():
    train, _ = interactions()
    graph = planted()
    model = MF(30, 20, embedding_dim=8, init="svd")
    random = model.user_embedding[4].detach().clone()
    model.setup(type(graph)(train=train, valid=None, test=None, adjacency=graph.adjacency))
    assert torch.equal(model.user_embedding[4], random) and random.ne(0).any()


def test_what_was_trained_or_loaded_is_not_placed_again():
    graph = planted()
    model = MF(graph.num_users, graph.num_items, embedding_dim=8, init="svd")
    Trainer(model, SL()).fit(graph, 1)
    trained = model.state_dict()["user_embedding"].clone()
    model.setup(graph)
    assert torch.equal(model.user_embedding, trained)
    other = MF(graph.num_users, graph.num_items, embedding_dim=8, init="svd")
    other.load_state_dict(model.state_dict())
    other.setup(graph)
    assert torch.equal(other.user_embedding, trained)
    other.reset_parameters()
    other.setup(graph)
    assert not torch.equal(other.user_embedding, trained)


def test_it_starts_better_than_at_random_and_the_same_seed_gives_the_same():
    graph = planted()

    def first_epoch(init: str, seed: int) -> float:
        torch.manual_seed(seed)
        model = MF(graph.num_users, graph.num_items, embedding_dim=8, init=init)
        return Trainer(model, SL(), lr=1e-6, seed=seed).fit(graph, 1).history[0].loss

    assert first_epoch("svd", 0) < first_epoch("xavier", 0) - 0.1
    assert first_epoch("svd", 1) == first_epoch("svd", 1)
