"""Drawing the sequences of ``tokens``: which choices remain, and how likely each is beforehand.

Notation: B sequences, layers 0 … t, u_k neurons of layer k in use, K edges; a neuron is *opened*
when it is read for the first time. While layer k is written, w of its u_{k-1} sources are not
opened yet and a of its neurons follow; R edges are left, and the layers below need between f and g
of them, Σ max(u_{j-1}, u_j) and Σ u_{j-1} u_j. The next neuron can open r sources and read d iff

    max(w − r, a) + f  ≤  R − d  ≤  a u_{k-1} + g,    r ≤ d,    w − r = 0 if a = 0,

and reads d − r of those opened before (outputs need no input: 0 for a on the left). The base is
that of edges placed at random: u_k is log-uniform, as in ``SearchSpace.sample_live``; a source is
opened by this neuron, given that one of a + 1 must, with probability ρ / (1 − (1 − ρ)^{a+1}), ρ
the expected density of the layer; and the edges that are not needed for the minimum fall into this
neuron's places and into the later ones alike, hypergeometrically.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace

import torch
from torch import Tensor

from graphpred.searchers.tokens import (
    NeuronTokens,
    Policy,
    Step,
    Tokens,
    Walk,
    WidthTokens,
    classes,
    neuron_answer,
    sections,
    width_answer,
)
from graphpred.space import SearchSpace


@torch.no_grad()
def draw_tokens(policy: Policy, n_edges: Tensor, *, generator: torch.Generator) -> Tokens:
    """Draw one sequence per number of edges.

    Args:
        policy: Gives the scores.
        n_edges: K, at least the number of layers. Int64, shape ``(B,)``. A sequence whose widths
            cannot hold them, which only one input and one output bring about, gets fewer.
        generator: Source of randomness.
    """
    space, walk = policy.space, policy.walk(n_edges)
    widths, used = _draw_widths(walk, n_edges, space=space, generator=generator)
    fewest, most = _edges_below(used)
    left = torch.minimum(n_edges, most[-1])
    layers = []
    for k in range(space.n_layers, 0, -1):
        room = _Room(
            left=left,
            opened=used[0] if k == 1 else torch.zeros_like(left),
            sources=used[k - 1],
            after=used[k],
            required=int(k < space.n_layers),
            fewest=fewest[k - 1],
            most=most[k - 1],
        )
        layers.append(_draw_layer(walk, k, room=room, space=space, generator=generator))
        left = left - layers[-1].degree.sum(dim=0)
    return Tokens(n_edges=n_edges, widths=tuple(widths), layers=tuple(layers))


def _draw_widths(
    walk: Walk, n_edges: Tensor, *, space: SearchSpace, generator: torch.Generator
) -> tuple[list[WidthTokens], list[Tensor]]:
    """The tokens of u_{t-1} … u_1, and u_0 … u_t, int64, shape ``(B,)`` each."""
    n, t = space.widths, space.n_layers
    present = torch.ones_like(n_edges, dtype=torch.bool)
    used = [torch.full_like(n_edges, width) for width in n]
    fewest = most = torch.zeros_like(n_edges)  # into the layers above k + 1
    tokens = []
    for k in range(t - 1, 0, -1):
        u, above = torch.arange(1, n[k] + 1), used[k + 1][:, None]
        into_next = u.expand(len(above), -1) if k == t - 1 else torch.maximum(above, u)  # (B, n_k)
        below = sum(n[j - 1] * n[j] for j in range(1, k))
        needed = fewest[:, None] + into_next + u + k - 1  # with one neuron in the layers below
        held = most[:, None] + u * above + n[k - 1] * u + below  # with all of them
        fits = needed <= n_edges[:, None]
        wanted = torch.minimum(n_edges, torch.where(fits, held, 0).amax(dim=1))  # (B,)
        base = (1 + 1 / u).log().log().expand(fits.shape)
        base = torch.where(fits & (held >= wanted[:, None]), base, -torch.inf)
        chosen = _choose(walk.scores(Step(k), present) + base, generator=generator)
        walk.hear(Step(k), width_answer(chosen, n[k]))
        tokens.append(WidthTokens(chosen=chosen, base=base))
        used[k] = chosen + 1
        fewest = fewest + into_next.gather(1, chosen[:, None])[:, 0]
        most = most + used[k] * used[k + 1]
    return tokens, used


def _edges_below(used: Sequence[Tensor]) -> tuple[list[Tensor], list[Tensor]]:
    """Fewest and most edges into the layers 1 … k together, for k = 0 … t. ``(B,)`` each."""
    none, t = torch.zeros_like(used[0]), len(used) - 1
    fewest, most = [none], [none]
    for k in range(1, t + 1):
        sources, targets = used[k - 1] if k > 1 else none, used[k] if k < t else none
        fewest.append(fewest[-1] + torch.maximum(sources, targets))
        most.append(most[-1] + used[k - 1] * used[k])
    return fewest, most


def _draw_layer(
    walk: Walk, k: int, *, room: _Room, space: SearchSpace, generator: torch.Generator
) -> NeuronTokens:
    """Draw the neurons of layer k, one after the other."""
    used = room.after
    drawn = []
    for i in range(int(used.max())):
        room = replace(room, after=(used - i - 1).clamp(min=0))
        scores = walk.scores(Step(k, i), i < used).expand(len(used), -1)
        parts = scores.split(sections(space, k), dim=-1)
        tokens = _draw_neuron(*parts, room=room, present=i < used, generator=generator)
        n_classes = len(classes(space, k))
        walk.hear(Step(k, i), neuron_answer(tokens.activation, tokens.reads, n_classes))
        drawn.append(tokens)
        room = replace(room, left=room.left - tokens.degree, opened=room.opened + tokens.opened)
    names = [field.name for field in fields(NeuronTokens)]
    return NeuronTokens(**{name: torch.stack([getattr(x, name) for x in drawn]) for name in names})


def _draw_neuron(
    of_class: Tensor,
    of_opened: Tensor,
    of_degree: Tensor,
    of_source: Tensor,
    *,
    room: _Room,
    present: Tensor,
    generator: torch.Generator,
) -> NeuronTokens:
    """Draw the tokens of one neuron from their scores, shape ``(B, …)`` each."""
    there, place = present[:, None], torch.arange(of_source.shape[1])
    opened_base = torch.where(there, room.opened_base(of_opened.shape[1]), 0.0)
    opened = _choose(of_opened + opened_base, generator=generator) * present
    degree_base = torch.where(there, room.degree_base(opened, n=of_degree.shape[1]), 0.0)
    degree = _choose(of_degree + degree_base, generator=generator) * present
    known = place < room.opened[:, None]  # (B, n_{k-1})
    keys = torch.where(known, of_source + _gumbel(of_source, generator=generator), -torch.inf)
    order = keys.argsort(dim=1, descending=True)
    rank = order.argsort(dim=1)
    new = ~known & (place < (room.opened + opened)[:, None])
    return NeuronTokens(
        present=present,
        activation=_choose(of_class, generator=generator),
        opened=opened,
        opened_base=opened_base,
        degree=degree,
        degree_base=degree_base,
        available=room.opened,
        order=order,
        reads=new | (rank < (degree - opened)[:, None]),
    )


@dataclass(frozen=True, eq=False, kw_only=True)
class _Room:
    """What limits the next neuron of a layer. Int64, shape ``(B,)``, where not said otherwise.

    Attributes:
        left: R, edges that are left.
        opened: Sources that are opened.
        sources: u_{k-1}.
        after: a, neurons of the layer that follow.
        required: Inputs that every neuron of the layer needs, 0 or 1; one number.
        fewest: f.
        most: g.
    """

    left: Tensor
    opened: Tensor
    sources: Tensor
    after: Tensor
    required: int
    fewest: Tensor
    most: Tensor

    def opened_base(self, n: int) -> Tensor:
        """Log-probability beforehand, up to a constant, of opening 0 … n-1. Shape ``(B, n)``."""
        r = torch.arange(n)
        unopened, after = (self.sources - self.opened)[:, None], self.after[:, None]
        held = after * self.sources[:, None] + self.most[:, None]  # by the neurons that follow
        least = torch.maximum(r.clamp(min=self.required), self.left[:, None] - held)
        most = torch.minimum(
            r + self.opened[:, None], self.left[:, None] - self._needed_after(unopened - r)
        )
        allowed = (r <= unopened) & (least <= most) & ((after > 0) | (r == unopened))
        density = self._density()  # (B,)
        q = (density / (1 - (1 - density) ** (self.after + 1))).clamp(max=1 - 1e-6)[:, None]
        base = _log_choose(unopened, r) + r * q.log() + (unopened - r) * (1 - q).log()
        return torch.where(allowed, base, -torch.inf)

    def degree_base(self, opened: Tensor, *, n: int) -> Tensor:
        """The same of the in-degrees 0 … n-1 once ``opened`` is known. Shape ``(B, n)``."""
        least = opened.clamp(min=self.required)
        needed = self._needed_after((self.sources - self.opened - opened)[:, None])[:, 0]
        free = (self.left - least - needed)[:, None]
        here = (self.opened + opened - least)[:, None]
        later = (self.after * self.sources + self.most - needed)[:, None]
        extra = torch.arange(n) - least[:, None]
        return _log_choose(here, extra) + _log_choose(later, free - extra)

    def _needed_after(self, unopened: Tensor) -> Tensor:
        """Fewest edges after this neuron, ``unopened`` sources being left. ``(B, …)``."""
        needed = torch.maximum(unopened, self.after[:, None] * self.required)
        return needed + self.fewest[:, None]

    def _density(self) -> Tensor:
        """ρ: share of the places of this and the following neurons that edges will take."""
        targets, below = self.after + 1, self.most - self.fewest
        needed = torch.maximum(self.sources - self.opened, targets * self.required)
        places = targets * self.sources
        free = self.left - needed - self.fewest
        share = (places - needed) / (places - needed + below).clamp(min=1)
        return ((needed + free * share) / places).clamp(1e-6, 1 - 1e-6)


def _log_choose(n: Tensor, k: Tensor) -> Tensor:
    """Logarithm of the binomial coefficient; −∞ where it is zero."""
    possible = (k >= 0) & (k <= n)
    n, k = torch.where(possible, n, 0), torch.where(possible, k, 0)
    value = torch.lgamma(n + 1.0) - torch.lgamma(k + 1.0) - torch.lgamma(n - k + 1.0)
    return torch.where(possible, value, -torch.inf)


def _choose(scores: Tensor, *, generator: torch.Generator) -> Tensor:
    """One position a row, with probability proportional to exp(score). Int64, ``(B,)``."""
    return (scores + _gumbel(scores, generator=generator)).argmax(dim=1)


def _gumbel(like: Tensor, *, generator: torch.Generator) -> Tensor:
    """Standard Gumbel numbers: the order of score + number is a draw without replacement."""
    return -torch.empty(like.shape).exponential_(generator=generator).log()
