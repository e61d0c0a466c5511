"""Message passing over an architecture, edge by edge: how probable is the next edge of a neuron?

Notation: G graphs of one shape; n features, h hidden neurons, c outputs, T = c + n ends of edges in
the order of their identity codes, outputs first; a activation classes; d the width of messages.

All hidden neurons decide at the same time, end after end. Neuron i has heard a message from every
end that it is joined to so far (their sum: a graph isomorphism network), and the mean over all
neurons of what they heard; from these, its class, the data set's embedding of the next end and the
relations of that end to the outputs that it has, comes the probability of the next edge.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from graphpred.meta.encoders import Embedding
from graphpred.meta.initialisation import initialise, mlp
from graphpred.meta.ordered import N_LEVELS, active_levels, log2_edges_per_end
from graphpred.meta.quantiles import PROBABILITY_FLOOR

_CONTEXT_SIZE = 6
_PLACE_SIZE = 3
_PATH_SIZE = 16
_EVEN_SHARE = 0.03


@dataclass(frozen=True, eq=False, kw_only=True)
class Known:
    """Data sets as seen from hidden neurons, ends in the order of their identity codes.

    Attributes:
        messages: What a neuron hears from an end; the last two numbers count outputs and features.
            Float64, shape ``(G, T, d + 2)``.
        queries: What asks whether the end is joined. Float64, shape ``(G, T, d)``.
        relations: Of features and outputs. Float64, shape ``(G, n, c, r)``.
        whole: The data set as one, and the sizes. Float64, shape ``(G, d)``.
        n_hidden: h.
    """

    messages: Tensor
    queries: Tensor
    relations: Tensor
    whole: Tensor
    n_hidden: int

    @property
    def n_outputs(self) -> int:
        """Outputs, c."""
        return self.relations.shape[2]


@dataclass(frozen=True, eq=False, kw_only=True)
class Neurons:
    """What is known of hidden neurons before their edges.

    Attributes:
        state: Float64, shape ``(G, h, d)``.
        active: Bool, shape ``(G, h)``.
        density: Log-odds of an edge of an active neuron, roughly. Float64, shape ``(G,)``.
    """

    state: Tensor
    active: Tensor
    density: Tensor


class CausalGNN(nn.Module):
    """Probabilities of every decision about an architecture, given those before.

    In float64, since an encoder and a decoder must agree on them to the last digits.

    Args:
        width: Of the data set's embeddings.
        relation_width: Of its relations.
        n_activations: a.
        n_messages: d.
        generator: Source of the initial parameters.
    """

    def __init__(
        self,
        *,
        width: int,
        relation_width: int,
        n_activations: int,
        n_messages: int = 48,
        generator: torch.Generator,
    ) -> None:
        super().__init__()
        d = n_messages
        self.n_activations = n_activations
        self.whole = mlp(2 * width + 3, d, n_hidden=d)
        self.edge_level = nn.Linear(d, N_LEVELS)
        self.active_level = mlp(d + N_LEVELS, N_LEVELS, n_hidden=d)
        self.context = mlp(d + _CONTEXT_SIZE, d, n_hidden=d)
        self.activation, self.chosen = nn.Linear(d, n_activations), nn.Linear(n_activations, d)
        self.feature, self.output = nn.Linear(width, 2 * d), nn.Linear(width, 2 * d)
        self.path = mlp(relation_width, _PATH_SIZE, n_hidden=2 * _PATH_SIZE)
        self.heard, self.common = nn.Linear(d + 2, d), nn.Linear(d + 2, d)
        self.along, self.place = nn.Linear(_PATH_SIZE, d), nn.Linear(_PLACE_SIZE, d)
        self.decide = nn.Sequential(nn.SiLU(), nn.Linear(d, d), nn.SiLU(), nn.Linear(d, 1))
        initialise(self, generator=generator)
        self.double()

    def know(
        self, embeddings: Sequence[Embedding], *, orders: Sequence[Tensor], n_hidden: int
    ) -> Known:
        """Bring data sets of one shape into the order of the ends.

        Args:
            embeddings: One a data set.
            orders: Of the ends, outputs first: positions of outputs, then of features. Each int64,
                shape ``(T,)``.
            n_hidden: h.
        """
        features, outputs, relations = [], [], []
        for e, order in zip(embeddings, orders, strict=True):
            c = len(e.outputs)
            features.append(e.features[order[c:]].double())
            outputs.append(e.outputs[order[:c]].double())
            relations.append(e.relations[order[c:]][:, order[:c]].double())
        x, o = torch.stack(features), torch.stack(outputs)  # (G, n, width), (G, c, width)
        n, c = x.shape[1], o.shape[1]
        sizes = x.new_tensor([math.log(n), math.log(c), math.log(n_hidden)]) / 2
        whole = torch.cat([x.mean(dim=1), o.mean(dim=1), sizes.expand(len(x), 3)], dim=1)
        message, query = torch.cat([self.output(o), self.feature(x)], dim=1).chunk(2, dim=2)
        kind = x.new_zeros(c + n, 2)  # counted in the last two numbers of a message
        kind[:c, 0] = kind[c:, 1] = 1
        return Known(
            messages=torch.cat([message, kind.expand(len(x), -1, 2)], dim=2),
            queries=query + self.place(_places(n, c)),
            relations=torch.stack(relations),
            whole=self.whole(whole),
            n_hidden=n_hidden,
        )

    def edge_level_probabilities(self, known: Known) -> Tensor:
        """Of the levels of the number of edges, ``(G, N_LEVELS)``."""
        return _floored(self.edge_level(known.whole).softmax(dim=1))

    def n_active_probabilities(self, known: Known, *, edge_level: Tensor) -> Tensor:
        """Of every number of active neurons from 1 to h, ``(G, h)``."""
        one_hot = nn.functional.one_hot(edge_level, N_LEVELS).to(known.whole)
        logits = self.active_level(torch.cat([known.whole, one_hot], dim=1))  # (G, N_LEVELS)
        level = active_levels(known.n_hidden)  # (h,)
        n_alike = torch.bincount(level)[level]
        return _floored((logits[:, level] - n_alike.log()).softmax(dim=1))

    def graph_context(
        self, known: Known, *, edge_level: Tensor, n_active: Tensor
    ) -> tuple[Tensor, Tensor]:
        """What all neurons of a graph know, ``(G, d)``, and log-odds of an edge, ``(G,)``."""
        n_ends = known.messages.shape[1]
        log_edges = log2_edges_per_end(edge_level) + math.log2(n_ends)  # of the whole graph
        log_active = n_active.double().log2()
        per_neuron = log_edges - log_active  # log2 of edges
        density = (torch.exp2(per_neuron) / n_ends).clamp(1 / n_ends, 0.95).logit()
        sizes = known.whole.new_tensor([math.log2(n_ends), math.log2(known.n_hidden)])
        numbers = torch.cat(
            [
                torch.stack([log_edges, log_active, per_neuron, density], dim=1),
                sizes.expand(len(density), 2),
            ],
            dim=1,
        )
        return self.context(torch.cat([known.whole, numbers / 4], dim=1)), density

    def activation_probabilities(self, context: Tensor) -> Tensor:
        """Of the classes of every neuron of a graph, ``(G, a)``."""
        return _floored(self.activation(context).softmax(dim=1))

    def neuron_states(self, context: Tensor, *, activation: Tensor) -> Tensor:
        """Of neurons that know their class, ``(G, h, d)``."""
        one_hot = nn.functional.one_hot(activation, self.n_activations).to(context)
        states: Tensor = context.unsqueeze(1) + self.chosen(one_hot)
        return states

    def paths(self, known: Known, *, outputs: Tensor) -> Tensor:
        """Relations of every feature to the outputs of every neuron.

        Args:
            known: The data sets.
            outputs: Bool, shape ``(G, h, c)``.

        Returns:
            Means over these outputs, and zeros in the places of outputs. ``(G, h, T, r')``.
        """
        share = outputs.double() / outputs.sum(dim=2, keepdim=True).clamp(min=1)
        relation = self.path(known.relations)  # (G, n, c, r')
        mean = torch.einsum("ghc,gncr->ghnr", share, relation)
        padded: Tensor = nn.functional.pad(mean, (0, 0, known.n_outputs, 0))
        return padded

    def edge_probabilities(
        self, known: Known, *, neurons: Neurons, heard: Tensor, paths: Tensor, ends: slice
    ) -> Tensor:
        """Of the edges to some ends, given all that was decided before.

        The last output, and the last feature, is certain for an active neuron that has none.

        Args:
            known: The data sets.
            neurons: Their hidden neurons.
            heard: Sum of the messages heard before every one of the ends, ``(G, h, S, d + 2)``.
            paths: Of these ends, ``(G, h, S, r')``.
            ends: Which ones, S of them.

        Returns:
            Float64, shape ``(G, h, S)``.
        """
        counts = heard[..., -2:]  # (G, h, S, 2)
        scaled = torch.cat([heard[..., :-2], 3 * counts.log1p()], dim=3)
        scaled = scaled / (1 + counts.sum(dim=3, keepdim=True)).sqrt()
        common = torch.cat([heard[..., :-2], counts], dim=3).mean(dim=1, keepdim=True)
        state = self.heard(scaled) + self.common(common) + self.along(paths)
        state = state + neurons.state.unsqueeze(2) + known.queries[:, None, ends]
        logits = self.decide(state).squeeze(3) + neurons.density[:, None, None]
        c, n_ends = known.n_outputs, known.messages.shape[1]
        at = torch.arange(n_ends)[ends]  # (S,)
        certain = ((at == c - 1) & (counts[..., 0] == 0)) | (
            (at == n_ends - 1) & (counts[..., 1] == 0)
        )
        probability = _sigmoid(logits).masked_fill(certain, 1.0)
        return probability.masked_fill(~neurons.active.unsqueeze(2), 0.0)


def _places(n: int, c: int) -> Tensor:
    """Kind of every end, and how far its kind is decided. Float64, shape ``(T, _PLACE_SIZE)``."""
    seen = torch.cat([torch.arange(c) / c, torch.arange(n) / n]).double()
    left = torch.cat([torch.arange(c, 0, -1), torch.arange(n, 0, -1)]).double()
    kind = torch.arange(c + n) < c
    return torch.stack([kind.double(), seen, left.log()], dim=1)


def _floored(probabilities: Tensor) -> Tensor:
    """A mixture with even probabilities, so that none is too low."""
    return (1 - _EVEN_SHARE) * probabilities + _EVEN_SHARE / probabilities.shape[1]


def _sigmoid(logits: Tensor) -> Tensor:
    return PROBABILITY_FLOOR + (1 - 2 * PROBABILITY_FLOOR) * torch.sigmoid(logits)
