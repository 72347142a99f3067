import torch

from pyg_bsl.ops import reverse_gradient


def test_value_is_kept_and_the_gradient_has_its_sign_turned() -> None:
    x = torch.randn(3, requires_grad=True)
    assert torch.equal(reverse_gradient(x), x)
    (grad,) = torch.autograd.grad(reverse_gradient(x).pow(3).sum(), x)
    torch.testing.assert_close(grad, -3 * x.detach() ** 2)
    (twice,) = torch.autograd.grad(reverse_gradient(reverse_gradient(x)).sum(), x)
    assert torch.equal(twice, torch.ones(3))


def test_descent_and_ascent_in_one_optimizer_find_a_saddle_point() -> None:
    x, y = (torch.tensor(1.0, requires_grad=True) for _ in range(2))
    optimizer = torch.optim.SGD([x, y], lr=0.1)
    for _ in range(200):
        optimizer.zero_grad()
        z = reverse_gradient(y)
        (x**2 + 2 * x * z - z**2).backward()  # lowest in x and highest in y at (0, 0)
        optimizer.step()
    assert abs(x.item()) < 1e-3
    assert abs(y.item()) < 1e-3
