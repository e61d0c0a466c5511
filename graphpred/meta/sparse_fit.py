"""A sparse network of any depth, fitted to few rows by Newton's method, and cut.

Gauss and Newton's curvature of all weights together, damped as Levenberg and Marquardt do. How
strongly weights are held back is chosen by the evidence of MacKay (1992; for such networks Foresee
and Hagan, 1997), without any held-out row: weights that the rows do not determine are drawn to 0.
Edges go by the saliency of the optimal brain surgeon (Hassibi and Stork, 1992), w² over the
variance of w, the square of a z-score; the remaining weights move to make up for those that go.

Notation: q rows, c outputs; M neurons that have edges, E edges, P = E edges and the biases. All in
double precision, but for the sums of the curvature.
"""

import copy
import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor

from graphpred.architecture import Architecture
from graphpred.meta.feedback import with_slope
from graphpred.meta.products import gram
from graphpred.meta.samples import RowSample
from graphpred.meta.sparse_loss import data_loss, errors, roots
from graphpred.searchers import Proposal
from graphpred.weights import Weights

_CURVED = 4_000  # rows times outputs that the curvature is summed over,
_FEWEST_CURVED = 256  # but no fewer rows
_BIAS_PRECISION = 1e-3
_LEAST_PRECISION = 10.0, 1.0  # of weights into hidden neurons, and to outputs,
_LEAST_PER_SQUARE = 0.3  # but into hidden neurons no more than this times n²
_MOST_PRECISION = 1e3
_DAMPING, _LEAST_DAMPING, _MOST_DAMPING = 1e-2, 1e-7, 1e5
_TRIALS = 6  # of dampings, in one step
_JITTER = 1e-6
_CHANCE = 1.0  # the square of a z-score that is worth nothing


@dataclass(frozen=True, eq=False, kw_only=True)
class _Pass:
    """What the rows become with some parameters.

    Attributes:
        vector: The parameters. Shape ``(P,)``.
        W: Weights between all neurons. Shape ``(M, M)``.
        value: Of all neurons. Shape ``(M, q)``.
        slope: Likewise.
        loss: Of the data.
    """

    vector: Tensor
    W: Tensor
    value: Tensor
    slope: Tensor
    loss: float


class SparseFit:
    """A network with given edges that is being fitted to a sample of rows; changed in place.

    Args:
        proposal: An architecture with linear outputs and without dead edges, and its weights.
        sample: Rows.
    """

    def __init__(self, proposal: Proposal, *, sample: RowSample) -> None:
        z, start = proposal.architecture, proposal.start
        assert start is not None
        self._of = z
        self._is_regression = sample.is_regression
        self._x, self._y = sample.X.double().T, sample.y.double().T  # (n, q), (c, q)
        self.edges, self._edge = z.edges, start.edge.double()
        self._bias = torch.cat([torch.zeros(z.widths[0]), start.bias]).double()  # of all neurons
        into_hidden, to_outputs = _LEAST_PRECISION
        least = (min(into_hidden, _LEAST_PER_SQUARE * z.widths[0] ** 2), to_outputs)
        self._least_precision = torch.tensor(least, dtype=torch.float64)
        self._precision = self._least_precision.clone()
        self._noise = 1.0  # precision of quantities; 1 for classes
        self._damping = _DAMPING
        self._last: _Pass | None = None
        self._number_neurons()

    @property
    def n_edges(self) -> int:
        """E."""
        return len(self._edge)

    @property
    def energy(self) -> float:
        """Minus the log posterior of the weights, up to a constant."""
        return self._energy(self._vector())

    @property
    def loss(self) -> float:
        """Mean over the rows: cross-entropy in nats, or half the squared error of all outputs."""
        return self._pass(self._vector()).loss / self._x.shape[1]

    def proposal(self) -> Proposal:
        """The network as it is now."""
        z = self._of
        architecture = Architecture(edges=self.edges, activation=z.activation, widths=z.widths)
        bias = self._bias[z.widths[0] :].float()
        start = Weights(edge=self._edge.float(), bias=bias)
        return Proposal(architecture=architecture, start=start)

    def train(self, n_steps: int) -> None:
        """Take some steps, or as many as lower the energy."""
        for number in range(n_steps):
            vector = self._vector()
            gradient, curvature = self._system(vector)
            if number % 2:
                self._weigh(vector, curvature)
            if not self._step(vector, gradient=gradient, curvature=curvature):
                break

    def saliency(self) -> Tensor:
        """Of every edge: the square of its weight's z-score. Float64, shape ``(E,)``."""
        return self._examined()[0]

    def _examined(self) -> tuple[Tensor, Tensor]:
        """Saliencies ``(E,)`` and the inverse curvature ``(P, P)``."""
        vector = self._vector()
        inverse = self._weigh(vector, self._system(vector)[1])
        return (vector.square() / inverse.diagonal())[: self.n_edges], inverse

    def cut(self, limit: int) -> None:
        """Remove the least salient edges until at most ``limit`` live ones are left."""
        saliency, inverse = self._examined()
        if self.n_edges > limit:
            lifetime = self._lifetime(saliency.argsort(stable=True).argsort())
            longest = lifetime.sort(descending=True).values
            self._remove(lifetime <= longest[limit], inverse=inverse)

    def cut_neurons(self, most: Sequence[int]) -> None:
        """Remove hidden neurons whose edges are least salient until each layer has no more."""
        for layer, n_most in enumerate(most, start=1):
            while (nodes := self._nodes[self._layers[layer]]).shape[0] > n_most:
                saliency, inverse = self._examined()
                size = torch.zeros(self._of.n_neurons, dtype=saliency.dtype)
                size.index_add_(0, self.edges[0], saliency)
                n_gone = (len(nodes) - n_most + 1) // 2  # those that are left make up for them
                weakest = nodes[size[nodes].argsort(stable=True)[:n_gone]]
                self._remove(
                    self._dead(torch.isin(self.edges, weakest).any(dim=0)), inverse=inverse
                )
                self.train(2)

    def grow(self, n_edges: int) -> None:
        """Add edges of weight 0 between neurons of consecutive layers, those that promise most.

        What an edge promises is the square of the energy's gradient over its curvature, that of a
        z-score; edges that promise no more than chance does are not added.
        """
        keys, gains = self._promises()
        absent = ~torch.isin(keys, self._keys(self.edges)) & (gains > _CHANCE)
        keys, gains = keys[absent], gains[absent]
        chosen = keys[gains.argsort(descending=True, stable=True)[:n_edges]]
        new = torch.stack([chosen // self._of.n_neurons, chosen % self._of.n_neurons])
        edges, edge = torch.cat([self.edges, new], dim=1), self._edge.new_zeros(len(chosen))
        self._take(edges, torch.cat([self._edge, edge]))

    def drop_idle(self) -> None:
        """Remove edges of weight 0: such as have grown, and of which no use could be made."""
        kept = ~self._dead(self._edge == 0)
        self._take(self.edges[:, kept], self._edge[kept])

    def joined(self, other: "SparseFit") -> "SparseFit":
        """Both networks side by side: their outputs are the mean of those of the two.

        Args:
            other: Of the same space and sample, with hidden neurons of its own.
        """
        assert self._of.widths == other._of.widths
        both, first_output = self.copy(), self._of.starts[-2]
        edges = torch.cat([self.edges, other.edges], dim=1)
        edge = torch.cat([self._edge, other._edge])
        both._bias = self._bias + other._bias
        both._bias[first_output:] /= 2
        both._take(edges, torch.where(edges[1] >= first_output, edge / 2, edge))
        both._precision = (self._precision + other._precision) / 2
        both._noise = (self._noise + other._noise) / 2
        both._damping = _DAMPING
        return both

    def copy(self) -> "SparseFit":
        """One that changes by itself."""
        same = copy.copy(self)
        same._bias, same._precision = self._bias.clone(), self._precision.clone()
        return same

    def _promises(self) -> tuple[Tensor, Tensor]:
        """Of all edges between neurons of consecutive layers: keys, and what they promise."""
        at, first = self._pass(self._vector()), self._n_in
        scores = at.value[self._layers[-1]]
        error, weight = errors(scores, self._y, is_regression=self._is_regression)
        reach = self._reach(error.unsqueeze(1), W=at.W, slope=at.slope).squeeze(1)  # (…, q)
        rows = self._curved_rows(len(scores))
        ends = roots(weight[:, rows], is_regression=self._is_regression)  # (c, d, r)
        curved = self._reach(ends, W=at.W, slope=at.slope[:, rows]).square().sum(dim=1)  # (…, r)
        share = len(rows) / self._x.shape[1]
        keys, gains = [], []
        for number, (below, layer) in enumerate(pairwise(self._layers)):
            source = self._nodes[below] if number else torch.arange(len(self._x))
            known = at.value[below] if number else self._x  # (S, q)
            own = slice(layer.start - first, layer.stop - first)
            gradient = self._noise * known @ reach[own].T  # (S, T)
            curvature = self._noise * known[:, rows].square() @ curved[own].T / share
            held = self._precision[int(layer is self._layers[-1])]
            keys.append((source[:, None] * self._of.n_neurons + self._nodes[layer]).flatten())
            gains.append((gradient.square() / (curvature + held + _JITTER)).flatten())
        return torch.cat(keys), torch.cat(gains)

    def _keys(self, edges: Tensor) -> Tensor:
        """A number for every edge, in their order."""
        return edges[0] * self._of.n_neurons + edges[1]

    def _take(self, edges: Tensor, edge: Tensor) -> None:
        """Have these edges and weights, in any order."""
        order = self._keys(edges).argsort()
        self.edges, self._edge = edges[:, order], edge[order]
        self._number_neurons()

    def _dead(self, gone: Tensor) -> Tensor:
        """Which edges go, and which die with them. Bool, shape ``(E,)``."""
        return self._lifetime((~gone).long()) < 1

    def _remove(self, is_gone: Tensor, *, inverse: Tensor) -> None:
        """Take edges away; the other weights make up for them where that helps."""
        gone, vector = is_gone.nonzero()[:, 0], self._vector()
        if not len(gone):
            return
        plain = vector.clone()
        plain[gone] = 0
        part = inverse[gone][:, gone]
        part.diagonal().add_(1e-9 * part.diagonal().mean())
        moved = vector - inverse[:, gone] @ torch.linalg.solve(part, vector[gone])
        moved[gone] = 0
        self._set(moved if self._energy(moved) < self._energy(plain) else plain)
        self.edges, self._edge = self.edges[:, ~is_gone], self._edge[~is_gone]
        self._number_neurons()

    # Parameters and passes

    def _number_neurons(self) -> None:
        """Number the neurons that are left: those with edges, and all outputs.

        Within a layer they are sorted by their activation, so that each is computed in one piece.
        """
        z = self._of
        outputs = torch.arange(z.n_neurons - z.widths[-1], z.n_neurons)
        nodes = torch.cat([self.edges.flatten(), outputs]).unique()  # (M,) ascending
        starts = torch.tensor(z.starts)
        bounds = torch.searchsorted(nodes, starts).tolist()
        layer, activation = torch.searchsorted(starts, nodes, right=True), z.activation[nodes]
        kind = layer * (int(activation.max()) + 1) + activation  # (M,)
        order = kind.argsort(stable=True)
        self._nodes = nodes[order]
        place = torch.full((z.n_neurons,), -1)
        place[self._nodes] = torch.arange(len(nodes))
        self._source, self._target = place[self.edges]
        self._layers = [slice(a, b) for a, b in pairwise(bounds)]
        self._n_in = self._layers[0].stop
        self._alike = [_runs(activation[order[layer]]) for layer in self._layers[1:-1]]
        self._is_out = self._target >= self._layers[-1].start
        self._inputs = self._x[self._nodes[: self._n_in]]
        self._set(torch.cat([self._edge, self._bias[self._nodes[self._n_in :]]]))

    def _vector(self) -> Tensor:
        """Weights and biases. Shape ``(P,)``; never changed in place."""
        return self._now

    def _set(self, vector: Tensor) -> None:
        self._now, self._edge = vector, vector[: self.n_edges]
        self._bias[self._nodes[self._n_in :]] = vector[self.n_edges :]

    def _matrix(self, vector: Tensor) -> Tensor:
        """Weights between all neurons. Shape ``(M, M)``."""
        W = vector.new_zeros(len(self._nodes), len(self._nodes))
        W[self._source, self._target] = vector[: self.n_edges]
        return W

    def _pass(self, vector: Tensor) -> _Pass:
        """Pass the rows through the network, unless that was the last thing done."""
        if self._last is None or self._last.vector is not vector:
            W = self._matrix(vector)
            value, slope = self._forward(vector, W)
            loss = self._data_loss(value[self._layers[-1]])
            self._last = _Pass(vector=vector, W=W, value=value, slope=slope, loss=loss)
        return self._last

    def _forward(self, vector: Tensor, W: Tensor) -> tuple[Tensor, Tensor]:
        """Values and slopes of all neurons, ``(M, q)`` each."""
        bias, M, q = vector[self.n_edges :].unsqueeze(1), len(self._nodes), self._x.shape[1]
        value, slope = vector.new_empty(M, q), vector.new_ones(M, q)
        value[: self._n_in] = self._inputs
        for layer, alike in zip(self._layers[1:], [*self._alike, []], strict=True):
            own = slice(layer.start - self._n_in, layer.stop - self._n_in)
            value[layer] = W[: layer.start, layer].T @ value[: layer.start] + bias[own]
            for index, start, stop in alike:
                part = slice(layer.start + start, layer.start + stop)
                value[part], slope[part] = with_slope(index, value[part].clone())
        return value, slope

    def _reach(self, ends: Tensor, *, W: Tensor, slope: Tensor) -> Tensor:
        """What the sum of every neuron that is no input does to combinations of the outputs.

        Args:
            ends: d combinations in r rows. Shape ``(c, d, r)``.
            W: Weights. Shape ``(M, M)``.
            slope: Shape ``(M, r)``.

        Returns:
            Shape ``(M - inputs, d, r)``.
        """
        first, (_, d, r) = self._n_in, ends.shape
        reach = ends.new_empty(len(slope) - first, d, r)
        reach[self._layers[-1].start - first :] = ends
        for layer in reversed(self._layers[1:-1]):
            later = reach[layer.stop - first :].flatten(1)  # (later, d * r)
            back = (W[layer, layer.stop :] @ later).view(-1, d, r)
            reach[layer.start - first : layer.stop - first] = back * slope[layer].unsqueeze(1)
        return reach

    # Energy and its derivatives

    def _data_loss(self, scores: Tensor) -> float:
        return data_loss(scores, self._y, is_regression=self._is_regression)

    def _prior(self) -> Tensor:
        """Precision of every parameter. Shape ``(P,)``."""
        n_biases = len(self._nodes) - self._n_in
        biases = self._edge.new_full((n_biases,), _BIAS_PRECISION)
        return torch.cat([self._precision[self._is_out.long()], biases])

    def _energy(self, vector: Tensor) -> float:
        held = (self._prior() * vector.square()).sum() / 2
        return self._noise * self._pass(vector).loss + float(held)

    def _system(self, vector: Tensor) -> tuple[Tensor, Tensor]:
        """Gradient ``(P,)`` and curvature ``(P, P)`` of the data's loss."""
        at, q = self._pass(vector), self._x.shape[1]
        scores, into = at.value[self._layers[-1]], self._target - self._n_in
        error, weight = errors(scores, self._y, is_regression=self._is_regression)
        reach = self._reach(error.unsqueeze(1), W=at.W, slope=at.slope).squeeze(1)  # (…, q)
        edges = at.value.index_select(0, self._source)  # (E, q)
        edges *= reach.index_select(0, into)
        gradient = torch.cat([edges.sum(dim=1), reach.sum(dim=1)])
        rows = self._curved_rows(len(scores))
        value, slope, weight = (
            table if len(rows) == q else table.index_select(1, rows)
            for table in (at.value, at.slope, weight)
        )
        ends = roots(weight, is_regression=self._is_regression).float()  # (c, d, r)
        reach = self._reach(ends, W=at.W.float(), slope=slope.float())  # (…, d, r)
        J = reach.new_empty(len(vector), *reach.shape[1:])  # (P, d, r)
        torch.index_select(reach, 0, into, out=J[: self.n_edges])
        J[: self.n_edges] *= value.float().index_select(0, self._source).unsqueeze(1)  # (E, 1, r)
        J[self.n_edges :] = reach
        return gradient, gram(J.flatten(1)).double() * (q / len(rows))

    def _curved_rows(self, n_outputs: int) -> Tensor:
        """Rows that curvature is summed over: fewer where there are many outputs."""
        q = self._x.shape[1]
        return torch.linspace(0, q - 1, min(q, max(_FEWEST_CURVED, _CURVED // n_outputs))).long()

    def _step(self, vector: Tensor, *, gradient: Tensor, curvature: Tensor) -> bool:
        """Move where the energy falls; whether it did."""
        prior, before = self._prior(), self._energy(vector)
        gradient, curvature = self._noise * gradient + prior * vector, self._noise * curvature
        size = curvature.diagonal().clone() + prior
        curvature.diagonal().add_(prior + _JITTER)
        for _ in range(_TRIALS):
            damped = curvature.clone()
            damped.diagonal().add_(self._damping * size)
            factor, failed = torch.linalg.cholesky_ex(damped)
            if not int(failed):
                moved = vector - torch.cholesky_solve(gradient.unsqueeze(1), factor).squeeze(1)
                after = self._energy(moved)
                if math.isfinite(after) and after < before:
                    self._set(moved)
                    self._damping = max(self._damping / 5, _LEAST_DAMPING)
                    return True
            self._damping = min(self._damping * 6, _MOST_DAMPING)
        return False

    def _weigh(self, vector: Tensor, curvature: Tensor) -> Tensor:
        """Choose the precisions anew. Returns the inverse curvature of the energy, ``(P, P)``."""
        curved = self._noise * curvature
        curved.diagonal().add_(self._prior() + 1e-8 * curved.diagonal().mean() + _JITTER)
        inverse = torch.cholesky_inverse(torch.linalg.cholesky_ex(curved).L)
        n_determined = float(len(vector) - self.n_edges)
        for group, own in enumerate((~self._is_out, self._is_out)):
            edges = own.nonzero()[:, 0]
            known = len(edges) - float(self._precision[group] * inverse.diagonal()[edges].sum())
            n_determined += known
            found = max(known, 0.1) / (float(vector[edges].square().sum()) + 1e-3)
            least = float(self._least_precision[group])
            self._precision[group] = min(max(found, least), _MOST_PRECISION)
        if self._is_regression:
            n = self._y.numel()
            loss = self._pass(vector).loss
            self._noise = max(n - n_determined, 0.1 * n) / (2 * loss + 1e-6 * n)
        return inverse

    def _lifetime(self, rank: Tensor) -> Tensor:
        """When every edge dies if edges go one by one: with the last path from input to output.

        Args:
            rank: When every edge goes by itself. Int64, shape ``(E,)``.

        Returns:
            Ranks of the edges with which they die. Int64, shape ``(E,)``.
        """
        n_edges, n_nodes = self.n_edges, len(self._nodes)
        fed, used = rank.new_full((n_nodes,), -1), rank.new_full((n_nodes,), -1)
        fed[: self._n_in], used[self._layers[-1]] = n_edges, n_edges
        for layer in self._layers[1:]:
            own = (self._target >= layer.start) & (self._target < layer.stop)
            through = torch.minimum(rank[own], fed[self._source[own]])
            fed.scatter_reduce_(0, self._target[own], through, "amax")
        for layer in reversed(self._layers[:-1]):
            own = (self._source >= layer.start) & (self._source < layer.stop)
            through = torch.minimum(rank[own], used[self._target[own]])
            used.scatter_reduce_(0, self._source[own], through, "amax")
        return torch.minimum(rank, torch.minimum(fed[self._source], used[self._target]))


def _runs(classes: Tensor) -> list[tuple[int, int, int]]:
    """Class, start and end of every run of equal ones. ``classes`` is int64, sorted."""
    found, counts = classes.unique_consecutive(return_counts=True)
    ends = counts.cumsum(dim=0)
    return list(zip(found.tolist(), (ends - counts).tolist(), ends.tolist(), strict=True))
