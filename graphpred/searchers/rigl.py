"""Sparse training that rewires itself: RigL grows edges by gradient, SET at random.

A network begins with random edges and keeps their number. In every turn, each layer drops the share
f(s) = α/2 · (1 + cos(π s / S)) of its edges with the smallest |w| and grows as many others, with
weight 0: RigL those with the largest |gradient|, SET random ones. Turns come every ΔT steps until
step S. The layers' densities in the beginning are Erdős–Rényi's,

    p_k = min(1, ε (n_{k-1} + n_k) / (n_{k-1} n_k)),  ε such that Σ p_k n_{k-1} n_k = K

(the Erdős–Rényi kernel of layers that are no convolutions is the same).

Sources: Evci, Gale, Menick, Castro and Elsen, "Rigging the lottery", arXiv:1911.11134 (f, α = 0.3,
S at three quarters of the training); Mocanu et al., "Scalable training of artificial neural
networks with adaptive sparse connectivity", Nature Communications 9, 2018, arXiv:1707.04780 (SET,
where f is constant; here both decay).
Notation: widths n_0 … n_t, t weight layers, B networks, K* live edges.

Ours, not theirs: only live edges count, so a layer draws and grows in the proportion given above
until K edges are live, and dead ones fall; an edge is never regrown in the turn that dropped it; ΔT
is a fraction of the training, but long enough for a new edge to gain weight. As in the source, the
gradient of the dense network takes the place of a step in RigL, and is charged as one.
"""

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from graphpred.architecture import Architecture
from graphpred.population import LEARNING_RATE, Population
from graphpred.population.batches import Batches
from graphpred.population.block import Block, Schedule
from graphpred.searchers.base import Setting
from graphpred.searchers.pruning import SparsifyingSearch
from graphpred.searchers.sparsified import (
    edge_tables,
    flat_gradient,
    flat_weights,
    masked,
    split_weights,
    strongest_live,
    task_batches,
)
from graphpred.seeds import generator_for
from graphpred.task import Task

Tables = Sequence[Tensor]
"""One table ``(n_{k-1}, n_k)`` a layer."""


@dataclass(frozen=True, kw_only=True)
class Rewiring:
    """When edges are exchanged, and how many.

    Attributes:
        share: α, of the edges of a layer in the first turns.
        until: S, in shares of the training.
        turns: Of a training, if all of it had turns.
        shortest: Least ΔT, in steps.
    """

    share: float = 0.3
    until: float = 0.75
    turns: int = 10
    shortest: int = 5

    def steps_of(self, total: int) -> range:
        """Steps of a training at which there is a turn."""
        every = max(self.shortest, total // self.turns)
        return range(every, math.ceil(self.until * total), every)

    def share_at(self, step: int, *, total: int) -> float:
        """f: share of the edges that are exchanged at a step."""
        return self.share / 2 * (1 + math.cos(math.pi * step / (self.until * total)))


def rigl_search(setting: Setting) -> SparsifyingSearch:
    """Sparse networks that grow edges by gradient while they train."""
    return SparsifyingSearch(setting, sparsify=partial(rewired, by_gradient=True))


def set_search(setting: Setting) -> SparsifyingSearch:
    """Sparse networks that grow edges at random while they train."""
    return SparsifyingSearch(setting, sparsify=partial(rewired, by_gradient=False))


def rewired(
    dense: Sequence[Architecture],
    task: Task,
    *,
    n_edges: Sequence[int],
    steps: int,
    seeds: Sequence[int],
    batch_seed: int,
    by_gradient: bool,
    rewiring: Rewiring | None = None,
) -> Population:
    """Train sparse networks that exchange their weakest edges; see ``Sparsify``.

    They grow those with the largest |gradient|, or random ones.
    """
    rewiring = rewiring or Rewiring()
    generators = [generator_for(seed, "edges") for seed in seeds]
    masks = [
        random_masks(z.widths, n_edges=k, generator=generator)
        for z, k, generator in zip(dense, n_edges, generators, strict=True)
    ]
    training = SparseTraining(
        dense, masks, batches=task_batches(task, seed=batch_seed), seeds=seeds
    )
    start = 0
    for turn in rewiring.steps_of(steps):
        training.go_on(start, turn, total=steps)
        if by_gradient:
            strength = training.gradient(turn)
        else:
            strength = [_random_tables(dense[0].widths, generator=g) for g in generators]
        share = rewiring.share_at(turn, total=steps)
        training.exchange(strength, share=share, n_edges=n_edges)
        start = turn + by_gradient
    training.go_on(start, steps, total=steps)
    return training.population()


class SparseTraining:
    """Sparse networks whose numbers stand where those of the dense networks would."""

    def __init__(
        self,
        dense: Sequence[Architecture],
        masks: Sequence[Tables],
        *,
        batches: Batches,
        seeds: Sequence[int],
    ) -> None:
        self._dense, self._masks, self._batches = dense, list(masks), batches
        self._n_edges = sum(z.n_edges for z in dense)
        n_biases = sum(z.n_neurons - z.widths[0] for z in dense)
        self._state = torch.zeros(3, self._n_edges + n_biases)  # weights, Adam's moments
        self._state[0, self._columns()] = flat_weights(self._networks(), seeds=seeds)

    def _networks(self) -> list[Architecture]:
        return [masked(z, own) for z, own in zip(self._dense, self._masks, strict=True)]

    def _present(self) -> Tensor:
        """Bool, of all edges of the dense networks."""
        return torch.cat([mask.flatten() for own in self._masks for mask in own])

    def _columns(self) -> Tensor:
        """Where the edges of the sparse networks stand, and then all biases."""
        edges = self._present().nonzero().flatten()
        return torch.cat([edges, torch.arange(self._n_edges, self._state.shape[1])])

    def _tables(self, numbers: Tensor) -> list[tuple[Tensor, ...]]:
        """|·| of every edge, by network."""
        parts = numbers[: self._n_edges].abs().split([z.n_edges for z in self._dense])
        return [edge_tables(z, own, absent=0.0) for z, own in zip(self._dense, parts, strict=True)]

    def go_on(self, start: int, stop: int, *, total: int) -> None:
        """Train the edges that there are."""
        columns = self._columns()
        block = Block(self._networks(), self._state[:, columns], bias=True)
        schedule = Schedule(start=start, stop=stop, total=total, rate=LEARNING_RATE)
        block.train(self._batches, schedule=schedule)
        self._state[:, columns] = block.state

    def gradient(self, step: int) -> list[tuple[Tensor, ...]]:
        """|gradient| of every edge, present or not."""
        numbers, batches = self._state[0], self._batches
        return self._tables(flat_gradient(self._dense, numbers, batches=batches, step=step))

    def exchange(self, strength: Sequence[Tables], *, share: float, n_edges: Sequence[int]) -> None:
        """Drop and grow; what is grown has weight and moments 0."""
        sizes = self._tables(self._state[0])
        self._masks = [
            exchanged(masks, sizes=own, strength=new, share=share, n_edges=k)
            for masks, own, new, k in zip(self._masks, sizes, strength, n_edges, strict=True)
        ]
        self._state[:, : self._n_edges] *= self._present()

    def population(self) -> Population:
        """The networks as they are."""
        networks = self._networks()
        start = split_weights(networks, self._state[0, self._columns()])
        return Population(networks, start=start)


def exchanged(
    masks: Tables, *, sizes: Tables, strength: Tables, share: float, n_edges: int
) -> tuple[Tensor, ...]:
    """The edges after a turn.

    Every layer drops ``share`` of its edges and grows as many; where that leaves dead edges, those
    fall and all layers grow more, in the same proportion.

    Args:
        masks: Edges before it. Bool.
        sizes: |w| of the edges.
        strength: What absent edges are grown by, the largest first.
        share: f.
        n_edges: K* after it.
    """
    order = []
    for mask, size, growth in zip(masks, sizes, strength, strict=True):
        n_changed = min(round(share * int(mask.sum())), int((~mask).sum()))
        weakest = size.masked_fill(~mask, torch.inf).flatten().argsort(stable=True)[:n_changed]
        place = _places(growth.masked_fill(mask, -torch.inf))
        own = torch.where(mask, torch.inf, -place / n_changed)
        own.view(-1)[weakest] = -torch.inf
        order.append(own)
    return strongest_live(*order, n_edges=n_edges)


def random_masks(
    widths: Sequence[int], *, n_edges: int, generator: torch.Generator
) -> tuple[Tensor, ...]:
    """Random edges of Erdős–Rényi densities, as many as make ``n_edges`` live; the live ones."""
    densities = erdos_renyi(widths, n_edges=n_edges)
    drawn = _random_tables(widths, generator=generator)
    return strongest_live(
        *(-table / density for table, density in zip(drawn, densities, strict=True)),
        n_edges=n_edges,
    )


def erdos_renyi(widths: Sequence[int], *, n_edges: int) -> list[float]:
    """The density of every layer if all have ``n_edges`` edges together.

    >>> erdos_renyi((10, 5, 1), n_edges=20)
    [0.3, 1.0]
    """
    shapes = list(itertools.pairwise(widths))
    full: set[int] = set()
    while True:
        left = n_edges - sum(a * b for k, (a, b) in enumerate(shapes) if k in full)
        ends = sum(a + b for k, (a, b) in enumerate(shapes) if k not in full)
        scale = left / ends if ends else 0.0
        densities = [
            1.0 if k in full else scale * (a + b) / (a * b) for k, (a, b) in enumerate(shapes)
        ]
        above = {k for k, density in enumerate(densities) if density > 1}
        if not above:
            return densities
        full |= above


def _places(values: Tensor) -> Tensor:
    """1 for the largest, 2 for the next, and so on. Float64, of the shape of ``values``."""
    order = values.flatten().argsort(descending=True, stable=True)
    places = torch.empty(len(order), dtype=torch.float64)
    places[order] = torch.arange(1, len(order) + 1, dtype=torch.float64)
    return places.view(values.shape)


def _random_tables(widths: Sequence[int], *, generator: torch.Generator) -> tuple[Tensor, ...]:
    """Uniform numbers in [0, 1), one an edge."""
    shapes = itertools.pairwise(widths)
    return tuple(torch.rand(a, b, generator=generator) for a, b in shapes)
