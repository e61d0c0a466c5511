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
from itertools import pairwise

import torch
from torch import Tensor
from torch.nn import functional

from graphpred.architecture import Architecture
from graphpred.meta.feedback import activated
from graphpred.meta.samples import RowSample
from graphpred.searchers import Proposal
from graphpred.weights import Weights

_CURVED = 4_000  # rows times outputs that the curvature is summed over,
_FEWEST_CURVED = 256  # but no fewer rows
_HUBER = 3.0  # errors of standardised quantities count linearly from here
_BIAS_PRECISION = 1e-3
_LEAST_PRECISION = 10.0, 1.0  # of weights into hidden neurons, and to outputs,
_LEAST_PER_SQUARE = 0.3  # but into hidden neurons no more than this times n²
_MOST_PRECISION = 1e3
_DAMPING, _LEAST_DAMPING, _MOST_DAMPING = 1e-2, 1e-7, 1e5
_TRIALS = 6  # of dampings, in one step
_JITTER = 1e-6
_CHANCE = 1.0  # the square of a z-score that is worth nothing


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
        vector = self._vector()
        value, _ = self._forward(vector, self._matrix(vector))
        return self._data_loss(value[self._layers[-1]]) / self._x.shape[1]

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
        order = saliency.argsort(stable=True)
        low, high = 0, self.n_edges
        while low < high:  # live edges never grow when edges go
            middle = (low + high) // 2
            if int(self._live_without(order[:middle]).sum()) <= limit:
                high = middle
            else:
                low = middle + 1
        self._remove(~self._live_without(order[:low]), inverse=inverse)

    def cut_neurons(self, most: Sequence[int]) -> None:
        """Remove hidden neurons whose edges are least salient until each layer has no more."""
        for layer, n_most in enumerate(most, start=1):
            while (nodes := self._nodes[self._layers[layer]]).shape[0] > n_most:
                saliency, inverse = self._examined()
                size = torch.zeros(self._of.n_neurons, dtype=saliency.dtype)
                size.index_add_(0, self.edges[0], saliency)
                n_gone = (len(nodes) - n_most + 1) // 2  # those that are left make up for them
                weakest = nodes[size[nodes].argsort(stable=True)[:n_gone]]
                gone = torch.isin(self.edges, weakest).any(dim=0).nonzero()[:, 0]
                self._remove(~self._live_without(gone), inverse=inverse)
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
        kept = self._live_without((self._edge == 0).nonzero()[:, 0])
        self._take(self.edges[:, kept], self._edge[kept])

    def joined(self, other: "SparseFit") -> "SparseFit":
        """Both networks side by side: their outputs are the mean of those of the two.

        Args:
            other: Of the same space and sample, with hidden neurons of its own.
        """
        both, first_output = self.copy(), self._of.starts[-2]
        for fit in (self, other):
            assert fit._of.widths == self._of.widths
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

    def _take(self, edges: Tensor, edge: Tensor) -> None:
        """Have these edges and weights, in any order."""
        order = self._keys(edges).argsort()
        self.edges, self._edge = edges[:, order], edge[order]
        self._number_neurons()

    def _keys(self, edges: Tensor) -> Tensor:
        """A number for every edge, in their order."""
        return edges[0] * self._of.n_neurons + edges[1]

    def _promises(self) -> tuple[Tensor, Tensor]:
        """Of all edges between neurons of consecutive layers: keys, and what they promise."""
        vector = self._vector()
        W = self._matrix(vector)
        value, slope = self._forward(vector, W)
        scores = value[self._layers[-1]]
        error, weight = _errors(scores, self._y, is_regression=self._is_regression)
        reach = self._reach(error[None], W=W, slope=slope)[0]  # (M, q)
        rows = self._curved_rows(len(scores))
        roots = _roots(weight[:, rows], is_regression=self._is_regression)  # (d, c, r)
        curved = self._reach(roots, W=W, slope=slope[:, rows]).square().sum(dim=0)  # (M, r)
        share = len(rows) / self._x.shape[1]
        keys, gains = [], []
        for number, (below, layer) in enumerate(pairwise(self._layers)):
            is_input = number == 0
            source = torch.arange(len(self._x)) if is_input else self._nodes[below]
            known = self._x if is_input else value[below]  # (S, q)
            gradient = self._noise * known @ reach[layer].T  # (S, T)
            curvature = self._noise * known[:, rows].square() @ curved[layer].T / share
            held = self._precision[int(layer is self._layers[-1])]
            keys.append((source[:, None] * self._of.n_neurons + self._nodes[layer]).flatten())
            gains.append((gradient.square() / (curvature + held + _JITTER)).flatten())
        return torch.cat(keys), torch.cat(gains)

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
        """Number the neurons that are left: those with edges, and all outputs."""
        z = self._of
        outputs = torch.arange(z.n_neurons - z.widths[-1], z.n_neurons)
        self._nodes = torch.cat([self.edges.flatten(), outputs]).unique()  # (M,) ascending
        place = torch.full((z.n_neurons,), -1)
        place[self._nodes] = torch.arange(len(self._nodes))
        self._source, self._target = place[self.edges]
        bounds = torch.searchsorted(self._nodes, torch.tensor(z.starts)).tolist()
        self._layers = [slice(a, b) for a, b in pairwise(bounds)]
        self._n_in = self._layers[0].stop
        self._is_out = self._target >= self._layers[-1].start
        self._inputs = self._x[self._nodes[: self._n_in]]

    def _vector(self) -> Tensor:
        """Weights and biases. Shape ``(P,)``."""
        return torch.cat([self._edge, self._bias[self._nodes[self._n_in :]]])

    def _set(self, vector: Tensor) -> None:
        self._edge = vector[: self.n_edges].clone()
        self._bias[self._nodes[self._n_in :]] = vector[self.n_edges :]

    def _matrix(self, vector: Tensor) -> Tensor:
        """Weights between all neurons. Shape ``(M, M)``."""
        W = vector.new_zeros(len(self._nodes), len(self._nodes))
        W[self._source, self._target] = vector[: self.n_edges]
        return W

    def _forward(self, vector: Tensor, W: Tensor) -> tuple[Tensor, Tensor]:
        """Values and slopes of all neurons, ``(M, q)`` each."""
        bias, M, q = vector[self.n_edges :].unsqueeze(1), len(self._nodes), self._x.shape[1]
        value, slope = vector.new_empty(M, q), vector.new_ones(M, q)
        value[: self._n_in] = self._inputs
        for layer in self._layers[1:]:
            own = slice(layer.start - self._n_in, layer.stop - self._n_in)
            z = W[: layer.start, layer].T @ value[: layer.start] + bias[own]
            if layer is not self._layers[-1] and len(z):
                (z,), (slope[layer],) = activated(
                    z[None], self._of.activation[self._nodes[layer]][None]
                )
            value[layer] = z
        return value, slope

    def _reach(self, ends: Tensor, *, W: Tensor, slope: Tensor) -> Tensor:
        """What every neuron's sum does to combinations of the outputs.

        Args:
            ends: d combinations in r rows. Shape ``(d, c, r)``.
            W: Weights. Shape ``(M, M)``.
            slope: Shape ``(M, r)``.

        Returns:
            Shape ``(d, M, r)``.
        """
        reach = ends.new_zeros(len(ends), *slope.shape)
        reach[:, self._layers[-1]] = ends
        for layer in reversed(self._layers[1:-1]):
            reach[:, layer] = (W[layer, layer.stop :] @ reach[:, layer.stop :]) * slope[layer]
        return reach

    # Energy and its derivatives

    def _data_loss(self, scores: Tensor) -> float:
        if self._is_regression:
            return float(functional.huber_loss(scores, self._y, delta=_HUBER, reduction="sum"))
        return float(-(torch.log_softmax(scores, dim=0) * self._y).sum())

    def _prior(self) -> Tensor:
        """Precision of every parameter. Shape ``(P,)``."""
        n_biases = len(self._nodes) - self._n_in
        biases = self._edge.new_full((n_biases,), _BIAS_PRECISION)
        return torch.cat([self._precision[self._is_out.long()], biases])

    def _energy(self, vector: Tensor) -> float:
        value, _ = self._forward(vector, self._matrix(vector))
        held = (self._prior() * vector.square()).sum() / 2
        return self._noise * self._data_loss(value[self._layers[-1]]) + float(held)

    def _system(self, vector: Tensor) -> tuple[Tensor, Tensor]:
        """Gradient ``(P,)`` and curvature ``(P, P)`` of the data's loss."""
        W = self._matrix(vector)
        value, slope = self._forward(vector, W)
        scores, q = value[self._layers[-1]], self._x.shape[1]
        error, weight = _errors(scores, self._y, is_regression=self._is_regression)
        reach = self._reach(error[None], W=W, slope=slope)[0]  # (M, q)
        into = (value[self._source] * reach[self._target]).sum(dim=1)
        gradient = torch.cat([into, reach[self._n_in :].sum(dim=1)])
        rows = self._curved_rows(len(scores))
        roots = _roots(weight[:, rows], is_regression=self._is_regression)  # (d, c, r)
        known = value[:, rows][self._source].float()  # (E, r)
        curvature = torch.zeros(len(vector), len(vector), dtype=known.dtype)
        for reach in self._reach(roots, W=W, slope=slope[:, rows]).float():
            J = torch.cat([known * reach[self._target], reach[self._n_in :]])  # (P, r)
            curvature.addmm_(J, J.T)
        return gradient, curvature.double() * (q / len(rows))

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
                step = torch.cholesky_solve(gradient.unsqueeze(1), factor).squeeze(1)
                after = self._energy(vector - step)
                if math.isfinite(after) and after < before:
                    self._set(vector - step)
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
            value, _ = self._forward(vector, self._matrix(vector))
            loss = self._data_loss(value[self._layers[-1]])
            self._noise = max(n - n_determined, 0.1 * n) / (2 * loss + 1e-6 * n)
        return inverse

    def _live_without(self, gone: Tensor) -> Tensor:
        """Which edges still lie on a path from an input to an output. Bool, shape ``(E,)``."""
        kept = torch.ones(self.n_edges, dtype=torch.bool)
        kept[gone] = False
        fed = torch.zeros(len(self._nodes), dtype=torch.bool)
        used = fed.clone()
        fed[: self._n_in], used[self._layers[-1]] = True, True
        for layer in self._layers[1:]:
            own = kept & (self._target >= layer.start) & (self._target < layer.stop)
            fed[self._target[own & fed[self._source]]] = True
        for layer in reversed(self._layers[:-1]):
            own = kept & (self._source >= layer.start) & (self._source < layer.stop)
            used[self._source[own & used[self._target]]] = True
        return kept & fed[self._source] & used[self._target]


def _errors(scores: Tensor, y: Tensor, *, is_regression: bool) -> tuple[Tensor, Tensor]:
    """The loss's gradient by the scores, and what its curvature depends on; ``(c, q)`` each.

    The latter is the share of every class, or how much of an outlier counts.
    """
    if not is_regression:
        share = torch.softmax(scores, dim=0)
        return share - y, share
    error = scores - y
    counted = _HUBER / error.abs().clamp(min=_HUBER)
    return error * counted, counted


def _roots(weight: Tensor, *, is_regression: bool) -> Tensor:
    """Roots of the loss's curvature in every row: d combinations of c outputs. ``(d, c, r)``."""
    if is_regression:
        return torch.diag_embed(weight.sqrt().T).permute(1, 2, 0)
    share = weight.clamp(min=1e-6)
    if len(share) == 2:
        both = (share[0] * share[1]).sqrt()
        return torch.stack([both, -both]).unsqueeze(0)
    eye = torch.eye(len(share), dtype=share.dtype).unsqueeze(2)
    return share.sqrt().unsqueeze(1) * (eye - share.unsqueeze(0))
