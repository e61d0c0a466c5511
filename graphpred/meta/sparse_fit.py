"""A sparse network that is fitted, and whose edges go and come.

Edges go by the saliency of the optimal brain surgeon (Hassibi and Stork, 1992), w² over the
variance of w, the square of a z-score; the remaining weights move to make up for those that go.
Edges come by the gradient that they would have, and with whole networks that are put beside.

Notation: as in ``graphpred.meta.fixed_fit``.
"""

import copy
from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor

from graphpred.meta.fixed_fit import (
    BETWEEN_HIDDEN,
    DAMPING,
    FROM_FEATURES,
    JITTER,
    TO_OUTPUTS,
    FixedFit,
)
from graphpred.meta.lifetimes import lifetimes
from graphpred.meta.sparse_loss import errors, roots

_CHANCE = 1.0  # the square of a z-score that is worth nothing


class SparseFit(FixedFit):
    """A network that is being fitted to a sample of rows, cut and grown; changed in place.

    Args:
        proposal: An architecture with linear outputs and without dead edges, and its weights.
        sample: Rows.
    """

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
        both._damping = DAMPING
        return both

    def copy(self) -> "SparseFit":
        """One that changes by itself."""
        same = copy.copy(self)
        same._bias, same._precision = self._bias.clone(), self._precision.clone()
        return same

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

    def _take(self, edges: Tensor, edge: Tensor) -> None:
        """Have these edges and weights, in any order."""
        order = self._keys(edges).argsort()
        self.edges, self._edge = edges[:, order], edge[order]
        self._number_neurons()

    def _keys(self, edges: Tensor) -> Tensor:
        """A number for every edge, in their order."""
        return edges[0] * self._of.n_neurons + edges[1]

    def _dead(self, gone: Tensor) -> Tensor:
        """Which edges go, and which die with them. Bool, shape ``(E,)``."""
        return self._lifetime((~gone).long()) < 1

    def _lifetime(self, rank: Tensor) -> Tensor:
        """When every edge dies that goes by itself at a rank, ``(E,)``; see ``lifetimes``."""
        return lifetimes(rank, source=self._source, target=self._target, layers=self._layers)

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
            into = BETWEEN_HIDDEN if number else FROM_FEATURES
            held = self._precision[TO_OUTPUTS if layer is self._layers[-1] else into]
            keys.append((source[:, None] * self._of.n_neurons + self._nodes[layer]).flatten())
            gains.append((gradient.square() / (curvature + held + JITTER)).flatten())
        return torch.cat(keys), torch.cat(gains)
