"""Searchers on a whole set of images: the same space, evaluations, steps and largest K* for all."""

from typing import Any

from graphpred.objective import Objective
from graphpred.population import Population
from graphpred.searchers import search
from graphpred.space import SearchSpace
from graphpred.task import Task


def searched(
    task: Task, *, space: SearchSpace, searcher: str, evaluations: int, seed: int
) -> dict[str, Any]:
    """What a searcher finds: the trial with the fewest errors on the validation part.

    Args:
        task: The whole set.
        space: Its density is the ceiling of K.
        searcher: A key of ``SEARCHERS``.
        evaluations: Budget.
        seed: Of the search.

    Returns:
        ``accuracy`` on the test part, ``n_edges`` (K*), ``candidates`` and ``cpu_seconds``.
    """
    running = search(
        task,
        space,
        searcher=searcher,
        objective=Objective(loss="error"),
        evaluations=evaluations,
        seed=seed,
    )
    best = min(running, key=lambda trial: trial.objective)
    population = Population([best.architecture], start=[best.weights])
    return {
        "accuracy": 1 - float(population.losses(*task.rows("test"), loss="error")),
        "n_edges": best.architecture.n_live_edges,
        "candidates": round(running.ledger.networks),
        "cpu_seconds": running.ledger.cpu_seconds,
    }
