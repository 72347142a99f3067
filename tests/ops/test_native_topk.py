"""The compiled filter of the best items, where the processor multiplies bytes."""

import pytest
import torch
from torch import Tensor

from pyg_bsl.ops import compiler
from pyg_bsl.ops.native_topk import _CODE, _bytes, native_topk
from pyg_bsl.ops.topk import masked_topk
from pyg_bsl.types import UserItems
from tests.ops.cases import needs_compiler

pytestmark = needs_compiler


@pytest.fixture(autouse=True)
def everything_is_filtered(monkeypatch: pytest.MonkeyPatch) -> None:
    """At any size, few items or many."""
    monkeypatch.setenv("PYG_BSL_COMPILE", "always")
    monkeypatch.setattr("pyg_bsl.ops.native_topk.GROUPS_PER_PLACE", 0)
    if compiler.compiled(_CODE) is None:
        pytest.skip("needs AVX-512 VNNI")


def slow(query: Tensor, key: Tensor, k: int, drop: UserItems | None) -> list[list[int]]:
    """A query at a time, in float64, by sorting everything."""
    out = []
    for u, row in enumerate((query.double() @ key.double().t()).tolist()):
        gone = set() if drop is None else {*drop.items[drop.ptr[u] : drop.ptr[u + 1]].tolist()}
        order = sorted((-score, i) for i, score in enumerate(row) if i not in gone)
        out.append(([i for _, i in order] + [-1] * k)[:k])
    return out


def some_pairs(num_users: int, num_items: int, share: float, seed: int) -> UserItems:
    generator = torch.Generator().manual_seed(seed)
    users, items = (torch.rand(num_users, num_items, generator=generator) < share).nonzero().t()
    return UserItems.from_pairs(users, items, num_users, num_items)


@pytest.mark.parametrize("dim", [1, 3, 16, 17, 64, 100])
@pytest.mark.parametrize("num_items", [1, 15, 256, 257, 1000])
@pytest.mark.parametrize("k", [1, 20, 300])
def test_best_items_are_those_of_a_slow_search(dim, num_items, k) -> None:
    for seed, share in enumerate((0.0, 0.3, 1.0)):
        generator = torch.Generator().manual_seed(seed)
        # Whole numbers, so that scores are exact and many are equal.
        query, key = (
            torch.randint(-3, 4, (n, dim), generator=generator).float() for n in (13, num_items)
        )
        drop = some_pairs(13, num_items, share, seed) if share else None
        found = native_topk(query, key, k, drop)
        assert found is not None
        scores, items = found
        assert items.tolist() == slow(query, key, k, drop)
        exact = (query @ key.t()).gather(1, items.clamp(min=0))
        assert torch.equal(scores, exact.masked_fill(items < 0, -torch.inf))


@pytest.mark.parametrize("scale", [1e-30, 1e-3, 1.0, 1e6])
def test_best_items_of_real_numbers_and_of_any_size(scale) -> None:
    generator = torch.Generator().manual_seed(0)
    query, key = (torch.randn(n, 64, generator=generator) for n in (50, 3000))
    # A few items as long as they get, as of popular ones, and one of no length.
    key *= torch.rand(3000, 1, generator=generator) ** 4 * scale
    key[7] = 0
    drop = some_pairs(50, 3000, 0.02, 1)
    found = native_topk(query, key, 20, drop)
    assert found is not None
    assert found[1].tolist() == slow(query, key, 20, drop)


def test_rounding_cannot_hide_the_best_item() -> None:
    # Components far below a byte's unit decide, and all but a few of the items are equal.
    key = torch.full((2000, 8), 1.0)
    order = torch.randperm(2000, generator=torch.Generator().manual_seed(0))
    key[:, 7] = torch.linspace(0, 4e-3, 2000)[order]
    query = torch.ones(1, 8)
    found = native_topk(query, key, 3, None)
    assert found is not None
    assert found[1].tolist() == slow(query, key, 3, None)


def test_bytes_are_what_they_say() -> None:
    x = torch.randn(9, 10, generator=torch.Generator().manual_seed(0))
    x[4] = 0
    whole, unit, error = _bytes(x)
    assert whole.shape == (9, 12)
    rest = x - whole[:, :10] * unit[:, None]
    assert (rest.abs() <= unit[:, None] / 2 * 1.0001).all()
    torch.testing.assert_close(rest.double().norm(dim=1), error)


def test_what_it_is_not_written_for_is_left_to_pytorch(monkeypatch: pytest.MonkeyPatch) -> None:
    x = torch.ones(4, 8)
    assert native_topk(x.double(), x.double(), 2, None) is None
    assert native_topk(x, x * torch.nan, 2, None) is None
    assert native_topk(x[:0], x, 2, None) is None
    assert native_topk(x, x * 1e38, 2, None) is None  # scores and bounds overflow
    assert native_topk(torch.ones(4, 2000), torch.ones(4, 2000), 2, None) is None
    with pytest.raises(ValueError, match="NaN"):
        masked_topk(x, x * torch.nan, 2)
    monkeypatch.setattr("pyg_bsl.ops.native_topk.GROUPS_PER_PLACE", 4)
    assert native_topk(x, x, 5, None) is None  # 16 groups are too few to filter by
    monkeypatch.setenv("PYG_BSL_COMPILE", "never")
    assert native_topk(x, torch.ones(4000, 8), 2, None) is None


def test_lists_are_the_same_on_any_number_of_threads(threads) -> None:
    generator = torch.Generator().manual_seed(0)
    query, key = (torch.randn(n, 64, generator=generator) for n in (100, 5000))
    found = []
    for number in (1, 2):
        threads(number)
        found.append(native_topk(query, key, 20, None))
    for one, two in zip(*found, strict=True):
        assert torch.equal(one, two)
