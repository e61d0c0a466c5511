"""How close searchers come to the true Z_opt, where exhaustive search can find it.

F(Z_opt, Z) is the paper's closeness after matching hidden neurons, and the quality gap its first
term alone: 𝔏(Z) − 𝔏(Z_opt).
"""

import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from graphpred.matching import closeness
from graphpred.objective import Objective
from graphpred.searchers import Trial, search
from graphpred.searchers.exhaustive import MAX_SIZE
from graphpred.space import SearchSpace
from graphpred.task import Task


@dataclass(frozen=True, kw_only=True)
class Closeness:
    """Means over seeds.

    Attributes:
        searcher: Its name.
        evaluations: Budget.
        closeness: F(Z_opt, Z) of its best trial.
        quality_gap: 𝔏(Z) − 𝔏(Z_opt).
        n_edges: K of its best trial.
    """

    searcher: str
    evaluations: int
    closeness: float
    quality_gap: float
    n_edges: float


def searcher_closeness(
    task: Task,
    space: SearchSpace,
    *,
    objective: Objective,
    searchers: Sequence[str] = ("random", "random_live"),
    evaluations: int = 30,
    densities: Sequence[float] = (0.2, 0.4, 0.6),
    seeds: int = 5,
    alpha: float = 0.02,
    beta: float = 0.01,
) -> list[Closeness]:
    """F of the best trial of every searcher; the exhaustive search comes first, with F = 0.

    Args:
        task: The data.
        space: A tiny space.
        objective: 𝔏.
        searchers: Keys of ``SEARCHERS``.
        evaluations: Budget of every searcher but the exhaustive one.
        densities: Densities at which random searchers draw.
        seeds: Repeats.
        alpha: Cost of a false edge in F.
        beta: Cost of a missed edge in F.
    """

    def best(name: str, budget: int, seed: int) -> Trial:
        trials = search(
            task,
            space,
            searcher=name,
            objective=objective,
            evaluations=budget,
            densities=densities,
            seed=seed,
        )
        return min(trials, key=lambda trial: trial.objective)

    optimum = best("exhaustive", MAX_SIZE, 0)
    rows = []
    for name, budget in (("exhaustive", MAX_SIZE), *((name, evaluations) for name in searchers)):
        found = [optimum] if name == "exhaustive" else [best(name, budget, s) for s in range(seeds)]
        gaps = [trial.objective - optimum.objective for trial in found]
        values = [
            closeness(
                optimum.architecture,
                trial.architecture,
                alpha=alpha,
                beta=beta,
                quality_gap=gap,
                align=True,
            )
            for trial, gap in zip(found, gaps, strict=True)
        ]
        rows.append(
            Closeness(
                searcher=name,
                evaluations=budget,
                closeness=statistics.mean(values),
                quality_gap=statistics.mean(gaps),
                n_edges=statistics.mean(trial.architecture.n_edges for trial in found),
            )
        )
    return rows
