import math

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from pyg_bsl.ops.topk import masked_topk
from pyg_bsl.types import UserItems


def whole_numbers(rows: int, width: int, seed: int) -> Tensor:
    """Vectors of -1, 0 and 1: scores are exact and most of them tie."""
    return torch.randint(-1, 2, (rows, width), generator=torch.Generator().manual_seed(seed)) * 1.0


def random_drop(num_queries: int, num_items: int, num_pairs: int, seed: int) -> UserItems:
    generator = torch.Generator().manual_seed(seed)
    pairs = torch.randint(num_queries * num_items, (num_pairs,), generator=generator).unique()
    return UserItems.from_pairs(pairs // num_items, pairs % num_items, num_queries, num_items)


def slow_topk(query: Tensor, key: Tensor, k: int, drop: UserItems | None = None) -> list[list[int]]:
    lists = []
    for u in range(query.size(0)):
        left_out = set() if drop is None else set(drop.select(torch.tensor([u])).items.tolist())
        scores = (key.double() @ query[u].double()).tolist()
        order = sorted(set(range(key.size(0))) - left_out, key=lambda i: (-scores[i], i))[:k]
        lists.append(order + [-1] * (k - len(order)))
    return lists


@pytest.mark.parametrize("num_items", [1, 7, 50, 333, 1600])  # 1600: by maxima of groups
@pytest.mark.parametrize("k", [1, 5, 20])
def test_ties_go_to_the_smaller_id_at_the_boundary_too(num_items: int, k: int) -> None:
    query, key = whole_numbers(30, 3, seed=0), whole_numbers(num_items, 3, seed=1)
    drop = random_drop(30, num_items, num_pairs=10 * num_items, seed=2)
    scores, items = masked_topk(query, key, k, drop)
    assert scores.shape == items.shape == (30, k)
    assert items.tolist() == slow_topk(query, key, k, drop)
    expected = (query[:, None] * key[items]).sum(-1).masked_fill(items < 0, -math.inf)
    assert torch.equal(scores, expected)


@pytest.mark.parametrize("num_items", [40, 3000])
def test_real_scores_are_ranked_as_in_float64(num_items: int) -> None:
    generator = torch.Generator().manual_seed(0)
    query = torch.randn(50, 16, generator=generator)
    key = torch.randn(num_items, 16, generator=generator)
    drop = random_drop(50, num_items, num_pairs=500, seed=1)
    scores, items = masked_topk(query, key, 20, drop)
    assert items.tolist() == slow_topk(query, key, 20, drop)
    torch.testing.assert_close(scores, (query[:, None] * key[items]).sum(-1))


@pytest.mark.parametrize("make", [whole_numbers, lambda n, d, s: whole_numbers(n, d, s) / 3 + 0.1])
def test_block_size_does_not_change_the_result(make) -> None:
    query, key = make(100, 4, 0), make(2000, 4, 1)
    drop = random_drop(100, 2000, num_pairs=3000, seed=2)
    expected = masked_topk(query, key, 10, drop)
    for block_size in (1, 7, 100, 1000):
        scores, items = masked_topk(query, key, 10, drop, block_size=block_size)
        assert torch.equal(items, expected[1])
        torch.testing.assert_close(scores, expected[0])


@pytest.mark.parametrize("num_items", [30, 2000])
def test_equal_scores_give_the_first_items(num_items: int) -> None:
    _, items = masked_topk(torch.zeros(3, 2), torch.randn(num_items, 2), 20)
    assert items.tolist() == [list(range(20))] * 3
    drop = random_drop(3, num_items, num_pairs=num_items // 2, seed=0)
    _, items = masked_topk(torch.zeros(3, 2), torch.randn(num_items, 2), 20, drop)
    assert items.tolist() == slow_topk(torch.zeros(3, 2), torch.zeros(num_items, 2), 20, drop)


def test_negative_zero_ties_with_zero() -> None:
    key = torch.tensor([[-1.0], [-0.0], [0.0], [-0.0], [0.0]])
    assert masked_topk(torch.ones(1, 1), key, 3)[1].tolist() == [[1, 2, 3]]


def test_dropped_items_never_come_back() -> None:
    users = torch.tensor([0] * 5 + [1] * 4)
    drop = UserItems.from_pairs(users, torch.tensor([0, 1, 2, 3, 4, 0, 1, 2, 4]), 3, 5)
    scores, items = masked_topk(torch.ones(3, 2), torch.rand(5, 2), 4, drop)
    assert items[0].tolist() == [-1] * 4 and scores[0].tolist() == [-math.inf] * 4
    assert items[1].tolist() == [3, -1, -1, -1] and scores[1, 1:].tolist() == [-math.inf] * 3
    assert (items[2] >= 0).all()


def test_lists_longer_than_the_catalogue_are_padded() -> None:
    scores, items = masked_topk(torch.ones(2, 1), torch.tensor([[1.0], [2.0]]), 4)
    assert items.tolist() == [[1, 0, -1, -1]] * 2
    assert scores.tolist() == [[2.0, 1.0, -math.inf, -math.inf]] * 2


def test_no_queries_give_no_lists() -> None:
    scores, items = masked_topk(torch.ones(0, 3), torch.ones(5, 3), 2)
    assert scores.shape == items.shape == (0, 2)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32, torch.float64])
def test_scores_have_at_least_single_precision(dtype: torch.dtype) -> None:
    query, key = whole_numbers(20, 3, seed=0).to(dtype), whole_numbers(700, 3, seed=1).to(dtype)
    scores, items = masked_topk(query, key, 5)
    assert scores.dtype == (torch.float64 if dtype == torch.float64 else torch.float32)
    assert items.tolist() == slow_topk(query, key, 5)


def test_double_precision_tells_apart_what_single_cannot() -> None:
    key = torch.tensor([[1.0], [1.0 + 1e-12]], dtype=torch.float64)
    assert masked_topk(torch.ones(1, 1).double(), key, 1)[1].item() == 1
    assert masked_topk(torch.ones(1, 1), key.float(), 1)[1].item() == 0


class Recorder(TorchDispatchMode):
    """Counts what reads back to the host and keeps the size of the largest tensor made."""

    def __init__(self) -> None:
        super().__init__()
        self.readbacks = 0
        self.largest = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        if func.overloadpacket.__name__ in ("_local_scalar_dense", "nonzero", "masked_select"):
            self.readbacks += 1
        for tensor in out if isinstance(out, (tuple, list)) else (out,):
            if isinstance(tensor, Tensor) and tensor._base is None:
                self.largest = max(self.largest, tensor.numel() * tensor.element_size())
        return out


def test_blocks_read_nothing_back_and_stay_small() -> None:
    query, key = torch.randn(600, 2), torch.randn(20_000, 2)
    drop = random_drop(600, 20_000, num_pairs=6000, seed=0)
    counts = []
    for block_size in (600, 60, None):
        with Recorder() as recorder:
            masked_topk(query, key, 10, drop, block_size=block_size)
        counts.append(recorder.readbacks)
    assert len(set(counts)) == 1
    assert recorder.largest <= 32 * 2**20
    with Recorder() as recorder:  # ties in every row
        masked_topk(torch.zeros(600, 2), key, 10, drop)
    assert recorder.largest <= 32 * 2**20


def test_gradients_are_not_recorded() -> None:
    query = torch.ones(2, 2, requires_grad=True)
    assert not masked_topk(query, torch.ones(3, 2), 1)[0].requires_grad


def test_wrong_arguments_are_named() -> None:
    query, key = torch.ones(2, 3), torch.ones(5, 3)
    with pytest.raises(ValueError, match=r"'k' must be positive \(got 0\)"):
        masked_topk(query, key, 0)
    with pytest.raises(ValueError, match=r"'block_size' must be positive \(got 0\)"):
        masked_topk(query, key, 1, block_size=0)
    with pytest.raises(ValueError, match=r"same width \(got \[2, 3\] and \[5, 4\]\)"):
        masked_topk(query, torch.ones(5, 4), 1)
    with pytest.raises(ValueError, match="got 3 rows over 5 items for 2 queries over 5 items"):
        masked_topk(query, key, 1, random_drop(3, 5, num_pairs=2, seed=0))
    with pytest.raises(ValueError, match="NaN"):
        masked_topk(query, torch.tensor([[1.0] * 3, [math.nan] * 3]), 1)
