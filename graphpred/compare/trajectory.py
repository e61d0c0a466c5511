"""What a search had found after every part of its budget.

Notation: L loss, K edges, 𝔏 = L + C·K. The network with the least 𝔏 on the validation part counts,
and is measured on the test part.
"""

import math
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import torch

from graphpred.network import Signature, SparseNetwork
from graphpred.objective import Objective
from graphpred.searchers import Search, Trial
from graphpred.task import Part, Task

COSTS = ("evaluations", "networks", "cpu_seconds", "wall_seconds")
"""Fields of a ``Point`` that say what had been spent."""


@dataclass(frozen=True, kw_only=True)
class Point:
    """The best network so far, and what had been spent.

    Attributes:
        evaluations: Network-steps / 100.
        networks: Trained.
        cpu_seconds: Of training and search together.
        wall_seconds: Likewise.
        validation_objective: 𝔏 on the validation part, which chose the network.
        test_loss: L on the test part.
        test_objective: 𝔏 on the test part.
        n_edges: K.
        n_live_edges: K*.
    """

    evaluations: float
    networks: float
    cpu_seconds: float
    wall_seconds: float
    validation_objective: float
    test_loss: float
    test_objective: float
    n_edges: int
    n_live_edges: int


def trajectory(running: Search, *, task: Task, objective: Objective) -> list[Point]:
    """Run a search to its end; a point for every improvement, and one for the end.

    The first point is the best constant, a network without edges, which costs nothing.
    """
    started = time.perf_counter()
    points = [constant_point(task, objective=objective)]
    for trial, spent in _with_costs(running, started):
        if trial.objective < points[-1].validation_objective:
            points.append(_point(trial, spent, task=task, objective=objective))
    return [*points, _at(points[-1], _spent(running, started))]


def _at(point: Point, spent: "_Spent") -> Point:
    """The same network at another cost."""
    costs: dict[str, Any] = dict(zip(COSTS, spent, strict=True))
    return replace(point, **costs)


_Spent = tuple[float, float, float, float]
"""What ``COSTS`` names."""


def _with_costs(running: Search, started: float) -> Iterator[tuple[Trial, _Spent]]:
    """Every trial with what had been spent when it was finished.

    Networks of a round are trained together; its cost is shared out among them in their order.
    """
    before = after = _spent(running, started)
    together: list[Trial] = []
    for trial in running:
        if together and running.state.ledger.trials == trial.number:  # a round begins
            yield from _shared(together, before, after)
            before, together = after, []
        together.append(trial)
        after = _spent(running, started)
    if together:
        yield from _shared(together, before, after)


def _spent(running: Search, started: float) -> _Spent:
    ledger = running.ledger
    wall = time.perf_counter() - started
    return ledger.network_steps / 100, ledger.networks, ledger.cpu_seconds, wall


def _shared(trials: list[Trial], before: _Spent, after: _Spent) -> Iterator[tuple[Trial, _Spent]]:
    for i, trial in enumerate(trials, start=1):
        share = i / len(trials)
        costs = [a + share * (b - a) for a, b in zip(before, after, strict=True)]
        yield trial, (costs[0], costs[1], costs[2], costs[3])


def _point(trial: Trial, spent: _Spent, *, task: Task, objective: Objective) -> Point:
    z = trial.architecture
    network = SparseNetwork(z, trial.weights, signature=Signature.of(task))
    X, y = task.rows("test")
    with torch.no_grad():
        loss = float(objective.losses(network(X).T[None], y)[0])
    return Point(
        **dict(zip(COSTS, spent, strict=True)),
        validation_objective=trial.objective,
        test_loss=loss,
        test_objective=loss + objective.cost(z.n_edges),
        n_edges=z.n_edges,
        n_live_edges=z.n_live_edges,
    )


def constant_point(task: Task, *, objective: Objective) -> Point:
    """The class frequencies, or the mean, of the training rows."""
    return Point(
        **dict.fromkeys(COSTS, 0.0),
        validation_objective=_constant_loss(task, "validation", objective=objective),
        test_loss=(loss := _constant_loss(task, "test", objective=objective)),
        test_objective=loss,
        n_edges=0,
        n_live_edges=0,
    )


def _constant_loss(task: Task, part: Part, *, objective: Objective) -> float:
    _, y = task.rows("train")
    _, target = task.rows(part)
    if task.is_classification:
        counts = torch.bincount(y, minlength=task.n_outputs).double()
        score = ((counts + 1e-9) / counts.sum()).log()  # (c,)
    else:
        score = y.double().mean(dim=0)
    scores = score[None, :, None].expand(1, -1, len(target))
    return float(objective.losses(scores, target)[0])


def at_budget(points: list[Point], budget: float, *, currency: str = "evaluations") -> Point:
    """What was best when a budget was spent.

    Args:
        points: Of ``trajectory``.
        budget: In the currency.
        currency: ``"evaluations"``, ``"cpu_seconds"`` or another cost.
    """
    within = [point for point in points if getattr(point, currency) <= budget + 1e-9]
    return within[-1] if within else points[0]


def first_below(points: list[Point], objective: float) -> float:
    """Evaluations until 𝔏 on the test part was no more than a value; ∞ if it never was."""
    reached = [point.evaluations for point in points if point.test_objective <= objective]
    return min(reached, default=math.inf)
