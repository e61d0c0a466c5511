"""Small random changes of an architecture that keep the exact number of edges, all of them live.

Notation: layers 0 … t; a neuron is *active* if it lies on a path from an input to an output, and
every input and output counts as active, too. Edges lead from a layer to the next.

- rewire: some edges go, their number log-uniform, and others come between active neurons;
- retype: an active neuron gets another activation;
- move: a neuron reads as many other neurons, or is read by as many others;
- split: an inactive neuron takes half of the edges of an active one, and its activation;
- join: an active neuron takes all edges of another one of its layer, which goes;
- resize: the number of edges becomes that of another density.

A change may leave dead edges, or too many or too few: dead ones go, then edges come or go at random
until the number is right, and where there is no room for another one a neuron becomes active.
"""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from graphpred.activations import activation_indices
from graphpred.architecture import Architecture
from graphpred.searchers.base import Setting
from graphpred.seeds import log_uniform
from graphpred.space import SearchSpace

Mask = NDArray[np.bool_]

_ATTEMPTS = 30
_REWIRED = 0.25  # largest share of the edges that one change moves


@dataclass(frozen=True, eq=False, kw_only=True)
class Mutator:
    """Draws neighbours of architectures.

    Attributes:
        space: Where they must lie; edges may not skip layers.
        sizes: Numbers of edges that a change may lead to, besides the present one.
        generator: Source of randomness.
    """

    space: SearchSpace
    sizes: Sequence[int]
    generator: torch.Generator

    def mutated(self, z: Architecture) -> Architecture:
        """Change an architecture in one way; all ways that change it are equally likely.

        Returns:
            An architecture with live edges only, or z itself if no way changes it.
        """
        ways = [self.rewired, self.retyped, self.moved, self.split, self.joined]
        if len(set(self.sizes)) > 1:
            ways.append(self.resized)
        for i in self._order(len(ways)):
            changed: Architecture = ways[i](z)
            if changed != z:
                return changed
        return z

    def rewired(self, z: Architecture) -> Architecture:
        """Some edges elsewhere."""
        n_moved = log_uniform(1, max(1, int(_REWIRED * z.n_edges)), generator=self.generator)
        gone = self._drawn(z.masks, n_moved)
        masks = [mask & ~own for mask, own in zip(z.masks, gone, strict=True)]
        return self._repaired(z, masks, avoid=gone)

    def retyped(self, z: Architecture) -> Architecture:
        """Another activation of one active neuron."""
        space = self.space
        hidden, output = map(activation_indices, (space.activations, space.output_activations))
        active = [
            (neuron, choices)
            for neuron in z.edges[1, z.live].unique().tolist()
            if len(choices := output if neuron >= z.starts[-2] else hidden) > 1
        ]
        if not active:
            return z
        neuron, choices = active[self._below(len(active))]
        others = [choice for choice in choices if choice != int(z.activation[neuron])]
        activation = z.activation.clone()
        activation[neuron] = others[self._below(len(others))]
        return Architecture(edges=z.edges, activation=activation, widths=z.widths)

    def moved(self, z: Architecture) -> Architecture:
        """Other sources of one neuron, or other targets, as many as before."""
        masks = [mask.copy() for mask in z.masks]
        active = _active(masks)
        k = self._below(z.n_layers)
        reads = self._below(2) == 0
        mask, other = (masks[k].T, active[k]) if reads else (masks[k], active[k + 1])  # a view
        own = np.flatnonzero(mask.any(axis=1))
        if not len(own):
            return z
        row = mask[own[self._below(len(own))]]
        places = other.nonzero()[0]
        n_edges = int(row.sum())
        row[:] = False
        row[places[self._order(len(places))[:n_edges]]] = True
        return self._repaired(z, masks)

    def split(self, z: Architecture) -> Architecture:
        """One more active neuron, with half of the edges of another one."""
        masks = [mask.copy() for mask in z.masks]
        k = self._hidden_layer(masks, least_active=1, least_inactive=1)
        if k is None:
            return z
        active = _active(masks)[k]
        old, new = self._one_of(active), self._one_of(~active)
        for mask in (masks[k - 1].T, masks[k]):
            edges = mask[old].nonzero()[0][self._order(int(mask[old].sum()))]
            half = (len(edges) + 1) // 2  # the only edge stays and is copied
            mask[new] = False
            mask[new, edges[:half]] = True
            mask[old, edges[: len(edges) // 2]] = False
        activation = z.activation.clone()
        activation[z.starts[k] + new] = activation[z.starts[k] + old]
        return self._repaired(z, masks, activation=activation)

    def joined(self, z: Architecture) -> Architecture:
        """One active neuron less, its edges those of another one."""
        masks = [mask.copy() for mask in z.masks]
        k = self._hidden_layer(masks, least_active=2, least_inactive=0)
        if k is None:
            return z
        active = _active(masks)[k].nonzero()[0]
        kept, gone = active[self._order(len(active))[:2]]
        for mask in (masks[k - 1].T, masks[k]):
            mask[kept] |= mask[gone]
            mask[gone] = False
        return self._repaired(z, masks)

    def resized(self, z: Architecture) -> Architecture:
        """Another number of edges out of ``sizes``, or one less if no network has it."""
        others = sorted({n_edges for n_edges in self.sizes if n_edges != z.n_edges})
        if not others:
            return z
        wanted = others[self._below(len(others))]
        larger = self._repaired(z, z.masks, n_edges=wanted)
        return self._repaired(z, z.masks, n_edges=wanted - 1) if larger is z else larger

    def _repaired(
        self,
        z: Architecture,
        masks: Sequence[Mask],
        *,
        n_edges: int | None = None,
        avoid: Sequence[Mask] | None = None,
        activation: torch.Tensor | None = None,
    ) -> Architecture:
        """With exactly so many edges, all live; z itself if that does not succeed."""
        n_edges = z.n_edges if n_edges is None else n_edges
        fitted = self._fitted(masks, n_edges=n_edges, avoid=avoid)
        if fitted is None:
            return z
        pairs = [
            np.stack(mask.nonzero()) + np.array([[start], [following]])
            for mask, start, following in zip(fitted, z.starts, z.starts[1:], strict=False)
        ]
        return Architecture(
            edges=torch.from_numpy(np.concatenate(pairs, axis=1)),
            activation=z.activation if activation is None else activation,
            widths=z.widths,
        )

    def _fitted(
        self, masks: Sequence[Mask], *, n_edges: int, avoid: Sequence[Mask] | None
    ) -> Sequence[Mask] | None:
        """The same masks with edges taken or added at random."""
        for _ in range(_ATTEMPTS):
            active = _active(masks)
            between = [np.outer(a, b) for a, b in itertools.pairwise(active)]
            masks = [mask & p for mask, p in zip(masks, between, strict=True)]  # dead edges go
            missing = n_edges - sum(int(mask.sum()) for mask in masks)
            if missing == 0:
                return masks
            if missing < 0:
                changes = self._drawn(masks, -missing)
            else:
                free = [p & ~mask for p, mask in zip(between, masks, strict=True)]
                if avoid is not None:
                    free = [own & ~avoided for own, avoided in zip(free, avoid, strict=True)]
                changes = self._drawn(free, missing)
                if not any(change.any() for change in changes):
                    changes = self._opened(masks, active)
            masks = [mask ^ change for mask, change in zip(masks, changes, strict=True)]
        return None

    def _opened(self, masks: Sequence[Mask], active: Sequence[Mask]) -> list[Mask]:
        """What a path through a neuron that is not active has beyond the masks."""
        changes = [np.zeros_like(mask) for mask in masks]
        inactive = [(k, j) for k, own in enumerate(active) for j in (~own).nonzero()[0]]
        if not inactive:
            return changes
        layer, neuron = inactive[self._below(len(inactive))]
        path = [
            neuron if k == layer else self._one_of(own if own.any() else ~own)
            for k, own in enumerate(active)
        ]
        for change, mask, (i, j) in zip(changes, masks, itertools.pairwise(path), strict=True):
            change[i, j] = not mask[i, j]
        return changes

    # Draws

    def _hidden_layer(
        self, masks: Sequence[Mask], *, least_active: int, least_inactive: int
    ) -> int | None:
        """A hidden layer with so many neurons of both kinds, if there is one."""
        layers = [
            k
            for k, own in enumerate(_active(masks)[1:-1], start=1)
            if own.sum() >= least_active and (~own).sum() >= least_inactive
        ]
        return layers[self._below(len(layers))] if layers else None

    def _drawn(self, masks: Sequence[Mask], n: int) -> list[Mask]:
        """So many of the places that are true, or all of them."""
        flat = np.concatenate([mask.ravel() for mask in masks])
        places = flat.nonzero()[0]
        drawn = np.zeros_like(flat)
        drawn[places[self._order(len(places))[:n]]] = True
        ends = list(itertools.accumulate(mask.size for mask in masks))
        parts = np.split(drawn, ends[:-1])
        return [part.reshape(mask.shape) for part, mask in zip(parts, masks, strict=True)]

    def _one_of(self, chosen: Mask) -> int:
        places = chosen.nonzero()[0]
        return int(places[self._below(len(places))])

    def _order(self, n: int) -> NDArray[np.int64]:
        order: NDArray[np.int64] = torch.randperm(n, generator=self.generator).numpy()
        return order

    def _below(self, n: int) -> int:
        return int(torch.randint(n, (), generator=self.generator))


def sizes_of(setting: Setting) -> list[int]:
    """Numbers of edges at the setting's densities, in their order; at least those of one path."""
    space = setting.space
    return [max(space.n_layers, space.n_edges_at(density)) for density in setting.densities]


def _active(masks: Sequence[Mask]) -> list[Mask]:
    """Whether every neuron is active, layer by layer: bool, shape ``(n_k,)`` each."""
    reached = [np.ones(len(masks[0]), dtype=np.bool_)]
    for mask in masks:
        reached.append(np.asarray(mask[reached[-1]].any(axis=0)))
    reached[-1][:] = True
    useful = np.ones(masks[-1].shape[1], dtype=np.bool_)
    active = [useful]
    for k in range(len(masks) - 1, 0, -1):
        useful = np.asarray(masks[k][:, useful].any(axis=1))
        active.append(reached[k] & useful)
    return [reached[0], *reversed(active)]
