"""Pairs as a torch-geometric data set: one typed graph an architecture."""

from collections.abc import Iterable

import torch
from torch_geometric.data import Data, Dataset

from graphpred.pairs.pair import Pair


class PairDataset(Dataset):  # type: ignore[misc]
    """A ``torch_geometric.data.Dataset`` of pairs, for a ``torch_geometric.loader.DataLoader``.

    Every item is ``Architecture.to_pyg()`` with the trained weight of every edge as ``edge_attr``,
    shape ``(n_edges, 1)``, the bias of every neuron as ``bias`` (0 for inputs), and ``price``,
    ``objective``, ``loss`` and ``search`` as tensors of shape ``(1,)``.

    Args:
        pairs: The pairs, for instance a ``PairStore``.
    """

    def __init__(self, pairs: Iterable[Pair]) -> None:
        super().__init__()
        self.pairs = list(pairs)

    def len(self) -> int:
        """Number of pairs."""
        return len(self.pairs)

    def get(self, idx: int) -> Data:
        """The graph of a pair."""
        pair = self.pairs[idx]
        data = pair.architecture.to_pyg()
        data.edge_attr = pair.weights.edge.unsqueeze(1)
        inputs = torch.zeros(pair.architecture.widths[0])
        data.bias = torch.cat([inputs, pair.weights.bias])
        for name in ("price", "objective", "loss"):
            data[name] = torch.tensor([getattr(pair, name)], dtype=torch.float32)
        data.search = torch.tensor([pair.search])
        return data
