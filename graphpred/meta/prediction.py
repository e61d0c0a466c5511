"""``Prediction``: a distribution over networks for one data set, and networks chosen from it.

Notation: n features, h hidden neurons, c outputs, a activation classes; N = n·h + h·c; K* live
edges.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from graphpred.errors import InputError
from graphpred.meta.decoder import Decoder
from graphpred.meta.draft import LATENT_SIZE
from graphpred.meta.encoders import Embedding
from graphpred.meta.likely import LikelyEdges, mosaic, places, refitted
from graphpred.meta.proposing import Proposing
from graphpred.meta.samples import ROW_LIMIT, RowSample
from graphpred.meta.surgery import (
    draft_size,
    gone_probability,
    is_large,
    is_operable,
    n_operable,
    operated,
)
from graphpred.searchers import Proposal

PRICE_RANGE = (1e-4, 30.0)
"""Prices between which the one for a number of edges is sought."""
_MOST_DRAFTED = 200_000
"""Possible edges that all drafts together may have; a large network has fewer drafts."""
N_DRAFTS = 4
"""Draws of all hidden neurons, of which a prediction makes one network."""
_DRAFT_PRICE = 0.8  # of the price, for drafts that need a number of edges: some have less
_GRIDS = ((5_000, 10), (50_000, 6))  # prices tried in each of two stages, up to so many edges,
_COARSE_GRID = 4  # and beyond
_N_NEAREST = 8  # of those tried, whose networks are compared
_MOST_EDGES = 500_000  # possible edges that are decoded at once
_SURPLUS_PRICE = 0.2  # share of the price at which drafts have more edges than wanted
_DRAFT_GRID = 8  # prices tried for such drafts, where a number of edges is given,
_LARGE_PRICE = 0.01  # and the one for large networks
_UNLIKELY = 0.499


@dataclass(frozen=True, eq=False, kw_only=True)
class Prediction(Proposing):
    """What the meta-model says of one data set at one price.

    Attributes:
        price: λ = C·N.
        activations: Names of the a activation classes.
        probabilities: Of every possible edge, ``(n, h)`` and ``(h, c)``.
        activation_probabilities: Of every class in every hidden neuron, ``(h, a)``.
        classes: Registry index of the class that every hidden neuron has drawn, ``(h,)``.
        weights: Of every possible edge, zero for those that are unlikely; ``(n, h)``, ``(h, c)``.
        biases: Of the hidden neurons, ``(h,)``, and of the outputs, ``(c,)``.
        familiarity: Share of the training data sets that were no more like the others than this
            one, in [0, 1]; None if the model does not know.
        is_fitted: Whether it is the outcome of ``fitted``: one network and its final weights.
    """

    price: float
    activations: tuple[str, ...]
    probabilities: tuple[Tensor, Tensor]
    activation_probabilities: Tensor
    classes: Tensor
    weights: tuple[Tensor, Tensor]
    biases: tuple[Tensor, Tensor]
    familiarity: float | None
    is_fitted: bool
    _decoder: Decoder
    _embedding: Embedding
    _sample: RowSample
    _latents: Tensor
    _others: tuple[Tensor, ...]
    _allowed: Tensor | None

    @classmethod
    def decode(
        cls,
        decoder: Decoder,
        *,
        embedding: Embedding,
        sample: RowSample,
        price: float,
        activations: tuple[str, ...],
        latents: Sequence[Tensor],
        familiarity: float | None = None,
        allowed: Tensor | None = None,
    ) -> "Prediction":
        """Decode one embedding at a price, with a sample of the rows.

        Args:
            decoder: Of the model.
            embedding: Of the data set.
            sample: Of its rows.
            price: λ.
            activations: Names of the a activation classes.
            latents: Of the hidden neurons; several drafts, of which ``proposal`` makes one network.
            familiarity: Of the data set.
            allowed: Activation classes that may be drawn; None for all. Bool, shape ``(a,)``.
        """
        empty = torch.empty(0)
        blank = cls(
            price=price,
            activations=activations,
            probabilities=(empty, empty),
            activation_probabilities=empty,
            classes=empty,
            weights=(empty, empty),
            biases=(empty, empty),
            familiarity=familiarity,
            is_fitted=False,
            _decoder=decoder,
            _embedding=embedding,
            _sample=sample,
            _latents=latents[0],
            _others=tuple(latents[1:]),
            _allowed=allowed,
        )
        return blank._decoded([(price, latents[0])])[0]

    @property
    def widths(self) -> tuple[int, int, int]:
        """n, h, c."""
        n, h, c = self._edges.widths
        return n, h, c

    @property
    def _edges(self) -> LikelyEdges:
        return LikelyEdges(
            probabilities=self.probabilities,
            weights=self.weights,
            biases=self.biases,
            classes=self.classes,
        )

    @property
    def n_possible_edges(self) -> int:
        """N."""
        n, h, c = self.widths
        return n * h + h * c

    def at(self, price: float) -> "Prediction":
        """The same data set and latents at another price, a positive number."""
        if not 0 < price < math.inf:
            raise InputError(f"price must be a positive number; got {price}.")
        return self._decoded([(price, self._latents)])[0]

    def along(self, prices: Sequence[float]) -> list["Prediction"]:
        """The same at several prices, decoded together."""
        return self._decoded([(price, self._latents) for price in prices])

    def redraw(self, k: int, *, generator: torch.Generator) -> list["Prediction"]:
        """Some predictions like this one, k of them, with fresh latents of all hidden neurons."""
        shape = (self.widths[1], LATENT_SIZE)
        latents = [torch.randn(shape, generator=generator) for _ in range(k)]
        alone = replace(self, _others=())
        return alone._decoded([(self.price, z) for z in latents])

    def fitted(self, limit: int | None = None) -> "Prediction":
        """The prediction whose likely edges are those of one network, with its final weights.

        Drafts with more edges than wanted are fitted to the sample of rows and cut down to the one
        that fits best; see ``graphpred.meta.surgery``. In a space of very many possible edges,
        large networks are only cut: ``near``, ``settled``.

        Args:
            limit: Largest K*; without it, as many as are likely at this price.
        """
        if self.is_fitted:
            return self
        size, found = self._operable(limit), None
        if size is not None:
            draft = self._draft(limit)
            found = _operated(draft._drafts(n_operable(size)), limit=size)
        if found is None:
            return self.settled() if limit is None else self.near(limit)
        return replace(found, price=self.price) if limit is None else found

    def fitted_draws(
        self, k: int, *, limit: int | None = None, generator: torch.Generator
    ) -> list["Prediction"]:
        """Like ``fitted`` but quickly, k of them, with fresh latents of all hidden neurons."""
        size = self._operable(limit)
        if size is None:
            price = self.price if limit is None else _DRAFT_PRICE * self.near(limit).price
            return self.at(price).redraw(k, generator=generator)
        drafts = self._draft(limit, quick=True).redraw(k, generator=generator)
        draws = [_operated([draft], limit=size, quick=True) for draft in drafts]
        if limit is not None:
            return [one or draft for one, draft in zip(draws, drafts, strict=True)]
        return [
            replace(one, price=self.price) if one else draft.at(self.price)
            for one, draft in zip(draws, drafts, strict=True)
        ]

    def fitted_quickly(self, limit: int) -> "Prediction":
        """Like ``fitted``, of this draft alone and in few steps: one of many to choose from."""
        draft = self._draft(limit, quick=True)
        return _operated([draft], limit=limit, quick=True) or draft

    def _operable(self, limit: int | None) -> int | None:
        """How many edges a network is to be cut down to; None if it is not to be cut so."""
        size = self.n_live_edges if limit is None else limit
        return size if is_operable(size, widths=self.widths) else None

    def _draft(self, limit: int | None, *, quick: bool = False) -> "Prediction":
        """At a price where it has more edges than wanted.

        That of a large network is not sought but low, so that there are many to choose from.
        """
        if limit is None:
            return self.at(_SURPLUS_PRICE * self.price)
        low, high = PRICE_RANGE
        if is_large(limit):
            draft = self.at(_LARGE_PRICE)
            return draft if draft.n_live_edges > limit else self.at(low)
        size = draft_size(limit, quick=quick)
        prices = [low * (high / low) ** (i / (_DRAFT_GRID - 1)) for i in range(_DRAFT_GRID)]
        n_live = [one.n_live_edges for one in self.along(prices)]
        best = max((i for i, n in enumerate(n_live) if n >= size), default=0)
        return self.at(math.sqrt(prices[best] * prices[min(best + 1, _DRAFT_GRID - 1)]))

    def settled(self, limit: int | None = None) -> "Prediction":
        """The draft of least loss on the sample of rows, and price of its edges without a limit."""
        if not self._others:
            return self
        price = self.price if limit is None else _DRAFT_PRICE * self.price
        return replace(_fittest(self._drafts(N_DRAFTS, price=price), limit=limit), _others=())

    def _drafts(self, k: int, *, price: float | None = None) -> list["Prediction"]:
        """This one and others, k at most: of other latents, at another price if one is given."""
        most = max(1, min(k, _MOST_DRAFTED // self.n_possible_edges))
        others = [(price or self.price, latents) for latents in self._others[: most - 1]]
        return [self, *self._decoded(others)]

    @torch.no_grad()
    def _decoded(self, wanted: Sequence[tuple[float, Tensor]]) -> list["Prediction"]:
        """Predictions at several prices and latents, as many at once as memory should hold."""
        z, c, n = wanted[0][1] if wanted else self._latents, *self._sample.shape[:0:-1]
        size = max(1, _MOST_EDGES // (len(z) * (n + c)))
        return [
            one
            for start in range(0, len(wanted), size)
            for one in self._decoded_together(wanted[start : start + size])
        ]

    def _decoded_together(self, wanted: Sequence[tuple[float, Tensor]]) -> list["Prediction"]:
        device = self._embedding.features.device
        shown = self._sample.first(ROW_LIMIT)
        decoded = self._decoder(
            [self._embedding] * len(wanted),
            samples=[shown] * len(wanted),
            prices=torch.tensor([price for price, _ in wanted], device=device),
            latents=[latents.to(device) for _, latents in wanted],
            allowed=self._allowed,
        )[-1]
        first, second = decoded.probabilities
        share = decoded.activation.exp()
        return [
            replace(
                self,
                price=price,
                is_fitted=False,
                probabilities=(first[g].cpu(), second[g].cpu()),
                activation_probabilities=share[g].cpu(),
                classes=decoded.classes[g].cpu(),
                weights=(decoded.weights[0][g].cpu(), decoded.weights[1][g].cpu()),
                biases=(decoded.biases[0][g].cpu(), decoded.biases[1][g].cpu()),
                _latents=latents,
            )
            for g, (price, latents) in enumerate(wanted)
        ]

    def near(self, limit: int) -> "Prediction":
        """The prediction for at most ``limit`` live edges.

        Of prices that give about as many, the one whose network, cut down to the limit, has the
        least loss on the sample of rows; then of several drafts likewise.
        """
        size = next((k for most, k in _GRIDS if self.n_possible_edges <= most), _COARSE_GRID)
        low, high = PRICE_RANGE
        tried: list[tuple[float, Prediction]] = []
        for _ in range(2):
            prices = [low * (high / low) ** (i / (size - 1)) for i in range(size)]
            found = self.along(prices)
            n_live = [one.n_live_edges for one in found]
            off = [abs(math.log(max(n, 0.5) / limit)) for n in n_live]
            tried += zip(off, found, strict=True)
            best = max((i for i, n in enumerate(n_live) if n >= limit), default=0)
            low, high = prices[best], prices[min(best + 1, size - 1)]
        tried.sort(key=lambda one: one[0])
        nearest = [one for _, one in tried[:_N_NEAREST]]
        return replace(_fittest(nearest, limit=limit), _others=self._others).settled(limit)

    @property
    def n_live_edges(self) -> int:
        """Live edges among the likely ones."""
        return self._edges.likely().architecture.n_edges

    def chosen(self, limit: int | None = None) -> Proposal:
        """The network of the likely edges, its weights to the outputs fitted anew.

        Args:
            limit: Largest K*: as many of the likely edges, most probable first, as give no more
                live ones. If none of them connects a feature to an output, the most probable path.
        """
        return self._limited(limit) if self.is_fitted else self._chosen(limit)[0]

    def _chosen(self, limit: int | None) -> tuple[Proposal, float]:
        """The network and its loss on the sample."""
        found = self._limited(limit)
        if limit is not None and not found.architecture.n_edges:
            return self._edges.path(), math.inf
        return refitted(found, sample=self._sample)

    def _limited(self, limit: int | None) -> Proposal:
        """Likely edges, the most probable ones that the limit allows."""
        return self._edges.likely(limit)


def _fittest(options: Sequence[Prediction], *, limit: int | None) -> Prediction:
    """The one whose network loses least on the sample; without a limit edges cost their price."""
    losses = []
    for option in options:
        proposal, loss = option._chosen(limit)
        paid = option.price * proposal.architecture.n_edges / option.n_possible_edges
        losses.append(loss if limit is not None else loss + paid)
    return options[losses.index(min(losses))]


def _operated(
    drafts: Sequence[Prediction], *, limit: int, quick: bool = False
) -> Prediction | None:
    """Drafts, fitted and cut to one; None if nothing is left of them."""
    size = draft_size(limit, quick=quick)
    limited = [draft._limited(size) for draft in drafts]
    able = [i for i, proposal in enumerate(limited) if proposal.architecture.n_edges]
    if not able:
        return None
    given = [limited[i] for i in able]
    outcome = operated(given, sample=drafts[0]._sample, limit=limit, quick=quick)
    draft = _mosaic([drafts[i] for i in able], neurons=outcome.neurons[0])
    n, h, c = draft.widths
    kept, start = outcome.proposal, outcome.proposal.start
    if start is None or not kept.architecture.n_edges:
        return None
    flat = torch.cat([p.flatten() for p in draft.probabilities])
    flat = (flat * gone_probability(size, limit=limit)).clamp(max=_UNLIKELY)
    flat[places(outcome.edges, widths=draft.widths)] = outcome.probability
    weight = torch.zeros(draft.n_possible_edges)
    weight[places(kept.architecture.edges, widths=draft.widths)] = start.edge
    p, w = (t.split([n * h, h * c]) for t in (flat, weight))
    return replace(
        draft,
        probabilities=(p[0].view(n, h), p[1].view(h, c)),
        weights=(w[0].view(n, h), w[1].view(h, c)),
        biases=(start.bias[:h], start.bias[h:]),
        _others=(),
        is_fitted=True,
    )


def _mosaic(drafts: Sequence[Prediction], *, neurons: Tensor) -> Prediction:
    """What drafts say of some hidden neurons, h of all that they have, numbered through."""
    into, out = mosaic([draft.probabilities for draft in drafts], neurons=[neurons])
    shares = torch.cat([draft.activation_probabilities for draft in drafts])
    return replace(
        drafts[0],
        probabilities=(into, out),
        activation_probabilities=shares[neurons],
        classes=torch.cat([draft.classes for draft in drafts])[neurons],
        _latents=torch.cat([draft._latents for draft in drafts])[neurons],
    )
