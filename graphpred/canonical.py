"""A canonical order of hidden neurons, which carry no names of their own.

Two networks that differ only in the order of the neurons inside their hidden layers compute the
same function. ``canonical_order`` sorts every hidden layer by what its neurons do. With one hidden
layer the result is exact, since the key (activation, inputs, outputs) says all there is to know.
With more it is colour refinement (Weisfeiler and Leman, 1968) with individualisation of ties: two
equal networks may rarely get different orders, but two different ones never become equal, because
only neurons are renamed.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

Signature = tuple[int, tuple[int, ...], tuple[int, ...]]


def canonical_order(edges: Tensor, *, activation: Tensor, widths: tuple[int, ...]) -> Tensor:
    """Neurons in canonical order, layer by layer.

    Args:
        edges: Source and target of every edge. Int64, shape ``(2, n_edges)``.
        activation: Activation class per neuron. Int64, shape ``(n_neurons,)``.
        widths: Neurons per layer, inputs first.

    Returns:
        ``order``, int64, shape ``(n_neurons,)``: canonical neuron i is neuron ``order[i]`` of the
        input. Inputs and outputs keep their places.
    """
    n_neurons = sum(widths)
    inputs: list[list[int]] = [[] for _ in range(n_neurons)]
    outputs: list[list[int]] = [[] for _ in range(n_neurons)]
    for source, target in edges.T.tolist():
        inputs[target].append(source)
        outputs[source].append(target)
    hidden = range(widths[0], n_neurons - widths[-1])
    colours = _initial_colours(activation.tolist(), widths=widths)
    while True:
        colours = _refine(colours, hidden=hidden, inputs=inputs, outputs=outputs)
        tied = _first_tie(colours, hidden=hidden, inputs=inputs, outputs=outputs)
        if tied is None:
            break
        # Colours are even, so an odd one puts the tied neuron in front of its equals.
        colours[tied] -= 1
    order = list(range(n_neurons))
    order[hidden.start : hidden.stop] = sorted(hidden, key=colours.__getitem__)
    return torch.tensor(order)


def _initial_colours(activation: list[int], *, widths: tuple[int, ...]) -> list[int]:
    """Even integers that sort by layer, then activation; every input and output has its own."""
    layer = [k for k, width in enumerate(widths) for _ in range(width)]
    last = len(widths) - 1
    keys = [
        (k, activation[i], i if k in (0, last) else -1)
        for i, k in enumerate(layer)  # (layer, activation, identity)
    ]
    return _ranks(keys)


def _ranks(keys: Sequence[tuple[int, int, int]] | Sequence[Signature]) -> list[int]:
    """Twice the rank of every key among the distinct ones."""
    rank = {key: 2 * i for i, key in enumerate(sorted(set(keys)))}
    return [rank[key] for key in keys]


def _refine(
    colours: list[int], *, hidden: range, inputs: list[list[int]], outputs: list[list[int]]
) -> list[int]:
    """Split colours by the colours of the neighbours until nothing splits."""
    n_colours = len(set(colours))
    while True:
        keys: list[Signature] = [(colour, (), ()) for colour in colours]
        for i in hidden:
            keys[i] = (
                colours[i],
                tuple(sorted(colours[j] for j in inputs[i])),
                tuple(sorted(colours[j] for j in outputs[i])),
            )
        colours = _ranks(keys)
        if len(set(colours)) == n_colours:
            return colours
        n_colours = len(set(colours))


def _first_tie(
    colours: list[int], *, hidden: range, inputs: list[list[int]], outputs: list[list[int]]
) -> int | None:
    """The first neuron of the lowest colour that different hidden neurons share.

    Twins, with the very same inputs and outputs, may stand in any order and are no tie.
    """
    first: dict[int, int] = {}
    tied: dict[int, int] = {}
    for i in hidden:
        twin = first.setdefault(colours[i], i)
        if inputs[i] != inputs[twin] or outputs[i] != outputs[twin]:
            tied[colours[i]] = twin
    return tied[min(tied)] if tied else None
