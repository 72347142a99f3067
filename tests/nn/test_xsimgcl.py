import pytest
import torch
from torch import Tensor

from pyg_bsl.nn import SimGCL, XSimGCL
from tests.nn.graphs import dense_adjacency, interactions, make_graph, nodes_of


def build(cls=XSimGCL, **options):
    torch.manual_seed(0)
    return cls(6, 8, embedding_dim=4, **options).double()


def by_loops(nodes: Tensor, draws: list[Tensor], noise: float) -> list[Tensor]:
    """The layers of a noisy propagation, number by number, from uniform draws."""
    matrix, layer, layers = dense_adjacency(interactions()), nodes, []
    for draw in draws:
        rows = []
        for v in range(14):
            row = sum(matrix[v, w] * layer[w] for w in range(14))
            length = sum(z * z for z in draw[v]) ** 0.5
            signs = [(x > 0).double() - (x < 0).double() for x in row.detach()]
            delta = [noise * s * z / length for s, z in zip(signs, draw[v], strict=True)]
            rows.append(row + torch.stack(delta))
        layer = torch.stack(rows)
        layers.append(layer)
    return layers


def uniform(count: int) -> list[Tensor]:
    torch.manual_seed(5)
    return [torch.rand(14, 4, dtype=torch.float64) for _ in range(count)]


@pytest.mark.parametrize(("num_layers", "contrast_layer"), [(1, 1), (2, 2), (3, 1)])
def test_xsimgcl_contrasts_its_noisy_mean_with_one_of_its_layers(num_layers, contrast_layer):
    backbone = build(num_layers=num_layers, contrast_layer=contrast_layer, noise=0.2)
    layers = by_loops(backbone.nodes(), uniform(num_layers), 0.2)
    torch.manual_seed(5)
    views = backbone(make_graph())
    expected = sum(layers) / num_layers  # without the learned vectors
    torch.testing.assert_close(nodes_of(views), expected)
    torch.testing.assert_close(nodes_of(views.one), expected)
    torch.testing.assert_close(nodes_of(views.two), layers[contrast_layer - 1])
    weight = torch.linspace(-1, 1, 56, dtype=torch.float64).view(14, 4)
    inputs = backbone.tables()
    for got, wanted in zip(
        torch.autograd.grad((nodes_of(views) * weight).sum(), inputs),
        torch.autograd.grad((expected * weight).sum(), inputs),
        strict=True,
    ):
        torch.testing.assert_close(got, wanted)


def test_simgcl_contrasts_two_noisy_views_and_recommends_without_noise():
    backbone = build(SimGCL, num_layers=2, noise=0.2)
    draws = uniform(4)
    torch.manual_seed(5)
    views = backbone(make_graph())
    for got, drawn, noise in (
        (views, draws[:2], 0.0),
        (views.one, draws[:2], 0.2),
        (views.two, draws[2:], 0.2),
    ):
        expected = sum(by_loops(backbone.nodes(), drawn, noise)) / 2
        torch.testing.assert_close(nodes_of(got), expected)
    emb = backbone.eval()(make_graph())
    assert torch.equal(emb.user, views.user) and torch.equal(emb.item, views.item)


def test_noise_has_its_length_and_leaves_every_sign():
    backbone, graph = build(num_layers=1, noise=0.3, init="normal"), make_graph()
    noisy, plain = nodes_of(backbone(graph)), nodes_of(backbone.eval()(graph))
    lengths = (noisy - plain).norm(dim=1)
    expected = 0.3 * (plain.abs().sum(1) > 0).double()  # who met nobody stays at zero
    torch.testing.assert_close(lengths, expected)
    assert torch.equal(noisy.sign(), plain.sign())


@pytest.mark.parametrize("cls", [SimGCL, XSimGCL])
def test_noise_is_new_in_every_step_and_that_of_the_seed(cls):
    backbone, graph = build(cls), make_graph()

    def draw(seed: int) -> list[Tensor]:
        torch.manual_seed(seed)
        return [nodes_of(backbone(graph).one) for _ in range(2)]

    one, two = draw(1)
    assert not torch.equal(one, two)
    assert all(torch.equal(a, b) for a, b in zip(draw(1), [one, two], strict=True))
    assert not torch.equal(draw(2)[0], one)


@pytest.mark.parametrize("cls", [SimGCL, XSimGCL])
def test_without_noise_training_equals_evaluation(cls):
    backbone, graph = build(cls, noise=0.0), make_graph()
    assert torch.equal(backbone(graph).item, backbone.eval()(graph).item)


def test_bad_options_are_errors():
    with pytest.raises(ValueError, match=r"'contrast_layer' must be one of the 2 layers .*got 3"):
        XSimGCL(3, 3, num_layers=2, contrast_layer=3)
    for cls in (SimGCL, XSimGCL):
        with pytest.raises(ValueError, match=r"'noise' must be at least 0 and finite \(got -1\)"):
            cls(3, 3, noise=-1)
