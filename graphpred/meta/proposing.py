"""From a prediction to networks: what predictions of one and of several hidden layers share.

Notation: layers of widths n_0 … n_t; N possible edges, K* live ones.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Self

import torch

from graphpred.architecture import Architecture
from graphpred.meta.likely import edge_limit
from graphpred.searchers import Proposal


class Proposing(ABC):
    """A distribution over networks that chooses one, or draws some, within a number of edges."""

    @property
    @abstractmethod
    def widths(self) -> tuple[int, ...]:
        """n_0 … n_t: features, hidden neurons layer by layer, outputs."""

    @abstractmethod
    def fitted(self, limit: int | None = None) -> Self:
        """The prediction whose likely edges are those of one network, with its final weights.

        Args:
            limit: Largest K*; without it, as many as are likely at this price.
        """

    @abstractmethod
    def fitted_draws(
        self, k: int, *, limit: int | None = None, generator: torch.Generator
    ) -> Sequence[Self]:
        """Like ``fitted`` but quickly, k of them, with fresh latents of all hidden neurons."""

    @abstractmethod
    def chosen(self, limit: int | None = None) -> Proposal:
        """The network of the likely edges, no more live ones than ``limit``."""

    def limit(self, *, n_edges: int | None = None, density: float | None = None) -> int:
        """The largest K* that is asked for; see ``proposal``."""
        return edge_limit(self.widths, n_edges=n_edges, density=density)

    def architecture(
        self, *, n_edges: int | None = None, density: float | None = None
    ) -> Architecture:
        """The architecture of ``proposal``."""
        return self.proposal(n_edges=n_edges, density=density).architecture

    def proposal(self, *, n_edges: int | None = None, density: float | None = None) -> Proposal:
        """A network with its predicted weights as the start.

        Args:
            n_edges: Largest K*, see ``fitted``. If the model wants fewer edges, the network has
                fewer: it is not filled up.
            density: The same as floor(density · N) edges.

        Returns:
            With neither, a network of as many live edges as are likely at this price.

        Raises:
            InputError: If both are given, or fewer edges are allowed than a path has.
        """
        limit = self._asked(n_edges=n_edges, density=density)
        return self.fitted(limit).chosen(limit)

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
        limit = self._asked(n_edges=n_edges, density=density)
        return [one.chosen(limit) for one in self.fitted_draws(k, limit=limit, generator=generator)]

    def _asked(self, *, n_edges: int | None, density: float | None) -> int | None:
        """The largest K* that is asked for, if one is."""
        if n_edges is None and density is None:
            return None
        return self.limit(n_edges=n_edges, density=density)
