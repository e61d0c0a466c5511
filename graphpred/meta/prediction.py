"""``Prediction``: a distribution over networks for one data set, and networks chosen from it.

Notation: n features, h hidden neurons, c outputs, a activation classes; N = n·h + h·c; K* live
edges.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from graphpred.activations import IDENTITY, activation_indices
from graphpred.architecture import Architecture
from graphpred.errors import InputError
from graphpred.meta.decoder import LATENT_SIZE, Decoder
from graphpred.meta.encoders import Embedding
from graphpred.searchers import Proposal
from graphpred.weights import Weights

PRICE_RANGE = (1e-4, 10.0)
"""Prices between which the one for a number of edges is sought."""
_BISECTIONS = 8
_LEAST_WEIGHT = 0.1


@dataclass(frozen=True, eq=False, kw_only=True)
class Prediction:
    """What the meta-model says of one data set at one price.

    Attributes:
        price: λ = C·N.
        activations: Names of the a activation classes.
        probabilities: Of every possible edge, ``(n, h)`` and ``(h, c)``.
        activation_probabilities: Of every class in every hidden neuron, ``(h, a)``.
        weights: Of every possible edge, zero for those that are unlikely; ``(n, h)``, ``(h, c)``.
        biases: Of the hidden neurons, ``(h,)``, and of the outputs, ``(c,)``.
    """

    price: float
    activations: tuple[str, ...]
    probabilities: tuple[Tensor, Tensor]
    activation_probabilities: Tensor
    weights: tuple[Tensor, Tensor]
    biases: tuple[Tensor, Tensor]
    _decoder: Decoder
    _embedding: Embedding
    _latents: Tensor

    @classmethod
    @torch.no_grad()
    def decode(
        cls,
        decoder: Decoder,
        *,
        embedding: Embedding,
        price: float,
        activations: tuple[str, ...],
        latents: Tensor,
    ) -> "Prediction":
        """Decode one embedding at a price."""
        device = embedding.features.device
        decoded = decoder(
            [embedding], prices=torch.tensor([price], device=device), latents=[latents.to(device)]
        )
        return cls(
            price=price,
            activations=activations,
            probabilities=tuple(p[0].cpu() for p in decoded.probabilities),
            activation_probabilities=decoded.activation[0].softmax(dim=1).cpu(),
            weights=tuple(w[0].cpu() for w in decoded.weights),
            biases=(decoded.hidden_bias[0].cpu(), decoded.output_bias[0].cpu()),
            _decoder=decoder,
            _embedding=embedding,
            _latents=latents,
        )

    @property
    def widths(self) -> tuple[int, int, int]:
        """n, h, c."""
        (n, h), (_, c) = (p.shape for p in self.probabilities)
        return n, h, c

    @property
    def n_possible_edges(self) -> int:
        """N."""
        n, h, c = self.widths
        return n * h + h * c

    @property
    def _n_likely(self) -> int:
        """Edges of probability ½ and more."""
        return sum(int((p >= 0.5).sum()) for p in self.probabilities)

    def at(self, price: float) -> "Prediction":
        """The same data set and latents at another price, a positive number."""
        if not 0 < price < math.inf:
            raise InputError(f"price must be a positive number; got {price}.")
        return self._decoded(price, self._latents)

    def architecture(
        self, *, n_edges: int | None = None, density: float | None = None
    ) -> Architecture:
        """The architecture of ``proposal``."""
        return self.proposal(n_edges=n_edges, density=density).architecture

    def proposal(self, *, n_edges: int | None = None, density: float | None = None) -> Proposal:
        """A network with its predicted weights as the start.

        Args:
            n_edges: Largest K*. The price is sought at which as many edges are likely; then the
                least probable edges go, and dead ones with them. If not even the lowest price
                makes so many likely, the network has fewer: it is not filled up.
            density: The same as floor(density · N) edges.

        Returns:
            With neither, all live edges of probability ½ and more at this price.

        Raises:
            InputError: If both are given, or fewer than 2 edges are allowed.
        """
        if n_edges is None and density is None:
            return self._top(self._n_likely)
        limit = self.limit(n_edges=n_edges, density=density)
        return self.near(limit).within(limit)

    def sample(
        self,
        k: int,
        *,
        generator: torch.Generator,
        n_edges: int | None = None,
        density: float | None = None,
    ) -> list[Proposal]:
        """Draw k diverse candidates: fresh latents for all hidden neurons each time.

        Args:
            k: How many.
            generator: Source of randomness.
            n_edges: See ``proposal``.
            density: See ``proposal``.
        """
        return [
            drawn.proposal(n_edges=n_edges, density=density)
            for drawn in self.redraw(k, generator=generator)
        ]

    def redraw(self, k: int, *, generator: torch.Generator) -> list["Prediction"]:
        """Some predictions like this one, k of them, with fresh latents of all hidden neurons."""
        shape = (self.widths[1], LATENT_SIZE)
        latents = [torch.randn(shape, generator=generator) for _ in range(k)]
        return [self._decoded(self.price, z) for z in latents]

    def _decoded(self, price: float, latents: Tensor) -> "Prediction":
        return Prediction.decode(
            self._decoder,
            embedding=self._embedding,
            price=price,
            activations=self.activations,
            latents=latents,
        )

    def limit(self, *, n_edges: int | None = None, density: float | None = None) -> int:
        """The largest K* that is asked for; see ``proposal``."""
        if n_edges is not None and density is not None:
            raise InputError("n_edges or density must be given, not both.")
        if density is not None:
            if not 0 < density <= 1:
                raise InputError(f"density must be in (0, 1]; got {density}.")
            n_edges = math.floor(density * self.n_possible_edges + 1e-9)
        assert n_edges is not None
        if n_edges < 2:
            raise InputError(f"a network must be allowed 2 edges or more; got {n_edges}.")
        return n_edges

    def near(self, limit: int) -> "Prediction":
        """The prediction at the highest price that still gives ``limit`` live edges or more.

        At the lowest price if none does.
        """
        low, high = (math.log(price) for price in PRICE_RANGE)
        best = self.at(PRICE_RANGE[0])
        for _ in range(_BISECTIONS):
            middle = (low + high) / 2
            tried = self.at(math.exp(middle))
            if tried.architecture().n_edges >= limit:
                low, best = middle, tried
            else:
                high = middle
        return best

    def within(self, limit: int) -> Proposal:
        """As many of the likely edges, most probable first, as give at most ``limit`` live ones.

        If none of them connects a feature to an output, the most probable path.
        """
        low, high = 0, self._n_likely
        while low < high:  # live edges never fall when edges are added
            middle = (low + high + 1) // 2
            if self._top(middle).architecture.n_edges <= limit:
                low = middle
            else:
                high = middle - 1
        found = self._top(low)
        return found if found.architecture.n_edges else self._path()

    def _path(self) -> Proposal:
        """The most probable path from a feature to an output, for when nothing else connects."""
        n, h, _ = self.widths
        into, out = (p.clamp(min=1e-12).log() for p in self.probabilities)
        i = int((into.amax(dim=0) + out.amax(dim=1)).argmax())
        j, k = int(into[:, i].argmax()), int(out[i].argmax())
        edges = torch.tensor([[j, n + i], [n + i, n + h + k]])
        proposal = self._built(edges)
        assert proposal.start is not None
        weak = proposal.start.edge.abs() < _LEAST_WEIGHT  # two zeros would have no gradient
        edge = proposal.start.edge.masked_fill(weak, _LEAST_WEIGHT)
        start = Weights(edge=edge, bias=proposal.start.bias)
        return Proposal(architecture=proposal.architecture, start=start)

    def _top(self, n_edges: int) -> Proposal:
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

    def _built(self, edges: Tensor) -> Proposal:
        """The live ones among given edges, sorted, ``(2, n_edges)``, with their weights."""
        n, h, c = self.widths
        classes = torch.tensor(activation_indices(self.activations))
        activation = torch.full((n + h + c,), IDENTITY)
        activation[n : n + h] = classes[self.activation_probabilities.argmax(dim=1)]
        z = Architecture(edges=edges, activation=activation, widths=(n, h, c)).without_dead_edges()
        source, target = z.edges
        into = target < n + h
        edge = torch.empty(z.n_edges)
        edge[into] = self.weights[0][source[into], target[into] - n]
        edge[~into] = self.weights[1][source[~into] - n, target[~into] - n - h]
        return Proposal(architecture=z, start=Weights(edge=edge, bias=torch.cat(self.biases)))
