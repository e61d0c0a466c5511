"""What a report needs to know of a network's layers, as plain arrays and names.

Notation: layers 0 … t of widths n_0 … n_t; hidden neurons are called h0, h1, … within their
layer, with the layer before them if there are several: h2.0.
"""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from graphpred.activations import ACTIVATIONS
from graphpred.network import SparseNetwork

Matrix = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class Neuron:
    """A hidden neuron with live edges.

    Attributes:
        name: Such as h3.
        layer: Its layer, 1 … t-1.
        index: Its place in the layer, from 0.
        activation: Name of its class.
        probability: Of that class; None if nobody said.
    """

    name: str
    layer: int
    index: int
    activation: str
    probability: float | None


def neuron_names(network: SparseNetwork, layer: int) -> list[str]:
    """Names of the neurons of a layer: features, hidden neurons, or classes and outputs."""
    t = network.architecture.n_layers
    if layer == 0:
        return list(network.signature.feature_names)
    if layer == t:
        return list(network.signature.class_names)
    prefix = "h" if t == 2 else f"h{layer}."
    return [f"{prefix}{i}" for i in range(network.architecture.widths[layer])]


def live_neurons(network: SparseNetwork) -> list[Neuron]:
    """The hidden neurons that live edges touch, layer after layer."""
    z = network.architecture
    touched = torch.zeros(z.n_neurons, dtype=torch.bool)
    touched[z.edges[:, z.live].flatten()] = True
    neurons = []
    for layer in range(1, z.n_layers):
        names = neuron_names(network, layer)
        start = z.starts[layer]
        for i in touched[start : start + z.widths[layer]].nonzero().flatten().tolist():
            neurons.append(
                Neuron(
                    name=names[i],
                    layer=layer,
                    index=i,
                    activation=ACTIVATIONS[int(z.activation[start + i])].name,
                    probability=_activation_probability(network, layer=layer, index=i),
                )
            )
    return neurons


def _activation_probability(network: SparseNetwork, *, layer: int, index: int) -> float | None:
    """Evidence for the class of a hidden neuron; None if nobody said or it does not fit."""
    z = network.architecture
    evidence = network.evidence.get("activation_probability")
    names = network.facts.get("activation_names")
    if evidence is None or not isinstance(names, list):
        return None
    neuron = z.starts[layer] + index
    name = ACTIVATIONS[int(z.activation[neuron])].name
    if tuple(evidence.shape) != (sum(z.widths[1:-1]), len(names)) or name not in names:
        return None
    return float(evidence[neuron - z.widths[0], names.index(name)])


def weight_matrix(network: SparseNetwork, layer: int) -> tuple[Matrix, NDArray[np.int8]]:
    """Weights between two layers, zero where there is no edge, and their signs.

    An edge of weight zero counts as positive. Edges that skip layers are not in it.

    Args:
        network: The network.
        layer: The later of the two layers.

    Returns:
        Float and int8, shape ``(n_{k-1}, n_k)`` each.
    """
    z = network.architecture
    source, target = z.edges
    here = (z.layer[source] == layer - 1) & (z.layer[target] == layer)
    rows = (source[here] - z.starts[layer - 1]).numpy()
    columns = (target[here] - z.starts[layer]).numpy()
    values = np.zeros((z.widths[layer - 1], z.widths[layer]))
    values[rows, columns] = network.weights.edge[here].double().numpy()
    signs = np.zeros(values.shape, dtype=np.int8)
    signs[rows, columns] = np.where(values[rows, columns] < 0, -1, 1)
    return values, signs


def edge_probability(network: SparseNetwork, layer: int) -> Matrix | None:
    """Evidence for every edge between two layers; None if nobody said or it does not fit."""
    evidence = network.evidence.get(f"probability_{layer}")
    z = network.architecture
    if evidence is None or tuple(evidence.shape) != (z.widths[layer - 1], z.widths[layer]):
        return None
    values: Matrix = evidence.detach().cpu().double().numpy()
    return np.nan_to_num(values, nan=0.0, posinf=1.0, neginf=0.0).clip(0.0, 1.0)
