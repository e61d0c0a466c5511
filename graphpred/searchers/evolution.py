"""Regularised evolution: a tournament chooses a parent, its child is trained, and the oldest dies.

Source: Real, Aggarwal, Huang and Le, "Regularized evolution for image classifier architecture
search", 2019, arXiv:1802.01548. A population of P networks begins at random. Then, again and
again, S of them are drawn with replacement, the best of these is the parent, and its mutated child
is trained and joins the population, which its oldest member leaves, however good it was. So only
an architecture whose children do well again and again stays.

Ours are the mutations, see ``mutations``; the paper's changed the operations and the wiring of
image cells. P = 100 and S = 25 were meant for 20,000 networks: here P is a quarter of the budget,
up to 100, and S half of P, up to 25. Up to S children come from one population, because networks
are trained together, as the paper's were on many machines. With several densities, the first
networks have them in turn, and a mutation may change from one to another.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

from graphpred.architecture import Architecture
from graphpred.searchers.base import Proposal, Setting, Trial
from graphpred.searchers.mutations import Mutator, sizes_of
from graphpred.searchers.random import random_live_search


@dataclass(frozen=True, kw_only=True)
class Evolution:
    """How a population evolves.

    Attributes:
        population: P, how many networks are alive.
        tournament: S, how many of them compete for a child.
        unchanged: Share of children that are trained once more as their parent is.
    """

    population: int = 100
    tournament: int = 25
    unchanged: float = 0.05

    @classmethod
    def within(cls, n_networks: int) -> "Evolution":
        """Scaled to a budget."""
        population = min(cls.population, max(4, n_networks // 4))
        return cls(population=population, tournament=min(cls.tournament, population // 2))


class EvolutionSearch:
    """Regularised evolution over the architectures of a space.

    Args:
        setting: What every searcher is given.
        evolution: How; by default scaled to the budget.
    """

    def __init__(self, setting: Setting, *, evolution: Evolution | None = None) -> None:
        self._evolution = evolution or Evolution.within(setting.n_networks)
        self._generator = setting.generator
        self._first = random_live_search(setting)
        self._mutator = Mutator(
            space=setting.space, sizes=sizes_of(setting), generator=setting.generator
        )
        self._n_told = 0
        self._alive: list[tuple[float, Architecture]] = []  # oldest first

    def ask(self, k: int) -> list[Proposal]:
        """Random networks until there are P, then children of tournaments."""
        missing = self._evolution.population - self._n_told
        if missing > 0:
            return self._first.ask(min(k, missing))
        n_children = min(k, self._evolution.tournament)
        return [Proposal(architecture=self._child()) for _ in range(n_children)]

    def tell(self, trials: Sequence[Trial]) -> None:
        """Add the youngest and let the oldest die."""
        self._n_told += len(trials)
        self._alive += [(trial.objective, trial.architecture) for trial in trials]
        self._alive = self._alive[-self._evolution.population :]

    def state(self) -> dict[str, Any]:
        """Who is alive, how many there were, and the state of the random draws."""
        return {"alive": list(self._alive), "n_told": self._n_told, "first": self._first.state()}

    def restore(self, state: dict[str, Any]) -> None:
        """Go on with them."""
        self._alive, self._n_told = state["alive"], state["n_told"]
        self._first.restore(state["first"])

    def _child(self) -> Architecture:
        drawn = torch.randint(
            len(self._alive), (self._evolution.tournament,), generator=self._generator
        )
        best = min(drawn.tolist(), key=lambda i: self._alive[i][0])
        parent: Architecture = self._alive[best][1]
        if float(torch.rand((), generator=self._generator)) < self._evolution.unchanged:
            return parent
        return self._mutator.mutated(parent)
