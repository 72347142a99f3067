import torch

from pyg_bsl.nn import MF
from tests.nn.graphs import make_graph


def test_embeddings_are_the_learned_vectors():
    backbone = MF(6, 8, embedding_dim=4)
    emb = backbone(make_graph())
    assert torch.equal(emb.user, backbone.user_embedding)
    assert torch.equal(emb.item, backbone.item_embedding)


def test_dropout_zeroes_numbers_of_users_only_and_keeps_the_expectation():
    torch.manual_seed(0)
    graph = make_graph()
    backbone = MF(6, 8, embedding_dim=4, init="normal", init_std=1.0, dropout=0.25).double()
    learned = backbone.user_embedding.detach()
    total = torch.zeros_like(learned)
    for _ in range(4000):
        emb = backbone(graph)
        kept = emb.user.detach() != 0
        torch.testing.assert_close(emb.user[kept].detach(), learned[kept] / 0.75)
        assert torch.equal(emb.item, backbone.item_embedding)
        total += emb.user.detach()
    torch.testing.assert_close(total / 4000 / learned, torch.ones_like(learned), atol=0.05, rtol=0)
    assert torch.equal(backbone.eval()(graph).user, learned)


def test_repr():
    assert str(MF(671, 2000)) == "MF(671, 2000, embedding_dim=64, dropout=0.0)"
