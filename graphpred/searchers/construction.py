"""Writing an architecture down neuron by neuron, from coarse actions: what Q-learning acts on.

Notation: layers 0 … t of widths n_0 … n_t, K edges. The walk goes from the outputs to the first
hidden layer, so that a neuron is only written down once another one reads it: it is then *open*.
At a neuron of layer k, R edges are left, o of the n_{k-1} possible sources are open and a neurons
of its layer follow. If it reads d sources and opens r of them, the rest must suffice for what is
open, and must not be more than there is room for:

    a + f(o + r)  ≤  R − d  ≤  a n_{k-1} + g(n_{k-1}), or g(o + r) if a = 0,

with f and g the fewest and the most edges into the layers below, f(o) = o + k − 2 and
g(o) = o n_{k-2} + Σ_{j<k-1} n_j n_{j-1}, both 0 for k = 1. Outputs may read nothing, so the left
side is f(o + r) for them, or 1 + f(1) if nothing is open yet. So every edge is live, and their
number is K, but for the last edge in rare networks with a single neuron in some layers.

An action is an activation and a *fan-in class*: a bucket of d, by its number of binary digits, and
a *pattern*. Sources that are hidden are ``fresh``, as many new ones as possible, or ``shared``, as
few as possible; sources that are inputs are those of the first half or of the second half, as far
as they suffice. Everything else is drawn at random.
"""

from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray

from graphpred.activations import IDENTITY, activation_indices
from graphpred.architecture import Architecture
from graphpred.space import SearchSpace

State = tuple[int, int, int, int, int]
"""Layer; neurons of it that follow; the commonest activation of the hidden neurons so far, counted
from 1, or 0; bucket of the in-degree of the neuron before; bucket of the edges left."""
N_PATTERNS = 2


@dataclass(frozen=True, kw_only=True)
class Action:
    """What is decided about a neuron.

    Attributes:
        activation: Position in the space's list.
        fan_in: Class; bucket of the in-degree · ``N_PATTERNS`` + pattern.
    """

    activation: int
    fan_in: int


@dataclass(eq=False, kw_only=True)
class Construction:
    """An architecture that is being written.

    Attributes:
        space: Where it lies; with widths of any number of layers.
        left: R, edges left; K at the beginning, at least the number of layers.
        generator: Source of randomness.
    """

    space: SearchSpace
    left: int
    generator: torch.Generator
    _layer: int = field(init=False)
    _neuron: int = field(default=0, init=False)
    _before: int = field(default=0, init=False)  # in-degree of the neuron before
    _in_use: int = field(init=False)  # neurons of the layer
    _open: int = field(default=0, init=False)  # of the layer below
    _edges: list[tuple[int, int]] = field(default_factory=list, init=False)
    _activation: torch.Tensor = field(init=False)
    _counts: list[int] = field(init=False)  # hidden neurons by activation
    _starts: list[int] = field(init=False)

    def __post_init__(self) -> None:
        widths = self.space.widths
        self._layer = self.space.n_layers
        self._in_use = widths[-1]
        self._starts = [sum(widths[:k]) for k in range(len(widths))]
        self._counts = [0] * len(self.space.activations)
        self._activation = torch.full((sum(widths),), IDENTITY)
        self._activation[widths[0] :] = self._choices(1)[0]
        self._activation[self._starts[-1] :] = self._choices(self.space.n_layers)[0]

    @property
    def is_complete(self) -> bool:
        """Whether every neuron in use is written."""
        return self._layer == 0

    @property
    def state(self) -> State:
        """What the next action may depend on."""
        counts = self._counts
        commonest = counts.index(max(counts)) + 1 if any(counts) else 0
        after = self._in_use - self._neuron - 1
        return (self._layer, after, commonest, bucket(self._before), bucket(self.left))

    @property
    def n_activations(self) -> int:
        """Activations to choose from now."""
        return len(self._choices(self._layer))

    def fan_ins(self) -> list[int]:
        """Fan-in classes to choose from now, ascending."""
        degrees, fewest, most = self._possible()
        differ = self._layer == 1 or bool((fewest < most).any())
        buckets = sorted({bucket(int(d)) for d in degrees})
        return [b * N_PATTERNS + p for b in buckets for p in range(N_PATTERNS if differ else 1)]

    def take(self, action: Action) -> None:
        """Write the next neuron down."""
        degrees, fewest, most = self._possible()
        wanted, pattern = divmod(action.fan_in, N_PATTERNS)
        inside = [i for i, d in enumerate(degrees.tolist()) if bucket(d) == wanted]
        chosen = inside[int(torch.randint(len(inside), (), generator=self.generator))]
        degree = int(degrees[chosen])
        if self._layer == 1:
            sources = self._inputs(degree, pattern=pattern)
        else:
            n_new = int(most[chosen] if pattern == 0 else fewest[chosen])
            sources = self._hidden(degree, n_new=n_new)
        target = self._starts[self._layer] + self._neuron
        self._activation[target] = self._choices(self._layer)[action.activation]
        if self._layer < self.space.n_layers:
            self._counts[action.activation] += 1
        self._edges += [(self._starts[self._layer - 1] + source, target) for source in sources]
        self.left -= degree
        self._before = degree
        self._neuron += 1
        if self._neuron == self._in_use:
            self._layer, self._neuron, self._in_use, self._open = self._layer - 1, 0, self._open, 0

    def architecture(self) -> Architecture:
        """What was written."""
        edges = np.array(sorted(self._edges), dtype=np.int64).reshape(-1, 2).T
        return Architecture(
            edges=torch.from_numpy(np.ascontiguousarray(edges)),
            activation=self._activation,
            widths=self.space.widths,
        )

    def _choices(self, layer: int) -> tuple[int, ...]:
        last = layer == self.space.n_layers
        return activation_indices(self.space.output_activations if last else self.space.activations)

    def _possible(self) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
        """Possible in-degrees d, and for each the fewest and the most r. Shape ``(n,)`` each."""
        widths, k, o = self.space.widths, self._layer, self._open
        n, after = widths[k - 1], self._in_use - self._neuron - 1
        is_output = k == self.space.n_layers
        d = np.arange(0 if is_output else 1, n + 1)
        rest = self.left - d
        owed = rest - (0 if is_output else after)
        if k == 1:
            fewest = most = np.zeros_like(d)
            suffices, has_room = owed >= 0, rest <= after * n
        else:
            below = sum(widths[j] * widths[j - 1] for j in range(1, k - 1))  # g without o
            fewest, most = (
                np.maximum(0, d - o),
                np.minimum(np.minimum(d, n - o), owed - (k - 2) - o),
            )
            opens = (o > 0) | (most > 0) | ((after > 0) & (rest >= k))
            suffices, has_room = (
                opens & (fewest <= most),
                rest <= (after + widths[k - 2]) * n + below,
            )
            if not after:
                fewest = np.maximum(fewest, -((below - rest) // widths[k - 2]) - o)
                has_room = fewest <= most
        fits = suffices & has_room
        if not fits.any():  # an edge is left over
            fits = suffices & (d == d[suffices].max())
        return d[fits], np.minimum(fewest, most)[fits], most[fits]

    def _hidden(self, degree: int, *, n_new: int) -> list[int]:
        """New sources take the next numbers, as hidden neurons are exchangeable."""
        known = torch.randperm(self._open, generator=self.generator)[: degree - n_new].tolist()
        new = list(range(self._open, self._open + n_new))
        self._open += n_new
        return known + new

    def _inputs(self, degree: int, *, pattern: int) -> list[int]:
        n = self.space.widths[0]
        order = torch.randperm(n, generator=self.generator)
        is_second = (order >= (n + 1) // 2).long()
        preferred = is_second if pattern == 0 else 1 - is_second
        chosen: list[int] = order[preferred.sort(stable=True).indices[:degree]].tolist()
        return chosen


def bucket(n: int) -> int:
    """Binary digits of n: 0, 1, 2 to 3, 4 to 7, and so on.

    >>> [bucket(n) for n in (0, 1, 2, 3, 4, 8)]
    [0, 1, 2, 2, 3, 4]
    """
    return n.bit_length()


def n_fan_ins(space: SearchSpace) -> int:
    """Fan-in classes that a space has, including some that never apply."""
    return (bucket(max(space.widths[:-1])) + 1) * N_PATTERNS
