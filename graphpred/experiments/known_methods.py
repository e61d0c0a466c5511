"""What looks for a known structure: a prediction, random searches, pruning and the lasso.

All networks have at most K* live edges and the paper's shape n → n → c. They are chosen by 𝔏 on
the validation part; a prediction sees the training part alone and is not trained.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import count, takewhile

import torch
from sklearn.linear_model import lasso_path
from torch import Tensor
from torch.nn import functional

from graphpred.activations import IDENTITY
from graphpred.architecture import Architecture
from graphpred.experiments.known_sets import (
    KnownSet,
    least_loss,
    measured,
    path_precision,
    probability_precision,
)
from graphpred.experiments.rivals import rate_of
from graphpred.meta.model import MetaModel
from graphpred.population import Population
from graphpred.searchers import Trial, search
from graphpred.searchers.sparsified import gradually_pruned, masked
from graphpred.seeds import derived_seed, generator_for
from graphpred.synthetic import reachable
from graphpred.weights import Weights, initial_weights

PREDICTED, PROBABLE = "predicted, no step", "predicted, by probability"
PRUNED, LASSO = "gradual pruning", "L1"
CHANCE, TRUE = "untrained live random", "true network"
N_PENALTIES = 40
SMALLEST_PENALTY = 1e-3
"""Of the lasso's path, in units of the least penalty that leaves no coefficient."""

Figures = dict[str, dict[str, float]]
"""By method, then by figure; see ``measured``."""


@dataclass(frozen=True, kw_only=True)
class Effort:
    """How much is searched.

    Attributes:
        live: Live random networks; the best of the first 1, 10, 100, … and of all are reported.
        paper: Networks of random masks, of 100 steps each as those.
        pruned: Dense networks that are pruned.
        steps: Training steps of those.
    """

    live: int = 300
    paper: int = 100
    pruned: int = 8
    steps: int = 300


def found_by_all(one: KnownSet, model: MetaModel, *, effort: Effort, seed: int) -> Figures:
    """Figures of every method on a set."""
    true = one.known.architecture
    prediction = model.predict(one.task, seed=seed).fitted(one.n_edges)
    proposal = prediction.chosen(one.n_edges)
    assert proposal.start is not None
    figures = {
        PREDICTED: measured(one, proposal.architecture, proposal.start),
        PROBABLE: {"ap": probability_precision(true, prediction.probabilities)},
    }
    for name, label, budget in (
        ("random_live", "live random", effort.live),
        ("random", "random masks", effort.paper),
    ):
        trials = searched(one, name, evaluations=budget, densities=(one.share,), seed=seed)
        for size in best_sizes(budget):
            best = min(trials[:size], key=lambda trial: trial.objective)
            figures[f"{label}, best of {size}"] = measured(one, best.architecture, best.weights)
    figures[f"{PRUNED}, best of {effort.pruned}"] = measured(
        one, *pruned(one, effort=effort, seed=seed)
    )
    figures[LASSO] = measured(one, *lasso(one))
    drawn = one.space.sample_live(generator=generator_for(seed, "chance"), n_edges=one.n_edges)
    chance = measured(one, drawn, initial_weights(drawn, seed=seed))
    figures[CHANCE] = {name: chance[name] for name in ("paths", "edges")}
    figures[CHANCE]["ap"] = path_precision(true, torch.zeros(reachable(true).shape))
    figures[TRUE] = {"loss": least_loss(one), "n_edges": float(true.n_edges)}
    figures[TRUE]["objective"] = figures[TRUE]["loss"] + one.objective.cost(true.n_edges)
    return figures


def best_sizes(budget: int) -> list[int]:
    """1, 10, 100, … below a budget, and the budget."""
    return [*takewhile(lambda size: size < budget, (10**i for i in count())), budget]


def searched(
    one: KnownSet, name: str, *, evaluations: int, densities: Sequence[float], seed: int
) -> list[Trial]:
    """Trials of a random searcher."""
    return list(
        search(
            one.task,
            one.space,
            searcher=name,
            objective=one.objective,
            evaluations=evaluations,
            densities=densities,
            seed=seed,
        )
    )


def pruned(one: KnownSet, *, effort: Effort, seed: int) -> tuple[Architecture, Weights]:
    """The best of some dense networks that were pruned while they were trained."""
    space, generator = one.space, generator_for(seed, "dense")
    dense = [
        space.sample(generator=generator, n_edges=space.n_possible_edges)
        for _ in range(effort.pruned)
    ]
    population = gradually_pruned(
        dense,
        one.task,
        n_edges=[one.n_edges] * len(dense),
        steps=effort.steps,
        seeds=[derived_seed(seed, "pruned", i) for i in range(len(dense))],
        batch_seed=seed,
        rate=rate_of("pruning", effort.steps),
    )
    return _best(population, one)


def lasso(one: KnownSet) -> tuple[Architecture, Weights]:
    """The best lasso, of classes on their indicators, as one identity unit an output."""
    X, Y = _centred_rows(one)
    largest = float((X.T @ Y).abs().max()) / len(X)
    penalties = largest * torch.logspace(0, torch.tensor(SMALLEST_PENALTY).log10(), N_PENALTIES)
    paths = [
        torch.from_numpy(lasso_path(X.numpy(), column, alphas=penalties.double().numpy())[1])
        for column in Y.T.numpy()
    ]
    coefficients = torch.stack(paths, dim=1).permute(2, 0, 1).float()  # (P, n, c)
    networks = [_linear_network(one, W) for W in coefficients if bool(W.any())]
    small = [own for own in networks if own[0].n_live_edges <= one.n_edges]
    architectures, weights = zip(*(small or networks[:1]), strict=True)
    return _best(Population(architectures, start=weights), one)


def _centred_rows(one: KnownSet) -> tuple[Tensor, Tensor]:
    """Training rows and what is regressed on them, of mean 0. Float64, ``(m, n)``, ``(m, c)``."""
    X, y = one.task.rows("train")
    Y = functional.one_hot(y, one.task.n_outputs) if one.task.is_classification else y
    X, Y = X.double(), Y.double()
    return X - X.mean(dim=0), Y - Y.mean(dim=0)


def _linear_network(one: KnownSet, W: Tensor) -> tuple[Architecture, Weights]:
    """Coefficients, ``(n, c)``, and the intercepts that belong to them as a network."""
    n, c = W.shape
    X, y = one.task.rows("train")
    Y = functional.one_hot(y, c).float() if one.task.is_classification else y
    empty = Architecture(
        edges=torch.empty(2, 0, dtype=torch.int64),
        activation=torch.full((n + 2 * c,), IDENTITY),
        widths=(n, c, c),
    )
    used = W.any(dim=0)  # (c,)
    edge = torch.cat([W[W != 0], torch.ones(int(used.sum()))])
    bias = torch.cat([torch.zeros(c), Y.mean(dim=0) - X.mean(dim=0) @ W])
    return masked(empty, [W != 0, used.diag()]), Weights(edge=edge, bias=bias)


def _best(population: Population, one: KnownSet) -> tuple[Architecture, Weights]:
    """By 𝔏 on the validation part."""
    losses = population.losses(*one.task.rows("validation"), loss=one.objective.loss)
    costs = [one.objective.cost(z.n_live_edges) for z in population.architectures]
    best = int((losses + torch.tensor(costs, dtype=torch.float64)).argmin())
    return population.architectures[best], population.weights[best]
