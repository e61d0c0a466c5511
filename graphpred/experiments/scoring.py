"""Scores of methods over cells: gap closed, ranks, wins and intervals.

A cell's figures are averaged over the seeds first, then over the budgets of a data set; data sets
count alike, and intervals come from drawing families of them anew.
Notation: G = (e_live − e) / (e_live − e_ceiling), the gap closed: 0 is as good as the best of a
thousand live random networks, 1 as the ceiling, the better of dense networks and boosting.
"""

import math
import statistics
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.stats import rankdata

from graphpred.experiments.outcome import Figure
from graphpred.experiments.protocol import Cell
from graphpred.objective import Kind

LEAST_GAP = 0.01
"""Of live random networks to the ceiling; below it nothing is there to be closed."""
WORST_UNEXPLAINED = 1.5
"""1 − R² counts for no more than this."""
LEAST_GAIN = 0.05
"""Balanced accuracy that training must gain for a set to count for the retention."""
CEILING = ("dense", "boosting")
N_DRAWS = 2000


@dataclass(frozen=True, kw_only=True)
class Result:
    """The figures of all methods in one cell.

    Attributes:
        name: Of the data set.
        family: Of the data set.
        kind: Of its target.
        n_outputs: c.
        seed: Of the split; −1 for means over seeds.
        kappa: κ.
        n_edges: Largest K*.
        steps: Training steps.
        figures: By method.
    """

    name: str
    family: str
    kind: Kind
    n_outputs: int
    seed: int
    kappa: float
    n_edges: int
    steps: int
    figures: dict[str, Figure]

    @classmethod
    def of(cls, cell: Cell, *, family: str, figures: dict[str, Figure]) -> "Result":
        """The figures of a cell."""
        return cls(
            name=cell.task.name,
            family=family,
            kind=cell.task.kind,
            n_outputs=cell.task.n_outputs,
            seed=cell.seed,
            kappa=cell.kappa,
            n_edges=cell.n_edges,
            steps=cell.steps,
            figures=figures,
        )

    def loss(self, method: str) -> float:
        """Test loss; 1 − R² in [0, 1.5], and a network that gives no number has the worst."""
        worst = WORST_UNEXPLAINED if self.kind == "regression" else 1.0
        loss = self.figures[method].loss
        return worst if math.isnan(loss) else min(max(loss, 0.0), worst)

    def gap_closed(self, method: str, *, live: str) -> float | None:
        """G, where ``live`` is the best of all live random networks; None for a tie."""
        ceiling = min(self.loss(name) for name in CEILING)
        return gap_closed(self.loss(method), live=self.loss(live), ceiling=ceiling)

    def duel(self, method: str, rival: str) -> int:
        """1 for a win of ``method``, −1 for a loss, 0 within one standard error of either."""
        apart = self.loss(rival) - self.loss(method)
        errors = [self.figures[name].standard_error for name in (method, rival)]
        return 0 if abs(apart) <= max(errors) else int(math.copysign(1, apart))

    def to_json(self) -> dict[str, Any]:
        """Plain JSON types."""
        figures = {name: figure.to_json() for name, figure in self.figures.items()}
        return vars(self) | {"figures": figures}


def gap_closed(loss: float, *, live: float, ceiling: float) -> float | None:
    """G = (live − loss) / (live − ceiling), or None if that gap is too small to speak of.

    >>> gap_closed(0.25, live=0.5, ceiling=0.0), gap_closed(0.25, live=0.2, ceiling=0.195)
    (0.5, None)
    """
    gap = live - ceiling
    return None if gap < LEAST_GAP else (live - loss) / gap


def over_seeds(results: Sequence[Result]) -> list[Result]:
    """One result a data set, budget and number of steps: means of the losses over the seeds.

    Losses are clipped before; standard errors are not divided, since the test rows are the same.
    """
    groups: dict[tuple[str, float, int], list[Result]] = defaultdict(list)
    for result in results:
        groups[result.name, result.kappa, result.steps].append(result)
    return [_mean(group) for group in groups.values()]


def _mean(group: Sequence[Result]) -> Result:
    figures = {}
    for method in group[0].figures:
        own = [result.figures[method] for result in group]
        figures[method] = Figure(
            loss=statistics.fmean(result.loss(method) for result in group),
            standard_error=statistics.fmean(figure.standard_error for figure in own),
            balanced_error=statistics.fmean(figure.balanced_error for figure in own),
            n_edges=statistics.fmean(figure.n_edges for figure in own),
            networks=own[0].networks,
            network_steps=own[0].network_steps,
            cpu_seconds=statistics.fmean(figure.cpu_seconds for figure in own),
        )
    plain = {k: v for k, v in vars(group[0]).items() if k not in ("seed", "figures")}
    return Result(**plain, seed=-1, figures=figures)


@dataclass(frozen=True, kw_only=True)
class Mean:
    """A mean over data sets with its interval.

    Attributes:
        value: NaN if no set has a value.
        low: Of the 95 % interval, from drawing families anew.
        high: Likewise.
        median: Over the data sets.
        n_sets: Data sets that have a value.
    """

    value: float
    low: float
    high: float
    median: float
    n_sets: int


def mean_over_sets(
    results: Sequence[Result], value: Callable[[Result], float | None], *, seed: int = 0
) -> Mean:
    """Average over the budgets of every set, then over the sets.

    Args:
        results: Of ``over_seeds``.
        value: What to average; None leaves the cell out.
        seed: Of the draws of families.
    """
    by_set: dict[tuple[str, str], list[float]] = defaultdict(list)
    for result in results:
        if (own := value(result)) is not None:
            by_set[result.family, result.name].append(own)
    means = {key: statistics.fmean(values) for key, values in by_set.items()}
    if not means:
        return Mean(value=math.nan, low=math.nan, high=math.nan, median=math.nan, n_sets=0)
    families: dict[str, list[float]] = defaultdict(list)
    for (family, _), own_mean in means.items():
        families[family].append(own_mean)
    low, high = bootstrap_interval(list(families.values()), seed=seed)
    return Mean(
        value=statistics.fmean(means.values()),
        low=low,
        high=high,
        median=statistics.median(means.values()),
        n_sets=len(means),
    )


def bootstrap_interval(
    families: Sequence[Sequence[float]], *, seed: int = 0, share: float = 0.95
) -> tuple[float, float]:
    """Percentile interval of the mean of all values, families being drawn with replacement.

    >>> bootstrap_interval([[1.0, 1.0], [1.0]])
    (1.0, 1.0)
    """
    sums = np.array([sum(values) for values in families])
    sizes = np.array([len(values) for values in families])
    generator = np.random.default_rng(seed)
    drawn = generator.integers(len(families), size=(N_DRAWS, len(families)))
    means = sums[drawn].sum(axis=1) / sizes[drawn].sum(axis=1)  # (N_DRAWS,)
    low, high = np.quantile(means, [(1 - share) / 2, (1 + share) / 2])
    return float(low), float(high)


def mean_ranks(results: Sequence[Result]) -> dict[str, float]:
    """Mean rank of every method among all, 1 the best; equal losses share their ranks."""
    ranks: dict[tuple[str, float, int], dict[str, float]] = {}
    for result in results:
        losses = [result.loss(method) for method in result.figures]
        own = dict(zip(result.figures, rankdata(losses).tolist(), strict=True))
        ranks[result.name, result.kappa, result.steps] = own

    def mean_rank(method: str) -> float:
        return mean_over_sets(
            results, lambda one: ranks[one.name, one.kappa, one.steps][method]
        ).value

    return {method: mean_rank(method) for method in results[0].figures}


def duels(results: Sequence[Result], method: str, *, rival: str) -> tuple[int, int, int]:
    """Cells that a method wins, ties and loses."""
    outcomes = [result.duel(method, rival) for result in results]
    return outcomes.count(1), outcomes.count(0), outcomes.count(-1)


def share_won(results: Sequence[Result], method: str, *, rival: str) -> float:
    """Share of the cells in which a method has the lower loss; an equal one counts as half."""
    apart = [result.loss(rival) - result.loss(method) for result in results]
    return statistics.fmean((1 + np.sign(x)) / 2 for x in apart)


def retention(results: Sequence[Result], *, before: str, after: str) -> Mean:
    """Share of the gain in balanced accuracy over 1/c that is there without a step.

    Args:
        results: Of ``over_seeds``.
        before: The method without training.
        after: The same one with it.
    """

    def kept(result: Result) -> float | None:
        if result.kind == "regression":
            return None
        without, trained = (
            1 - result.figures[method].balanced_error - 1 / result.n_outputs
            for method in (before, after)
        )
        return without / trained if trained >= LEAST_GAIN else None

    return mean_over_sets(results, kept)
