"""Searchers on a whole set of images: the same space, evaluations, steps and largest K* for all."""

from typing import Any

import torch

from graphpred.network import Signature, SparseNetwork
from graphpred.objective import Objective
from graphpred.searchers import Trial, search
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
    return {
        "accuracy": _accuracy(best, task=task),
        "n_edges": best.architecture.n_live_edges,
        "candidates": round(running.ledger.networks),
        "cpu_seconds": running.ledger.cpu_seconds,
    }


@torch.no_grad()
def _accuracy(trial: Trial, *, task: Task) -> float:
    network = SparseNetwork(trial.architecture, trial.weights, signature=Signature.of(task))
    X, y = task.rows("test")
    return float((network(X).argmax(dim=1) == y).float().mean())
