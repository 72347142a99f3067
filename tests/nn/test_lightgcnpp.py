import pytest
import torch
from torch import Tensor

from pyg_bsl.nn import LightGCN, LightGCNpp
from tests.nn.graphs import COLD_ITEM, COLD_USER, interactions, make_graph, nodes_of


def build(**options) -> LightGCNpp:
    torch.manual_seed(0)
    return LightGCNpp(6, 8, embedding_dim=4, **options).double()


def by_loops(backbone: LightGCNpp) -> Tensor:
    met = interactions()
    edges = [(u, 6 + i) for u in range(6) for i in range(8) if met[u, i]]
    neighbours: dict[int, list[int]] = {v: [] for v in range(14)}
    for u, i in edges:
        neighbours[u].append(i)
        neighbours[i].append(u)
    start = [*backbone.user_embedding, *backbone.item_embedding]
    layers = [start]
    for _ in range(backbone.num_layers):
        layer = []
        for v in range(14):
            row = torch.zeros(4, dtype=torch.float64)
            for w in neighbours[v]:
                d_v, d_w = len(neighbours[v]), len(neighbours[w])
                e_w = layers[-1][w]
                row = row + e_w / e_w.norm() / (d_v**backbone.alpha * d_w**backbone.beta)
            layer.append(row)
        layers.append(layer)
    means = [sum(rows) / backbone.num_layers for rows in zip(*layers[1:], strict=True)]
    gamma = backbone.gamma
    return torch.stack(
        [gamma * e + (1 - gamma) * mean for e, mean in zip(start, means, strict=True)]
    )


@pytest.mark.parametrize(
    ("alpha", "beta", "gamma", "num_layers"),
    [(0.6, -0.1, 0.2, 2), (0.4, 0.1, 0.0, 3), (0.5, 0.5, 1.0, 1), (0.0, 0.0, 0.5, 2)],
)
def test_is_the_model_of_the_paper(alpha, beta, gamma, num_layers):
    backbone = build(alpha=alpha, beta=beta, gamma=gamma, num_layers=num_layers)
    expected, got = by_loops(backbone), nodes_of(backbone(make_graph()))
    torch.testing.assert_close(got, expected)
    weight = torch.linspace(-1, 1, 56, dtype=torch.float64).view(14, 4)
    for gradient, wanted in zip(
        torch.autograd.grad((got * weight).sum(), backbone.tables()),
        torch.autograd.grad((expected * weight).sum(), backbone.tables()),
        strict=True,
    ):
        torch.testing.assert_close(gradient, wanted)


def test_a_layer_on_unit_vectors_with_even_exponents_is_that_of_lightgcn():
    backbone = build(alpha=0.5, beta=0.5, gamma=0.5, num_layers=1)
    with torch.no_grad():
        for table in backbone.tables():
            table.copy_(torch.nn.functional.normalize(table, dim=1))
    plain = LightGCN(6, 8, embedding_dim=4, num_layers=1).double()
    plain.load_state_dict(backbone.state_dict())
    graph = make_graph()
    torch.testing.assert_close(nodes_of(backbone(graph)), nodes_of(plain(graph)))


def test_layers_take_in_directions_only_and_the_learned_length_weighs_a_nodes_own_vector():
    backbone, graph = build(num_layers=2), make_graph()
    before, start = nodes_of(backbone(graph)), backbone.nodes().detach()
    with torch.no_grad():
        for table in backbone.tables():
            table.mul_(3)
    torch.testing.assert_close(nodes_of(backbone(graph)), before + 0.2 * 2 * start)


def test_who_met_nobody_keeps_a_share_of_its_own_vector():
    backbone = build()
    emb = backbone(make_graph())
    torch.testing.assert_close(emb.user[COLD_USER], 0.2 * backbone.user_embedding[COLD_USER])
    torch.testing.assert_close(emb.item[COLD_ITEM], 0.2 * backbone.item_embedding[COLD_ITEM])


def test_bad_options_are_errors():
    with pytest.raises(ValueError, match=r"'alpha' must be finite \(got nan\)"):
        LightGCNpp(3, 3, alpha=float("nan"))
