import pytest
import torch

from pyg_bsl.nn import MF, SimpleX
from tests.nn.graphs import COLD_USER, interactions, make_graph


def build(gamma: float = 0.5) -> SimpleX:
    torch.manual_seed(0)
    return SimpleX(6, 8, embedding_dim=4, gamma=gamma).double()


@pytest.mark.parametrize("gamma", [0.0, 0.3, 1.0])
def test_a_user_is_its_own_vector_and_the_mean_of_its_items(gamma):
    backbone, met = build(gamma), interactions()
    emb = backbone(make_graph())
    rows = []
    for user in range(6):
        items = [item for item in range(8) if met[user, item]]
        mean = sum((backbone.item_embedding[i] for i in items), torch.zeros(4).double())
        mean = mean / max(len(items), 1)
        rows.append(gamma * backbone.user_embedding[user] + (1 - gamma) * mean @ backbone.weight)
    expected = torch.stack(rows)
    torch.testing.assert_close(emb.user, expected)
    assert torch.equal(emb.item, backbone.item_embedding)
    weight = torch.linspace(-1, 1, 24, dtype=torch.float64).view(6, 4)
    inputs = [backbone.user_embedding, backbone.item_embedding, backbone.weight]
    for gradient, wanted in zip(
        torch.autograd.grad((emb.user * weight).sum(), inputs),
        torch.autograd.grad((expected * weight).sum(), inputs),
        strict=True,
    ):
        torch.testing.assert_close(gradient, wanted)


def test_without_history_it_is_mf():
    backbone, graph = build(1.0), make_graph()
    plain = MF(6, 8, embedding_dim=4).double()
    plain.load_state_dict(backbone.state_dict(), strict=False)
    torch.testing.assert_close(backbone(graph).user, plain(graph).user)


def test_who_met_nothing_has_only_its_own_vector():
    backbone = build(0.3)
    user = backbone(make_graph()).user
    torch.testing.assert_close(user[COLD_USER], 0.3 * backbone.user_embedding[COLD_USER])


def test_the_matrix_is_learned_and_is_no_table_of_vectors():
    backbone = build()
    names = list(dict(backbone.named_parameters()))
    assert names == ["user_embedding", "item_embedding", "weight"]
    assert len(backbone.tables()) == 2
