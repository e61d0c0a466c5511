"""From drafts that have more edges than allowed to one network that has not.

Drafts are fitted to the sample of rows and cut in stages; see ``graphpred.meta.sparse_fit``.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from graphpred.meta.samples import RowSample
from graphpred.meta.sparse_fit import SparseFit
from graphpred.searchers import Proposal

MOST_OPERATED = 800
"""Live edges beyond which a network is too large for it."""
_SURPLUS = 4  # edges of a draft for every one that is allowed,
_MOST_SURPLUS = 500  # and no more than these, unless more are allowed
_MOST_FITTED = 2_000  # edges of all drafts together
_N_CUTS = 6
_FIRST, _BETWEEN, _LAST = 6, 3, 8  # steps before, between and after the cuts


@dataclass(frozen=True, eq=False, kw_only=True)
class Operated:
    """The network that is left of a draft.

    Attributes:
        number: Of the draft.
        proposal: With fitted weights.
        edges: Of the draft. Int64, shape ``(2, E)``.
        probability: Of those edges: ½ and more for those that are left, by their saliency; less for
            others, the less the earlier they went. Float, shape ``(E,)``.
    """

    number: int
    proposal: Proposal
    edges: Tensor
    probability: Tensor


def draft_size(limit: int) -> int:
    """Edges that a draft should have before it is cut down to ``limit``."""
    return max(limit, min(_SURPLUS * limit, _MOST_SURPLUS))


def n_operable(limit: int) -> int:
    """Drafts that may be fitted before one is kept: fewer of large ones, which take long."""
    return _MOST_FITTED // draft_size(limit)


def gone_probability(n_edges: int, *, limit: int) -> float:
    """Of an edge that went when there were ``n_edges``; so paths are likely as often as true."""
    return 0.5 * min(1.0, limit / n_edges) ** 2


@torch.no_grad()
def operated(drafts: Sequence[Proposal], *, sample: RowSample, limit: int) -> Operated:
    """Fit drafts, cut them down to a number of live edges, and keep the one of least loss.

    Networks of one size over-fit about alike, so the loss on the rows they were fitted to will do.

    Args:
        drafts: With edges, none of them dead.
        sample: Rows.
        limit: Largest K*.
    """
    cut = (_cut(draft, sample=sample, limit=limit) for draft in drafts)
    number, (fit, left, probability) = min(enumerate(cut), key=lambda one: one[1][0].loss)
    fit.train(_LAST)
    saliency = fit.saliency().float()
    probability[left] = (saliency / (saliency + 1)).clamp(min=0.5)
    return Operated(
        number=number,
        proposal=fit.proposal(),
        edges=drafts[number].architecture.edges,
        probability=probability,
    )


def _cut(draft: Proposal, *, sample: RowSample, limit: int) -> tuple[SparseFit, Tensor, Tensor]:
    """A draft at its last size; which edges are left, and the probability of those that went."""
    z, fit = draft.architecture, SparseFit(draft, sample=sample)
    n_edges, key = z.n_edges, z.edges[0] * z.n_neurons + z.edges[1]
    left = torch.ones(n_edges, dtype=torch.bool)
    probability = torch.zeros(n_edges)
    fit.train(_FIRST)
    for number in range(1, _N_CUTS + 1):
        target = round(n_edges * min(1.0, limit / n_edges) ** (number / _N_CUTS))
        before = fit.n_edges
        if target < before:
            fit.cut(target)
            still = torch.isin(key, fit.edges[0] * z.n_neurons + fit.edges[1])
            probability[left & ~still] = gone_probability(before, limit=limit)
            left = still
        fit.train(_BETWEEN)
    return fit, left, probability
