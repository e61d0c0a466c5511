"""``Architecture``: a sparse network as a typed DAG, without its weights.

Notation: layers 0 … t with widths n_0 … n_t, inputs first; V_k the mask of shape
(n_{k-1}, n_k) between layers k-1 and k; α_k the activation classes of layer k; K the number of
edges and K* that of the live ones, on a path from an input to an output (Kalugin, Bakhteev and
Strijov, 2018). Neurons are numbered through all layers; an edge may skip layers.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import networkx
import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from graphpred.activations import (
    ACTIVATIONS,
    IDENTITY,
    activation_index,
    activation_indices,
    activation_names,
)
from graphpred.canonical import canonical_order
from graphpred.errors import ArchitectureError, GraphPredError, StoreError
from graphpred.files import load_tensors, save_tensors

INPUT, HIDDEN, OUTPUT = range(3)
"""Types of neurons, as numbered in ``to_pyg().node_type``."""


@dataclass(frozen=True, eq=False, kw_only=True)
class Architecture:
    """A sparse network: which neuron feeds which, and how each one fires.

    Neurons are numbered in topological order, inputs first, outputs last. Every edge leads from a
    layer to a later one. Two architectures are equal when they agree neuron by neuron; compare
    ``canonical()`` forms to ignore the order of hidden neurons.

    Attributes:
        edges: Source and target neuron of every edge, sorted, without repeats.
            Int64, shape ``(2, n_edges)``; a torch-geometric ``edge_index``.
        activation: Index into ``ACTIVATIONS`` per neuron; identity for inputs.
            Int64, shape ``(n_neurons,)``.
        widths: Neurons per layer, inputs first.

    Raises:
        ArchitectureError: If a field breaks what is said above.

    >>> z = Architecture.from_masks([[[1, 0], [1, 1]], [[1], [0]]], hidden=["relu", "tanh"])
    >>> z.widths, z.n_edges, z.n_live_edges
    ((2, 2, 1), 4, 3)
    """

    edges: Tensor
    activation: Tensor
    widths: tuple[int, ...]

    def __post_init__(self) -> None:
        _check_widths(self.widths)
        n_neurons = sum(self.widths)
        if self.activation.shape != (n_neurons,) or self.activation.dtype != torch.int64:
            raise ArchitectureError(
                f"activation must hold one int64 class per neuron, {n_neurons} of them; "
                f"got shape {tuple(self.activation.shape)} of {self.activation.dtype}."
            )
        if not ((self.activation >= 0) & (self.activation < len(ACTIVATIONS))).all():
            raise ArchitectureError(
                f"activation must hold classes from 0 to {len(ACTIVATIONS) - 1}; "
                f"got {int(self.activation.min())} to {int(self.activation.max())}."
            )
        if (self.activation[: self.widths[0]] != IDENTITY).any():
            raise ArchitectureError("the activation of an input neuron must be identity.")
        self._check_edges(n_neurons)

    def _check_edges(self, n_neurons: int) -> None:
        edges = self.edges
        if edges.dim() != 2 or edges.shape[0] != 2 or edges.dtype != torch.int64:
            raise ArchitectureError(
                f"edges must be int64 of shape (2, n_edges); "
                f"got shape {tuple(edges.shape)} of {edges.dtype}."
            )
        if not edges.numel():
            return
        if edges.min() < 0 or edges.max() >= n_neurons:
            raise ArchitectureError(
                f"edges must join neurons 0 to {n_neurons - 1}; "
                f"got neurons {int(edges.min())} to {int(edges.max())}."
            )
        key = edges[0] * n_neurons + edges[1]  # (n_edges,)
        if (key[1:] <= key[:-1]).any():
            raise ArchitectureError("edges must be sorted by source, then target, without repeats.")
        layer = self.layer[edges]  # (2, n_edges)
        backwards = layer[0] >= layer[1]  # (n_edges,)
        if backwards.any():
            source, target = edges[:, backwards][:, 0].tolist()
            raise ArchitectureError(
                f"every edge must lead to a later layer; edge {source} -> {target} does not."
            )

    @classmethod
    def from_edges(
        cls, edges: ArrayLike | Tensor, *, activation: ArrayLike | Tensor, widths: Sequence[int]
    ) -> Architecture:
        """Build from edges in any order; repeats are merged.

        Args:
            edges: Source and target of every edge, shape ``(2, n_edges)``.
            activation: Index into ``ACTIVATIONS`` per neuron, shape ``(n_neurons,)``.
            widths: Neurons per layer, inputs first.
        """
        pairs = torch.as_tensor(edges, dtype=torch.int64)
        return cls(
            edges=torch.unique(pairs, dim=-1) if pairs.numel() else pairs.reshape(2, 0),
            activation=torch.as_tensor(activation, dtype=torch.int64),
            widths=tuple(int(width) for width in widths),
        )

    @classmethod
    def from_masks(
        cls,
        masks: Sequence[ArrayLike | Tensor],
        *,
        hidden: Sequence[str | Sequence[str]] = (),
        output: str | Sequence[str] = "identity",
    ) -> Architecture:
        """Build from the masks V_1 … V_t, without skip edges.

        Args:
            masks: One array a layer, shape ``(n_{k-1}, n_k)``; nonzero is an edge.
            hidden: Activation names of the hidden neurons, layer after layer in one list, or one
                list a layer.
            output: Activation names of the outputs, or one for all.

        Raises:
            ArchitectureError: If the shapes do not chain or a name is missing.
        """
        arrays = [torch.as_tensor(mask).bool() for mask in masks]
        if not arrays or any(array.dim() != 2 for array in arrays):
            raise ArchitectureError(
                f"masks must be matrices, one or more; "
                f"got shapes {[tuple(array.shape) for array in arrays]}."
            )
        for array, after in itertools.pairwise(arrays):
            if array.shape[1] != after.shape[0]:
                raise ArchitectureError(
                    f"masks must chain; shape {tuple(array.shape)} precedes {tuple(after.shape)}."
                )
        widths = (arrays[0].shape[0], *(array.shape[1] for array in arrays))
        names = [name for item in hidden for name in ([item] if isinstance(item, str) else item)]
        names += [output] * widths[-1] if isinstance(output, str) else list(output)
        if len(names) != sum(widths[1:]):
            raise ArchitectureError(
                f"hidden and output must name one activation per neuron, {sum(widths[1:])} in "
                f"all; got {len(names)}."
            )
        starts = itertools.accumulate(widths, initial=0)
        blocks = [
            array.nonzero().T + torch.tensor([[start], [start + array.shape[0]]])
            for array, start in zip(arrays, starts, strict=False)
        ]
        classes = [IDENTITY] * widths[0] + [activation_index(name) for name in names]
        return cls(edges=torch.cat(blocks, dim=1), activation=torch.tensor(classes), widths=widths)

    # Sizes

    @property
    def n_layers(self) -> int:
        """The number of weight layers, t."""
        return len(self.widths) - 1

    @property
    def n_neurons(self) -> int:
        """Neurons of all layers."""
        return sum(self.widths)

    @property
    def n_possible_edges(self) -> int:
        """N = Σ n_{k-1} n_k, the denominator of every density."""
        return sum(a * b for a, b in itertools.pairwise(self.widths))

    @property
    def n_edges(self) -> int:
        """K: all edges, dead ones too."""
        return self.edges.shape[1]

    @property
    def n_edges_per_layer(self) -> tuple[int, ...]:
        """k_1 … k_t: edges into every layer, skip edges among them."""
        layer = self.layer[self.edges[1]]
        return tuple(torch.bincount(layer, minlength=self.n_layers + 1)[1:].tolist())

    @property
    def density(self) -> float:
        """K / N."""
        return self.n_edges / self.n_possible_edges

    @property
    def has_skip_edges(self) -> bool:
        """Whether an edge jumps over a layer."""
        layer = self.layer[self.edges]
        return bool((layer[1] - layer[0] > 1).any())

    @cached_property
    def layer(self) -> Tensor:
        """Layer of every neuron. Int64, shape ``(n_neurons,)``."""
        return torch.repeat_interleave(
            torch.arange(len(self.widths)), torch.tensor(self.widths), output_size=self.n_neurons
        )

    @cached_property
    def starts(self) -> tuple[int, ...]:
        """First neuron of every layer, and the number of neurons at the end."""
        return tuple(itertools.accumulate(self.widths, initial=0))

    # The paper's Z = {V_k, α_k}

    @property
    def masks(self) -> tuple[NDArray[np.bool_], ...]:
        """V_1 … V_t: one bool array of shape ``(n_{k-1}, n_k)`` a layer, without skip edges."""
        layer = self.layer[self.edges]  # (2, n_edges)
        masks = []
        for k in range(1, len(self.widths)):
            mask = np.zeros((self.widths[k - 1], self.widths[k]), dtype=np.bool_)
            chosen = self.edges[:, (layer[0] == k - 1) & (layer[1] == k)].numpy()
            mask[chosen[0] - self.starts[k - 1], chosen[1] - self.starts[k]] = True
            masks.append(mask)
        return tuple(masks)

    @property
    def activations(self) -> tuple[tuple[str, ...], ...]:
        """α_1 … α_t: activation names of the neurons of layers 1 to t."""
        names = activation_names(self.activation)
        return tuple(
            tuple(names[start:stop]) for start, stop in itertools.pairwise(self.starts[1:])
        )

    # Live and dead

    @cached_property
    def live(self) -> Tensor:
        """Whether every edge is on a path from an input to an output. Bool, ``(n_edges,)``."""
        source, target = self.edges.numpy()  # numpy: tensors this small cost several times more
        layer = self.layer.numpy()
        source_layer, target_layer = layer[source], layer[target]
        reached = layer == 0  # (n_neurons,)
        useful = layer == self.n_layers  # (n_neurons,)
        for k in range(1, self.n_layers):
            into = target_layer == k
            reached[target[into & reached[source]]] = True
        for k in range(self.n_layers - 1, 0, -1):
            out_of = source_layer == k
            useful[source[out_of & useful[target]]] = True
        return torch.from_numpy(reached[source] & useful[target])

    @property
    def n_live_edges(self) -> int:
        """K*: edges on a path from an input to an output."""
        return int(self.live.sum())

    def without_dead_edges(self) -> Architecture:
        """The same neurons with live edges only; it computes the same function up to biases."""
        if bool(self.live.all()):
            return self
        return Architecture(
            edges=self.edges[:, self.live], activation=self.activation, widths=self.widths
        )

    def without_dead_neurons(self) -> tuple[Architecture, Tensor]:
        """Drop dead edges and the hidden neurons that no live edge touches.

        A hidden layer that would vanish keeps its first neuron, so that the layers stay.

        Returns:
            The smaller architecture, and the neurons kept: int64, shape ``(n_kept,)``; neuron i of
            the result is neuron ``kept[i]`` of this one.
        """
        edges = self.edges[:, self.live]
        keep = (self.layer == 0) | (self.layer == self.n_layers)  # (n_neurons,)
        keep[edges.flatten()] = True
        for k in range(1, self.n_layers):
            if not keep[self.starts[k] : self.starts[k + 1]].any():
                keep[self.starts[k]] = True
        kept = keep.nonzero().flatten()  # (n_kept,)
        number = torch.cumsum(keep, dim=0) - 1  # (n_neurons,)
        widths = torch.bincount(self.layer[kept]).tolist()
        smaller = Architecture(
            edges=number[edges], activation=self.activation[kept], widths=tuple(widths)
        )
        return smaller, kept

    # Order of hidden neurons

    def permuted(self, order: Tensor) -> Architecture:
        """Rename neurons: neuron i of the result is neuron ``order[i]`` of this one.

        Args:
            order: A permutation that keeps every neuron in its layer. Int64, ``(n_neurons,)``.
        """
        if not torch.equal(order.sort().values, torch.arange(self.n_neurons)):
            raise ArchitectureError("order must be a permutation of the neurons.")
        if not torch.equal(self.layer[order], self.layer):
            raise ArchitectureError("order must keep every neuron in its layer.")
        number = torch.empty_like(order)
        number[order] = torch.arange(self.n_neurons)
        return Architecture.from_edges(
            number[self.edges], activation=self.activation[order], widths=self.widths
        )

    def canonical(self) -> tuple[Architecture, Tensor]:
        """The form that does not depend on the order of hidden neurons, and the order used.

        Exact with one hidden layer; with more it may miss an equality, never assert a false one.

        Returns:
            The renamed architecture, and ``order`` as in ``permuted``: weights follow it.
        """
        order = canonical_order(self.edges, activation=self.activation, widths=self.widths)
        return self.permuted(order), order

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Architecture) and self._key() == other._key()

    def __hash__(self) -> int:
        return hash(self._key())

    def _key(self) -> tuple[tuple[int, ...], bytes, bytes]:
        return self.widths, self.edges.numpy().tobytes(), self.activation.numpy().tobytes()

    # Files and other libraries

    def to_json(self) -> dict[str, Any]:
        """Plain JSON types: widths, edges as [sources, targets], activation names per neuron."""
        return {
            "widths": list(self.widths),
            "edges": self.edges.tolist(),
            "activation": activation_names(self.activation),
        }

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Architecture:
        """The inverse of ``to_json``."""
        try:
            return cls.from_edges(
                data["edges"],
                activation=activation_indices(data["activation"]),
                widths=data["widths"],
            )
        except GraphPredError:
            raise
        except (KeyError, TypeError, ValueError) as error:
            raise ArchitectureError(
                f"an architecture must have widths, edges and activation, lists of numbers and "
                f"names; got {type(error).__name__}: {error}."
            ) from error

    def save(self, path: str | Path) -> None:
        """Write a safetensors file: ``edges`` as tensor, widths and names as metadata."""
        names = activation_names(self.activation)
        metadata = {"widths": json.dumps(self.widths), "activation": json.dumps(names)}
        save_tensors(path, {"edges": self.edges}, metadata=metadata)

    @classmethod
    def load(cls, path: str | Path) -> Architecture:
        """Read what ``save`` wrote; a ``StoreError`` if the file is anything else."""
        tensors, metadata = load_tensors(path, what="an architecture that graphpred wrote")
        try:
            data = {key: json.loads(text) for key, text in metadata.items()}
            return cls.from_json(data | tensors)
        except (json.JSONDecodeError, GraphPredError) as error:
            raise StoreError(f"{path} must be a stored architecture: {error}") from error

    def to_pyg(self) -> Any:
        """A torch-geometric ``Data``.

        ``x`` one-hot activation classes (n_neurons, n_classes), ``node_type`` 0 input, 1 hidden,
        2 output, ``layer`` of every neuron, ``edge_index`` the edges.
        """
        from torch_geometric.data import Data  # noqa: PLC0415 - a second to import, rarely wanted

        kind = torch.full((self.n_neurons,), HIDDEN)
        kind[self.layer == 0] = INPUT
        kind[self.layer == self.n_layers] = OUTPUT
        one_hot = torch.nn.functional.one_hot(self.activation, len(ACTIVATIONS)).float()
        return Data(
            x=one_hot, edge_index=self.edges.clone(), node_type=kind, layer=self.layer.clone()
        )

    @classmethod
    def from_pyg(cls, data: Any) -> Architecture:
        """The inverse of ``to_pyg``."""
        widths = torch.bincount(data.layer).tolist()
        return cls.from_edges(data.edge_index, activation=data.x.argmax(dim=1), widths=widths)

    def to_networkx(self) -> networkx.DiGraph[int]:
        """A ``DiGraph`` whose nodes know their ``layer`` and ``activation`` name."""
        graph: networkx.DiGraph[int] = networkx.DiGraph(widths=self.widths)
        layers = self.layer.tolist()
        for neuron, index in enumerate(self.activation.tolist()):
            graph.add_node(neuron, layer=layers[neuron], activation=ACTIVATIONS[index].name)
        graph.add_edges_from(self.edges.T.tolist())
        return graph


def _check_widths(widths: tuple[int, ...]) -> None:
    if len(widths) < 2 or any(width < 1 for width in widths):
        raise ArchitectureError(
            f"widths must name at least inputs and outputs, each one neuron or more; got {widths}."
        )
