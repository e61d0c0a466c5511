"""Several hidden layers, each predicted from what the one below says of the rows.

The meta-model predicts a network with one hidden layer; what its hidden neurons say of the rows is
a data set again, for which it predicts the next layer, and so on. The outputs belong to the last.

Every layer pays the same price for an edge, C = λ / N, whatever the size of its own network.

Notation: n features; h_1, h_2, … hidden neurons a layer; c outputs; l neurons of a layer that the
next one reads; N possible edges of the whole, N_k of the network with layer k alone.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import pairwise
from numbers import Integral
from typing import Any, Protocol

import torch
from torch import Tensor

from graphpred.architecture import Architecture
from graphpred.errors import InputError
from graphpred.meta.likely import layer_values, mosaic
from graphpred.meta.moments import Moments
from graphpred.meta.prediction import Prediction
from graphpred.meta.samples import ROW_LIMIT, CountedRows, RowSample
from graphpred.searchers import Proposal
from graphpred.seeds import generator_for
from graphpred.task import Task
from graphpred.weights import Weights

_LEAST_DEVIATION = 1e-3  # of what a hidden neuron says
_LEAST_SHARE = 2  # edges of a layer's draft
_MAX_SEED = 2**31 - 1


class LayerPredictor(Protocol):
    """Predicts one hidden layer for what the layer below says."""

    def __call__(
        self,
        task: Task,
        *,
        moments: Moments,
        sample: RowSample,
        price: float,
        n_hidden: int,
        seed: int,
        n_drafts: int,
    ) -> Prediction:
        """The prediction.

        Args:
            task: Its features are the neurons of the layer below.
            moments: Sums over its training rows.
            sample: Those of its training rows that are looked at one by one.
            price: λ_k = C · N_k.
            n_hidden: h_k.
            seed: Of the latents.
            n_drafts: From how many draws of all latents the best is kept.
        """
        ...


@dataclass(frozen=True, eq=False, kw_only=True)
class Grown:
    """All layers on each other, not yet fitted together.

    Attributes:
        price: λ of the whole.
        proposal: The network of the edges that every layer chose, without dead ones.
        probabilities: What the layers say of all possible edges, ``(n_{k-1}, n_k)`` each.
        activation_probabilities: Of every class in all hidden neurons, ``(h_1 + h_2 + …, a)``.
    """

    price: float
    proposal: Proposal
    probabilities: tuple[Tensor, ...]
    activation_probabilities: Tensor

    @classmethod
    def of_neurons(cls, drafts: Sequence["Grown"], *, neurons: Sequence[Tensor]) -> "Grown":
        """What drafts say of some of their hidden neurons; the proposal is that of the first.

        Args:
            drafts: Of one shape.
            neurons: Of every hidden layer, which of those of all drafts, numbered through.
        """
        hidden = drafts[0].proposal.architecture.widths[1:-1]
        shares = zip(*(one.activation_probabilities.split(hidden) for one in drafts), strict=True)
        chosen = [torch.cat(own)[kept] for own, kept in zip(shares, neurons, strict=True)]
        return replace(
            drafts[0],
            probabilities=mosaic([one.probabilities for one in drafts], neurons=neurons),
            activation_probabilities=torch.cat(chosen),
        )


@dataclass(frozen=True, eq=False, kw_only=True)
class Layers:
    """What layers are grown from: a data set, and who predicts.

    Attributes:
        predict: Predicts all layers but the first.
        first: The first layer's prediction at any price.
        task: The data set.
        sample: Of its rows, the one of ``first``.
        hidden: h_1, h_2, …
        seed: Of the latents of the other layers.
        n_drafts: How many drafts of the whole a network may be made of, and draws of every layer.
    """

    predict: LayerPredictor
    first: Prediction
    task: Task
    sample: RowSample
    hidden: tuple[int, ...]
    seed: int
    n_drafts: int

    @property
    def widths(self) -> tuple[int, ...]:
        """n, h_1, h_2, …, c."""
        return (self.task.n_features, *self.hidden, self.task.n_outputs)

    @property
    def n_possible_edges(self) -> int:
        """N."""
        return sum(a * b for a, b in pairwise(self.widths))

    def along(self, prices: Sequence[float]) -> list[Grown]:
        """Layers of the edges that are likely at every λ; no neuron is fitted to rows."""
        costs = [price / self.n_possible_edges for price in prices]
        firsts = self.first.along([cost * self.first.n_possible_edges for cost in costs])
        choices = [*[_connected] * (len(self.hidden) - 1), _likely]
        return [
            self._grown(first, choices=choices, cost=cost)
            for first, cost in zip(firsts, costs, strict=True)
        ]

    def within(self, n_edges: int, *, quick: bool = False) -> Grown:
        """Layers that are fitted one by one, with no more than ``n_edges`` altogether."""
        choices: list[_Choice] = []
        choose = _fitted_quickly if quick else _fitted
        for n_left in range(len(self.hidden), 0, -1):
            share = max(_LEAST_SHARE, n_edges // n_left)
            choices.append(partial(choose, limit=share))
            n_edges -= share
        cost = self.first.price / self.first.n_possible_edges
        return self._grown(self.first, choices=choices, cost=cost)

    def drafts(self, k: int) -> list["Layers"]:
        """Itself and others of other latents, k of them, but no more than ``n_drafts``."""
        generator = generator_for(self.seed, "drafts of layers")
        more = range(min(k, self.n_drafts) - 1)
        return [self, *(self.redrawn(generator=generator) for _ in more)]

    def redrawn(self, *, generator: torch.Generator) -> "Layers":
        """The same with one draw of fresh latents in every layer."""
        (first,) = self.first.redraw(1, generator=generator)
        seed = int(torch.randint(_MAX_SEED, (), generator=generator))
        return replace(self, first=first, seed=seed, n_drafts=1)

    def _grown(self, prediction: Prediction, *, choices: Sequence["_Choice"], cost: float) -> Grown:
        """This layer as one of the choices takes it, and those above."""
        prediction, proposal = choices[0](prediction)
        if len(self.hidden) == 1:
            return Grown(
                price=prediction.price,
                proposal=proposal,
                probabilities=prediction.probabilities,
                activation_probabilities=prediction.activation_probabilities,
            )
        read = Reading.of(proposal, X=self.task.rows("train")[0])
        above = read.task(self.task)
        sample = replace(self.sample, X=read.values(self.sample.X))
        n_around = above.n_features + above.n_outputs
        first = self.predict(
            above,
            moments=_moments(above, sample=sample),
            sample=sample,
            price=cost * self.hidden[1] * n_around,
            n_hidden=self.hidden[1],
            seed=self.seed,
            n_drafts=self.n_drafts,
        )
        others = replace(self, first=first, task=above, sample=sample, hidden=self.hidden[1:])
        rest = others._grown(first, choices=choices[1:], cost=cost)
        entry, *later = rest.probabilities
        unread = entry.amin().expand(self.hidden[0], self.hidden[1])  # a neuron that says nothing
        entry = unread.index_copy(0, read.live, entry)
        shares = [prediction.activation_probabilities, rest.activation_probabilities]
        return Grown(
            price=prediction.price * self.n_possible_edges / prediction.n_possible_edges,
            proposal=stacked(proposal, rest.proposal, read=read),
            probabilities=(prediction.probabilities[0], entry, *later),
            activation_probabilities=torch.cat(shares),
        )


_Choice = Callable[[Prediction], tuple[Prediction, Proposal]]
"""From what is said of a layer to its network; perhaps with another prediction."""


def _likely(prediction: Prediction) -> tuple[Prediction, Proposal]:
    return prediction, prediction.chosen()


def _connected(prediction: Prediction) -> tuple[Prediction, Proposal]:
    """As likely; one path at least, for the next layer must have something to read."""
    proposal = prediction.chosen()
    return prediction, proposal if proposal.architecture.n_edges else prediction.chosen(2)


def _fitted(prediction: Prediction, *, limit: int) -> tuple[Prediction, Proposal]:
    fitted = prediction.fitted(limit)
    return fitted, fitted.chosen(limit)


def _fitted_quickly(prediction: Prediction, *, limit: int) -> tuple[Prediction, Proposal]:
    fitted = prediction.fitted_quickly(limit)
    return fitted, fitted.chosen(limit)


@dataclass(frozen=True, eq=False, kw_only=True)
class Reading:
    """The hidden neurons of a network that have edges, as the next layer reads them: scaled.

    Attributes:
        live: Which of the hidden neurons. Int64, shape ``(l,)``.
        W: Their weights from the features. Float, shape ``(n, l)``.
        bias: Float, shape ``(l,)``.
        classes: Registry indices of their activations, ``(l,)``.
        mean: Of what they say. Float, shape ``(l,)``.
        deviation: Likewise.
    """

    live: Tensor
    W: Tensor
    bias: Tensor
    classes: Tensor
    mean: Tensor
    deviation: Tensor

    @classmethod
    def of(cls, proposal: Proposal, *, X: Tensor) -> "Reading":
        """Scaled by rows, ``(m, n)``."""
        z, start = proposal.architecture, proposal.start
        assert start is not None
        n, h = z.widths[:2]
        source, target = z.edges
        into = target < n + h
        live = (target[into] - n).unique()
        W = torch.zeros(n, h)
        W[source[into], target[into] - n] = start.edge[into]
        parts = {"W": W[:, live], "bias": start.bias[live], "classes": z.activation[n + live]}
        values = layer_values(X, **parts)
        return cls(
            live=live,
            **parts,
            mean=values.mean(dim=0),
            deviation=values.std(dim=0, correction=0).clamp(min=_LEAST_DEVIATION),
        )

    def values(self, X: Tensor) -> Tensor:
        """What they say of rows, scaled. Float, shape ``(m, l)``."""
        said = layer_values(X, W=self.W, bias=self.bias, classes=self.classes)
        return (said - self.mean) / self.deviation

    def task(self, task: Task) -> Task:
        """The data set whose features they are."""
        names = tuple(f"h{i}" for i in self.live.tolist())
        return replace(task, X=self.values(task.X), feature_names=names, encoder=None)


def _moments(task: Task, *, sample: RowSample) -> Moments:
    """Sums over the training rows, with single rows from a sample of them.

    Which rows to look at singly is told by the data, not by what neurons say of them: their last
    bits depend on the order of features.
    """
    moments = Moments.of(task)
    some = sample.first(ROW_LIMIT)
    moments.rows = CountedRows.of(some.X, some.y if some.is_regression else some.y.argmax(dim=1))
    return moments


def stacked(first: Proposal, rest: Proposal, *, read: Reading) -> Proposal:
    """The first layer of one network below all of another that reads its scaled neurons."""
    below, above = first.architecture, rest.architecture
    start, later = first.start, rest.start
    assert start is not None
    assert later is not None
    (n, h), n_live = below.widths[:2], len(read.live)
    into = below.edges[1] < n + h
    source, target = above.edges
    is_entry = source < n_live
    entered = source[is_entry]  # which of the live neurons
    entry = later.edge[is_entry] / read.deviation[entered]
    moved = later.bias.clone()
    moved.index_add_(0, target[is_entry] - n_live, -entry * read.mean[entered])
    place = torch.cat([n + read.live, n + h + torch.arange(above.n_neurons - n_live)])
    weight = later.edge.clone()
    weight[is_entry] = entry
    return live_proposal(
        torch.cat([below.edges[:, into], place[above.edges]], dim=1),
        torch.cat([start.edge[into], weight]),
        activation=torch.cat([below.activation[: n + h], above.activation[n_live:]]),
        widths=(n, h, *above.widths[1:]),
        bias=torch.cat([start.bias[:h], moved]),
    )


def live_proposal(
    edges: Tensor, edge: Tensor, *, activation: Tensor, widths: tuple[int, ...], bias: Tensor
) -> Proposal:
    """A network of the edges that are on a path, with their weights."""
    n_neurons = sum(widths)
    key = edges[0] * n_neurons + edges[1]
    order = key.argsort()
    z = Architecture(edges=edges[:, order], activation=activation, widths=widths)
    live = z.without_dead_edges()
    kept = torch.isin(key[order], live.edges[0] * n_neurons + live.edges[1])
    return Proposal(architecture=live, start=Weights(edge=edge[order][kept], bias=bias))


def hidden_widths(n_hidden: Any) -> tuple[int, ...]:
    """Hidden neurons of every layer from a number or a sequence of numbers.

    Raises:
        InputError: If it is neither, or has no layer or one without neurons.

    >>> hidden_widths(13), hidden_widths([13, 8])
    ((13,), (13, 8))
    """
    try:
        widths = (n_hidden,) if isinstance(n_hidden, Integral | str) else tuple(n_hidden)
    except TypeError:
        widths = ()
    if widths and all(_is_whole(h) and h >= 1 for h in widths):
        return tuple(int(h) for h in widths)
    raise InputError(
        f"n_hidden must be at least 1, or one such number for every hidden layer; got {n_hidden!r}."
    )


def _is_whole(value: Any) -> bool:
    return isinstance(value, Integral) and not isinstance(value, bool)
