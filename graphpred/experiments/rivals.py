"""What a prediction is compared with: every rival trains candidates for a cell.

All networks have the paper's shape, n → n → c, and draw their activations from the same classes.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch

from graphpred.architecture import Architecture
from graphpred.experiments.linear import (
    LEAVES,
    LOGISTIC_INVERSE_PENALTIES,
    N_PENALTIES,
    RIDGE_PENALTIES,
    boosted_trees,
    l1_path,
    linear_models,
    ridge_network,
)
from graphpred.experiments.outcome import Outcome
from graphpred.experiments.protocol import Cell
from graphpred.population import FITTED_RATE, LEARNING_RATE, Population
from graphpred.searchers.sparsified import (
    gradually_pruned,
    masked,
    snip_architectures,
    strongest_live,
)

RATES = {
    "live": {300: 0.03},
    "paper": {300: 0.03},
    "pruning": {300: 0.03},
    "snip": {300: 0.03},
    "dense": {300: 0.01},
    "ridge_top_trained": {300: 0.3},
    "predicted": {300: FITTED_RATE},
    "fresh": {300: LEARNING_RATE},
}
"""Every method's learning rate by the number of steps.

Those above the predictions are the best of ``RATE_GRID`` on the tuning half at κ of 1 and 4:
``python benchmarks/prediction.py SETS --tune --kappas 1 4 --steps 300``. Those of predictions are
the library's own; the same command with ``--model`` tunes them.
"""

Run = Callable[[Cell, range, float], Outcome]
"""Trains the candidates of given numbers at a learning rate. Candidate i is the same whichever
others are asked for."""


@dataclass(frozen=True, kw_only=True)
class Rival:
    """A way to get a network, or something else that predicts.

    Attributes:
        run: Trains candidates.
        n_candidates: To choose from by validation.
        chunk: Candidates that are trained together.
        budgeted: Whether the budget of edges matters; a dense network has none.
        trained: Whether it takes the cell's training steps, at its learning rate.
    """

    run: Run
    n_candidates: int
    chunk: int
    budgeted: bool = True
    trained: bool = True


def rate_of(method: str, steps: int) -> float:
    """Its learning rate: that of the nearest number of steps that was tuned."""
    rates = RATES[method]
    return rates[min(rates, key=lambda tuned: abs(tuned - steps))]


def train(
    networks: Sequence[Architecture], cell: Cell, *, rate: float, seeds: Sequence[int]
) -> Population:
    """Train networks from fresh weights for the cell's steps."""
    population = Population(networks, seed=seeds)
    X, y = cell.task.rows("train")
    return population.fit(X, y, steps=cell.steps, learning_rate=rate, batch_seed=cell.seed)


def reached(population: Population, cell: Cell) -> Outcome:
    """What the networks of a population reach."""
    n_edges = [z.n_live_edges for z in population.architectures]
    return Outcome.measured(cell.task, population.scores, n_edges=n_edges)


def _live(cell: Cell, numbers: range, rate: float) -> Outcome:
    """Random networks that have only live edges."""
    networks = [live_architecture(cell, i) for i in numbers]
    return reached(train(networks, cell, rate=rate, seeds=_seeds(cell, "live", numbers)), cell)


def live_architecture(cell: Cell, number: int) -> Architecture:
    """The random network with only live edges that a candidate of *live* is."""
    return cell.space.sample_live(generator=cell.generator("live", number), n_edges=cell.n_edges)


def _paper(cell: Cell, numbers: range, rate: float) -> Outcome:
    """Uniform masks of as many edges as keep K* within the budget, each at its own share.

    The edges come in a random order, which makes the first K of them uniform for any K; the last
    hidden neuron that they join is trimmed to the budget. Dead edges count for nothing.
    """
    networks = []
    for i in numbers:
        generator = cell.generator("paper", i)
        z = _dense_architecture(cell, generator)
        n, h, c = z.widths
        order = torch.rand(n, h, generator=generator), torch.rand(h, c, generator=generator)
        networks.append(masked(z, strongest_live(*order, n_edges=cell.n_edges)))
    return reached(train(networks, cell, rate=rate, seeds=_seeds(cell, "paper", numbers)), cell)


def _dense(cell: Cell, numbers: range, rate: float) -> Outcome:
    networks = _dense_architectures(cell, numbers)
    return reached(train(networks, cell, rate=rate, seeds=_seeds(cell, "dense", numbers)), cell)


def _pruning(cell: Cell, numbers: range, rate: float) -> Outcome:
    population = gradually_pruned(
        _dense_architectures(cell, numbers),
        cell.task,
        n_edges=[cell.n_edges] * len(numbers),
        steps=cell.steps,
        rate=rate,
        seeds=_seeds(cell, "dense", numbers),
        batch_seed=cell.seed,
    )
    return reached(population, cell)


def _snip(cell: Cell, numbers: range, rate: float) -> Outcome:
    """The edges that SNIP keeps, trained from fresh weights that fit their number."""
    seeds = _seeds(cell, "dense", numbers)
    networks = snip_architectures(
        _dense_architectures(cell, numbers),
        cell.task,
        n_edges=[cell.n_edges] * len(numbers),
        seeds=seeds,
        batch_seed=cell.seed,
    )
    return reached(train(networks, cell, rate=rate, seeds=seeds), cell)


def _ridge_top(cell: Cell, numbers: range, rate: float) -> Outcome:
    """The largest ridge coefficients, one penalty a candidate, trained on if there is a rate."""
    networks, weights = zip(
        *(
            ridge_network(cell.task, penalty=RIDGE_PENALTIES[i], n_edges=cell.n_edges)
            for i in numbers
        ),
        strict=True,
    )
    population = Population(networks, start=weights)
    X, y = cell.task.rows("train")
    steps = cell.steps if rate else 0
    population.fit(X, y, steps=steps, learning_rate=rate, batch_seed=cell.seed)
    return reached(population, cell)


def _seeds(cell: Cell, purpose: str, numbers: range) -> list[int]:
    return [cell.own_seed(purpose, "weights", i) for i in numbers]


def _dense_architectures(cell: Cell, numbers: range) -> list[Architecture]:
    return [_dense_architecture(cell, cell.generator("dense", i)) for i in numbers]


def _dense_architecture(cell: Cell, generator: torch.Generator) -> Architecture:
    """All edges, and a drawn activation a neuron."""
    space = cell.space
    return space.sample(generator=generator, n_edges=space.n_possible_edges)


RIVALS: dict[str, Rival] = {
    "live": Rival(run=_live, n_candidates=1000, chunk=100),
    "paper": Rival(run=_paper, n_candidates=100, chunk=100),
    "pruning": Rival(run=_pruning, n_candidates=8, chunk=8),
    "snip": Rival(run=_snip, n_candidates=8, chunk=8),
    "l1": Rival(
        run=lambda cell, numbers, rate: l1_path(cell.task),
        n_candidates=2 * N_PENALTIES,
        chunk=2 * N_PENALTIES,
        budgeted=False,  # a path holds the models of every budget
        trained=False,
    ),
    "ridge_top": Rival(
        run=_ridge_top,
        n_candidates=len(RIDGE_PENALTIES),
        chunk=len(RIDGE_PENALTIES),
        trained=False,
    ),
    "ridge_top_trained": Rival(
        run=_ridge_top, n_candidates=len(RIDGE_PENALTIES), chunk=len(RIDGE_PENALTIES)
    ),
    "dense": Rival(run=_dense, n_candidates=8, chunk=8, budgeted=False),
    "linear": Rival(
        run=lambda cell, numbers, rate: linear_models(cell.task),
        n_candidates=len(LOGISTIC_INVERSE_PENALTIES),
        chunk=len(LOGISTIC_INVERSE_PENALTIES),
        budgeted=False,
        trained=False,
    ),
    "boosting": Rival(
        run=lambda cell, numbers, rate: boosted_trees(cell.task, seed=cell.seed),
        n_candidates=len(LEAVES),
        chunk=len(LEAVES),
        budgeted=False,
        trained=False,
    ),
}
"""Every rival by name: random networks with live edges (*live*) and uniform masks (*paper*),
gradual magnitude *pruning* and *snip* from dense networks, linear models with few coefficients
(*l1*, *ridge_top*), and what has no budget: *dense* networks, *linear* models and *boosting*."""
