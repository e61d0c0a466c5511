"""A sparse network of any depth and given edges, fitted to few rows by Newton's method.

Gauss and Newton's curvature of all weights together, damped as Levenberg and Marquardt do. How
strongly weights are held back is chosen by the evidence of MacKay (1992; for such networks Foresee
and Hagan, 1997), without any held-out row: weights that the rows do not determine are drawn to 0.

Notation: q rows, c outputs; M neurons that have edges, E edges, P = E edges and the biases. All in
double precision, but for the sums of the curvature.
"""

import math
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
BIAS_PRECISION = 1e-3
FROM_FEATURES, BETWEEN_HIDDEN, TO_OUTPUTS = range(3)  # groups of weights
_LEAST_PRECISION = 10.0, 3.0, 1.0  # of every group,
_LEAST_PER_SQUARE = 0.3  # but from features no more than this times n²
_MOST_PRECISION = 1e3
LEAST_FREE = 0.1  # share of the targets that weights do not determine
DAMPING, _LEAST_DAMPING, _MOST_DAMPING = 1e-2, 1e-7, 1e5
_TRIALS = 6  # of dampings, in one step
JITTER = 1e-6


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


class FixedFit:
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
        self._least_precision = least_precisions(z.widths[0])
        self._precision = self._least_precision.clone()
        self._noise = 1.0  # precision of quantities; 1 for classes
        self._damping = DAMPING
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

    def evident_noise(self, before: float) -> float:
        """The precision of quantities by the evidence, from what was thought before."""
        self._noise = before
        self._examined()
        return self._noise

    def saliency(self) -> Tensor:
        """Of every edge: the square of its weight's z-score. Float64, shape ``(E,)``."""
        return self._examined()[0]

    def _examined(self) -> tuple[Tensor, Tensor]:
        """Saliencies ``(E,)`` and the inverse curvature ``(P, P)``."""
        vector = self._vector()
        inverse = self._weigh(vector, self._system(vector)[1])
        return (vector.square() / inverse.diagonal())[: self.n_edges], inverse

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
        self._group = torch.where(self._source < self._n_in, FROM_FEATURES, BETWEEN_HIDDEN)
        self._group[self._target >= self._layers[-1].start] = TO_OUTPUTS
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
        biases = self._edge.new_full((n_biases,), BIAS_PRECISION)
        return torch.cat([self._precision[self._group], biases])

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
        curvature.diagonal().add_(prior + JITTER)
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
        curved.diagonal().add_(self._prior() + 1e-8 * curved.diagonal().mean() + JITTER)
        inverse = torch.cholesky_inverse(torch.linalg.cholesky_ex(curved).L)
        n_determined = float(len(vector) - self.n_edges)
        for group, least in enumerate(self._least_precision.tolist()):
            edges = (self._group == group).nonzero()[:, 0]
            known = len(edges) - float(self._precision[group] * inverse.diagonal()[edges].sum())
            n_determined += known
            found = max(known, 0.1) / (float(vector[edges].square().sum()) + 1e-3)
            self._precision[group] = min(max(found, least), _MOST_PRECISION)
        if self._is_regression:
            n = self._y.numel()
            loss = self._pass(vector).loss
            self._noise = max(n - n_determined, LEAST_FREE * n) / (2 * loss + 1e-6 * n)
        return inverse


def least_precisions(n_features: int) -> Tensor:
    """Of weights of every group. Float64, shape ``(3,)``."""
    least = torch.tensor(_LEAST_PRECISION, dtype=torch.float64)
    least[FROM_FEATURES].clamp_(max=_LEAST_PER_SQUARE * n_features**2)
    return least


def _runs(classes: Tensor) -> list[tuple[int, int, int]]:
    """Class, start and end of every run of equal ones. ``classes`` is int64, sorted."""
    found, counts = classes.unique_consecutive(return_counts=True)
    ends = counts.cumsum(dim=0)
    return list(zip(found.tolist(), (ends - counts).tolist(), ends.tolist(), strict=True))
