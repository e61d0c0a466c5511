"""``SearchSpace``: the architectures that a search may choose from.

Notation: widths n_0 … n_t, a_k activation choices in layer k, N = Σ n_{k-1} n_k possible edges.
dim Γ = Σ (n_{k-1} n_k + n_k) and |Z| = Π 2^{n_{k-1} n_k} a_k^{n_k} (Kalugin, Bakhteev and
Strijov, 2018, with bits and choices told apart).
"""

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from graphpred.activations import IDENTITY, activation_indices
from graphpred.architecture import Architecture
from graphpred.errors import InputError
from graphpred.seeds import log_uniform

DEFAULT_ACTIVATIONS = ("identity", "relu", "tanh", "sin", "gaussian", "abs")


@dataclass(frozen=True, kw_only=True)
class SearchSpace:
    """Layered networks of given widths with an activation class per neuron.

    Attributes:
        widths: Neurons per layer, n_0 (features) to n_t (outputs).
        activations: Names of the classes that a hidden neuron can have.
        density: Share of the N possible edges that ``sample`` draws, in (0, 1].
        output_activations: Names of the classes that an output neuron can have.

    Raises:
        InputError: If a field breaks what is said above.

    >>> space = SearchSpace(widths=(30, 30, 2), activations=("relu", "tanh"), density=0.2)
    >>> space.dim, space.log2_size, space.n_edges
    (992, 990.0, 192)
    """

    widths: tuple[int, ...]
    activations: tuple[str, ...] = DEFAULT_ACTIVATIONS
    density: float = 0.2
    output_activations: tuple[str, ...] = ("identity",)

    def __post_init__(self) -> None:
        object.__setattr__(self, "widths", tuple(int(width) for width in self.widths))
        object.__setattr__(self, "activations", tuple(self.activations))
        object.__setattr__(self, "output_activations", tuple(self.output_activations))
        if len(self.widths) < 2 or min(self.widths) < 1:
            raise InputError(
                f"widths must be two or more positive numbers, inputs first; got {self.widths}."
            )
        if not 0 < self.density <= 1:
            raise InputError(f"density must be in (0, 1]; got {self.density}.")
        for names in (self.activations, self.output_activations):
            if not names or len(set(names)) != len(names):
                raise InputError(f"activations must be distinct names, at least one; got {names}.")
            activation_indices(names)

    @property
    def n_layers(self) -> int:
        """The number of weight layers, t."""
        return len(self.widths) - 1

    @property
    def n_possible_edges(self) -> int:
        """N: possible edges between consecutive layers."""
        return sum(a * b for a, b in itertools.pairwise(self.widths))

    @property
    def n_edges(self) -> int:
        """Edges at ``density``: floor(density · N), at least 1."""
        return self.n_edges_at(self.density)

    def n_edges_at(self, density: float) -> int:
        """Edges at a density: floor(density · N), at least 1."""
        return max(1, math.floor(density * self.n_possible_edges + 1e-9))

    @property
    def dim(self) -> int:
        """Weights and biases of the dense network, dim Γ."""
        return self.n_possible_edges + sum(self.widths[1:])

    @property
    def size(self) -> int:
        """|Z|, the exact number of architectures of any density."""
        hidden, outputs = sum(self.widths[1:-1]), self.widths[-1]
        return int(
            2**self.n_possible_edges
            * len(self.activations) ** hidden
            * len(self.output_activations) ** outputs
        )

    @property
    def log2_size(self) -> float:
        """log2 |Z|, in bits."""
        hidden, outputs = sum(self.widths[1:-1]), self.widths[-1]
        return (
            self.n_possible_edges
            + hidden * math.log2(len(self.activations))
            + outputs * math.log2(len(self.output_activations))
        )

    def sample(self, *, generator: torch.Generator, n_edges: int | None = None) -> Architecture:
        """Draw uniformly among the architectures with an exact number of edges.

        Args:
            generator: Source of randomness.
            n_edges: K; by default that of ``density``.

        Raises:
            InputError: If ``n_edges`` is not between 0 and N.
        """
        n_edges = self.n_edges if n_edges is None else n_edges
        if not 0 <= n_edges <= self.n_possible_edges:
            raise InputError(
                f"n_edges must be between 0 and {self.n_possible_edges}; got {n_edges}."
            )
        chosen = torch.randperm(self.n_possible_edges, generator=generator)[:n_edges]
        return self._build(chosen.sort().values, generator=generator)

    def sample_live(
        self, *, generator: torch.Generator, n_edges: int | None = None
    ) -> Architecture:
        """Draw an architecture whose edges are all live.

        The number of active neurons of every hidden layer is log-uniform among those that
        ``n_edges`` allows; every active neuron gets an input and an output; the remaining edges
        are uniform among the active neurons'.

        Args:
            generator: Source of randomness.
            n_edges: K = K*; by default that of ``density``.

        Raises:
            InputError: If ``n_edges`` is below the number of layers or above N, or if no network
                has it: with one input and one output, some numbers are impossible.
        """
        n_edges = self.n_edges if n_edges is None else n_edges
        if not self.n_layers <= n_edges <= self.n_possible_edges:
            raise InputError(
                f"n_edges must be between {self.n_layers} (one path) and "
                f"{self.n_possible_edges}; got {n_edges}."
            )
        n_active = self._draw_active(n_edges, generator=generator)
        if not _fewest_edges(n_active) <= n_edges <= _most_edges(n_active):
            raise InputError(
                f"n_edges must be a possible number of live edges of widths {self.widths}; "
                f"got {n_edges}, but {n_edges - 1} is possible."
            )
        active = [
            torch.randperm(width, generator=generator)[:u].sort().values
            for width, u in zip(self.widths, n_active, strict=True)
        ]
        masks = [torch.zeros(a, b, dtype=torch.bool) for a, b in itertools.pairwise(self.widths)]
        for k, mask in enumerate(masks, start=1):
            rows, columns = _cover(
                active[k - 1],
                active[k],
                cover_sources=k > 1,
                cover_targets=k < self.n_layers,
                generator=generator,
            )
            mask[rows, columns] = True
        flat = torch.cat([mask.flatten() for mask in masks])  # (N,)
        free = torch.cat(
            [_outer(active[k - 1], active[k], mask=mask) for k, mask in enumerate(masks, start=1)]
        )
        candidates = (free & ~flat).nonzero().flatten()
        order = torch.randperm(len(candidates), generator=generator)
        flat[candidates[order[: n_edges - int(flat.sum())]]] = True
        return self._build(flat.nonzero().flatten(), generator=generator)

    def _draw_active(self, n_edges: int, *, generator: torch.Generator) -> tuple[int, ...]:
        """Active neurons per layer: all inputs and outputs, and a feasible number of hidden."""
        n_inputs, *hidden, n_outputs = self.widths
        if not hidden:
            return self.widths
        if len(hidden) == 1:
            lowest = math.ceil(n_edges / (n_inputs + n_outputs))
            highest = min(n_edges // 2, hidden[0])
            u = log_uniform(lowest, highest, generator=generator)
            return n_inputs, u, n_outputs
        for _ in range(200):
            drawn = (
                n_inputs,
                *(log_uniform(1, n, generator=generator) for n in hidden),
                n_outputs,
            )
            if _fewest_edges(drawn) <= n_edges <= _most_edges(drawn):
                return drawn
        return self._nearest_active(n_edges)

    def _nearest_active(self, n_edges: int) -> tuple[int, ...]:
        """Grow the narrowest layer until ``n_edges`` fit: the fallback for extreme densities."""
        active = [self.widths[0], *(1 for _ in self.widths[1:-1]), self.widths[-1]]
        while _most_edges(active) < n_edges:
            growing = [k for k in range(1, self.n_layers) if active[k] < self.widths[k]]
            active[min(growing, key=active.__getitem__)] += 1
        return tuple(active)

    def _build(self, flat: Tensor, *, generator: torch.Generator) -> Architecture:
        """From sorted positions among the N possible edges; activations drawn uniformly."""
        return Architecture(
            edges=self._possible_edges[:, flat],
            activation=self._draw_activation(generator=generator),
            widths=self.widths,
        )

    @cached_property
    def _possible_edges(self) -> Tensor:
        """Source and target of the N possible edges, sorted. Int64, shape ``(2, N)``."""
        starts = itertools.accumulate(self.widths, initial=0)
        return torch.cat(
            [
                torch.cartesian_prod(
                    torch.arange(start, start + width),
                    torch.arange(start + width, start + width + following),
                )
                for start, (width, following) in zip(
                    starts, itertools.pairwise(self.widths), strict=False
                )
            ]
        ).T.contiguous()

    @cached_property
    def _choices(self) -> list[tuple[Tensor, int]]:
        """Activation classes to choose from, and for how many neurons: hidden, output."""
        layers = (
            (self.activations, sum(self.widths[1:-1])),
            (self.output_activations, self.widths[-1]),
        )
        return [(torch.tensor(activation_indices(names)), n) for names, n in layers]

    def _draw_activation(self, *, generator: torch.Generator) -> Tensor:
        drawn = [
            choices[torch.randint(len(choices), (n,), generator=generator)]
            for choices, n in self._choices
        ]
        return torch.cat([torch.full((self.widths[0],), IDENTITY), *drawn])  # (n_neurons,)


def _fewest_edges(active: Sequence[int]) -> int:
    """Edges needed so that every active hidden neuron has an input and an output."""
    return sum(max(a, b) for a, b in itertools.pairwise((1, *active[1:-1], 1)))


def _most_edges(active: Sequence[int]) -> int:
    return sum(a * b for a, b in itertools.pairwise(active))


def _cover(
    sources: Tensor,
    targets: Tensor,
    *,
    cover_sources: bool,
    cover_targets: bool,
    generator: torch.Generator,
) -> tuple[Tensor, Tensor]:
    """The fewest edges, drawn at random, that touch all sources and/or all targets."""
    n = max(len(sources) if cover_sources else 0, len(targets) if cover_targets else 0)

    def spread(neurons: Tensor, *, cover: bool) -> Tensor:
        drawn = torch.randint(len(neurons), (n,), generator=generator)
        if cover:
            drawn[: len(neurons)] = torch.randperm(len(neurons), generator=generator)
        return neurons[drawn]

    return spread(sources, cover=cover_sources), spread(targets, cover=cover_targets)


def _outer(sources: Tensor, targets: Tensor, *, mask: Tensor) -> Tensor:
    """Flat mask of the edges from ``sources`` to ``targets`` in a layer shaped like ``mask``."""
    inside = torch.zeros_like(mask)
    inside[sources.unsqueeze(1), targets] = True
    return inside.flatten()
