import pytest
import torch

from pyg_bsl.training.weights import Average, KeptWeights


@pytest.mark.parametrize(("share", "latest"), [(1.0, [5, 4, 3, 2, 1, 0]), (0.0, [5])])
def test_the_ends_of_the_share_are_the_mean_of_all_steps_and_the_last_one(share, latest):
    w = torch.zeros(2, 3)
    average = Average([w], share)
    for step in range(6):
        w.fill_(step)
        average.update()
    with average:
        torch.testing.assert_close(w, torch.full((2, 3), sum(latest) / len(latest)))
    assert (w == 5).all()


@pytest.mark.parametrize("share", [0.1, 0.5])
def test_the_mean_is_that_of_polynomial_decay(share):
    """Written as in the paper: (1 - (eta + 1) / (t + eta)) mean + (eta + 1) / (t + eta) w."""
    eta, mean, w = 1 / share - 1, torch.zeros(4, dtype=torch.double), torch.zeros(4).double()
    average = Average([w], share)
    for t in range(1, 200):
        w.copy_(torch.randn(4, generator=torch.Generator().manual_seed(t), dtype=torch.double))
        average.update()
        mean = (1 - (eta + 1) / (t + eta)) * mean + (eta + 1) / (t + eta) * w
    with average:
        torch.testing.assert_close(w, mean)


def test_how_far_back_it_looks_grows_with_the_steps():
    """Of steps that count up by 1, the mean lags behind by about the share of them."""
    for steps in (100, 1000):
        w = torch.zeros(1, dtype=torch.double)
        average = Average([w], 0.1)
        for step in range(steps):
            w.fill_(step)
            average.update()
        with average:
            assert steps - 1 - float(w) == pytest.approx(steps / 11, rel=0.1)


def test_an_error_inside_puts_the_parameters_back():
    w = torch.nn.Parameter(torch.zeros(1))
    average = Average([w], 1.0)
    average.update()
    w.data.fill_(3)
    average.update()
    with pytest.raises(KeyError), average:
        assert w.tolist() == [1.5]
        raise KeyError
    assert w.tolist() == [3] and w.requires_grad


def test_kept_weights_come_back():
    module = torch.nn.Linear(2, 1)
    kept, before = KeptWeights(module), module.weight.detach().clone()
    module.weight.data.zero_()
    kept.load()
    assert torch.equal(module.weight, before)
    module.weight.data.fill_(2)
    kept.save()
    module.weight.data.zero_()
    kept.load()
    assert (module.weight == 2).all()
