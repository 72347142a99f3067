import torch

from benchmarks.data import CLUSTERS, planted


def test_a_planted_graph_has_the_size_asked_for_and_a_long_tail() -> None:
    graph = planted(2_000, 3_000, 60_000)
    assert graph.test is not None
    assert 0.95 < (graph.train.num_pairs + graph.test.num_pairs) / 60_000 <= 1
    assert 0.15 < graph.test.num_pairs / 60_000 < 0.2
    for counts in (graph.train.counts, graph.train.item_counts):
        assert counts.max() > 5 * counts.float().mean()
    again = planted(2_000, 3_000, 60_000)
    assert torch.equal(again.train.items, graph.train.items)


def test_users_share_items_within_planted_clusters() -> None:
    train = planted(2_000, 3_000, 60_000).train
    met = torch.zeros(2_000, 3_000)
    met[train.users, train.items] = 1
    left, values, _ = torch.svd_lowrank(met, q=2 * CLUSTERS)
    shuffled = met[:, torch.randperm(3_000)].flatten()[torch.randperm(met.numel())].view_as(met)
    noise = torch.svd_lowrank(shuffled, q=2 * CLUSTERS)[1]
    assert left.size(1) == 2 * CLUSTERS
    assert values[CLUSTERS // 2] > 1.3 * noise[CLUSTERS // 2]
