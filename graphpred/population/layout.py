"""Where every weight and every neuron of a block of networks lies.

The neurons of all B networks stand in one table of values, a row a neuron and a column a row of
data: a constant 1, the n inputs, which all networks share, then layer after layer. Inside a layer
rows are sorted by activation class, so that every activation runs once on consecutive rows.

All parameters stand in one flat vector, sorted by the row they lead to, a bias being a weight from
the constant. A row is then a weighted sum of rows of the table, a *bag*, and an edge costs the same
whichever layers it joins and whatever the other networks look like: nothing is padded.

Notation: R_k rows in layer k; E_k parameters into it.
"""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from graphpred.architecture import Architecture

Ints = NDArray[np.int64]

DENSE_FROM = 0.25
"""Share of possible edges from which the first layer is one dense product; see
``benchmarks/crossover.py``."""
_ALIGNMENT = 8  # input rows are filled up to a multiple: the products of odd sizes are slow


@dataclass(frozen=True, eq=False)
class Bags:
    """Weighted sums of rows.

    Attributes:
        row: Row that every entry takes. Int64, shape ``(n_entries,)``.
        bag: Sum that every entry belongs to, ascending. Int64, shape ``(n_entries,)``.
        offset: First entry of every sum. Int64, shape ``(n_sums,)``.
        parameter: Parameter that every entry is multiplied by. Int64, shape ``(n_entries,)``.
    """

    row: Tensor
    bag: Tensor
    offset: Tensor
    parameter: Tensor


@dataclass(frozen=True, eq=False, kw_only=True)
class Layer:
    """The neurons of one layer of all networks.

    Attributes:
        rows: Rows of the table.
        classes: Activation classes, in the order of the rows.
        sizes: Number of consecutive rows of every class.
        parameters: Part of the flat vector.
        into: Sums of table rows; its entries are the layer's parameters.
        dense: Entry of a matrix ``(R_k, n_input_rows)`` for every parameter, if the layer is better
            computed that way. Int64, shape ``(E_k,)``.
        out: For the gradient of a hidden layer: sums over the edges out of its rows, in which
            ``row`` counts from the first row that is no input. None for the outputs.
    """

    rows: slice
    classes: tuple[int, ...]
    sizes: tuple[int, ...]
    parameters: slice
    into: Bags
    dense: Tensor | None
    out: Bags | None


@dataclass(frozen=True, eq=False, kw_only=True)
class Layout:
    """Places of a block's neurons and parameters.

    Attributes:
        layers: Layers 1 … t that have rows; the first of them is fed by inputs alone.
        n_input_rows: Rows of the table for the constant, the inputs, and zeros after them.
        n_rows: Rows of the table.
        place: Where every parameter stands among all edges of the networks, one network after the
            other, followed by all biases likewise. Int64, shape ``(n_parameters,)``.
        outputs: Row in the last layer of output k of network b, at ``b * c + k``; None if they are
            in order. Int64, shape ``(B * c,)``.
        rows_of_outputs: Its inverse, or None.
    """

    layers: tuple[Layer, ...]
    n_input_rows: int
    n_rows: int
    place: Tensor
    outputs: Tensor | None
    rows_of_outputs: Tensor | None


@dataclass(frozen=True, eq=False, kw_only=True)
class _Neurons:
    """All neurons of all networks, one network after the other; and the live edges among them.

    ``row`` is the row of the table, −1 for neurons that no live edge touches. Edges are numbered
    within all edges, dead ones counted.
    """

    layer: Ints
    activation: Ints
    row: Ints
    source: Ints
    target: Ints
    edge: Ints
    n_edges: int


def block_layout(networks: Sequence[Architecture], *, bias: bool, device: torch.device) -> Layout:
    """Lay out networks of the same inputs, outputs and number of layers, without dead parts."""
    n_inputs, n_layers = networks[0].widths[0], networks[0].n_layers
    n_input_rows = _ALIGNMENT * -(-(1 + n_inputs) // _ALIGNMENT)
    neurons = _place_neurons(networks, first_row=n_input_rows)
    own = np.flatnonzero((neurons.layer > 0) & (neurons.row >= 0))  # neurons with rows
    own = own[np.argsort(neurons.row[own])]
    entries = _entries(neurons, biased=own if bias else own[:0])
    starts = n_input_rows + np.searchsorted(neurons.layer[own], np.arange(1, n_layers + 2))
    layers = [
        _layer(
            entries,
            classes=neurons.activation[own[start - n_input_rows : stop - n_input_rows]],
            rows=slice(start, stop),
            n_input_rows=n_input_rows,
            device=device,
        )
        for start, stop in itertools.pairwise(starts.tolist())
        if start < stop
    ]
    outputs = neurons.row[neurons.layer == n_layers] - starts[-2]  # (B * c,)
    in_order = bool((outputs[1:] > outputs[:-1]).all())
    return Layout(
        layers=tuple(layers),
        n_input_rows=n_input_rows,
        n_rows=n_input_rows + len(own),
        place=torch.from_numpy(entries.place).to(device),
        outputs=None if in_order else torch.from_numpy(outputs).to(device),
        rows_of_outputs=None if in_order else torch.from_numpy(np.argsort(outputs)).to(device),
    )


def live_neurons(networks: Sequence[Architecture]) -> Ints:
    """Neurons of every network that have a row of their own. Int64, shape ``(B,)``."""
    neurons = _place_neurons(networks, first_row=0)
    counted = np.cumsum((neurons.row >= 0) & (neurons.layer > 0))
    last = np.cumsum([z.n_neurons for z in networks]) - 1  # the last neuron of every network
    counts: Ints = np.diff(counted[last], prepend=0)
    return counts


def _place_neurons(networks: Sequence[Architecture], *, first_row: int) -> _Neurons:
    """Number the neurons, find the live edges, and give a row to every neuron that needs one."""
    widths = np.array([z.widths for z in networks])  # (B, t + 1)
    n_networks, n_layers = len(widths), widths.shape[1] - 1
    layer = np.repeat(np.tile(np.arange(n_layers + 1), n_networks), widths.ravel())  # (ΣN,)
    activation = np.concatenate([z.activation.numpy() for z in networks])
    first = np.cumsum(widths.sum(axis=1)) - widths.sum(axis=1)  # (B,)
    counts = [z.n_edges for z in networks]
    edges = np.concatenate([z.edges.numpy() for z in networks], axis=1) + np.repeat(first, counts)
    edge = np.flatnonzero(np.concatenate([z.live.numpy() for z in networks]))
    source, target = edges[:, edge]
    kept = layer == n_layers
    kept[source] = kept[target] = True
    row = np.full(len(layer), -1)
    row[layer == 0] = np.tile(1 + np.arange(widths[0, 0]), n_networks)
    own = np.flatnonzero(kept & (layer > 0))
    own = own[np.lexsort((activation[own], layer[own]))]
    row[own] = first_row + np.arange(len(own))
    return _Neurons(
        layer=layer,
        activation=activation,
        row=row,
        source=source,
        target=target,
        edge=edge,
        n_edges=sum(counts),
    )


@dataclass(frozen=True, eq=False, kw_only=True)
class _Entries:
    """The parameters: table rows that each leads from and to, and its ``Layout.place``.

    They are sorted by target, then source; ``leaving`` sorts them by source, then target.
    """

    source: Ints
    target: Ints
    place: Ints
    leaving: Ints


def _entries(neurons: _Neurons, *, biased: Ints) -> _Entries:
    """A parameter for every live edge, and for every neuron of ``biased`` one from row 0."""
    number = np.cumsum(neurons.layer > 0) - 1  # of every neuron among the biases
    source = np.concatenate([neurons.row[neurons.source], np.zeros(len(biased), dtype=np.int64)])
    target = np.concatenate([neurons.row[neurons.target], neurons.row[biased]])
    place = np.concatenate([neurons.edge, neurons.n_edges + number[biased]])
    order = np.lexsort((source, target))
    source, target, place = source[order], target[order], place[order]
    leaving = np.lexsort((target, source))
    return _Entries(source=source, target=target, place=place, leaving=leaving)


def _layer(
    entries: _Entries, *, classes: Ints, rows: slice, n_input_rows: int, device: torch.device
) -> Layer:
    """The layer that has given rows of the table; ``classes``: activation class of each."""
    first, last = np.searchsorted(entries.target, [rows.start, rows.stop])
    source, target = entries.source[first:last], entries.target[first:last] - rows.start
    low, high = np.searchsorted(entries.source[entries.leaving], [rows.start, rows.stop])
    leaving = entries.leaving[low:high]
    is_first = rows.start == n_input_rows
    n_possible = len(classes) * n_input_rows
    values, counts = np.unique(classes, return_counts=True)
    return Layer(
        rows=rows,
        classes=tuple(values.tolist()),
        sizes=tuple(counts.tolist()),
        parameters=slice(int(first), int(last)),
        into=_bags(source, target, parameter=np.arange(first, last), like=classes, device=device),
        dense=torch.from_numpy(target * n_input_rows + source).to(device)
        if is_first and len(source) > DENSE_FROM * n_possible
        else None,
        out=_bags(
            entries.target[leaving] - n_input_rows,
            entries.source[leaving] - rows.start,
            parameter=leaving,
            like=classes,
            device=device,
        )
        if len(leaving)
        else None,
    )


def _bags(row: Ints, bag: Ints, *, parameter: Ints, like: Ints, device: torch.device) -> Bags:
    """As many sums as ``like`` has elements."""
    offset = np.searchsorted(bag, np.arange(len(like)))
    return Bags(*(torch.from_numpy(part).to(device) for part in (row, bag, offset, parameter)))
