"""When edges die that go one by one."""

from collections.abc import Sequence

import torch
from torch import Tensor


def lifetimes(rank: Tensor, *, source: Tensor, target: Tensor, layers: Sequence[slice]) -> Tensor:
    """When every edge dies if edges go one by one: with the last path from input to output.

    Args:
        rank: When every edge goes by itself. Int64, shape ``(E,)``.
        source: Neurons that the edges leave. Int64, shape ``(E,)``.
        target: Neurons of the layer after, that they enter. Int64, shape ``(E,)``.
        layers: Which neurons every layer has; the inputs first, the outputs last.

    Returns:
        Ranks of the edges with which they die. Int64, shape ``(E,)``.
    """
    n_edges, n_neurons = len(rank), layers[-1].stop
    fed, used = rank.new_full((n_neurons,), -1), rank.new_full((n_neurons,), -1)
    fed[layers[0]], used[layers[-1]] = n_edges, n_edges
    for layer in layers[1:]:
        own = (target >= layer.start) & (target < layer.stop)
        through = torch.minimum(rank[own], fed[source[own]])
        fed.scatter_reduce_(0, target[own], through, "amax")
    for layer in reversed(layers[:-1]):
        own = (source >= layer.start) & (source < layer.stop)
        through = torch.minimum(rank[own], used[target[own]])
        used.scatter_reduce_(0, source[own], through, "amax")
    return torch.minimum(rank, torch.minimum(fed[source], used[target]))
