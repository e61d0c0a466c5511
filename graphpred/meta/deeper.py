"""``DeepPrediction``: a distribution over networks with several hidden layers.

Layers are grown on each other (``graphpred.meta.layerwise``). For a number of edges there are more
than wanted, and all layers together are fitted and cut (``graphpred.meta.surgery``), so that early
ones learn what late ones need.

Notation: layers of widths n_0 … n_t, n_0 = n features and n_t = c outputs; h = n_1 + … + n_{t-1}
hidden neurons; a activation classes; N possible edges; K* live ones.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from graphpred.errors import InputError
from graphpred.meta.layerwise import Grown, Layers
from graphpred.meta.likely import LikelyEdges, flattened, places, refitted, tables
from graphpred.meta.prediction import PRICE_RANGE, Prediction
from graphpred.meta.proposing import Proposing
from graphpred.meta.surgery import (
    Operated,
    draft_size,
    gone_probability,
    is_operable,
    n_operable,
    operated,
)
from graphpred.searchers import Proposal

_UNLIKELY = 0.499
_N_PRICES = 8  # tried for networks that are too large to be fitted


@dataclass(frozen=True, eq=False, kw_only=True)
class DeepPrediction(Proposing):
    """What the meta-model says of one data set at one price, with several hidden layers.

    Used like ``Prediction``. Its likely edges are those of one network, without dead ones.

    Attributes:
        price: λ = C·N.
        activations: Names of the a activation classes.
        probabilities: Of every possible edge, one table a layer of weights, ``(n_{k-1}, n_k)``.
        activation_probabilities: Of every class in every hidden neuron, layer after layer,
            ``(h, a)``.
        classes: Registry index of the class that every hidden neuron has drawn, ``(h,)``.
        weights: Of every possible edge, zero for those that are unlikely; ``(n_{k-1}, n_k)``.
        biases: Of the neurons, one vector a layer of weights, ``(n_k,)``.
        familiarity: See ``Prediction``.
        is_fitted: Whether it is the outcome of ``fitted``: all layers fitted together.
    """

    price: float
    activations: tuple[str, ...]
    probabilities: tuple[Tensor, ...]
    activation_probabilities: Tensor
    classes: Tensor
    weights: tuple[Tensor, ...]
    biases: tuple[Tensor, ...]
    familiarity: float | None
    is_fitted: bool
    _layers: Layers

    @classmethod
    def of(cls, layers: Layers, *, price: float) -> "DeepPrediction":
        """The layers at a price."""
        return cls._along(layers, [price])[0]

    @classmethod
    def _along(cls, layers: Layers, prices: Sequence[float]) -> list["DeepPrediction"]:
        grown = layers.along(prices)
        return [
            replace(cls._of(one, layers=layers), price=price)  # but for rounding, it has it
            for one, price in zip(grown, prices, strict=True)
        ]

    @classmethod
    def _of(
        cls, grown: Grown, *, layers: Layers, outcome: Operated | None = None, gone: float = 1.0
    ) -> "DeepPrediction":
        """From grown layers, and what was made of their network if it was cut.

        Args:
            grown: The layers.
            layers: What they were grown from.
            outcome: The network that was cut.
            gone: By which number probabilities of edges fall that it never had.
        """
        proposal, widths = grown.proposal, layers.widths
        said = flattened(grown.probabilities)  # (N,)
        if outcome is None:
            at = places(proposal.architecture.edges, widths=widths)
            own, said = said[at].clamp(min=0.5), said.clamp(max=_UNLIKELY)
        else:
            at, own = places(outcome.edges, widths=widths), outcome.probability
            said, proposal = (gone * said).clamp(max=_UNLIKELY), outcome.proposal
        said[at] = own
        z, start = proposal.architecture, proposal.start
        assert start is not None
        weight = torch.zeros_like(said)
        weight[places(z.edges, widths=widths)] = start.edge
        return cls(
            price=grown.price,
            activations=layers.first.activations,
            probabilities=tables(said, widths=widths),
            activation_probabilities=grown.activation_probabilities,
            classes=z.activation[widths[0] : sum(widths[:-1])],
            weights=tables(weight, widths=widths),
            biases=start.bias.split(widths[1:]),
            familiarity=layers.first.familiarity,
            is_fitted=outcome is not None,
            _layers=layers,
        )

    @property
    def widths(self) -> tuple[int, ...]:
        """n_0 … n_t."""
        return self._layers.widths

    @property
    def n_possible_edges(self) -> int:
        """N."""
        return self._layers.n_possible_edges

    @property
    def n_live_edges(self) -> int:
        """Live edges among the likely ones."""
        return self._edges.likely().architecture.n_edges

    @property
    def _edges(self) -> LikelyEdges:
        return LikelyEdges(
            probabilities=self.probabilities,
            weights=self.weights,
            biases=self.biases,
            classes=self.classes,
        )

    def at(self, price: float) -> "DeepPrediction":
        """The same data set and latents at another price, a positive number."""
        if not 0 < price < math.inf:
            raise InputError(f"price must be a positive number; got {price}.")
        return self._along(self._layers, [price])[0]

    def along(self, prices: Sequence[float]) -> list["DeepPrediction"]:
        """The same at several prices."""
        return self._along(self._layers, prices)

    def redraw(self, k: int, *, generator: torch.Generator) -> list["DeepPrediction"]:
        """Some predictions like this one, k of them, with fresh latents of all hidden neurons."""
        layers = [self._layers.redrawn(generator=generator) for _ in range(k)]
        return [self.of(one, price=self.price) for one in layers]

    # Networks

    def fitted(self, limit: int | None = None) -> "DeepPrediction":
        """The prediction whose layers are fitted together, with its final weights.

        In a space of very many possible edges, a large network is not fitted but only cut.

        Args:
            limit: Largest K*; without it, as many as are likely at this price.
        """
        if self.is_fitted:
            return self
        if limit is None:
            fitted = self._cut_to(self.n_live_edges, layers=self._layers)
            return self if fitted is None else replace(fitted, price=self.price)
        return self._cut_to(limit, layers=self._layers) or self._near(limit)

    def fitted_draws(
        self, k: int, *, limit: int | None = None, generator: torch.Generator
    ) -> list["DeepPrediction"]:
        """Like ``fitted`` but quickly, k of them, with fresh latents of all hidden neurons."""
        size = self.n_live_edges if limit is None else limit
        price = self.price
        if limit is not None and not is_operable(limit, widths=self.widths):
            price = self._near(limit).price
        draws = []
        for _ in range(k):
            layers = self._layers.redrawn(generator=generator)
            fitted = self._cut_to(size, layers=layers, quick=True)
            fitted = fitted or self.of(layers, price=price)
            draws.append(replace(fitted, price=self.price) if limit is None else fitted)
        return draws

    def chosen(self, limit: int | None = None) -> Proposal:
        """The network of the likely edges.

        Args:
            limit: Largest K*: as many of the likely edges, most probable first, as give no more
                live ones, and the weights to the outputs fitted anew if some go. If none of them
                connects a feature to an output, the most probable path.
        """
        found = self._edges.likely(limit)
        if limit is not None and not found.architecture.n_edges:
            return self._edges.path()
        if self.is_fitted or found.architecture.n_edges == self.n_live_edges:
            return found
        return refitted(found, sample=self._layers.sample)[0]

    def _cut_to(
        self, limit: int, *, layers: Layers, quick: bool = False
    ) -> "DeepPrediction | None":
        """Drafts with more edges than wanted, made one network; None if it cannot be fitted."""
        if not is_operable(limit, widths=self.widths):
            return None
        size, sample = draft_size(limit, quick=quick), layers.sample
        drafts = [layers] if quick else layers.drafts(n_operable(limit))
        grown = [one.within(size, quick=quick) for one in drafts]
        grown = [one for one in grown if one.proposal.architecture.n_edges] or grown[:1]
        given = [one.proposal for one in grown]
        outcome = operated(given, sample=sample, limit=limit, quick=quick)
        if not outcome.proposal.architecture.n_edges:
            grown = grown[:1]
            path = self._of(grown[0], layers=layers)._edges.path()  # instead of nothing
            outcome = operated([path], sample=sample, limit=limit, quick=quick)
        whole = Grown.of_neurons(grown, neurons=outcome.neurons)
        gone = gone_probability(size, limit=limit)
        return self._of(whole, layers=layers, outcome=outcome, gone=gone)

    def _near(self, limit: int) -> "DeepPrediction":
        """The prediction at the highest price that gives ``limit`` live edges, or the lowest."""
        low, high = PRICE_RANGE
        prices = [low * (high / low) ** (i / (_N_PRICES - 1)) for i in range(_N_PRICES)]
        found = self.along(prices)
        enough = [i for i, one in enumerate(found) if one.n_live_edges >= limit]
        return found[max(enough, default=0)]


AnyPrediction = Prediction | DeepPrediction
"""Of any number of hidden layers."""
