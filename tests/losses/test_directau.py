import itertools
import math

import pytest
import torch
from torch import Tensor

from pyg_bsl.losses import DirectAU
from pyg_bsl.ops.uniformity import uniformity
from tests.ops.cases import LargestTensor


def vectors(num_rows: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    user, item = (torch.randn(num_rows, 3, generator=generator).double() for _ in range(2))
    user[-1] = 2 * user[0]  # the same user, once more, and the length does not matter
    return user.requires_grad_(), item.requires_grad_()


def naive(user: Tensor, item: Tensor, gamma: float) -> Tensor:
    user, item = (x / x.norm(dim=1, keepdim=True) for x in (user, item))
    out = ((user - item) ** 2).sum(1)
    for x in (user, item):
        pairs = [
            (-2 * ((x[a] - x[b]) ** 2).sum()).exp()
            for a, b in itertools.combinations(range(len(x)), 2)
        ]
        if pairs:
            out = out + gamma / 2 * torch.stack(pairs).mean().log()
    return out


@pytest.mark.parametrize("gamma", [0.0, 1.0, 5.0])
@pytest.mark.parametrize("num_rows", [1, 2, 7])
def test_equals_the_formula_over_all_pairs_of_rows(num_rows: int, gamma: float) -> None:
    weight = torch.arange(1, num_rows + 1)
    for seed in range(4):
        user, item = vectors(num_rows, seed)
        expected = naive(user, item, gamma)
        out = DirectAU(gamma)(
            torch.zeros(num_rows).double(),
            None,
            user_vectors=user,
            item_vectors=item,
            reduction="none",
        )
        torch.testing.assert_close(out, expected, rtol=1e-10, atol=1e-12)
        wanted, got = (
            torch.autograd.grad((weight * x).sum(), (user, item)) for x in (expected, out)
        )
        torch.testing.assert_close(got, wanted, rtol=1e-8, atol=1e-10)


def test_scores_and_negatives_play_no_part() -> None:
    user, item = vectors(4)
    more = {"user_vectors": user, "item_vectors": item}
    pos = torch.zeros(4).double()
    expected = DirectAU()(pos, None, **more)
    assert torch.equal(DirectAU()(pos + 1, torch.full((4, 2), math.nan), **more), expected)


def test_makes_no_matrix_of_all_pairs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pyg_bsl.ops.tiles.CPU_TILE", 1 << 12)
    monkeypatch.setattr("pyg_bsl.ops.walk.LEAST_QUERIES", 1)
    x = torch.nn.functional.normalize(torch.randn(1000, 4), dim=1).requires_grad_()
    largest = LargestTensor()
    with largest:
        uniformity(x).backward()
    assert largest.numel <= 20_000


def test_what_is_missing_or_misshapen_is_said() -> None:
    user, item = vectors(3)
    pos = torch.zeros(3)
    with pytest.raises(ValueError, match=r"DirectAU needs 'item_vectors': hand them over"):
        DirectAU()(pos, None, user_vectors=user)
    with pytest.raises(ValueError, match=r"'item_vectors' must have shape \[3, D\] .* \[2, 3\]"):
        DirectAU()(pos, None, user_vectors=user, item_vectors=item[:2])
