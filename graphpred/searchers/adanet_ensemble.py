"""An AdaNet ensemble as one sparse network with skip edges.

Neurons have ids: the n features come first, then the units in the order in which they joined, and
layer after layer within a subnetwork. Those of a candidate go on from there, so it can be trained
as a network of its own, whose inputs are the features and the frozen units.

Notation: U units, E edges into them, J subnetworks, c outputs, m training rows.
"""

import math
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from graphpred.activations import ACTIVATIONS, IDENTITY, activation_index
from graphpred.architecture import Architecture
from graphpred.space import SearchSpace
from graphpred.task import Task
from graphpred.weights import Weights


@dataclass(frozen=True, eq=False, kw_only=True)
class Units:
    """Hidden neurons and what they read.

    Attributes:
        layer: Hidden layer of every unit, from 1. Int64, shape ``(U,)``.
        activation: Index into ``ACTIVATIONS``. Int64, shape ``(U,)``.
        edges: Ids of the source and the target of every edge into a unit. Int64, ``(2, E)``.
    """

    layer: Tensor
    activation: Tensor
    edges: Tensor

    def __len__(self) -> int:
        return len(self.layer)

    def moved(self, n_features: int, *, n_frozen: int, n_before: int, n_inputs: int) -> "Units":
        """With other ids: features, other ensembles' units, the frozen units, others', then these.

        Args:
            n_features: Their ids stay.
            n_frozen: Units of the ensemble that these were drawn for.
            n_before: Units that now come between the features and that ensemble's.
            n_inputs: Features, and units of all ensembles.
        """
        own = self.edges >= n_features + n_frozen
        frozen = (self.edges >= n_features) & ~own
        edges = self.edges + frozen * n_before + own * (n_inputs - n_features - n_frozen)
        return replace(self, edges=edges)

    def outputs(self, inputs: Tensor, *, weight: Tensor, bias: Tensor) -> Tensor:
        """Outputs of the units of one subnetwork.

        Args:
            inputs: Of all neurons with lower ids. Float, shape ``(m, n)``.
            weight: Of the edges. Float, shape ``(E,)``.
            bias: Of the units. Float, shape ``(U,)``.

        Returns:
            Float, shape ``(m, U)``.
        """
        n_inputs, values = inputs.shape[1], inputs
        for k in self.layer.unique().tolist():
            units = (self.layer == k).nonzero().flatten()
            first = n_inputs + int(units[0])
            into = (self.edges[1] >= first) & (self.edges[1] < first + len(units))
            dense = inputs.new_zeros(values.shape[1], len(units))
            source, target = self.edges[:, into]
            dense[source, target - first] = weight[into]
            sums = values @ dense + bias[units]
            fired = [
                ACTIVATIONS[index].function(sums[:, i])
                for i, index in enumerate(self.activation[units].tolist())
            ]
            values = torch.cat([values, torch.stack(fired, dim=1)], dim=1)
        return values[:, n_inputs:]


@dataclass(frozen=True, eq=False, kw_only=True)
class Parts:
    """Weights of units, and of the edges from them to the outputs.

    Attributes:
        into_units: Of the edges into units. Float32, shape ``(E,)``.
        to_outputs: Of the edges to outputs, by unit, then output. Float32.
        bias: Of the units. Float32, shape ``(U,)``.
        shift: Bias of the outputs. Float32, shape ``(c,)``.
    """

    into_units: Tensor
    to_outputs: Tensor
    bias: Tensor
    shift: Tensor


@dataclass(frozen=True, eq=False, kw_only=True)
class Wiring:
    """Units and the edges from them to the outputs, as an architecture.

    Attributes:
        architecture: A layer without units has a neuron that no edge touches.
        place: Where the edges into units, then those to outputs, stand among the architecture's.
            Int64, shape ``(n_edges,)``.
        n_into_units: How many lead into units.
        neuron: Where the bias of every unit stands among the architecture's. Int64, ``(U,)``.
    """

    architecture: Architecture
    place: Tensor
    n_into_units: int
    neuron: Tensor

    @classmethod
    def of(cls, units: Units, readout: Tensor, *, n_inputs: int, space: SearchSpace) -> "Wiring":
        """Join units to the outputs.

        Args:
            units: Their ids go on from the inputs'.
            readout: Nonzero where a unit leads to an output. Shape ``(U, c)``.
            n_inputs: Features, and units that are inputs here.
            space: Says how many hidden layers there are.
        """
        n_outputs = readout.shape[1]
        counts = torch.bincount(units.layer, minlength=space.n_layers)[1:]  # of hidden layers
        widths = (n_inputs, *counts.clamp(min=1).tolist(), n_outputs)
        starts = torch.tensor([0, *widths]).cumsum(0)  # of every layer
        order = units.layer.argsort(stable=True)
        before = counts.cumsum(0) - counts  # units of lower layers
        neuron = torch.empty_like(order)
        layer = units.layer[order]
        neuron[order] = starts[layer] + torch.arange(len(units)) - before[layer - 1]
        activation = torch.full((sum(widths),), activation_index(space.activations[0]))
        activation[:n_inputs] = activation[-n_outputs:] = IDENTITY
        activation[neuron] = units.activation
        ids = torch.cat([torch.arange(n_inputs), neuron])  # from ids to neurons
        unit, output = readout.nonzero().T
        edges = torch.cat(
            [ids[units.edges], torch.stack([neuron[unit], starts[-2] + output])], dim=1
        )
        sorting = (edges[0] * sum(widths) + edges[1]).argsort()
        place = torch.empty_like(sorting)
        place[sorting] = torch.arange(len(sorting))
        return cls(
            architecture=Architecture(
                edges=edges[:, sorting], activation=activation, widths=widths
            ),
            place=place,
            neuron=neuron - n_inputs,
            n_into_units=units.edges.shape[1],
        )

    def weights(self, parts: Parts) -> Weights:
        """Put weights in the order of the architecture."""
        z = self.architecture
        bias = torch.zeros(z.n_neurons - z.widths[0])
        bias[self.neuron], bias[-z.widths[-1] :] = parts.bias, parts.shift
        edge = torch.empty(z.n_edges)
        edge[self.place] = torch.cat([parts.into_units, parts.to_outputs])
        return Weights(edge=edge, bias=bias)

    def parts(self, weights: Weights) -> Parts:
        """The inverse of ``weights``."""
        n_outputs = self.architecture.widths[-1]
        edge = weights.edge[self.place]
        return Parts(
            into_units=edge[: self.n_into_units],
            to_outputs=edge[self.n_into_units :],
            bias=weights.bias[self.neuron],
            shift=weights.bias[-n_outputs:],
        )


@dataclass(frozen=True, eq=False, kw_only=True)
class Subnetwork:
    """What is added in a round: units, and the outputs that its last layer leads to.

    Attributes:
        units: Hidden neurons.
        readout: Whether a unit leads to an output. Bool, shape ``(U, c)``.
    """

    units: Units
    readout: Tensor

    @property
    def depth(self) -> int:
        """Its hidden layers."""
        return int(self.units.layer[-1])

    @property
    def fan_in(self) -> tuple[int, ...]:
        """Most inputs of a unit of every layer."""
        units = self.units
        inputs = torch.bincount(units.edges[1] - units.edges[1].min(), minlength=len(units))
        return tuple(int(inputs[units.layer == k].max()) for k in range(1, self.depth + 1))


@dataclass(frozen=True, eq=False, kw_only=True)
class Ensemble:
    """Frozen units, and the mixture weights that make scores of their outputs.

    Attributes:
        n_features: n.
        units: All units; every one is on a path to an output if the ensemble is ``pruned``.
        subnetwork: Number of the subnetwork that every unit belongs to. Int64, shape ``(U,)``.
        weight: Of the edges into units. Float32, shape ``(E,)``.
        bias: Of the units. Float32, shape ``(U,)``.
        readout: What every unit adds to the scores of its subnetwork, 0 where no edge leads; with
            a mixture weight a unit and output, 1 where one leads. Float64, shape ``(U, c)``.
        mixture: Of units, float64 ``(U, c)``; or of subnetworks, float64 ``(J,)``.
        complexity: r, a number for every unit or for every subnetwork. Float64.
        shift: Bias of the outputs. Float64, shape ``(c,)``.
        outputs: Of the units, for the training rows. Float32, shape ``(m, U)``.
    """

    n_features: int
    units: Units
    subnetwork: Tensor
    weight: Tensor
    bias: Tensor
    readout: Tensor
    mixture: Tensor
    complexity: Tensor
    shift: Tensor
    outputs: Tensor

    @classmethod
    def empty(cls, task: Task, *, scalar: bool) -> "Ensemble":
        """Without units: all scores are zero."""
        none = torch.zeros(0, dtype=torch.int64)
        nothing = torch.zeros(0, task.n_outputs, dtype=torch.float64)
        return cls(
            n_features=task.n_features,
            units=Units(layer=none, activation=none, edges=none.reshape(2, 0)),
            subnetwork=none,
            weight=torch.zeros(0),
            bias=torch.zeros(0),
            readout=nothing,
            mixture=nothing[:, 0] if scalar else nothing,
            complexity=nothing[:, 0],
            shift=torch.zeros(task.n_outputs, dtype=torch.float64),
            outputs=torch.zeros(len(task.split.train), 0),
        )

    def state(self) -> dict[str, Any]:
        """As numbers and tensors."""
        return vars(self) | {"units": vars(self.units)}

    @classmethod
    def from_state(cls, state: dict[str, Any]) -> "Ensemble":
        """The inverse of ``state``."""
        return cls(**state | {"units": Units(**state["units"])})

    @property
    def n_edges(self) -> int:
        """K: edges into units, cross connections among them, and to outputs."""
        return len(self.weight) + int((self.to_outputs != 0).sum())

    @property
    def n_subnetworks(self) -> int:
        """J: subnetworks that have units."""
        return int(self.subnetwork.max()) + 1 if len(self.units) else 0

    @property
    def scalar(self) -> bool:
        """Whether a mixture weight belongs to a whole subnetwork."""
        return self.mixture.dim() == 1

    @property
    def to_outputs(self) -> Tensor:
        """Weight of every unit in every score. Float64, shape ``(U, c)``."""
        weight = self.mixture[self.subnetwork].unsqueeze(1) if self.scalar else self.mixture
        return weight * self.readout

    @property
    def scores(self) -> Tensor:
        """For the training rows. Float64, shape ``(m, c)``."""
        return self.outputs.double() @ self.to_outputs + self.shift

    @property
    def mixed(self) -> Tensor:
        """What is mixed: outputs, float64 ``(m, U)``, or subnetworks' scores, ``(m, J, c)``."""
        outputs = self.outputs.double()
        if not self.scalar:
            return outputs
        member = functional.one_hot(self.subnetwork, self.n_subnetworks).double()  # (U, J)
        return torch.einsum("mu,uj,uc->mjc", outputs, member, self.readout)

    def of_mixture(self, gamma: Tensor) -> Tensor:
        """Γ in the shape of ``mixture``, ∞ where no edge leads, from Γ as ``complexity`` is."""
        if self.scalar:
            return gamma
        return torch.where(self.readout != 0, gamma.unsqueeze(1), math.inf)

    def joined(
        self, subnetwork: Subnetwork, *, parts: Parts, outputs: Tensor, complexity: Tensor
    ) -> "Ensemble":
        """With a trained subnetwork.

        Args:
            subnetwork: Its ids go on from those of this ensemble.
            parts: Its weights; biases of outputs are added to ``shift``.
            outputs: Of its units. Float, shape ``(m, U')``.
            complexity: r of its units, ``(U',)``, or its own, ``(1,)``.
        """
        units, new, readout = self.units, subnetwork.units, subnetwork.readout.double()
        trained = torch.zeros_like(readout)
        trained[subnetwork.readout] = parts.to_outputs.double()
        own, mixture = (trained, readout.new_ones(1)) if self.scalar else (readout, trained)
        return Ensemble(
            n_features=self.n_features,
            units=Units(
                layer=torch.cat([units.layer, new.layer]),
                activation=torch.cat([units.activation, new.activation]),
                edges=torch.cat([units.edges, new.edges], dim=1),
            ),
            subnetwork=torch.cat([self.subnetwork, torch.full((len(new),), self.n_subnetworks)]),
            weight=torch.cat([self.weight, parts.into_units]),
            bias=torch.cat([self.bias, parts.bias]),
            readout=torch.cat([self.readout, own]),
            mixture=torch.cat([self.mixture, mixture]),
            complexity=torch.cat([self.complexity, complexity]),
            shift=self.shift + parts.shift,
            outputs=torch.cat([self.outputs, outputs], dim=1),
        )

    def pruned(self) -> "Ensemble":
        """Without mixture weights that are zero and what only they led to."""
        n, units, to_outputs = self.n_features, self.units, self.to_outputs
        source, target = units.edges - n  # features are negative
        useful = (to_outputs != 0).any(dim=1)  # (U,)
        for k in range(int(units.layer.max()) if len(units) else 0, 1, -1):
            useful[source[(units.layer[target] == k) & useful[target]]] = True
        kept = useful.nonzero().flatten()
        number = torch.cat([torch.arange(n), n + useful.cumsum(0) - 1])  # of every id
        alive = useful[target]
        groups, subnetwork = self.subnetwork[kept].unique(return_inverse=True)
        weighed = groups if self.scalar else kept
        return replace(
            self,
            units=Units(
                layer=units.layer[kept],
                activation=units.activation[kept],
                edges=number[units.edges[:, alive]],
            ),
            subnetwork=subnetwork,
            weight=self.weight[alive],
            bias=self.bias[kept],
            readout=torch.where(to_outputs != 0, self.readout, 0.0)[kept],
            mixture=self.mixture[weighed],
            complexity=self.complexity[weighed],
            outputs=self.outputs[:, kept],
        )

    def network(self, space: SearchSpace) -> tuple[Architecture, Weights]:
        """The whole ensemble as one network."""
        to_outputs = self.to_outputs
        wiring = Wiring.of(self.units, to_outputs, n_inputs=self.n_features, space=space)
        parts = Parts(
            into_units=self.weight,
            to_outputs=to_outputs[to_outputs != 0].float(),
            bias=self.bias,
            shift=self.shift.float(),
        )
        return wiring.architecture, wiring.weights(parts)
