"""Architectures as arrays in the order in which their edges are decided.

Notation: G graphs of one shape; n features, h hidden neurons, c outputs; T = c + n ends of edges,
outputs first. Every end has an identity code, a random number: the ends of one kind are decided in
the order of their codes, which tells apart even those that a data set makes no difference between.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from graphpred.activations import IDENTITY, activation_names
from graphpred.architecture import Architecture
from graphpred.errors import InputError

N_LEVELS = 16
"""Steps in which the number of edges of a whole graph is told."""
_EDGE_STEPS, _LEAST_EDGES = 2.0, -2.0  # to a doubling of the edges per end; log2 at level 0
_SHARE_STEPS = 2.5  # to a halving of the share of active neurons


def draw_codes(n_features: int, n_outputs: int, *, generator: torch.Generator) -> Tensor:
    """Identity codes of the ends of edges, outputs first. Float64, shape ``(T,)``."""
    return torch.rand(n_outputs + n_features, generator=generator, dtype=torch.float64)


def ends_in_order(codes: Tensor, *, n_outputs: int) -> Tensor:
    """Positions of the outputs, then of the features, by their codes. Int64, shape ``(T,)``."""
    return torch.cat([codes[:n_outputs].argsort(), codes[n_outputs:].argsort()])


@dataclass(frozen=True, eq=False, kw_only=True)
class Graphs:
    """Architectures of one shape in the order of the ends' identity codes.

    Attributes:
        edges: Whether neuron i is joined to an end. Bool, shape ``(G, h, T)``, outputs first.
        activation: Position of every neuron's class. Int64, shape ``(G, h)``.
        n_outputs: c.
    """

    edges: Tensor
    activation: Tensor
    n_outputs: int

    @property
    def active(self) -> Tensor:
        """Whether a neuron has edges. Bool, shape ``(G, h)``."""
        return self.edges.any(dim=2)

    @property
    def n_active(self) -> Tensor:
        """Neurons that have edges. Int64, shape ``(G,)``."""
        return self.active.sum(dim=1)

    @property
    def edge_level(self) -> Tensor:
        """How many edges an end has on average, roughly. Int64, shape ``(G,)``."""
        per_end = self.edges.sum(dim=(1, 2)) / self.edges.shape[2]
        steps = _EDGE_STEPS * (per_end.log2() - _LEAST_EDGES)
        return steps.round().long().clamp(0, N_LEVELS - 1)


def log2_edges_per_end(edge_level: Tensor) -> Tensor:
    """What a level stands for, ``(G,)``."""
    return edge_level.double() / _EDGE_STEPS + _LEAST_EDGES


def active_levels(n_hidden: int) -> Tensor:
    """Level of every number of active neurons, 1 to h; those of a level are alike. ``(h,)``."""
    share = torch.arange(1, n_hidden + 1).double() / n_hidden
    return (-_SHARE_STEPS * share.log2()).round().long().clamp(max=N_LEVELS - 1)


def graphs_of(
    architectures: Sequence[Architecture],
    *,
    orders: Sequence[Tensor],
    classes: Tensor,
    n_outputs: int,
) -> Graphs:
    """Arrange architectures.

    Args:
        architectures: G of them, of one hidden layer and one shape, all edges live.
        orders: Of the ends for each, ``(T,)``.
        classes: Registry indices of the activation classes. Int64, shape ``(a,)``.
        n_outputs: c of the data sets.

    Raises:
        InputError: If an architecture is not as said.
    """
    c = n_outputs
    edges, activation = [], []
    for z, order in zip(architectures, orders, strict=True):
        _check(z, widths=(len(order) - c, architectures[0].widths[1], c))
        v_1, v_2 = (torch.from_numpy(mask) for mask in z.masks)
        edges.append(torch.cat([v_2[:, order[:c]], v_1.T[:, order[c:]]], dim=1))
        activation.append(_positions(z, classes=classes))
    return Graphs(edges=torch.stack(edges), activation=torch.stack(activation), n_outputs=c)


def _check(z: Architecture, *, widths: tuple[int, int, int]) -> None:
    if z.widths != widths:
        raise InputError(
            f"architectures must have one hidden layer, one shape, and the features and outputs "
            f"of their data set, {widths}; got widths {z.widths}."
        )
    if z.has_skip_edges or not z.n_edges or z.n_live_edges < z.n_edges:
        raise InputError(
            f"architectures must have live edges alone, at least one path, and none that skips a "
            f"layer; got {z.n_live_edges} live edges of {z.n_edges} "
            f"(see Architecture.without_dead_edges)."
        )


def _positions(z: Architecture, *, classes: Tensor) -> Tensor:
    """Where the classes of the hidden neurons stand in ``classes``. Int64, shape ``(h,)``."""
    hidden, outputs = z.activation[z.starts[1] : z.starts[2]], z.activation[z.starts[2] :]
    same = hidden.unsqueeze(1) == classes  # (h, a)
    if bool((outputs != IDENTITY).any()) or not bool(same.any(dim=1).all()):
        raise InputError(
            f"hidden activations must be among {', '.join(activation_names(classes))} and those of "
            f"outputs identity; got {', '.join(sorted(set(activation_names(hidden))))} and "
            f"{', '.join(sorted(set(activation_names(outputs))))}."
        )
    return same.int().argmax(dim=1)


def architectures_of(
    graphs: Graphs, *, orders: Sequence[Tensor], classes: Tensor
) -> list[Architecture]:
    """The inverse of ``graphs_of``."""
    return [
        _architecture(edges, activation=classes[chosen], order=order, n_outputs=graphs.n_outputs)
        for edges, chosen, order in zip(graphs.edges, graphs.activation, orders, strict=True)
    ]


def _architecture(
    edges: Tensor, *, activation: Tensor, order: Tensor, n_outputs: int
) -> Architecture:
    """From edges ``(h, T)`` and registry indices ``(h,)``."""
    h, n_ends = edges.shape
    n = n_ends - n_outputs
    i, t = edges.nonzero().unbind(dim=1)
    end, is_output = order[t], t < n_outputs
    source = torch.where(is_output, n + i, end)
    target = torch.where(is_output, n + h + end, n + i)
    ends = torch.full((n_ends,), IDENTITY)
    return Architecture.from_edges(
        torch.stack([source, target]),
        activation=torch.cat([ends[:n], activation, ends[n:]]),
        widths=(n, h, n_outputs),
    )
