"""A large sparse network that is fitted by Newton's method without a matrix, and cut.

Beyond some hundred edges the curvature of all weights together is too large a matrix. Its products
with vectors cost two passes, and conjugate gradients need no more (Martens, 2010). What an edge is
worth is read from the curvature's diagonal, as in the optimal brain damage of LeCun, Denker and
Solla (1990); the steps between cuts make up for the edges that go.

Notation: layers of widths n_0 … n_t; q rows, c = n_t outputs. Weights are tables with zeros where
no edge is.
"""

import math
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor

from graphpred.architecture import Architecture
from graphpred.meta.feedback import activated
from graphpred.meta.fixed_fit import BIAS_PRECISION, LEAST_FREE, FixedFit, least_precisions
from graphpred.meta.lifetimes import lifetimes
from graphpred.meta.likely import places, tables
from graphpred.meta.samples import RowSample
from graphpred.meta.sparse_loss import data_loss, errors
from graphpred.searchers import Proposal
from graphpred.weights import Weights

_DAMPING, _LEAST_DAMPING, _MOST_DAMPING = 1e-2, 1e-6, 1e5
_TRIALS = 3  # of dampings, in one step
_PRODUCTS = 8  # with the curvature, in one step
_LEAST_CURVED = 1e-20  # along a way that is still worth going
_MOST_WEIGHED = 2_000  # edges, for evidence from the whole curvature
_MOST_WORK = 1 << 30  # rows times possible edges,
_FEWEST_ROWS = 512

Vector = list[Tensor]
"""Tables of weights, then biases."""


@dataclass(frozen=True, eq=False, kw_only=True)
class _Pass:
    """What the rows become with some parameters.

    Attributes:
        vector: The parameters.
        values: Of the neurons of every layer, ``(n_k, q)``.
        slopes: Of the hidden ones, likewise.
        loss: Of the data, summed over the rows.
        error: The loss's gradient by the scores, ``(c, q)``.
        weight: Share of every class, or how much of an outlier counts, ``(c, q)``.
    """

    vector: Vector
    values: list[Tensor]
    slopes: list[Tensor]
    loss: float
    error: Tensor
    weight: Tensor


class LargeFit:
    """A network that is being fitted to a sample of rows, and cut; changed in place.

    Args:
        proposal: An architecture with linear outputs and without dead edges, and its weights.
        sample: Rows.
    """

    def __init__(self, proposal: Proposal, *, sample: RowSample) -> None:
        z, start = proposal.architecture, proposal.start
        assert start is not None
        self._of, self._is_regression = z, sample.is_regression
        n_possible = sum(a * b for a, b in pairwise(z.widths))
        self._rows = rows = sample.first(max(_FEWEST_ROWS, _MOST_WORK // n_possible))
        self._x, self._y = rows.X.T.contiguous(), rows.y.T.contiguous()  # (n, q), (c, q)
        self._n_layers = len(z.widths) - 1
        flat = torch.zeros(n_possible)
        present = flat.bool()
        at = places(z.edges, widths=z.widths)
        flat[at], present[at] = start.edge, True
        self._masks = list(tables(present, widths=z.widths))
        self._now: Vector = [*tables(flat, widths=z.widths), *start.bias.split(z.widths[1:])]
        first, between, last = least_precisions(z.widths[0]).tolist()
        biases = [BIAS_PRECISION] * self._n_layers
        self._precision = [first, *[between] * (self._n_layers - 2), last, *biases]
        self._noise = 1.0  # precision of quantities; 1 for classes
        self._damping = _DAMPING
        self._last: _Pass | None = None

    @property
    def edges(self) -> Tensor:
        """Their ends, sorted. Int64, shape ``(2, E)``."""
        starts = torch.tensor(self._of.starts)
        found = [
            mask.nonzero().T + starts[k : k + 2].unsqueeze(1) for k, mask in enumerate(self._masks)
        ]
        return torch.cat(found, dim=1)

    @property
    def n_edges(self) -> int:
        """E."""
        return sum(int(mask.sum()) for mask in self._masks)

    @property
    def work(self) -> int:
        """What a pass costs: rows times possible edges."""
        return self._x.shape[1] * sum(mask.numel() for mask in self._masks)

    @property
    def loss(self) -> float:
        """Mean over the rows: cross-entropy in nats, or half the squared error of all outputs."""
        return self._pass(self._now).loss / self._x.shape[1]

    def proposal(self) -> Proposal:
        """The network as it is now."""
        z = self._of
        architecture = Architecture(edges=self.edges, activation=z.activation, widths=z.widths)
        weights, biases = self._parts(self._now)
        start = Weights(edge=self._chosen(weights), bias=torch.cat(biases))
        return Proposal(architecture=architecture, start=start)

    def train(self, n_steps: int) -> None:
        """Take some steps, or as many as lower the energy."""
        if self._is_regression:
            self._noise = self._evident_noise()
        for _ in range(n_steps):
            at = self._pass(self._now)
            if not self._step(at, self._size(at)):
                break

    def saliency(self) -> Tensor:
        """Of every edge: the square of its weight's z-score, were weights independent. ``(E,)``."""
        at = self._pass(self._now)
        return self._chosen(
            [v.square() * s for v, s in zip(at.vector, self._size(at), strict=True)]
        )

    def cut(self, limit: int) -> None:
        """Remove the least salient edges until at most ``limit`` live ones are left."""
        if self.n_edges <= limit:
            return
        saliency, (source, target) = self.saliency(), self.edges
        layers = [slice(a, b) for a, b in pairwise(self._of.starts)]
        rank = saliency.argsort(stable=True).argsort()
        lifetime = lifetimes(rank, source=source, target=target, layers=layers)
        longest = lifetime.sort(descending=True).values
        self._keep(lifetime > longest[limit])

    # Parameters and passes

    def _parts(self, vector: Vector) -> tuple[Vector, Vector]:
        """Weights, and biases."""
        return vector[: self._n_layers], vector[self._n_layers :]

    def _chosen(self, values: Vector) -> Tensor:
        """Of all edges that are there, from tables of all possible ones. Shape ``(E,)``."""
        return torch.cat([value[mask] for value, mask in zip(values, self._masks, strict=False)])

    def _keep(self, kept: Tensor) -> None:
        """Some of the edges. Bool, shape ``(E,)``."""
        parts = kept.split([int(mask.sum()) for mask in self._masks])
        for mask, part in zip(self._masks, parts, strict=True):
            mask[mask.clone()] = part
        weights, biases = self._parts(self._now)
        self._now = [*(W * mask for W, mask in zip(weights, self._masks, strict=True)), *biases]

    def _pass(self, vector: Vector) -> _Pass:
        """Pass the rows through the network, unless that was the last thing done."""
        if self._last is not None and self._last.vector is vector:
            return self._last
        values, slopes = [self._x], []
        classes = self._of.activation.split(list(self._of.widths))
        for k, (W, bias) in enumerate(zip(*self._parts(vector), strict=True)):
            value = W.T @ values[-1] + bias.unsqueeze(1)
            if k < self._n_layers - 1:
                (value,), (slope,) = activated(value[None], classes[k + 1][None])
                slopes.append(slope)
            values.append(value)
        error, weight = errors(values[-1], self._y, is_regression=self._is_regression)
        self._last = _Pass(
            vector=vector,
            values=values,
            slopes=slopes,
            loss=data_loss(values[-1], self._y, is_regression=self._is_regression),
            error=error,
            weight=weight,
        )
        return self._last

    def _backwards(self, at: _Pass, ends: Tensor) -> Vector:
        """What the parameters do to a combination of the outputs, summed over the rows."""
        weights, _ = self._parts(at.vector)
        tops: Vector = []
        bottoms: Vector = []
        for k in reversed(range(self._n_layers)):
            tops.insert(0, (at.values[k] @ ends.T) * self._masks[k])
            bottoms.insert(0, ends.sum(dim=1))
            if k:
                ends = (weights[k] @ ends) * at.slopes[k - 1]
        return [*tops, *bottoms]

    def _forwards(self, at: _Pass, vector: Vector) -> Tensor:
        """How the scores change with the parameters, along a vector. Shape ``(c, q)``."""
        weights, _ = self._parts(at.vector)
        moved: Tensor | None = None
        for k, (W, bias) in enumerate(zip(*self._parts(vector), strict=True)):
            change = W.T @ at.values[k] + bias.unsqueeze(1)
            if moved is not None:
                change += weights[k].T @ moved
            moved = change if k == self._n_layers - 1 else change * at.slopes[k]
        assert moved is not None
        return moved

    # Energy and its derivatives

    def _energy(self, vector: Vector) -> float:
        held: float = sum(
            p * float(v.square().sum()) for p, v in zip(self._precision, vector, strict=True)
        )
        return self._noise * self._pass(vector).loss + held / 2

    def _product(self, at: _Pass, vector: Vector) -> Vector:
        """The curvature of the energy times a vector."""
        moved, weight = self._forwards(at, vector), at.weight
        if self._is_regression:
            ends = weight * moved
        else:
            ends = weight * (moved - (weight * moved).sum(dim=0))
        back = self._backwards(at, self._noise * ends)
        return [b + p * v for b, p, v in zip(back, self._precision, vector, strict=True)]

    def _size(self, at: _Pass) -> Vector:
        """The curvature's diagonal: that of the data is exact for one hidden layer."""
        weights, _ = self._parts(at.vector)
        share = at.weight
        curved = share if self._is_regression else share * (1 - share)  # (c, q)
        tops: Vector = []
        bottoms: Vector = []
        for k in reversed(range(self._n_layers)):
            tops.insert(0, at.values[k].square() @ curved.T)
            bottoms.insert(0, curved.sum(dim=1))
            if k:
                is_last = k == self._n_layers - 1
                passed = weights[k].square() @ (share if is_last else curved)
                if is_last and not self._is_regression:
                    passed = passed - (weights[k] @ share).square()
                curved = passed.clamp(min=0) * at.slopes[k - 1].square()
        both = zip([*tops, *bottoms], self._precision, strict=True)
        return [self._noise * data + held for data, held in both]

    def _evident_noise(self) -> float:
        """By the evidence, with weights that count as independent if there are very many."""
        if self.n_edges <= _MOST_WEIGHED:
            return FixedFit(self.proposal(), sample=self._rows).evident_noise(self._noise)
        at = self._pass(self._now)
        n, n_live = self._y.numel(), sum(int(mask.any(dim=0).sum()) for mask in self._masks[:-1])
        n_determined = float(n_live + self._of.widths[-1])  # biases
        for size, held, mask in zip(self._size(at), self._precision, self._masks, strict=False):
            n_determined += float((1 - held / size[mask]).sum())
        return max(n - n_determined, LEAST_FREE * n) / (2 * at.loss + 1e-6 * n)

    def _step(self, at: _Pass, size: Vector) -> bool:
        """Move where the energy falls; whether it did."""
        before = self._energy(at.vector)
        held = [p * v for p, v in zip(self._precision, at.vector, strict=True)]
        gradient = _sum(self._backwards(at, self._noise * at.error), held)
        for _ in range(_TRIALS):
            moved = _sum(at.vector, self._solved(at, gradient, size=size), factor=-1)
            after = self._energy(moved)
            if math.isfinite(after) and after < before:
                self._now = moved
                self._damping = max(self._damping / 5, _LEAST_DAMPING)
                return True
            self._damping = min(self._damping * 6, _MOST_DAMPING)
        return False

    def _solved(self, at: _Pass, wanted: Vector, *, size: Vector) -> Vector:
        """About the damped curvature's inverse times a vector, by conjugate gradients."""
        damped = [self._damping * s for s in size]
        scale = [d + s for d, s in zip(damped, size, strict=True)]
        found = [torch.zeros_like(v) for v in wanted]
        rest = wanted
        way = scaled = [r / s for r, s in zip(rest, scale, strict=True)]
        dot = _dot(rest, scaled)
        for _ in range(_PRODUCTS):
            own = [d * w for d, w in zip(damped, way, strict=True)]
            product = _sum(self._product(at, way), own)
            curved = _dot(way, product)
            if curved < _LEAST_CURVED:
                break
            length = dot / curved
            found, rest = _sum(found, way, factor=length), _sum(rest, product, factor=-length)
            scaled = [r / s for r, s in zip(rest, scale, strict=True)]
            last, dot = dot, _dot(rest, scaled)
            way = _sum(scaled, way, factor=dot / last)
        return found


def _sum(a: Vector, b: Vector, *, factor: float = 1.0) -> Vector:
    """Of a and a multiple of b."""
    return [x.add(y, alpha=factor) for x, y in zip(a, b, strict=True)]


def _dot(a: Vector, b: Vector) -> float:
    return float(sum(torch.dot(x.flatten(), y.flatten()) for x, y in zip(a, b, strict=True)))
