"""What predictions reach in a cell, with and without training, and their front over prices."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

import torch
from scipy.stats import spearmanr

from graphpred.experiments.outcome import Figure, Outcome
from graphpred.experiments.pool import Pool
from graphpred.experiments.protocol import Cell
from graphpred.experiments.rivals import rate_of, reached
from graphpred.fitting import FRONT_PRICES
from graphpred.meta.model import MetaModel
from graphpred.population import Population
from graphpred.searchers import Proposal
from graphpred.task import Task

NO_STEP = "predicted, no step"
PREDICTED = "predicted"
FRESH = "predicted, fresh weights"
SHUFFLED = "predicted from shuffled y"
N_CANDIDATES = 32
FRONT_CANDIDATES = 200
"""Live random candidates that the front of a prediction is compared with, over all budgets."""

T = TypeVar("T")


def predictions(model: MetaModel, cell: Cell) -> dict[str, Figure]:
    """Figures of one prediction, of the best of several, and of one that saw wrong targets.

    The last one is a prediction for the data set with its training targets shuffled: what the model
    knows of all data sets alike.
    """
    seconds, proposal = _timed(lambda: predict(model, cell, task=cell.task))
    wrong_seconds, wrong = _timed(lambda: predict(model, cell, task=shuffled(cell)))
    more_seconds, more = _timed(lambda: others(model, cell, k=N_CANDIDATES - 1))
    untrained, rate = replace(cell, steps=0), rate_of("predicted", cell.steps)
    best = f"{PREDICTED}, best of {N_CANDIDATES}"
    contests = {
        NO_STEP: (untrained, [proposal], 0.0, seconds),
        PREDICTED: (cell, [proposal], rate, seconds),
        best: (cell, [proposal, *more], rate, seconds + more_seconds),
        SHUFFLED: (cell, [wrong], rate, wrong_seconds),
    }
    figures = {}
    for name, (own, proposals, own_rate, before) in contests.items():
        outcome = trained(own, proposals, rate=own_rate, seconds=before)
        figures[name] = outcome.best_of(len(proposals), steps=own.steps)
    outcome = trained_afresh(cell, [proposal], rate=rate_of("fresh", cell.steps), seconds=seconds)
    return figures | {FRESH: outcome.best_of(1, steps=cell.steps)}


def predict(model: MetaModel, cell: Cell, *, task: Task) -> Proposal:
    """The network predicted for a task within the budget of a cell."""
    return model.predict(task, seed=cell.seed).proposal(n_edges=cell.n_edges)


def others(model: MetaModel, cell: Cell, *, k: int) -> list[Proposal]:
    """More predictions, with fresh latents."""
    prediction = model.predict(cell.task, seed=cell.seed)
    return prediction.sample(k, generator=cell.generator("predicted"), n_edges=cell.n_edges)


def shuffled(cell: Cell) -> Task:
    """The task of a cell with the targets of its training rows in another order."""
    task, rows = cell.task, cell.task.split.train
    y = task.y.clone()
    y[rows] = y[rows[torch.randperm(len(rows), generator=cell.generator("shuffled"))]]
    return replace(task, y=y)


def trained(
    cell: Cell, proposals: Sequence[Proposal], *, rate: float, seconds: float = 0.0
) -> Outcome:
    """Train networks from their predicted weights; ``seconds`` is what predicting them took."""
    starts = [proposal.start for proposal in proposals if proposal.start is not None]
    population = Population([proposal.architecture for proposal in proposals], start=starts)
    return _fitted(population, cell, rate=rate, seconds=seconds)


def trained_afresh(
    cell: Cell, proposals: Sequence[Proposal], *, rate: float, seconds: float = 0.0
) -> Outcome:
    """Train the predicted architectures from fresh weights."""
    seeds = [cell.own_seed("fresh", i) for i in range(len(proposals))]
    population = Population([proposal.architecture for proposal in proposals], seed=seeds)
    return _fitted(population, cell, rate=rate, seconds=seconds)


def _fitted(population: Population, cell: Cell, *, rate: float, seconds: float) -> Outcome:
    X, y = cell.task.rows("train")
    more, _ = _timed(
        lambda: population.fit(X, y, steps=cell.steps, learning_rate=rate, batch_seed=cell.seed)
    )
    outcome = reached(population, cell)
    each = (seconds + more) / len(outcome)
    return replace(outcome, cpu_seconds=torch.full_like(outcome.cpu_seconds, each))


def _timed(run: Callable[[], T]) -> tuple[float, T]:
    started = time.process_time()
    returned = run()
    return time.process_time() - started, returned


@dataclass(frozen=True, kw_only=True)
class Front:
    """Ten prices in one forward pass each, against live random candidates of all budgets.

    Attributes:
        name: Of the data set.
        family: Of the data set.
        seed: Of the split.
        correlation: Spearman's, of price and K*: −1 if every higher price gives fewer edges.
        hypervolume: Share of (log K*, loss) that the predictions dominate, see ``hypervolume``.
        live_hypervolume: That the live candidates dominate.
    """

    name: str
    family: str
    seed: int
    correlation: float
    hypervolume: float
    live_hypervolume: float


def front(model: MetaModel, budgets: Sequence[Cell], *, pool: Pool, family: str) -> Front:
    """Train the predictions of ten prices, and compare what they dominate.

    Args:
        model: The meta-model.
        budgets: Cells of one data set, seed and number of steps; the live candidates are of all.
        pool: Holds the live candidates.
        family: Of the data set.
    """
    cell, n_each = budgets[0], FRONT_CANDIDATES // len(budgets)
    prediction = model.predict(cell.task, seed=cell.seed)
    proposals = [one.proposal() for one in prediction.along(FRONT_PRICES)]
    n_edges = [proposal.architecture.n_live_edges for proposal in proposals]
    ours = trained(cell, proposals, rate=rate_of("predicted", cell.steps))
    live = [pool.outcome("live", own, n_candidates=n_each) for own in budgets]
    constant = len(set(n_edges)) == 1
    return Front(
        name=cell.task.name,
        family=family,
        seed=cell.seed,
        correlation=0.0 if constant else float(spearmanr(FRONT_PRICES, n_edges).statistic),
        hypervolume=hypervolume(ours, cell),
        live_hypervolume=hypervolume(Outcome.joined(live), cell),
    )


def hypervolume(outcome: Outcome, cell: Cell) -> float:
    """Share of the square of log K* / log N and loss / loss of a constant that is dominated.

    The networks that no smaller one beats on the validation part count, at their test losses.
    """
    largest, worst = cell.space.n_possible_edges, _constant_loss(cell.task)
    order = sorted(
        range(len(outcome)), key=lambda i: (outcome.n_edges[i], float(outcome.validation[i]))
    )
    area, height, least = 0.0, 1.0, float("inf")
    for i in order:
        if float(outcome.validation[i]) >= least or outcome.n_edges[i] < 1:
            continue
        least = float(outcome.validation[i])
        x = float(outcome.n_edges[i].log()) / float(torch.tensor(largest).log())
        y = float(outcome.test[i]) / worst
        if y < height:
            area += (height - y) * max(0.0, 1 - x)
            height = y
    return area


def _constant_loss(task: Task) -> float:
    """Test loss of the most frequent class, or of the mean, of the training rows."""
    if not task.is_classification:
        return 1.0
    _, y = task.rows("train")
    _, test = task.rows("test")
    return float((test != y.mode().values).double().mean())
