"""Random architectures for property tests, and brute-force references for them."""

import itertools
from collections.abc import Iterator

import torch
from hypothesis import strategies as st

from graphpred.activations import activation_indices
from graphpred.architecture import Architecture
from graphpred.space import SearchSpace

# Zero at zero, so that a neuron without inputs gives nothing.
CLASSES = activation_indices(["identity", "tanh", "sin"])


@st.composite
def architectures(draw, *, hidden_layers=(0, 3), max_width=4, skip=True) -> Architecture:
    """Any widths, any edges between layers, three activation classes."""
    shallowest, deepest = hidden_layers
    width = st.integers(1, max_width)
    widths = draw(st.lists(width, min_size=shallowest + 2, max_size=deepest + 2))
    skip = draw(st.booleans()) if skip else False
    layer = [k for k, n in enumerate(widths) for _ in range(n)]
    possible = [
        (i, j)
        for i, j in itertools.combinations(range(len(layer)), 2)
        if layer[j] - layer[i] == 1 or (skip and layer[j] > layer[i])
    ]
    bits = draw(st.integers(0, 2 ** len(possible) - 1))
    if draw(st.booleans()):  # sparse: many neurons dead
        bits &= draw(st.integers(0, 2 ** len(possible) - 1))
    edges = [pair for i, pair in enumerate(possible) if bits >> i & 1]
    n_free = len(layer) - widths[0]
    free = draw(st.lists(st.sampled_from(CLASSES), min_size=n_free, max_size=n_free))
    return Architecture.from_edges(
        torch.tensor(edges, dtype=torch.int64).reshape(-1, 2).T,
        activation=[0] * widths[0] + free,
        widths=widths,
    )


def orders(z: Architecture) -> Iterator[torch.Tensor]:
    """Every order of the hidden neurons inside their layers."""
    layers = [range(start, stop) for start, stop in itertools.pairwise(z.starts)]
    for hidden in itertools.product(*map(itertools.permutations, layers[1:-1])):
        yield torch.tensor([*layers[0], *itertools.chain(*hidden), *layers[-1]])


@st.composite
def shuffled(draw, z: Architecture) -> torch.Tensor:
    """One order of the hidden neurons inside their layers."""
    layers = [range(start, stop) for start, stop in itertools.pairwise(z.starts)]
    parts = [draw(st.permutations(layer)) for layer in layers[1:-1]]
    return torch.tensor([*layers[0], *itertools.chain(*parts), *layers[-1]])


def enumerate_space(space: SearchSpace) -> Iterator[Architecture]:
    """Every architecture of a tiny space."""
    starts = list(itertools.accumulate(space.widths, initial=0))
    layers = [range(start, stop) for start, stop in itertools.pairwise(starts)]
    possible = [pair for a, b in itertools.pairwise(layers) for pair in itertools.product(a, b)]
    hidden = [activation_indices(space.activations)] * sum(space.widths[1:-1])
    outputs = [activation_indices(space.output_activations)] * space.widths[-1]
    for kept in itertools.product([False, True], repeat=len(possible)):
        edges = list(itertools.compress(possible, kept))
        for classes in itertools.product(*hidden, *outputs):
            yield Architecture.from_edges(
                torch.tensor(edges, dtype=torch.int64).reshape(-1, 2).T,
                activation=[0] * space.widths[0] + list(classes),
                widths=space.widths,
            )
