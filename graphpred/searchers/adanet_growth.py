"""What AdaNet tries in a round: subnetworks drawn to fit an ensemble, and trained beside it.

A subnetwork of depth l has B units in each of the hidden layers 1 … l. A unit of layer 1 reads
features; a unit of a deeper layer reads the unit before it in its own subnetwork, and others of the
layer below, those of the ensemble too: its cross connections. Ids as in ``adanet_ensemble``.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from graphpred.activations import activation_indices
from graphpred.population import LEARNING_RATE
from graphpred.population.batches import Batch, Batches
from graphpred.population.block import Block, Schedule
from graphpred.searchers.adanet_ensemble import Ensemble, Parts, Subnetwork, Units, Wiring
from graphpred.space import SearchSpace
from graphpred.task import Task
from graphpred.weights import Weights, initial_weights

Cross = Literal["all", "previous", "none"]


@dataclass(frozen=True, eq=False, kw_only=True)
class Growth:
    """How subnetworks are drawn.

    Attributes:
        space: Bounds the units of every layer.
        n_units: B, at most.
        fan_in: Neurons that a unit reads, at most.
        cross: Which of the ensemble's units of the layer below may be read: all, those of the
            subnetwork that joined last, or none.
        outputs: Outputs that the last layer leads to.
    """

    space: SearchSpace
    n_units: int
    fan_in: int
    cross: Cross
    outputs: tuple[int, ...]

    def draw(
        self, ensemble: Ensemble, *, depth: int, n_edges: int, generator: torch.Generator
    ) -> Subnetwork | None:
        """A subnetwork of at most so many edges, or None if there is no room for one."""
        if n_edges <= depth or depth >= self.space.n_layers:
            return None
        n_wanted = depth * self.fan_in + len(self.outputs)  # edges of a chain, a unit a layer
        b = min(self.n_units, self._room(ensemble, depth), max(1, n_edges // n_wanted))
        if b < 1:
            return None

        def shuffled(items: list[Any]) -> list[Any]:
            return [items[i] for i in torch.randperm(len(items), generator=generator).tolist()]

        first = ensemble.n_features + len(ensemble.units)
        layers = [list(range(first + k * b, first + (k + 1) * b)) for k in range(depth + 1)]
        chains, more = [], []  # edges; the last layer stands for the outputs
        for k, units in enumerate(layers[:-1]):
            below, others = layers[k - 1] if k else [], self._readable(ensemble, k + 1)
            for i, unit in enumerate(units):
                own, rest = below[i : i + 1], below[:i] + below[i + 1 :] + others
                sources = (own + shuffled(rest))[: self.fan_in]
                chains.append((sources[0], unit))
                more += [(source, unit) for source in sources[1:]]
        for unit in layers[-2]:
            output, *others = shuffled([layers[-1][0] + k for k in self.outputs])
            chains.append((unit, output))
            more += [(unit, other) for other in others]
        edges = chains + shuffled(more)[: n_edges - len(chains)]
        return self._built(edges, layers=layers, generator=generator)

    def _built(
        self, edges: list[tuple[int, int]], *, layers: list[list[int]], generator: torch.Generator
    ) -> Subnetwork:
        """From edges among ids, with random activations; output k has the id of its place."""
        depth, b, first, outputs = len(layers) - 1, len(layers[0]), layers[0][0], layers[-1][0]
        pairs = torch.tensor(edges).T  # (2, n_edges)
        outward = pairs[1] >= outputs
        readout = torch.zeros(depth * b, self.space.widths[-1], dtype=torch.bool)
        readout[pairs[0, outward] - first, pairs[1, outward] - outputs] = True
        choices = torch.tensor(activation_indices(self.space.activations))
        drawn = torch.randint(len(choices), (depth * b,), generator=generator)
        return Subnetwork(
            units=Units(
                layer=torch.arange(1, depth + 1).repeat_interleave(b),
                activation=choices[drawn],
                edges=pairs[:, ~outward],
            ),
            readout=readout,
        )

    def _readable(self, ensemble: Ensemble, k: int) -> list[int]:
        """Ids that a unit of layer k may read outside its subnetwork."""
        if k == 1:
            return list(range(ensemble.n_features))
        if self.cross == "none":
            return []
        chosen = ensemble.units.layer == k - 1
        if self.cross == "previous":
            chosen &= ensemble.subnetwork == ensemble.n_subnetworks - 1
        ids: list[int] = (ensemble.n_features + chosen.nonzero().flatten()).tolist()
        return ids

    def _room(self, ensemble: Ensemble, depth: int) -> int:
        """Units that still fit into every layer down to a depth."""
        used = torch.bincount(ensemble.units.layer, minlength=depth + 1)[1 : depth + 1].tolist()
        return min(self.space.widths[1 + k] - int(n) for k, n in enumerate(used))


@dataclass(frozen=True, eq=False, kw_only=True)
class Candidate:
    """A subnetwork, the ensemble that it was drawn for, and the seed of its starting weights."""

    ensemble: Ensemble
    subnetwork: Subnetwork
    seed: int


@dataclass(frozen=True, eq=False)
class _OffsetBatch(Batch):
    """Rows to whose scores something is added. ``offset``: float, shape ``(B, c, m)``."""

    offset: Tensor

    def loss_gradient(self, scores: Tensor, *, out: Tensor) -> None:
        super().loss_gradient(scores + self.offset, out=out)


class _OffsetBatches(Batches):
    """Batches of such rows. ``offset``: float, shape ``(m, B, c)``."""

    def __init__(self, X: Tensor, y: Tensor, *, offset: Tensor, seed: int) -> None:
        columns = torch.cat([X, offset.flatten(1)], dim=1)  # (m, n + B * c)
        super().__init__(columns, y, weight=None, n_outputs=offset.shape[2], seed=seed)
        self._shape = offset.shape[1:]
        self._given: tuple[Batch, _OffsetBatch] | None = None

    def __getitem__(self, step: int) -> Batch:
        batch = super().__getitem__(step)
        if self._given is None or self._given[0] is not batch:
            X, offset = batch.X.tensor_split([-self._shape.numel()], dim=1)
            offset = offset.unflatten(1, self._shape).permute(1, 2, 0)  # (B, c, m)
            parted = _OffsetBatch(X, batch.y, batch.weight, batch.n_outputs, offset)
            self._given = batch, parted
        return self._given[1]


def trained_beside(
    candidates: Sequence[Candidate], *, task: Task, space: SearchSpace, steps: int, batch_seed: int
) -> list[Parts]:
    """Train subnetworks on what their frozen ensembles leave over, each by itself.

    Minimises Φ(scores of the ensemble + scores of the subnetwork) over all weights of the latter,
    those to outputs and the biases of outputs too, by Adam on the training part.

    Args:
        candidates: What to train.
        task: The data.
        space: Says how many hidden layers there are.
        steps: Of Adam.
        batch_seed: Seed of the order of the batches.
    """
    X, y = task.rows("train")
    frozen = [candidate.ensemble.outputs for candidate in candidates]
    inputs = torch.cat([X, *frozen], dim=1)  # (m, n + ΣU)
    wirings, n_before = [], 0
    for candidate in candidates:
        subnetwork, n_units = candidate.subnetwork, len(candidate.ensemble.units)
        units = subnetwork.units.moved(
            X.shape[1], n_frozen=n_units, n_before=n_before, n_inputs=inputs.shape[1]
        )
        n_before += n_units
        wirings.append(Wiring.of(units, subnetwork.readout, n_inputs=inputs.shape[1], space=space))
    networks = [wiring.architecture for wiring in wirings]
    starts = [initial_weights(z, seed=c.seed) for z, c in zip(networks, candidates, strict=True)]
    numbers = [start.edge for start in starts] + [start.bias for start in starts]
    offset = torch.stack([candidate.ensemble.scores.float() for candidate in candidates], dim=1)
    batches = _OffsetBatches(inputs, y, offset=offset, seed=batch_seed)
    block = Block(networks, torch.cat(numbers).unsqueeze(0), bias=True)
    block.train(batches, schedule=Schedule(start=0, stop=steps, total=steps, rate=LEARNING_RATE))
    trained = block.state[0].split([len(part) for part in numbers])
    return [
        wiring.parts(Weights(edge=edge, bias=bias))
        for wiring, edge, bias in zip(
            wirings, trained[: len(networks)], trained[len(networks) :], strict=True
        )
    ]
