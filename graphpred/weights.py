"""The numbers of a network, beside its architecture."""

from dataclasses import dataclass

import torch
from torch import Tensor

from graphpred.architecture import Architecture
from graphpred.errors import InputError
from graphpred.seeds import generator_for


@dataclass(frozen=True, eq=False, kw_only=True)
class Weights:
    """One weight per edge and one bias per neuron that is no input.

    Attributes:
        edge: In the order of ``Architecture.edges``. Float, shape ``(n_edges,)``.
        bias: In the order of the neurons, inputs left out. Float, shape ``(n_neurons - n_0,)``.
    """

    edge: Tensor
    bias: Tensor

    def check(self, architecture: Architecture) -> None:
        """Raise ``InputError`` unless the shapes are those of ``architecture``."""
        wanted = (architecture.n_edges, architecture.n_neurons - architecture.widths[0])
        got = (*self.edge.shape, *self.bias.shape)
        if got != wanted:
            raise InputError(
                f"weights must be one per edge and one bias per neuron, {wanted}; got {got}."
            )


def initial_weights(architecture: Architecture, *, seed: int) -> Weights:
    """Draw fresh weights: normal with variance 1 / (number of live inputs), biases zero.

    Args:
        architecture: The network. Its dead edges get zeros and do not change the other draws.
        seed: The same seed gives the same weights.
    """
    live = architecture.live
    target = architecture.edges[1, live]
    fan_in = torch.bincount(target, minlength=architecture.n_neurons)[target]  # (n_live_edges,)
    drawn = torch.randn(len(target), generator=generator_for(seed), dtype=torch.float64)
    edge = torch.zeros(architecture.n_edges)
    edge[live] = (drawn / fan_in.double().sqrt()).float()
    return Weights(edge=edge, bias=torch.zeros(architecture.n_neurons - architecture.widths[0]))
