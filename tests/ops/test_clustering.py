import pytest
import torch
from torch import Tensor

from pyg_bsl.ops import kept, propagation
from pyg_bsl.ops.clustering import Clustered, find_clusters, share_inside
from pyg_bsl.ops.propagation import layer_mean, propagate
from tests.nn.graphs import to_csr


def planted(num_groups: int = 8, size: int = 40, inside: float = 0.5) -> tuple[Tensor, Tensor]:
    """Normalised adjacency of groups of nodes in shuffled order, float64, and the groups."""
    generator = torch.Generator().manual_seed(1)
    group = torch.arange(num_groups).repeat_interleave(size)
    group = group[torch.randperm(group.numel(), generator=generator)]
    chance = torch.where(group[:, None] == group, inside, 0.01)
    met = (torch.rand(chance.shape, generator=generator) < chance).double().tril(-1)
    met = met + met.T
    scale = met.sum(0).clamp(min=1).rsqrt()
    return scale[:, None] * met * scale, group


def arrays(matrix: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    csr = to_csr(matrix)
    return csr.crow_indices(), csr.col_indices(), csr.values()


def large(num_groups: int = 16, group_size: int = 2**11, degree: int = 16) -> Tensor:
    """A matrix that "auto" clusters: groups of nodes that are dense inside, in shuffled order."""
    generator = torch.Generator().manual_seed(1)
    num_nodes = num_groups * group_size
    row = torch.arange(num_nodes).repeat_interleave(degree)
    col = row // group_size * group_size + torch.randint(group_size, row.shape, generator=generator)
    label = torch.randperm(num_nodes, generator=generator)
    row, col = label[torch.cat((row, col))], label[torch.cat((col, row))]
    value = torch.full(row.shape, 1 / (2 * degree))
    size = (num_nodes, num_nodes)
    edges = torch.stack((row, col))
    return to_csr(torch.sparse_coo_tensor(edges, value, size, check_invariants=True))


def rows(size: int, dim: int = 3, dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.randn(size, dim, dtype=dtype, generator=torch.Generator().manual_seed(2))


def test_planted_groups_are_found():
    matrix, group = planted()
    cluster = find_clusters(*arrays(matrix))
    together = cluster[:, None] == cluster
    apart = group[:, None] != group
    assert (together & apart).sum() / apart.sum() < 0.02
    ptr, col, _ = arrays(matrix)
    assert share_inside(ptr, col, cluster) > 0.5
    assert share_inside(ptr, col, torch.zeros_like(cluster)) == 1


def test_the_matrix_is_the_same_in_other_numbers():
    matrix, _ = planted(4, 10)
    matrix[3] = matrix[:, 3] = 0
    clustered = Clustered.of(*arrays(matrix), find_clusters(*arrays(matrix)))
    assert torch.equal(clustered.order.sort().values, torch.arange(40))
    assert torch.equal(clustered.rank[clustered.order], torch.arange(40))
    renumbered = torch.zeros_like(matrix)
    for i in range(40):
        entries = slice(int(clustered.ptr[i]), int(clustered.ptr[i + 1]))
        old = clustered.order[clustered.col[entries]]
        assert torch.equal(old, old.sort().values), "neighbours are summed in another order"
        renumbered[i, clustered.col[entries]] = clustered.value[entries]
    order = clustered.order
    assert torch.equal(renumbered, matrix[order][:, order])
    x = rows(40)
    assert torch.equal(clustered.enter(x), x[order])
    assert torch.equal(clustered.leave(clustered.enter(x)), x)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_clustered_products_have_the_same_bits(dtype):
    adjacency, x = to_csr(planted()[0]), rows(320, 5, dtype)
    for function in (propagate, lambda *args, **kwargs: layer_mean(*args, 3, **kwargs)):
        results = []
        for method in ("clustered", "embedding_bag"):
            leaf = x.clone().requires_grad_()
            out = function(adjacency, leaf, method=method)
            out.square().sum().backward()
            results.append((out, leaf.grad))
        assert torch.equal(results[0][0], results[1][0])
        assert torch.equal(results[0][1], results[1][1])


def test_the_same_matrix_is_clustered_once_and_forgotten_with_it():
    before = len(propagation._kept)
    adjacency = to_csr(planted()[0])
    propagate(adjacency, rows(320), method="clustered")
    (first,) = (found.clustered for key, found in propagation._kept.items() if key is adjacency)
    propagate(adjacency, rows(320, 2), method="clustered")
    assert propagation._keep(adjacency).clustered is first
    del adjacency, first
    assert len(propagation._kept) == before


def test_auto_clusters_a_large_matrix_that_stays_in_use_and_nobody_sees():
    adjacency = large()
    x = rows(adjacency.size(0))
    expected = layer_mean(adjacency, x, 2, method="embedding_bag")
    clustered = []
    for _ in range(kept.PATIENCE + 2):
        assert torch.equal(layer_mean(adjacency, x, 2), expected)
        clustered.append("clustered" in vars(propagation._keep(adjacency)))
    assert clustered == [False] * kept.PATIENCE + [True] * 2
    assert propagation._fastest(adjacency, (x,)) == "clustered"
    assert propagation._fastest(adjacency, (x.double(),)) == "csr"


def test_auto_leaves_small_matrices_alone():
    adjacency = to_csr(planted()[0])
    for _ in range(kept.PATIENCE + 2):
        propagate(adjacency, rows(320))
    assert "cluster" not in vars(propagation._keep(adjacency))


def test_clustering_leaves_the_global_generator_alone():
    torch.manual_seed(5)
    before = torch.get_rng_state()
    first = find_clusters(*arrays(planted()[0]))
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.equal(find_clusters(*arrays(planted()[0])), first)


@pytest.mark.parametrize("size", [1, 3, 9, 20])
def test_few_nodes_and_no_edges_are_no_special_case(size):
    for matrix in (torch.zeros(size, size), torch.ones(size, size)):
        out = propagate(to_csr(matrix), rows(size), method="clustered")
        torch.testing.assert_close(out, matrix @ rows(size))


def test_clusters_found_in_inference_mode_serve_training():
    adjacency, x = to_csr(planted()[0]), rows(320)
    with torch.inference_mode():
        expected = layer_mean(adjacency, x, 2, method="clustered")
    leaf = x.clone().requires_grad_()
    out = layer_mean(adjacency, leaf, 2, method="clustered")
    out.sum().backward()
    assert torch.equal(out, expected)


def test_wide_rows_are_taken_in_blocks_of_columns(monkeypatch):
    adjacency, x = to_csr(planted()[0]), rows(320, 50)
    for method in ("clustered", "embedding_bag"):
        whole = layer_mean(adjacency, x, 2, method=method)
        for limit in (1, 320 * 4 * 20):  # blocks of 16 or more columns, and of fewer than 20
            monkeypatch.setattr(propagation, "MAX_BYTES", limit)
            assert torch.equal(layer_mean(adjacency, x, 2, method=method), whole)
        monkeypatch.undo()
