"""A small graph with two planted clusters: users meet items of their own cluster only."""

from functools import cache
from pathlib import Path

import torch

from pyg_bsl.data import build_graph
from pyg_bsl.data.hetero import make_hetero
from pyg_bsl.types import BipartiteGraph

NUM_USERS, NUM_ITEMS = 24, 20
Pairs = list[tuple[int, int]]


def cluster(node: int) -> int:
    """Cluster of a user or an item."""
    return node % 2


def pairs() -> dict[str, Pairs]:
    """Each user's ten items of its cluster: five for training, one to validate, two to test."""
    generator = torch.Generator().manual_seed(0)
    out: dict[str, Pairs] = {"train": [], "valid": [], "test": []}
    for user in range(NUM_USERS):
        own = [item for item in range(NUM_ITEMS) if cluster(item) == cluster(user)]
        order = [own[at] for at in torch.randperm(len(own), generator=generator).tolist()]
        for split, items in (("train", order[:5]), ("valid", order[5:6]), ("test", order[6:8])):
            out[split] += [(user, item) for item in items]
    return out


@cache
def planted() -> BipartiteGraph:
    """The graph."""
    split = {key: torch.tensor(value).t().contiguous() for key, value in pairs().items()}
    train, valid, test = split["train"], split["valid"], split["test"]
    data = make_hetero(train, NUM_USERS, NUM_ITEMS, valid=valid, test=test, name="planted")
    return build_graph(data)


def write_folder(folder: Path) -> Path:
    """The same as one's own data: ids such as ``u7`` and ``i3`` in three files."""
    folder.mkdir(parents=True, exist_ok=True)
    for split, rows in pairs().items():
        lines = [f"u{user}\ti{item}\n" for user, item in rows]
        (folder / f"{split}.tsv").write_text("user_id\titem_id\n" + "".join(lines))
    return folder
