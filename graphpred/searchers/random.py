"""Random search at fixed densities, the base algorithm of the paper, and its fairer form."""

from collections.abc import Callable, Sequence
from typing import Any

from graphpred.architecture import Architecture
from graphpred.errors import InputError
from graphpred.searchers.base import Proposal, Setting, Trial


class RandomSearch:
    """Draws architectures at the setting's densities in turn and never learns.

    Args:
        setting: What every searcher is given.
        draw: Draws an architecture with a number of edges.
    """

    def __init__(self, setting: Setting, *, draw: Callable[[int], Architecture]) -> None:
        self._draw = draw
        space = setting.space
        n_edges = [max(space.n_layers, space.n_edges_at(d)) for d in setting.densities]
        self._n_edges = n_edges
        self._n_drawn = 0

    def ask(self, k: int) -> list[Proposal]:
        """Draw k architectures."""
        numbers = range(self._n_drawn, self._n_drawn + k)
        self._n_drawn += k
        sizes = [self._n_edges[i % len(self._n_edges)] for i in numbers]
        return [Proposal(architecture=self._draw(n_edges)) for n_edges in sizes]

    def tell(self, trials: Sequence[Trial]) -> None:
        """Pass: the next draw does not depend on the last."""

    def state(self) -> dict[str, Any]:
        """Which density is next."""
        return {"n_drawn": self._n_drawn}

    def restore(self, state: dict[str, Any]) -> None:
        """Go on with that density."""
        self._n_drawn = state["n_drawn"]


def random_search(setting: Setting) -> RandomSearch:
    """Uniform among the architectures of a density; many of its edges may be dead."""
    space, generator = setting.space, setting.generator
    return RandomSearch(
        setting, draw=lambda n_edges: space.sample(generator=generator, n_edges=n_edges)
    )


def random_live_search(setting: Setting) -> RandomSearch:
    """Only live edges, from few active hidden neurons to many."""
    space, generator = setting.space, setting.generator

    def draw(n_edges: int) -> Architecture:
        try:
            return space.sample_live(generator=generator, n_edges=n_edges)
        except InputError:  # one input and one output: every other number of edges is impossible
            return space.sample_live(generator=generator, n_edges=n_edges - 1)

    return RandomSearch(setting, draw=draw)
