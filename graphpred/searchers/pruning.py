"""Searches that cut sparse networks out of dense ones: magnitude pruning, gradual pruning, SNIP.

Every network starts dense, with activations drawn from the space, and ends with the live edges that
its density allows. What it is cut down by:

- *magnitude pruning*: trained dense for half the steps, it keeps its largest |w|, from where it is
  trained on at a learning rate that starts anew;
- *gradual pruning*: the smallest |w| go along a cubic while it trains, see ``sparsified``;
- *SNIP*: the largest |g·w| before training stay, and are trained from fresh weights.

Sources: Han, Pool, Tran and Dally, "Learning both weights and connections", arXiv:1506.02626;
Renda, Frankle and Carbin, "Comparing rewinding and fine-tuning in neural network pruning",
arXiv:2003.02389 (the learning rate that starts anew); those of ``sparsified``.

Ours, not theirs: every neuron's activation is drawn; edges compete across layers and only live ones
are kept; a training takes a hundred steps or so. One network-step is one step of one network, dense
or sparse. The gradient that SNIP scores with counts as one.
"""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Protocol

from graphpred.architecture import Architecture
from graphpred.population import Population
from graphpred.searchers.base import Proposal, Setting, Trial, trained_together
from graphpred.searchers.sparsified import (
    gradually_pruned,
    snip_architectures,
    strongest_subnetwork,
)
from graphpred.seeds import derived_seed
from graphpred.task import Task
from graphpred.weights import Weights

NETWORKS = 8
"""Networks of a round, trained together."""


class Sparsify(Protocol):
    """Trains dense networks so that few edges are left."""

    def __call__(
        self,
        dense: Sequence[Architecture],
        task: Task,
        *,
        n_edges: Sequence[int],
        steps: int,
        seeds: Sequence[int],
        batch_seed: int,
    ) -> Population:
        """Networks with at most ``n_edges`` edges each, trained for ``steps`` in all.

        Args:
            dense: B networks with all edges.
            task: Its training part is trained on.
            n_edges: Largest K*, one a network.
            steps: What every network may spend.
            seeds: One a network; every draw of its training depends on its own alone.
            batch_seed: Of the order of the batches.
        """
        ...


class SparsifyingSearch:
    """Draws dense networks, sparsifies them a round at a time, and never learns.

    Args:
        setting: What every searcher is given. Its densities are taken in turn.
        sparsify: What happens in a round.
    """

    def __init__(self, setting: Setting, *, sparsify: Sparsify) -> None:
        self._setting = setting
        self._sparsify = sparsify

    def run(self) -> Iterator[list[Trial]]:
        """Yield the trials of one round after another until the budget is spent."""
        setting, space = self._setting, self._setting.space
        ceilings = [max(space.n_layers, space.n_edges_at(d)) for d in setting.densities]
        while affordable := setting.ledger.steps_left // setting.steps:
            first = setting.ledger.trials
            numbers = range(first, first + min(NETWORKS, affordable))
            n_steps = len(numbers) * setting.steps
            setting.ledger.charge(networks=len(numbers), network_steps=n_steps)
            population = self._sparsify(
                [_dense(setting) for _ in numbers],
                setting.task,
                n_edges=[ceilings[i % len(ceilings)] for i in numbers],
                steps=setting.steps,
                seeds=[derived_seed(setting.seed, "weights", i) for i in numbers],
                batch_seed=setting.seed,
            )
            yield _measured(population, numbers, setting=setting)


def _dense(setting: Setting) -> Architecture:
    """All edges, and drawn activations."""
    space = setting.space
    return space.sample(generator=setting.generator, n_edges=space.n_possible_edges)


def _measured(population: Population, numbers: Sequence[int], *, setting: Setting) -> list[Trial]:
    """What the networks of a population reach as they are."""
    proposals = [
        Proposal(architecture=z, start=weights)
        for z, weights in zip(population.architectures, population.weights, strict=True)
    ]
    trials = trained_together(proposals, numbers, setting=setting, steps=0)
    return [replace(trial, steps=setting.steps) for trial in trials]


def magnitude_pruning_search(setting: Setting) -> SparsifyingSearch:
    """Trained dense for half the steps, pruned once by |w|, trained on."""
    return SparsifyingSearch(setting, sparsify=pruned_once)


def gradual_pruning_search(setting: Setting) -> SparsifyingSearch:
    """Pruned by |w| in many turns while it trains."""
    return SparsifyingSearch(setting, sparsify=gradually_pruned)


def snip_search(setting: Setting) -> SparsifyingSearch:
    """Pruned by |g·w| before it is trained."""
    return SparsifyingSearch(setting, sparsify=snipped)


def pruned_once(
    dense: Sequence[Architecture],
    task: Task,
    *,
    n_edges: Sequence[int],
    steps: int,
    seeds: Sequence[int],
    batch_seed: int,
) -> Population:
    """Train dense for half the steps, keep the largest |w|, and train on; see ``Sparsify``."""
    X, y = task.rows("train")
    trained = Population(dense, seed=seeds).fit(X, y, steps=steps // 2, batch_seed=batch_seed)
    smaller, start = [], []
    for z, weights, k in zip(dense, trained.weights, n_edges, strict=True):
        subnetwork, positions = strongest_subnetwork(z, weights.edge.abs(), n_edges=k)
        smaller.append(subnetwork)
        start.append(Weights(edge=weights.edge[positions], bias=weights.bias))
    return Population(smaller, start=start).fit(
        X, y, steps=steps - steps // 2, batch_seed=batch_seed
    )


def snipped(
    dense: Sequence[Architecture],
    task: Task,
    *,
    n_edges: Sequence[int],
    steps: int,
    seeds: Sequence[int],
    batch_seed: int,
) -> Population:
    """Train what SNIP keeps for all steps but the one of its gradient; see ``Sparsify``."""
    kept = snip_architectures(dense, task, n_edges=n_edges, seeds=seeds, batch_seed=batch_seed)
    X, y = task.rows("train")
    return Population(kept, seed=seeds).fit(X, y, steps=steps - 1, batch_seed=batch_seed)
