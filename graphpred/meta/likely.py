"""Networks of the most probable edges.

Notation: n features, h hidden neurons, c outputs.
"""

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from graphpred.activations import IDENTITY
from graphpred.architecture import Architecture
from graphpred.meta.readout import fitted_readout
from graphpred.meta.samples import RowSample
from graphpred.searchers import Proposal
from graphpred.weights import Weights

_LEAST_WEIGHT = 0.1


@dataclass(frozen=True, eq=False, kw_only=True)
class LikelyEdges:
    """All possible edges of a network with one hidden layer.

    Attributes:
        probabilities: ``(n, h)`` and ``(h, c)``.
        weights: ``(n, h)`` and ``(h, c)``.
        biases: ``(h,)`` and ``(c,)``.
        classes: Registry indices of the hidden neurons' activations, ``(h,)``.
    """

    probabilities: tuple[Tensor, Tensor]
    weights: tuple[Tensor, Tensor]
    biases: tuple[Tensor, Tensor]
    classes: Tensor

    @property
    def widths(self) -> tuple[int, int, int]:
        """n, h, c."""
        (n, h), (_, c) = (p.shape for p in self.probabilities)
        return n, h, c

    def top(self, n_edges: int) -> Proposal:
        """The live ones among the most probable edges, with their weights."""
        n, h, c = self.widths
        flat = torch.cat([p.flatten() for p in self.probabilities])  # (N,)
        chosen = torch.zeros_like(flat, dtype=torch.bool)
        chosen[flat.argsort(descending=True, stable=True)[:n_edges]] = True
        first = chosen[: n * h].view(n, h).nonzero().T
        second = chosen[n * h :].view(h, c).nonzero().T
        edges = torch.cat(
            [first + torch.tensor([[0], [n]]), second + torch.tensor([[n], [n + h]])], dim=1
        )
        return self._built(edges)

    def path(self) -> Proposal:
        """The most probable path from a feature to an output, for when nothing else connects."""
        n, h, _ = self.widths
        into, out = (p.clamp(min=1e-12).log() for p in self.probabilities)
        i = int((into.amax(dim=0) + out.amax(dim=1)).argmax())
        j, k = int(into[:, i].argmax()), int(out[i].argmax())
        proposal = self._built(torch.tensor([[j, n + i], [n + i, n + h + k]]))
        assert proposal.start is not None
        weak = proposal.start.edge.abs() < _LEAST_WEIGHT  # two zeros would have no gradient
        edge = proposal.start.edge.masked_fill(weak, _LEAST_WEIGHT)
        start = Weights(edge=edge, bias=proposal.start.bias)
        return Proposal(architecture=proposal.architecture, start=start)

    def _built(self, edges: Tensor) -> Proposal:
        """The live ones among given edges, sorted, ``(2, n_edges)``, with their weights."""
        n, h, c = self.widths
        activation = torch.full((n + h + c,), IDENTITY)
        activation[n : n + h] = self.classes
        z = Architecture(edges=edges, activation=activation, widths=(n, h, c)).without_dead_edges()
        source, target = z.edges
        into = target < n + h
        edge = torch.empty(z.n_edges)
        edge[into] = self.weights[0][source[into], target[into] - n]
        edge[~into] = self.weights[1][source[~into] - n, target[~into] - n - h]
        return Proposal(architecture=z, start=Weights(edge=edge, bias=torch.cat(self.biases)))


def places(edges: Tensor, *, widths: tuple[int, int, int]) -> Tensor:
    """Where edges are among all possible ones, layer by layer. Int64, shape ``(n_edges,)``."""
    n, h, c = widths
    source, target = edges
    later = n * h + (source - n) * c + target - n - h
    return torch.where(target < n + h, source * h + target - n, later)


def refitted(proposal: Proposal, *, sample: RowSample) -> tuple[Proposal, float]:
    """The same structure with the best weights to the outputs, and its loss on the sample.

    Edges that were dropped have left gaps, which linear regression fills in closed form.
    """
    z, start = proposal.architecture, proposal.start
    n, h, c = z.widths
    assert start is not None
    source, target = z.edges
    into = target < n + h
    first, second = torch.zeros(n, h), torch.zeros(h, c)
    mask = torch.zeros(h, c, dtype=torch.bool)
    first[source[into], target[into] - n] = start.edge[into]
    ends = source[~into] - n, target[~into] - n - h
    second[ends], mask[ends] = start.edge[~into], True
    fitted = fitted_readout(
        sample,
        into=first,
        hidden_bias=start.bias[:h],
        classes=z.activation[n : n + h],
        mask=mask,
        out=second,
        output_bias=start.bias[h:],
    )
    edge = start.edge.clone()
    edge[~into] = fitted.weight[ends]
    weights = Weights(edge=edge, bias=torch.cat([start.bias[:h], fitted.bias]))
    return replace(proposal, start=weights), fitted.loss
