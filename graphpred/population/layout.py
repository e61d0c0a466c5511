"""Where every weight of a block of networks lies in the block's dense arrays.

Notation: B networks in a block; m rows of data; n inputs; layer k has R_k neurons in all, sorted by
activation class so that every activation runs once on consecutive rows, and H_k at most in one
network. A *link* (s, k) carries the edges from layer s to layer k. Links from the inputs are one
matrix (R_k, n); other links are (B, H_k, H_s), padded with zeros that no gradient ever reaches.
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


@dataclass(frozen=True, eq=False, kw_only=True)
class Link:
    """Edges between two layers of all networks.

    Attributes:
        source: Layer s.
        target: Layer k > s.
        offset: First entry in the flat parameter buffer.
        shape: ``(R_k, n)`` if s = 0, else ``(B, H_k, H_s)``.
    """

    source: int
    target: int
    offset: int
    shape: tuple[int, ...]


@dataclass(frozen=True, eq=False, kw_only=True)
class Layer:
    """The neurons of one layer of all networks.

    Attributes:
        n_rows: R_k.
        width: H_k.
        segments: Activation class and number of consecutive rows, in order.
        padded: Row of neuron i of network b, at ``b * H_k + i``; a padded place repeats the
            network's own first neuron. Int64, shape ``(B * H_k,)``.
        place: The inverse: place of every row. Int64, shape ``(R_k,)``.
        in_order: Whether ``padded`` is 0, 1, 2, …, so that nothing has to move.
        bias_offset: First bias in the flat parameter buffer.
    """

    n_rows: int
    width: int
    segments: tuple[tuple[int, int], ...]
    padded: Tensor
    place: Tensor
    in_order: bool
    bias_offset: int


@dataclass(frozen=True, eq=False, kw_only=True)
class Layout:
    """Positions of a block's weights.

    Attributes:
        layers: Layers 1 … t.
        links: All links, by target, then source.
        size: Entries of the flat buffer.
        position: Place in the flat buffer of every parameter: all edges, network after network,
            then all biases likewise. Int64, shape ``(n_parameters,)``.
        edge_counts: Edges per network.
        bias_counts: Biases per network.
    """

    layers: tuple[Layer, ...]
    links: tuple[Link, ...]
    size: int
    position: Tensor
    edge_counts: tuple[int, ...]
    bias_counts: tuple[int, ...]


def block_layout(networks: Sequence[Architecture], *, device: torch.device) -> Layout:
    """Lay out networks without dead neurons, of the same inputs, outputs and number of layers."""
    n_layers, n_inputs = networks[0].n_layers, networks[0].widths[0]
    rows, layers, size = [], [], 0
    for k in range(1, n_layers + 1):
        row, layer = _lay_out_layer(networks, k=k, bias_offset=size, device=device)
        rows.append(row)
        layers.append(layer)
        size += layer.n_rows
    biases = [
        rows[k][b, : z.widths[k + 1]] + layers[k].bias_offset
        for b, z in enumerate(networks)
        for k in range(n_layers)
    ]
    network, source, target, source_layer, target_layer = _all_edges(networks)
    positions = np.empty(len(network), dtype=np.int64)
    links = []
    for k, s in itertools.product(range(1, n_layers + 1), range(n_layers)):
        chosen = (source_layer == s) & (target_layer == k)
        if not chosen.any():
            continue
        layer = layers[k - 1]
        b, i, j = network[chosen], target[chosen], source[chosen]
        shape: tuple[int, ...]
        if s == 0:
            shape = (layer.n_rows, n_inputs)
            inside = rows[k - 1][b, i] * n_inputs + j
        else:
            width = layers[s - 1].width
            shape = (len(networks), layer.width, width)
            inside = (b * layer.width + i) * width + j
        positions[chosen] = size + inside
        links.append(Link(source=s, target=k, offset=size, shape=shape))
        size += int(np.prod(shape))
    return Layout(
        layers=tuple(layers),
        links=tuple(links),
        size=size,
        position=torch.from_numpy(np.concatenate([positions, *biases])).to(device),
        edge_counts=tuple(z.n_edges for z in networks),
        bias_counts=tuple(z.n_neurons - n_inputs for z in networks),
    )


def _lay_out_layer(
    networks: Sequence[Architecture], *, k: int, bias_offset: int, device: torch.device
) -> tuple[Ints, Layer]:
    """Sort the neurons of layer k; also the row of every (network, neuron), ``(B, H_k)``."""
    widths = np.array([z.widths[k] for z in networks])
    network = np.repeat(np.arange(len(networks)), widths)  # (R_k,)
    neuron = np.concatenate([np.arange(width) for width in widths])  # (R_k,)
    activation = np.concatenate(
        [z.activation[z.starts[k] : z.starts[k + 1]].numpy() for z in networks]
    )
    order = np.lexsort((neuron, network, activation))  # (R_k,)
    rank = np.empty_like(order)
    rank[order] = np.arange(len(order))
    row = np.full((len(networks), widths.max()), -1, dtype=np.int64)  # (B, H_k)
    row[network, neuron] = rank
    row = np.where(row < 0, row[:, :1], row)
    classes, counts = np.unique(activation, return_counts=True)
    place = (network * widths.max() + neuron)[order]
    return row, Layer(
        n_rows=len(order),
        width=int(widths.max()),
        segments=tuple(zip(classes.tolist(), counts.tolist(), strict=True)),
        padded=torch.from_numpy(row.flatten()).to(device),
        place=torch.from_numpy(place).to(device),
        in_order=bool(np.array_equal(row.flatten(), np.arange(len(order)))),
        bias_offset=bias_offset,
    )


def _all_edges(networks: Sequence[Architecture]) -> tuple[Ints, Ints, Ints, Ints, Ints]:
    """Network, source and target (within their layers), and their layers, of every edge."""
    columns = []
    for b, z in enumerate(networks):
        layer = z.layer[z.edges].numpy()  # (2, n_edges)
        inside = z.edges.numpy() - np.array(z.starts)[layer]
        columns.append(np.stack([np.full(z.n_edges, b), *inside, *layer]))
    network, source, target, source_layer, target_layer = np.concatenate(columns, axis=1)
    return network, source, target, source_layer, target_layer
