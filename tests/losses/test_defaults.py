"""Defaults on real data: none is far behind what its loss can do."""

import pytest
import torch

from pyg_bsl.data import HoldoutValidation, build_graph, load_dataset
from pyg_bsl.losses import CCL, AdvInfoNCE, DrRL, Loss, Talos
from pyg_bsl.nn import MF
from pyg_bsl.training import Trainer


@pytest.mark.slow
@pytest.mark.data
@pytest.mark.parametrize("loss", [CCL(), DrRL(), AdvInfoNCE(), Talos()], ids=str)
def test_a_loss_with_its_defaults_learns_movielens_small(loss: Loss, tmp_path) -> None:
    graph = build_graph(HoldoutValidation()(load_dataset("movielens-small", tmp_path)))
    torch.manual_seed(0)
    result = Trainer(MF(graph.num_users, graph.num_items), loss).fit(graph, epochs=40)
    assert result.metrics["valid"]["ndcg@20"] > 0.14  # Popularity: 0.08, BPR: 0.14, SL: 0.16
