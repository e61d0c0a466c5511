"""What a run of searches is asked to do, and how the searches are cut into shards."""

import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from graphpred.errors import InputError
from graphpred.objective import LOSSES
from graphpred.searchers import SEARCHERS
from graphpred.searchers.base import STEPS_PER_EVALUATION
from graphpred.space import DEFAULT_ACTIVATIONS, SearchSpace
from graphpred.split import VALIDATION_SHARE
from graphpred.task import Task

DEFAULT_DENSITIES = (0.02, 0.05, 0.1, 0.2, 0.4)
DEFAULT_PRICES = tuple(round(0.01 * 300 ** (i / 9), 6) for i in range(10))
"""Ten prices λ = C·N from 0.01 to 3, evenly spaced by logarithm."""

_SHARD_SECONDS = 2.0
"""Estimated work behind a shard: ample, so that a task lasts a second on a core twice as fast."""
_SECONDS_PER_NETWORK = 6.5e-4
_SECONDS_PER_STEP = 5e-6
_SECONDS_PER_CELL = 5e-11
"""What a core needs for a network: to set it up, a step, and a row times a possible edge in a step.

Measured with random searches on iris, wine, breast_cancer and digits, rather too low than too high.
They only cut shards: changing them changes which searches share a file, never a pair, and a folder
that was cut otherwise is resumed.
"""


@dataclass(frozen=True, kw_only=True)
class GenerateConfig:
    """What the searches are asked to do.

    Attributes:
        n_searches: Subsamples to search; each gives a pair per price.
        rows: Rows of a subsample; a third of them is for validation.
        evaluations: Budget of a search.
        steps: Training steps of a candidate.
        densities: Densities at which random searchers draw, in turn.
        prices: λ = C·N for every pair of a search; leave out if ``penalties`` are given.
        penalties: C itself, instead of prices.
        loss: Name of L; by default that of the task's kind.
        searcher: A key of ``SEARCHERS``.
        n_hidden: Width of the hidden layer; by default the number of features.
        activations: Names of the activation classes of hidden neurons.
        seed: Seed of everything.
        cpu_seconds: Another budget of a search: it asks for no more networks once it has spent so
            many. What is found then depends on the machine.

    Raises:
        InputError: If a field is out of its range.
    """

    n_searches: int = 100
    rows: int = 300
    evaluations: int = 100
    steps: int = 100
    densities: tuple[float, ...] = DEFAULT_DENSITIES
    prices: tuple[float, ...] = DEFAULT_PRICES
    penalties: tuple[float, ...] = ()
    loss: str | None = None
    searcher: str = "random"
    n_hidden: int | None = None
    activations: tuple[str, ...] = DEFAULT_ACTIVATIONS
    seed: int = 0
    cpu_seconds: float | None = None

    def __post_init__(self) -> None:
        for name in ("n_searches", "rows", "evaluations", "steps", "n_hidden"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise InputError(f"{name} must be at least 1; got {value}.")
        if self.steps > STEPS_PER_EVALUATION * self.evaluations:
            raise InputError(
                f"evaluations, {STEPS_PER_EVALUATION} steps each, must hold one candidate of "
                f"{self.steps} steps; got {self.evaluations}."
            )
        if self.cpu_seconds is not None and not 0 < self.cpu_seconds < math.inf:
            raise InputError(f"cpu_seconds must be a positive number; got {self.cpu_seconds}.")
        if not self.densities or not all(0 < d <= 1 for d in self.densities):
            raise InputError(f"densities must be in (0, 1]; got {list(self.densities)}.")
        for c in (*self.prices, *self.penalties):
            if not (math.isfinite(c) and c >= 0):
                raise InputError(f"prices and penalties must be numbers of at least 0; got {c}.")
        if self.searcher not in SEARCHERS:
            known = ", ".join(SEARCHERS)
            raise InputError(f"searcher must be one of {known}; got {self.searcher!r}.")
        if self.loss is not None and self.loss not in LOSSES:
            raise InputError(f"loss must be one of {', '.join(LOSSES)}; got {self.loss!r}.")

    def space(self, task: Task) -> SearchSpace:
        """The search space of a task: one hidden layer, as in the paper."""
        widths = (task.n_features, self.n_hidden or task.n_features, task.n_outputs)
        return SearchSpace(widths=widths, activations=self.activations)

    def costs(self, space: SearchSpace) -> list[tuple[float, float]]:
        """Price λ and penalty C of every pair of a search."""
        n = space.n_possible_edges
        if self.penalties:
            return [(c * n, c) for c in self.penalties]
        return [(price, price / n) for price in self.prices]

    @property
    def pairs_per_search(self) -> int:
        """A pair for every price."""
        return len(self.penalties or self.prices)

    def seconds(self, task: Task) -> float:
        """About how long a search of a subsample of a task takes; the same on every machine."""
        n_networks = STEPS_PER_EVALUATION * self.evaluations // self.steps
        m = (1 - VALIDATION_SHARE) * min(self.rows, len(task.split.fit))
        step = _SECONDS_PER_STEP + _SECONDS_PER_CELL * m * self.space(task).n_possible_edges
        seconds = n_networks * (_SECONDS_PER_NETWORK + self.steps * step)
        return seconds if self.cpu_seconds is None else min(seconds, self.cpu_seconds)


def missing_shards(
    tasks: Sequence[Task], *, config: GenerateConfig, done: set[int]
) -> Iterator[range]:
    """Ranges of searches that are to be made, one shard each, at least about a second of work.

    The cuts depend on the configuration and the shapes of the data alone. A longer run cuts at the
    same numbers, so what a shorter or an interrupted one has made is never made again.

    Args:
        tasks: The data sets that the searches take in turn.
        config: How many searches, and what they do.
        done: Numbers of the searches that are stored.
    """
    seconds = [config.seconds(task) for task in tasks]
    block, spent = 0, 0.0
    keyed: list[tuple[int, int, int]] = []
    for number in range(config.n_searches):
        if number not in done:
            # A number minus its position among its like is equal for consecutive ones.
            keyed.append((block, number - len(keyed), number))
        spent += seconds[number % len(seconds)]
        if spent >= _SHARD_SECONDS:
            block, spent = block + 1, 0.0
    for _, members in itertools.groupby(keyed, key=lambda item: item[:2]):
        numbers = [number for *_, number in members]
        yield range(numbers[0], numbers[-1] + 1)
