"""From drafts that have more edges than allowed to one network that has not.

Every draft is fitted to the sample of rows and cut in stages (``graphpred.meta.sparse_fit``). Two
networks that came of it are put side by side, which gives the mean of what they say, fitted
together and cut to the size of one; so the best neurons of all drafts come together, pair by pair.
In the end a network grows the edges that promise most and is cut again, a few times. Large networks
are made of one draft, which is fitted and cut (``graphpred.meta.large_fit``); *quick*
ones, of which there are many to choose from, of one draft too, in few steps.

The hidden neurons of all drafts are numbered through, draft after draft: neuron i of draft d in a
layer of h neurons is the d·h + i-th of a *wide* layer.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import accumulate, pairwise

import torch
from torch import Tensor

from graphpred.architecture import Architecture
from graphpred.meta.large_fit import LargeFit
from graphpred.meta.samples import ROW_LIMIT, RowSample
from graphpred.meta.sparse_fit import SparseFit
from graphpred.searchers import Proposal
from graphpred.weights import Weights

_MOST_EXACT = 800  # live edges, beyond which a network is fitted without the whole curvature,
_MOST_POSSIBLE = 1 << 21  # and not at all if the space has more possible edges
_SURPLUS = 4  # edges of a draft for every one that is allowed,
_MOST_SURPLUS = 500  # and no more than these, unless more are allowed;
_LARGE_SURPLUS, _QUICK_SURPLUS = 10, 2  # of large and of quick ones,
_LITTLE = 32  # but up to so many edges a quick one has the surplus of all and grows a little
_MOST_FITTED = 2_000  # edges of all drafts together
_N_CUTS = 6
_FIRST, _BETWEEN, _LAST = 6, 3, 8  # steps before, between and after the cuts,
_LARGE_FIRST, _LARGE_BETWEEN, _LARGE_LAST = 2, 1, 3  # of the largest networks,
_LARGE_WORK, _MOST_TIMES = 1 << 30, 6  # and so many times as many where they are cheaper
_QUICK_CUTS = 4
_QUICK_FIRST, _QUICK_BETWEEN, _QUICK_LAST = 4, 2, 4
_MERGED_SIZES = (1.5, 1.2)  # times the size of one, on the way from two networks to one
_GROWTH = (0.5, 0.25) * 3  # edges that are grown in every round, for every one allowed;
_QUICK_GROWTH = _GROWTH[:2]  # of little quick ones
_MOST_GROWN = 2_000  # rounds times edges: large networks have fewer rounds
_GROWN_STEPS = 4
_OVERSIZE = 1.15  # of a grown network, between its two cuts
_MOST_NEURONS = 1 << 31  # of a network; edges are numbered by it
# So that paths are as often true as they are likely; fitted by benchmarks/calibration.py:
_LEFT_SLOPE, _LEFT_SHIFT = 0.413, 0.995  # log odds of an edge that is left, by its log saliency
_GONE, _GONE_POWER = 0.133, 0.691  # of one that went, by the share of edges that are left

AnyFit = SparseFit | LargeFit
"""A network of any size that is being fitted."""


@dataclass(frozen=True, eq=False, kw_only=True)
class Operated:
    """The network that is left of some drafts.

    Attributes:
        neurons: Of every hidden layer, which of the neurons of all drafts its own are, ascending;
            those that are of no use are there too. Int64, shape ``(h,)`` each.
        proposal: With fitted weights.
        edges: All that the network has or had, sorted. Int64, shape ``(2, E)``.
        probability: Of those edges: ½ and more for those that are left, by their saliency; less for
            others, the less the earlier they went. Float, shape ``(E,)``.
    """

    neurons: tuple[Tensor, ...]
    proposal: Proposal
    edges: Tensor
    probability: Tensor


def is_large(limit: int) -> bool:
    """Whether a network of so many edges is made of one draft, without the whole curvature."""
    return limit > _MOST_EXACT


def draft_size(limit: int, *, quick: bool = False) -> int:
    """Edges that a draft should have before it is cut down to ``limit``."""
    if is_large(limit):
        return (_QUICK_SURPLUS if quick else _LARGE_SURPLUS) * limit
    surplus = _QUICK_SURPLUS if quick and limit > _LITTLE else _SURPLUS
    return max(limit, min(surplus * limit, _MOST_SURPLUS))


def n_operable(limit: int) -> int:
    """Drafts that may be fitted before one is kept: fewer of large ones, which take long."""
    return max(1, _MOST_FITTED // draft_size(limit))


def is_operable(limit: int, *, widths: Sequence[int]) -> bool:
    """Whether drafts can be made one network of so many edges: a path or more, not too large."""
    n_possible = sum(a * b for a, b in pairwise(widths))
    return len(widths) - 1 <= limit and (n_possible <= _MOST_POSSIBLE or not is_large(limit))


def gone_probability(n_edges: int, *, limit: int) -> float:
    """Of an edge that went when there were ``n_edges``: less than ½, and the less the more."""
    return float(_GONE * min(1.0, limit / n_edges) ** _GONE_POWER)


def left_probability(saliency: Tensor) -> Tensor:
    """Of edges that are left, by the squares of their z-scores: at least ½."""
    return torch.sigmoid(_LEFT_SLOPE * saliency.log() + _LEFT_SHIFT).clamp(min=0.5)


@torch.no_grad()
def operated(
    drafts: Sequence[Proposal], *, sample: RowSample, limit: int, quick: bool = False
) -> Operated:
    """Fit drafts, cut them down to a number of live edges, and make one network of them.

    A large network is made of the first draft alone, and so is a quick one.

    Networks of one size over-fit about alike, so the loss on the rows they were fitted to says
    which to keep.

    Args:
        drafts: Of one shape, with edges, none of them dead.
        sample: Rows.
        limit: Largest K*.
        quick: Whether to take few steps, for one of many to choose from.
    """
    widths = drafts[0].architecture.widths
    cutter = _Cutter(limit=limit, most=widths[1:-1])
    if is_large(limit):
        fit: AnyFit = cutter.large(drafts[0], sample=sample, quick=quick)
    elif quick:
        fit = cutter.quick(drafts[0], sample=sample)
    else:
        fit = cutter.merged(drafts, sample=sample)
    left = left_probability(fit.saliency().float())
    return _compact(fit, gone=cutter.gone, left=left, widths=widths)


@torch.no_grad()
def fitted_again(proposal: Proposal, *, sample: RowSample) -> Proposal:
    """The same edges, and their weights fitted to some rows, from where they are."""
    z = proposal.architecture
    if not z.n_edges or not is_operable(z.n_edges, widths=z.widths):
        return proposal
    fit: AnyFit = (LargeFit if is_large(z.n_edges) else SparseFit)(proposal, sample=sample)
    fit.train(_LAST)
    return fit.proposal()


@dataclass(frozen=True, kw_only=True)
class _Cutter:
    """Cuts networks down to one size, and knows at which size every edge went.

    Attributes:
        limit: Largest K*.
        most: Neurons that every hidden layer may have.
        gone: Ends of edges that went, ``(2, k)``, and their probability; in the order of cuts.
    """

    limit: int
    most: tuple[int, ...]
    gone: list[tuple[Tensor, float]] = field(default_factory=list)

    def merged(self, drafts: Sequence[Proposal], *, sample: RowSample) -> SparseFit:
        """One network of all drafts."""
        fits = [self.cut(SparseFit(draft, sample=sample)) for draft in _side_by_side(drafts)]
        while len(fits) > 1:
            fits = [self.best_of(pair) for pair in _pairs(fits)]
        fit = self.regrown(fits[0], shares=_GROWTH)
        fit.train(_LAST)
        return fit

    def quick(self, draft: Proposal, *, sample: RowSample) -> SparseFit:
        """One network of a draft, in few steps and of few rows."""
        fit = SparseFit(draft, sample=sample.first(ROW_LIMIT))
        fit.train(_QUICK_FIRST)
        self._cut_in_stages(fit, n_cuts=_QUICK_CUTS, steps=_QUICK_BETWEEN)
        if self.limit <= _LITTLE:
            fit = self.regrown(fit, shares=_QUICK_GROWTH)
        fit.train(_QUICK_LAST)
        return fit

    def large(self, draft: Proposal, *, sample: RowSample, quick: bool) -> LargeFit:
        """One large network of a draft; only cut if steps make it no better."""
        fit = LargeFit(draft, sample=sample)
        more = 1 if quick else min(_MOST_TIMES, max(1, _LARGE_WORK // fit.work))
        n_cuts = _QUICK_CUTS if quick else _N_CUTS
        fit.train(more * _LARGE_FIRST)
        self._cut_in_stages(fit, n_cuts=n_cuts, steps=more * _LARGE_BETWEEN)
        fit.train(more * _LARGE_LAST)
        plain = LargeFit(draft, sample=sample)
        plain.cut(self.limit)
        return min(fit, plain, key=lambda one: one.loss)

    def cut(self, fit: SparseFit) -> SparseFit:
        """A draft at its last size."""
        fit.train(_FIRST)
        self._cut_in_stages(fit, n_cuts=_N_CUTS, steps=_BETWEEN)
        return fit

    def _cut_in_stages(self, fit: AnyFit, *, n_cuts: int, steps: int) -> None:
        n_edges = fit.n_edges
        for number in range(1, n_cuts + 1):
            share = min(1.0, self.limit / n_edges) ** (number / n_cuts)
            self._cut_to(fit, round(n_edges * share), steps=steps)

    def best_of(self, fits: Sequence[SparseFit]) -> SparseFit:
        """The better of two networks, or what is made of both if that is better still."""
        if len(fits) == 1 or is_large(2 * self.limit):
            return min(fits, key=lambda fit: fit.loss)
        both = fits[0].joined(fits[1])
        both.train(_GROWN_STEPS)
        for size in _MERGED_SIZES:
            self._cut_to(both, round(size * self.limit), steps=_BETWEEN)
        both.cut_neurons(self.most)
        self._cut_to(both, self.limit, steps=_BETWEEN)
        return min(both, *fits, key=lambda fit: fit.loss)

    def regrown(self, fit: SparseFit, *, shares: Sequence[float]) -> SparseFit:
        """The best network of those that rounds of growth and cuts give, and of that given.

        Args:
            fit: Changed.
            shares: Edges that are grown in every round, for every one allowed.
        """
        best, loss = fit.copy(), fit.loss
        for share in shares[: _MOST_GROWN // self.limit]:
            fit.grow(max(2, round(share * self.limit)))
            fit.train(_GROWN_STEPS)
            self._cut_to(fit, round(_OVERSIZE * self.limit), steps=_BETWEEN)
            self._cut_to(fit, self.limit, steps=_BETWEEN)
            fit.drop_idle()
            if fit.loss < loss:
                best, loss = fit.copy(), fit.loss
        return best

    def _cut_to(self, fit: AnyFit, size: int, *, steps: int) -> None:
        before = fit.edges
        if size < fit.n_edges:
            fit.cut(size)
            went = before[:, ~torch.isin(_keys(before), _keys(fit.edges))]
            self.gone.append((went, gone_probability(before.shape[1], limit=self.limit)))
        fit.train(steps)


def _keys(edges: Tensor) -> Tensor:
    """A number for every edge. Int64, shape ``(E,)``."""
    return edges[0] * _MOST_NEURONS + edges[1]


def _pairs(fits: Sequence[SparseFit]) -> Iterator[Sequence[SparseFit]]:
    return (fits[i : i + 2] for i in range(0, len(fits), 2))


def _side_by_side(drafts: Sequence[Proposal]) -> Iterator[Proposal]:
    """The drafts as networks with wide layers, in which each has neurons of its own."""
    widths, n_drafts = drafts[0].architecture.widths, len(drafts)
    wide = (widths[0], *(n_drafts * h for h in widths[1:-1]), widths[-1])
    classes = [draft.architecture.activation.split(list(widths)) for draft in drafts]
    layers = [torch.cat(layer) for layer in zip(*classes, strict=True)]
    activation = torch.cat([classes[0][0], *layers[1:-1], classes[0][-1]])
    for number, draft in enumerate(drafts):
        own = [number * h + torch.arange(h) for h in widths[1:-1]]
        place = _places(own, widths=wide)
        z, start = draft.architecture, draft.start
        assert start is not None
        bias = torch.zeros(sum(wide))
        bias[place[widths[0] :]] = start.bias
        yield Proposal(
            architecture=Architecture(edges=place[z.edges], activation=activation, widths=wide),
            start=Weights(edge=start.edge, bias=bias[widths[0] :]),
        )


def _places(hidden: Iterable[Tensor], *, widths: Sequence[int]) -> Tensor:
    """Number, in a network of these widths, of all inputs, of some hidden neurons, of all outputs.

    Args:
        hidden: Numbers within their layer, of every hidden layer.
        widths: Of all layers.
    """
    starts = [0, *accumulate(widths)]
    every = [torch.arange(widths[0]), *hidden, torch.arange(widths[-1])]
    return torch.cat([start + own for start, own in zip(starts, every, strict=False)])


def _latest(said: Sequence[tuple[Tensor, Tensor]]) -> tuple[Tensor, Tensor]:
    """All edges, sorted, ``(2, E)``, and what was last said of each, ``(E,)``."""
    keys = torch.cat([_keys(edges) for edges, _ in said]).unique()
    latest = torch.empty(len(keys))
    for edges, values in said:
        latest[torch.searchsorted(keys, _keys(edges))] = values
    return torch.stack([keys // _MOST_NEURONS, keys % _MOST_NEURONS]), latest


def _compact(
    fit: AnyFit, *, gone: Sequence[tuple[Tensor, float]], left: Tensor, widths: tuple[int, ...]
) -> Operated:
    """The network in layers of the drafts' own widths: live neurons first, then any others."""
    wide = fit.proposal()
    z, start = wide.architecture, wide.start
    assert start is not None
    live = torch.isin(torch.arange(z.n_neurons), z.edges).split(list(z.widths))
    neurons = tuple(
        (~own).to(torch.uint8).argsort(stable=True)[:h].sort().values
        for own, h in zip(live[1:-1], widths[1:-1], strict=True)
    )
    place = _places(neurons, widths=z.widths)
    number = torch.full((z.n_neurons,), -1)
    number[place] = torch.arange(len(place))
    said = [(ends, torch.full(ends.shape[1:], odds)) for ends, odds in gone]
    every, probability = _latest([*said, (fit.edges, left)])
    edges = number[every]
    kept = (edges >= 0).all(dim=0)
    architecture = Architecture(
        edges=number[z.edges], activation=z.activation[place], widths=widths
    )
    bias = torch.cat([torch.zeros(widths[0]), start.bias[place[widths[0] :] - widths[0]]])
    return Operated(
        neurons=neurons,
        proposal=Proposal(
            architecture=architecture,
            start=Weights(edge=start.edge, bias=bias[widths[0] :]),
        ),
        edges=edges[:, kept],
        probability=probability[kept],
    )
