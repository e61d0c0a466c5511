"""Many decisions in few numbers: every number is a quantile that decides again and again.

Notation: R rows (hidden neurons, or graphs) of m numbers in [0, 1). A decision whose outcomes have
probabilities p_1 … p_a cuts the interval of one number in parts of these shares; the outcome says
in which part the number lies. The next decision is made by the number whose interval is widest so
far, so that all stay about as wide. Numbers drawn evenly from [0, 1) give every outcome its
probability, and given the outcomes they are even on the intervals that are left: for the map from
numbers to outcomes, the posterior is known in closed form (a tree of the rounding surjections of
Nielsen et al., "SurVAE Flows", 2020; the same cuts as in arithmetic coding).
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from graphpred.errors import ModelError

PROBABILITY_FLOOR = 0.002
"""No outcome of a decision is made less probable than this, so no interval shrinks at once."""
_LEAST_WIDTH = 2.0**-30


class Intervals:
    """The intervals of the numbers, narrowed by one decision a row at a time.

    Attributes:
        low: Lower ends. Float64, shape ``(R, m)``.
        width: Float64, shape ``(R, m)``.
    """

    def __init__(self, n_rows: int, n_numbers: int) -> None:
        self.low = torch.zeros(n_rows, n_numbers, dtype=torch.float64)
        self.width = torch.ones(n_rows, n_numbers, dtype=torch.float64)

    def next(self) -> Tensor:
        """The number that makes the next decision: the first of the widest. Int64, ``(R,)``.

        Widths count as equal within a thousandth of a bit, so that rounding errors decide nothing.
        """
        m = self.width.shape[1]
        bits = (1000 * self.width.log2()).round()  # (R, m)
        return (bits * m - torch.arange(m)).argmax(dim=1)

    def quantile(self, values: Tensor) -> Tensor:
        """Where the deciding number lies in its interval, in [0, 1). Float64, shape ``(R,)``.

        Args:
            values: The numbers. Float64, shape ``(R, m)``.
        """
        at = self.next().unsqueeze(1)
        left = values.gather(1, at) - self.low.gather(1, at)
        return (left / self.width.gather(1, at)).squeeze(1)

    def narrow(self, start: Tensor, share: Tensor) -> None:
        """Keep the part that belongs to the outcome.

        Args:
            start: Sum of the probabilities of the outcomes before. Float64, shape ``(R,)``.
            share: Probability of the outcome; 1 where nothing was to be decided. The same shape.
        """
        at = self.next().unsqueeze(1)
        width = self.width.gather(1, at)
        self.low.scatter_add_(1, at, start.unsqueeze(1) * width)
        self.width.scatter_(1, at, share.unsqueeze(1) * width)

    def narrow_to(self, outcome: Tensor, *, probabilities: Tensor) -> None:
        """Keep the part of one of several outcomes.

        Args:
            outcome: Its position. Int64, shape ``(R,)``.
            probabilities: Of all. Float64, shape ``(R, a)``.
        """
        at = outcome.unsqueeze(1)
        before = probabilities.cumsum(dim=1) - probabilities
        self.narrow(before.gather(1, at).squeeze(1), probabilities.gather(1, at).squeeze(1))

    def choose(self, values: Tensor, *, probabilities: Tensor) -> Tensor:
        """The outcome that the numbers decide on, ``(R,)``, to whose part they are narrowed."""
        quantile = self.quantile(values).unsqueeze(1)
        passed = (quantile >= probabilities.cumsum(dim=1)[:, :-1]).sum(dim=1)
        self.narrow_to(passed, probabilities=probabilities)
        return passed

    def narrow_if(self, happens: Tensor, *, probability: Tensor) -> None:
        """Keep the part of an event, or of its absence.

        Args:
            happens: Bool, shape ``(R,)``.
            probability: Of the event; 0 or 1 cost nothing. Float64, shape ``(R,)``.
        """
        start = torch.where(happens, 0, probability)
        self.narrow(start, torch.where(happens, probability, 1 - probability))

    def happens(self, values: Tensor, *, probability: Tensor) -> Tensor:
        """Whether the event happens, bool ``(R,)``; the numbers are narrowed to it."""
        event = self.quantile(values) < probability
        self.narrow_if(event, probability=probability)
        return event


@dataclass(frozen=True, eq=False, kw_only=True)
class Posterior:
    """Where the latents of given architectures lie: independent and even on intervals.

    Attributes:
        low: Lower ends, in [0, 1). Float64, shape ``(G, h, LATENT_SIZE)``.
        width: The same shape. The last numbers of all neurons of a graph are the same.
        n_shared: How many are.
    """

    low: Tensor
    width: Tensor
    n_shared: int

    def __post_init__(self) -> None:
        if bool((self.width < _LEAST_WIDTH).any()):
            raise ModelError(
                "an architecture must fit into its latents, so that no number of a neuron has to "
                "hold more than 30 bits; got a neuron with too many improbable edges."
            )

    @property
    def mean(self) -> Tensor:
        """Centres of the intervals."""
        return self.low + 0.5 * self.width

    @property
    def deviation(self) -> Tensor:
        """Standard deviations; those of the prior are sqrt(1 / 12)."""
        return self.width / 12**0.5

    def sample(self, *, generator: torch.Generator) -> Tensor:
        """Draw latents. Float64, shape ``(G, h, LATENT_SIZE)``.

        A ten-thousandth of every interval is left free at its ends for rounding errors.
        """
        shape = self.low.shape
        noise = torch.rand(shape, generator=generator, dtype=torch.float64)
        if self.n_shared:
            noise[:, :, -self.n_shared :] = noise[:, :1, -self.n_shared :].clone()
        return self.low + self.width * (1e-4 + (1 - 2e-4) * noise)
