"""Networks of the most probable edges, and the tables that hold what is said of every possible one.

Notation: layers of widths n_0 … n_t, those of features and outputs included; N = Σ n_{k-1} n_k.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import accumulate, pairwise

import torch
from torch import Tensor

from graphpred.activations import IDENTITY
from graphpred.architecture import Architecture
from graphpred.errors import InputError
from graphpred.meta.feedback import activated
from graphpred.meta.readout import fitted_readout
from graphpred.meta.samples import RowSample
from graphpred.searchers import Proposal
from graphpred.weights import Weights

_LEAST_WEIGHT = 0.1


@dataclass(frozen=True, eq=False, kw_only=True)
class LikelyEdges:
    """All possible edges between consecutive layers of a network.

    Attributes:
        probabilities: One table a layer of weights, ``(n_{k-1}, n_k)``.
        weights: Likewise.
        biases: One vector a layer of weights, ``(n_k,)``.
        classes: Registry indices of the hidden neurons' activations, layer after layer.
    """

    probabilities: tuple[Tensor, ...]
    weights: tuple[Tensor, ...]
    biases: tuple[Tensor, ...]
    classes: Tensor

    @property
    def widths(self) -> tuple[int, ...]:
        """n_0 … n_t."""
        return (len(self.probabilities[0]), *(p.shape[1] for p in self.probabilities))

    @property
    def n_likely(self) -> int:
        """Edges of probability ½ and more."""
        return sum(int((p >= 0.5).sum()) for p in self.probabilities)

    def likely(self, limit: int | None = None) -> Proposal:
        """The live ones among likely edges; at most ``limit``, if given, most probable first."""
        low, high = 0, self.n_likely
        if limit is None:
            return self.top(high)
        while low < high:  # live edges never fall when edges are added
            middle = (low + high + 1) // 2
            if self.top(middle).architecture.n_edges <= limit:
                low = middle
            else:
                high = middle - 1
        return self.top(low)

    def top(self, n_edges: int) -> Proposal:
        """The live ones among the most probable edges, with their weights."""
        flat = flattened(self.probabilities)  # (N,)
        chosen = torch.zeros_like(flat, dtype=torch.bool)
        chosen[flat.argsort(descending=True, stable=True)[:n_edges]] = True
        starts = accumulate(self.widths, initial=0)
        edges = [
            mask.nonzero().T + torch.tensor([[start], [start + len(mask)]])
            for mask, start in zip(tables(chosen, widths=self.widths), starts, strict=False)
        ]
        return self._built(torch.cat(edges, dim=1))

    def path(self) -> Proposal:
        """The most probable path from a feature to an output, for when nothing else connects."""
        logs = [p.clamp(min=1e-12).log() for p in self.probabilities]
        onwards = [logs[-1]]  # of the best path that begins with every edge
        for log in reversed(logs[:-1]):
            onwards.insert(0, log + onwards[0].amax(dim=1))
        neurons = [int(onwards[0].amax(dim=1).argmax())]
        neurons += [0] * len(onwards)
        for k, table in enumerate(onwards):
            neurons[k + 1] = int(table[neurons[k]].argmax())
        starts = accumulate(self.widths, initial=0)
        joined = [start + i for start, i in zip(starts, neurons, strict=False)]
        proposal = self._built(torch.tensor([joined[:-1], joined[1:]]))
        assert proposal.start is not None
        weak = proposal.start.edge.abs() < _LEAST_WEIGHT  # zeros would have no gradient
        edge = proposal.start.edge.masked_fill(weak, _LEAST_WEIGHT)
        start = Weights(edge=edge, bias=proposal.start.bias)
        return Proposal(architecture=proposal.architecture, start=start)

    def _built(self, edges: Tensor) -> Proposal:
        """The live ones among given edges, sorted, ``(2, n_edges)``, with their weights."""
        widths = self.widths
        activation = torch.full((sum(widths),), IDENTITY)
        activation[widths[0] : sum(widths[:-1])] = self.classes
        z = Architecture(edges=edges, activation=activation, widths=widths).without_dead_edges()
        edge = flattened(self.weights)[places(z.edges, widths=widths)]
        return Proposal(architecture=z, start=Weights(edge=edge, bias=torch.cat(self.biases)))


def flattened(parts: Sequence[Tensor]) -> Tensor:
    """Tables of all layers as one vector. Shape ``(N,)``."""
    return torch.cat([part.flatten() for part in parts])


def tables(flat: Tensor, *, widths: Sequence[int]) -> tuple[Tensor, ...]:
    """The inverse of ``flattened``: one table a layer of weights, ``(n_{k-1}, n_k)``."""
    shapes = list(pairwise(widths))
    parts = flat.split([a * b for a, b in shapes])
    return tuple(part.view(shape) for part, shape in zip(parts, shapes, strict=True))


def mosaic(said: Sequence[Sequence[Tensor]], *, neurons: Sequence[Tensor]) -> tuple[Tensor, ...]:
    """What several networks say of all edges, for one that has hidden neurons of all of them.

    Args:
        said: Tables of every network, ``(n_{k-1}, n_k)``.
        neurons: Of every hidden layer, which of the neurons of all networks, numbered through.

    Returns:
        One table a layer of weights. Of edges from one network to another nothing is said: they
        have the least number of their layer.
    """
    first, *between, last = (list(layer) for layer in zip(*said, strict=True))
    joined = [torch.cat(first, dim=1), *(_beside(layer) for layer in between), torch.cat(last)]
    for k, own in enumerate(neurons):
        joined[k], joined[k + 1] = joined[k][:, own], joined[k + 1][own]
    return tuple(joined)


def _beside(parts: Sequence[Tensor]) -> Tensor:
    """Tables along the diagonal of a large one, whose other numbers are the least of them all."""
    is_own = torch.block_diag(*(torch.ones_like(part, dtype=torch.bool) for part in parts))
    least = torch.stack([part.amin() for part in parts]).amin()
    return torch.where(is_own, torch.block_diag(*parts), least)


def places(edges: Tensor, *, widths: Sequence[int]) -> Tensor:
    """Where edges are among all possible ones, layer by layer. Int64, shape ``(n_edges,)``."""
    starts = torch.tensor(list(accumulate(widths, initial=0)))
    before = torch.tensor(list(accumulate((a * b for a, b in pairwise(widths)), initial=0)))
    source, target = edges
    layer = torch.searchsorted(starts, source, right=True)  # of the target
    row = before[layer - 1] + (source - starts[layer - 1]) * torch.tensor(widths)[layer]
    place: Tensor = row + target - starts[layer]
    return place


def layer_values(X: Tensor, *, W: Tensor, bias: Tensor, classes: Tensor) -> Tensor:
    """What neurons say of rows. Float, shape ``(m, h)``.

    Args:
        X: What those before say. Float, shape ``(m, n)``.
        W: Float, shape ``(n, h)``.
        bias: Float, shape ``(h,)``.
        classes: Registry indices of the activations, ``(h,)``.
    """
    value, _ = activated((X @ W + bias).T[None], classes[None])  # (1, h, m)
    return value[0].T


def refitted(proposal: Proposal, *, sample: RowSample) -> tuple[Proposal, float]:
    """The same structure with the best weights to the outputs, and its loss on the sample.

    Edges that were dropped have left gaps, which linear regression fills in closed form.
    """
    z, start = proposal.architecture, proposal.start
    assert start is not None
    widths, at = z.widths, places(z.edges, widths=z.widths)
    n_possible = sum(a * b for a, b in pairwise(widths))
    flat, mask = torch.zeros(n_possible), torch.zeros(n_possible, dtype=torch.bool)
    flat[at], mask[at] = start.edge, True
    *before, into, out = tables(flat, widths=widths)
    *known, hidden_bias, output_bias = start.bias.split(widths[1:])
    *firing, classes = z.activation[widths[0] : sum(widths[:-1])].split(widths[1:-1])
    X = sample.X
    for W, bias, own in zip(before, known, firing, strict=True):
        X = layer_values(X, W=W, bias=bias, classes=own)
    fitted = fitted_readout(
        replace(sample, X=X),
        into=into,
        hidden_bias=hidden_bias,
        classes=classes,
        mask=tables(mask, widths=widths)[-1],
        out=out,
        output_bias=output_bias,
    )
    flat = torch.cat([flat[: n_possible - out.numel()], fitted.weight.flatten()])
    bias = torch.cat([*known, hidden_bias, fitted.bias])
    return replace(proposal, start=Weights(edge=flat[at], bias=bias)), fitted.loss


def edge_limit(
    widths: Sequence[int], *, n_edges: int | None = None, density: float | None = None
) -> int:
    """The largest K* that is asked for, as a number or as a share of all possible edges.

    Raises:
        InputError: If both are given, or fewer edges than a path from a feature to an output has.
    """
    if n_edges is not None and density is not None:
        raise InputError("n_edges or density must be given, not both.")
    if density is not None:
        if not 0 < density <= 1:
            raise InputError(f"density must be in (0, 1]; got {density}.")
        n_edges = math.floor(density * sum(a * b for a, b in pairwise(widths)) + 1e-9)
    assert n_edges is not None
    if n_edges < (least := len(widths) - 1):
        raise InputError(f"a network must be allowed {least} edges or more; got {n_edges}.")
    return n_edges
