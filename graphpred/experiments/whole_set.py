"""Predictions for a whole set of images beside their rivals, at equal K* and training steps.

Everybody trains with Adam in batches of 512; every method's learning rate, and the best of its
candidates, is chosen on validation rows. Rivals have the edges of the largest prediction.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from graphpred.activations import IDENTITY
from graphpred.architecture import Architecture
from graphpred.meta.model import MetaModel
from graphpred.pairs.pair import Pair
from graphpred.population import Population
from graphpred.searchers.base import Proposal
from graphpred.searchers.sparsified import gradually_pruned, snip_architectures
from graphpred.seeds import derived_seed, generator_for
from graphpred.space import SearchSpace
from graphpred.task import Task
from graphpred.weights import initial_weights

FRESH_RATES = (0.003, 0.01, 0.03, 0.1)
START_RATES = (0.0003, 0.001, 0.003, 0.01)
"""Learning rates to choose from, for fresh weights and for predicted ones."""
LIVE, SNIP, PRUNING, DENSE = "live random", "SNIP", "gradual pruning", "dense"
SEARCHED = "best of the searched"


@dataclass(frozen=True, eq=False, kw_only=True)
class Contest:
    """What everybody is given.

    Attributes:
        task: The whole set.
        n_hidden: Width of the hidden layer.
        n_edges: Largest K* of a prediction.
        steps: Of training.
        n_candidates: Live random networks, and searched ones at most.
        seed: Of latents, draws and starting weights.
    """

    task: Task
    n_hidden: int
    n_edges: int
    steps: int
    n_candidates: int
    seed: int

    @property
    def space(self) -> SearchSpace:
        """All networks that compete are from it."""
        widths = (self.task.n_features, self.n_hidden, self.task.n_outputs)
        return SearchSpace(widths=widths)


@dataclass(frozen=True, eq=False, kw_only=True)
class _Candidates:
    """Networks of one method.

    Attributes:
        architectures: Of the same space.
        start: Their weights; fresh ones if there are none.
    """

    architectures: Sequence[Architecture]
    start: Sequence[Any] = ()


@dataclass(frozen=True, eq=False, kw_only=True)
class _Reached:
    """Errors of k networks of one method at r learning rates, ``(r, k)`` each."""

    validation: Tensor
    test: Tensor
    rates: tuple[float, ...]
    architectures: Sequence[Architecture]

    def best(self) -> dict[str, Any]:
        """The figures of the network and rate with the fewest errors on validation rows."""
        at, network = divmod(int(self.validation.argmin()), self.validation.shape[1])
        return self._figures(float(self.test[at, network]), at=at, networks=[network])

    def mean(self) -> dict[str, Any]:
        """Mean figures of all networks at the rate with the fewest errors on validation rows."""
        at = int(self.validation.mean(dim=1).argmin())
        networks = list(range(self.test.shape[1]))
        return self._figures(float(self.test[at].mean()), at=at, networks=networks)

    def _figures(self, error: float, *, at: int, networks: list[int]) -> dict[str, Any]:
        n_edges = [self.architectures[i].n_live_edges for i in networks]
        return {
            "accuracy": 1 - error,
            "n_edges": sum(n_edges) / len(n_edges),
            "rate": self.rates[at],
            "candidates": len(self.architectures),
        }


def compete(
    contest: Contest, *, models: Mapping[str, MetaModel], pairs: Sequence[Pair] = ()
) -> dict[str, dict[str, Any]]:
    """Figures of all methods: ``accuracy`` on the test part, ``n_edges`` (K*), ``rate``.

    Args:
        contest: Where they compete.
        models: Meta-models by name; each gives three figures.
        pairs: Their best architectures of no more edges are trained too; may be none.
    """
    proposals = {name: _predicted(contest, model) for name, model in models.items()}
    figures = {}
    for name, proposal in proposals.items():
        one = _Candidates(architectures=[proposal.architecture], start=[proposal.start])
        figures[f"{name}, no step"] = _trained(contest, one, rates=(0.0,)).best()
        figures[f"{name}, trained"] = _trained(contest, one, rates=START_RATES).best()
        fresh = _Candidates(architectures=[proposal.architecture])
        figures[f"{name}, fresh weights"] = _trained(contest, fresh).best()
    largest = max(proposal.architecture.n_live_edges for proposal in proposals.values())
    return figures | _rivals(contest, n_edges=largest, pairs=pairs)


def dense(contest: Contest) -> dict[str, Any]:
    """Figures of a network with all edges."""
    return _trained(contest, _Candidates(architectures=[_dense(contest)])).best()


def _predicted(contest: Contest, model: MetaModel) -> Proposal:
    prediction = model.predict(contest.task, n_hidden=contest.n_hidden, seed=contest.seed)
    return prediction.proposal(n_edges=contest.n_edges)


def _rivals(contest: Contest, *, n_edges: int, pairs: Sequence[Pair]) -> dict[str, dict[str, Any]]:
    generator = generator_for(contest.seed, "live")
    live = [
        contest.space.sample_live(generator=generator, n_edges=n_edges)
        for _ in range(contest.n_candidates)
    ]
    drawn = _trained(contest, _Candidates(architectures=live))
    seeds = [derived_seed(contest.seed, "dense")]
    snip = snip_architectures(
        [_dense(contest)],
        contest.task,
        n_edges=[n_edges],
        seeds=seeds,
        batch_seed=contest.seed,
    )
    same_start = [initial_weights(z, seed=seeds[0]) for z in snip]
    figures = {
        LIVE: drawn.mean(),
        f"{LIVE}, best of {contest.n_candidates}": drawn.best(),
        SNIP: _trained(contest, _Candidates(architectures=snip, start=same_start)).best(),
        PRUNING: _pruned(contest, n_edges=n_edges, seeds=seeds).best(),
    }
    searched = best_searched(pairs, task=contest.task, n_edges=n_edges, k=contest.n_candidates)
    if searched:
        figures[SEARCHED] = _trained(contest, _Candidates(architectures=searched)).best()
    return figures


def best_searched(pairs: Sequence[Pair], *, task: Task, n_edges: int, k: int) -> list[Architecture]:
    """Different architectures of at most so many edges, those of least L on their subsamples.

    Args:
        pairs: Of subsamples of ``task``; constant features may be missing.
        task: The whole set.
        n_edges: Largest K*.
        k: How many.
    """
    found: dict[Architecture, None] = {}
    for pair in sorted(pairs, key=lambda pair: pair.loss):
        if 0 < pair.architecture.n_live_edges <= n_edges and len(found) < k:
            found[_with_all_features(pair, task=task)] = None
    return list(found)


def _with_all_features(pair: Pair, *, task: Task) -> Architecture:
    """The architecture of a pair, whose inputs are some of the features of a task."""
    z = pair.architecture
    n, layers = task.n_features, z.widths[1:]
    place = {name: j for j, name in enumerate(task.feature_names)}
    inputs = torch.tensor([place[name] for name in pair.feature_names])
    neurons = torch.cat([inputs, torch.arange(n, n + sum(layers))])  # (z.n_neurons,)
    activation = torch.full((n + sum(layers),), IDENTITY)
    activation[neurons] = z.activation
    return Architecture.from_edges(neurons[z.edges], activation=activation, widths=(n, *layers))


def _dense(contest: Contest) -> Architecture:
    space = contest.space
    generator = generator_for(contest.seed, "dense")
    return space.sample(generator=generator, n_edges=space.n_possible_edges)


def _trained(
    contest: Contest, candidates: _Candidates, *, rates: tuple[float, ...] = FRESH_RATES
) -> _Reached:
    """Train all candidates at every rate; none of 0 trains them."""
    seeds = [derived_seed(contest.seed, "fresh", i) for i in range(len(candidates.architectures))]
    populations = []
    for rate in rates:
        population = Population(
            candidates.architectures, seed=seeds, start=list(candidates.start) or None
        )
        population.fit(
            *contest.task.rows("train"),
            steps=contest.steps if rate else 0,
            learning_rate=rate,
            batch_seed=contest.seed,
        )
        populations.append(population)
    return _reached(contest, populations, rates=rates)


def _pruned(contest: Contest, *, n_edges: int, seeds: Sequence[int]) -> _Reached:
    populations = [
        gradually_pruned(
            [_dense(contest)],
            contest.task,
            n_edges=[n_edges],
            steps=contest.steps,
            seeds=seeds,
            batch_seed=contest.seed,
            rate=rate,
        )
        for rate in FRESH_RATES
    ]
    return _reached(contest, populations, rates=FRESH_RATES)


def _reached(
    contest: Contest, populations: Sequence[Population], *, rates: tuple[float, ...]
) -> _Reached:
    validation, test = (
        torch.stack([one.losses(*contest.task.rows(part), loss="error") for one in populations])
        for part in ("validation", "test")
    )
    return _Reached(
        validation=validation,
        test=test,
        rates=rates,
        architectures=populations[0].architectures,
    )
