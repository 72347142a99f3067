import torch

from pyg_bsl.nn import Popularity
from tests.nn.graphs import COLD_ITEM, interactions, make_graph


def test_scores_are_the_train_counts_for_everybody():
    emb = Popularity(6, 8)(make_graph())
    counts = [sum(bool(interactions()[user, item]) for user in range(6)) for item in range(8)]
    assert (emb.user @ emb.item.T).tolist() == [counts] * 6
    assert counts[COLD_ITEM] == 0


def test_nothing_is_learned():
    backbone = Popularity(6, 8)
    assert not backbone.state_dict()
    assert not backbone(make_graph()).item.requires_grad
    assert backbone(make_graph()).item.dtype == torch.float32


def test_repr():
    assert str(Popularity(671, 2000)) == "Popularity(671, 2000)"
