import pytest
import torch
from torch import Tensor

from pyg_bsl.nn import NGCF
from tests.nn.graphs import dense_adjacency, interactions, make_graph


def by_loops(backbone: NGCF) -> Tensor:
    matrix = dense_adjacency(interactions())
    layer = torch.cat([backbone.user_embedding, backbone.item_embedding])
    blocks = [layer]
    for conv in backbone.convs:
        rows = []
        for u in range(14):
            received = sum(matrix[u, i] * layer[i] for i in range(14))
            row = (layer[u] + received) @ conv.weight1 + (received * layer[u]) @ conv.weight2
            rows.append(torch.where(row > 0, row, 0.2 * row))
        layer = torch.stack(rows)
        blocks.append(torch.stack([row / row.norm() for row in rows]))
    return torch.cat(blocks, dim=1)


@pytest.mark.parametrize("num_layers", [1, 3])
def test_is_the_model_of_the_paper(num_layers):
    torch.manual_seed(0)
    backbone = NGCF(6, 8, embedding_dim=4, num_layers=num_layers).double().eval()
    expected = by_loops(backbone)
    emb = backbone(make_graph())
    out = torch.cat([emb.user, emb.item])
    assert emb.user.shape == (6, 4 * (num_layers + 1))
    torch.testing.assert_close(out, expected)
    weight = torch.linspace(-1, 1, out.numel(), dtype=torch.float64).view_as(out)
    inputs = list(backbone.parameters())
    for gradient, other in zip(
        torch.autograd.grad((out * weight).sum(), inputs),
        torch.autograd.grad((expected * weight).sum(), inputs),
        strict=True,
    ):
        torch.testing.assert_close(gradient, other)


def test_message_dropout_zeroes_numbers_of_the_layers_not_of_the_start():
    torch.manual_seed(0)
    backbone = NGCF(6, 8, embedding_dim=64, num_layers=1, dropout=0.3)
    emb = backbone(make_graph(torch.float32))
    out = torch.cat([emb.user, emb.item])
    assert torch.equal(out[:, :64], backbone.nodes())
    assert 0.25 < (out[:, 64:] == 0).float().mean() < 0.35
    kept = backbone.eval()(make_graph(torch.float32))
    assert not (torch.cat([kept.user, kept.item]) == 0).any()
    torch.testing.assert_close(out[:, 64:].norm(dim=1), torch.ones(14))


def test_node_dropout_acts_in_training_only():
    torch.manual_seed(0)
    graph = make_graph(torch.float32)
    backbone = NGCF(6, 8, embedding_dim=4, dropout=0.0, node_dropout=0.5)
    assert not torch.equal(backbone(graph).item, backbone(graph).item)
    backbone.eval()
    assert torch.equal(backbone(graph).item, backbone(graph).item)


def test_without_dropout_training_equals_evaluation():
    graph = make_graph(torch.float32)
    backbone = NGCF(6, 8, dropout=0.0)
    assert torch.equal(backbone(graph).user, backbone.eval()(graph).user)


def test_every_layer_has_two_matrices():
    names = list(dict(NGCF(6, 8, num_layers=2).named_parameters()))
    weights = [f"convs.{k}.weight{n}" for k in (0, 1) for n in (1, 2)]
    assert names == ["user_embedding", "item_embedding", *weights]


def test_repr():
    options = "embedding_dim=64, num_layers=3, dropout=0.1, node_dropout=0.0, propagation=auto"
    assert str(NGCF(671, 2000)) == f"NGCF(671, 2000, {options})"
