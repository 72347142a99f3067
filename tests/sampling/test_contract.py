"""What holds for every sampler."""

import inspect
from typing import get_args, get_type_hints

import pytest
import torch

from pyg_bsl.sampling import SAMPLERS, FalseNegatives, Sampler
from tests.sampling.rows import NUM_ITEMS, SEEN, any_batch, holes, seeded, train

EVERY = pytest.mark.parametrize("cls", SAMPLERS.values(), ids=SAMPLERS)
BY = pytest.mark.parametrize("by", ["user", "pair"])
DRAWING = [cls for cls in SAMPLERS.values() if "num_negatives" in inspect.signature(cls).parameters]


def others(cls: type[Sampler]) -> dict[str, object]:
    """A value unlike the default for every argument."""
    other = {
        bool: lambda x: not x,
        int: lambda x: x + 1,
        float: lambda x: x / 2,
        str: lambda x: "Shared",
        type(None): lambda x: 3,
    }
    parameters = inspect.signature(cls).parameters.values()
    return {p.name: other[type(p.default)](p.default) for p in parameters}


def same(one: object, two: object) -> bool:
    if isinstance(one, torch.Tensor):
        return isinstance(two, torch.Tensor) and torch.equal(one, two)
    return one is two or one == two


@EVERY
def test_stands_under_its_own_name(cls):
    assert SAMPLERS[cls.__name__] is cls
    ways = get_args(get_type_hints(Sampler)["batch_by"])[0]
    assert cls.batch_by in get_args(ways)


@EVERY
def test_arguments_are_attributes_and_stand_in_the_printed_form(cls):
    given = others(cls)
    sampler = cls(**given)
    assert {name: getattr(sampler, name) for name in given} == given
    printed = ", ".join(f"{name}={value}" for name, value in given.items())
    assert repr(sampler) == f"{cls.__name__}({printed})"


@EVERY
@BY
@pytest.mark.parametrize("other", [False, True], ids=["default", "other"])
def test_negatives_are_items_and_what_is_dropped_has_their_shape(cls, by, other):
    batch, rows = any_batch(by), train()
    negatives = cls(**(others(cls) if other else {})).sample(batch, rows, seeded(0))
    num_rows, num_queries = batch.items.numel(), batch.queries.numel()
    items = torch.arange(NUM_ITEMS) if negatives.items is None else negatives.items
    assert ((items >= 0) & (items < NUM_ITEMS)).all()
    assert items.dim() == 1 or items.size(0) == num_rows
    if isinstance(negatives.drop, torch.Tensor):
        wanted = items.shape if items.dim() == 2 else (num_queries, items.numel())
        assert negatives.drop.shape == wanted and negatives.drop.dtype == torch.bool
    if negatives.log_weight is not None:
        assert negatives.log_weight.shape == items.shape
        assert negatives.log_weight.isfinite().all()


@EVERY
@BY
def test_no_kept_negative_is_a_seen_item(cls, by):
    for seed in range(10):
        batch = any_batch(by, seed)
        clean = {"probability": 0.0} if cls is FalseNegatives else {}
        negatives = cls(**clean).sample(batch, train(), seeded(seed))
        items = torch.arange(NUM_ITEMS) if negatives.items is None else negatives.items
        users = batch.users if items.dim() == 2 else batch.queries
        dropped = holes(negatives.drop, users.numel(), items.shape[-1])
        for row, user in enumerate(users.tolist()):
            of_row = items[row] if items.dim() == 2 else items
            for item, gone in zip(of_row.tolist(), dropped[row], strict=True):
                assert gone or item not in SEEN[user]


@EVERY
@BY
def test_the_same_seed_gives_the_same_draw(cls, by):
    batch, rows = any_batch(by), train()
    torch.manual_seed(1)
    one = cls().sample(batch, rows, seeded(3))
    torch.manual_seed(2)  # the global generator has no say
    two = cls().sample(batch, rows, seeded(3))
    assert same(one.items, two.items) and same(one.drop, two.drop)
    assert same(one.log_weight, two.log_weight)


@pytest.mark.parametrize("cls", DRAWING)
def test_another_seed_gives_another_draw(cls):
    batch, rows, sampler = any_batch("user"), train(), cls(num_negatives=4)
    draws = [sampler.sample(batch, rows, seeded(seed)).items.tolist() for seed in range(5)]
    assert len({str(draw) for draw in draws}) > 1


@EVERY
def test_needs_seen_says_whether_the_batch_must_carry_seen_items(cls):
    sampler = cls()
    batch = any_batch("pair")
    bare = type(batch)(batch.queries, batch.positives)
    if sampler.needs_seen:
        with pytest.raises(ValueError, match="make the loader with with_seen=True"):
            sampler.sample(bare, train(), seeded(0))
        off = {name: False for name, value in vars(sampler).items() if value is True}
        assert not cls(**off).needs_seen
        cls(**off).sample(bare, train(), seeded(0))
    else:
        sampler.sample(bare, train(), seeded(0))


@EVERY
@BY
@pytest.mark.parametrize("other", [False, True], ids=["default", "other"])
def test_draws_on_the_device_of_the_batch(cls, by, other):
    sampler = cls(**(others(cls) if other else {}))
    negatives = sampler.sample(any_batch(by).to("meta"), train().to("meta"))
    for x in (negatives.items, negatives.drop, negatives.log_weight):
        if x is not None:
            assert (x if isinstance(x, torch.Tensor) else x.col).is_meta


def test_a_sampler_of_ones_own_is_short():
    class Newest(Sampler):
        def __init__(self, count: int = 2) -> None:
            self.count = count

        def sample(self, batch, train, generator=None):
            from pyg_bsl.types import Negatives

            return Negatives(torch.arange(train.num_items - self.count, train.num_items))

    assert repr(Newest()) == "Newest(count=2)"
    assert Newest().sample(any_batch("user"), train()).items.tolist() == [6, 7]
