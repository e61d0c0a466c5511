import pytest
import torch
from torch_geometric.loader import DataLoader

from graphpred.architecture import Architecture
from graphpred.pairs.dataset import PairDataset
from graphpred.pairs.generate import GenerateConfig, generate_pairs
from graphpred.pairs.store import PairStore


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pairs")
    config = GenerateConfig(n_searches=2, rows=60, evaluations=6, prices=(0.01, 1.0))
    list(generate_pairs(["iris"], out=folder, config=config))
    return PairStore(folder)


def test_a_loader_batches_the_pairs_as_graphs(store):
    pairs = list(store)

    (batch,) = DataLoader(PairDataset(store), batch_size=len(pairs))

    assert batch.num_graphs == len(pairs) == 4
    assert batch.edge_index.shape[1] == sum(pair.architecture.n_edges for pair in pairs)
    assert torch.equal(batch.price, torch.tensor([pair.price for pair in pairs]))
    assert batch.search.tolist() == [0, 0, 1, 1]


def test_an_item_gives_back_architecture_and_weights(store):
    for pair, data in zip(store, PairDataset(store), strict=True):
        assert Architecture.from_pyg(data) == pair.architecture
        assert torch.equal(data.edge_attr[:, 0], pair.weights.edge)
        assert torch.equal(data.bias[4:], pair.weights.bias)
        assert not data.bias[:4].any()
