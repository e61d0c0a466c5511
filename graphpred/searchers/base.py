"""What every searcher shares: proposals, trials, the ledger, the protocols, and the training.

A *proposing* searcher names architectures and is told how they did; the driver trains them
together. A *self-running* searcher trains on its own account (gates, pruning, growing networks)
and yields trials. Both charge one ledger, in which one evaluation is 100 network-steps. Both work
in rounds, between which a search can be put down and taken up again, see ``driver``.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from importlib import import_module
from typing import Any, Protocol, runtime_checkable

import torch

from graphpred.architecture import Architecture
from graphpred.errors import InputError
from graphpred.objective import Objective
from graphpred.population import LEARNING_RATE, TUNING_RATE, Halving, Population
from graphpred.seeds import derived_seed
from graphpred.space import SearchSpace
from graphpred.task import Task
from graphpred.weights import Weights

STEPS_PER_EVALUATION = 100
"""Network-steps that count as one evaluation."""
BATCH = 128
"""Proposals asked for at a time."""


@dataclass(frozen=True, eq=False, kw_only=True)
class Proposal:
    """An architecture to be trained.

    Attributes:
        architecture: What to train.
        start: Starting weights; None draws fresh ones.
        steps: Training steps; None takes the search's own number.
    """

    architecture: Architecture
    start: Weights | None = None
    steps: int | None = None


@dataclass(frozen=True, eq=False, kw_only=True)
class Trial:
    """A trained architecture and what it reached.

    Attributes:
        number: Position in its search, from 0.
        architecture: What was trained.
        weights: After training.
        train_loss: L on the training part.
        loss: L on the validation part.
        objective: 𝔏 = ``loss`` + g(K), K the edges of the raw masks.
        steps: Training steps.
        seed: Seed of the starting weights.
    """

    number: int
    architecture: Architecture
    weights: Weights
    train_loss: float
    loss: float
    objective: float
    steps: int
    seed: int


@dataclass(kw_only=True)
class Ledger:
    """What a search has spent, and what it may spend.

    Attributes:
        evaluations: Budget, in evaluations of 100 network-steps.
        networks: Networks trained so far.
        network_steps: Optimiser steps so far, summed over the networks.
        trials: Trials given so far.
        diverged: Those whose outputs were not finite, so that 𝔏 = ∞.
        cpu_seconds: CPU time of this process so far, training and search together.
        cpu_budget: Budget of CPU time, besides that of evaluations; None for no limit.
    """

    evaluations: int
    networks: int = 0
    network_steps: int = 0
    trials: int = 0
    diverged: int = 0
    cpu_seconds: float = 0.0
    cpu_budget: float | None = None
    _since: float | None = field(default=None, repr=False)  # when the clock was started

    @property
    def steps_left(self) -> int:
        """Network-steps that may still be spent: none after a trial if CPU time is up."""
        return 0 if self.trials and self._time_is_up() else self._steps_unspent()

    def charge(self, *, networks: int, network_steps: int) -> None:
        """Book training; an ``InputError`` if the budget of evaluations does not hold it."""
        if network_steps > self._steps_unspent():
            raise InputError(
                f"a search must keep to its budget, {self._steps_unspent()} network-steps are "
                f"left; {network_steps} were charged."
            )
        self.networks += networks
        self.network_steps += network_steps

    @contextmanager
    def running(self) -> Iterator[None]:
        """Count CPU time inside the block."""
        self._since = time.process_time()
        try:
            yield
        finally:
            self.cpu_seconds += time.process_time() - self._since
            self._since = None

    def copied(self, **changes: Any) -> "Ledger":
        """As it is now, with a clock of its own that stands."""
        spent = self.cpu_seconds + self._running_seconds()
        return replace(self, **{"cpu_seconds": spent, "_since": None} | changes)

    def _steps_unspent(self) -> int:
        return self.evaluations * STEPS_PER_EVALUATION - self.network_steps

    def _time_is_up(self) -> bool:
        if self.cpu_budget is None:
            return False
        return self.cpu_seconds + self._running_seconds() >= self.cpu_budget

    def _running_seconds(self) -> float:
        return 0.0 if self._since is None else time.process_time() - self._since


@dataclass(frozen=True, eq=False, kw_only=True)
class Setting:
    """What a searcher is given.

    Attributes:
        task: The data; only its training and validation parts may be used.
        space: The architectures to choose from.
        objective: What to minimise.
        densities: Densities to draw architectures at, in turn.
        steps: Training steps of a candidate.
        generator: The searcher's own source of randomness.
        seed: Root of the seeds of starting weights.
        ledger: Where self-running searchers charge their training.
    """

    task: Task
    space: SearchSpace
    objective: Objective
    densities: tuple[float, ...]
    steps: int
    generator: torch.Generator
    seed: int
    ledger: Ledger

    @property
    def n_networks(self) -> int:
        """Networks that the whole budget can train."""
        return self.ledger.evaluations * STEPS_PER_EVALUATION // self.steps


@runtime_checkable
class ProposingSearcher(Protocol):
    """Names architectures; the driver trains them."""

    def ask(self, k: int) -> list[Proposal]:
        """Up to k proposals; an empty list ends the search."""
        ...

    def tell(self, trials: Sequence[Trial]) -> None:
        """Learn how the last proposals did, in their order."""
        ...


@runtime_checkable
class RunningSearcher(Protocol):
    """Trains on its own account, charging ``Setting.ledger``."""

    def run(self) -> Iterator[Sequence[Trial]]:
        """Yield the trials of one round after another until the budget is spent.

        The first trial of a round has the number ``Setting.ledger.trials``.
        """
        ...


@runtime_checkable
class RememberingSearcher(Protocol):
    """Either kind of searcher, if it knows more after a round than its generator does."""

    def state(self) -> dict[str, Any]:
        """What it has learnt. Anything that ``copy.deepcopy`` copies."""
        ...

    def restore(self, state: dict[str, Any]) -> None:
        """Go on from a ``state``, given before the first round."""
        ...


Searcher = ProposingSearcher | RunningSearcher
SearcherFactory = Callable[[Setting], Searcher]
SEARCHERS: dict[str, SearcherFactory] = {}
"""Every searcher by name; add one with ``SEARCHERS["name"] = factory``."""


def plugged_in(place: str) -> SearcherFactory:
    """A factory that is imported when it is first used: what a searcher needs may weigh much.

    Args:
        place: ``module:name``; the module may lie in a layer above this one.
    """

    def factory(setting: Setting) -> Searcher:
        module, name = place.split(":")
        made: Searcher = getattr(import_module(module), name)(setting)
        return made

    return factory


def evaluate(proposals: Sequence[Proposal], *, setting: Setting, first_number: int) -> list[Trial]:
    """Train proposals together, charge the ledger, and measure them.

    Proposals of one number of steps and one kind of start, fresh or given, form a population.
    """
    keys = [(setting.steps if p.steps is None else p.steps, p.start is not None) for p in proposals]
    n_steps = sum(steps for steps, _ in keys)
    setting.ledger.charge(networks=len(proposals), network_steps=n_steps)
    trials: dict[int, Trial] = {}
    for key in sorted(set(keys)):
        numbers = [first_number + i for i, own in enumerate(keys) if own == key]
        group = [proposal for proposal, own in zip(proposals, keys, strict=True) if own == key]
        for trial in trained_together(group, numbers, setting=setting, steps=key[0]):
            trials[trial.number] = trial
    return [trials[number] for number in sorted(trials)]


def trained_together(
    proposals: Sequence[Proposal],
    numbers: Sequence[int],
    *,
    setting: Setting,
    steps: int,
    promote: Halving | None = None,
) -> list[Trial]:
    """Train proposals that all start alike; ``promote`` may stop some early. Charges nothing."""
    task, objective = setting.task, setting.objective
    seeds = [derived_seed(setting.seed, "weights", number) for number in numbers]
    given = [proposal.start for proposal in proposals if proposal.start is not None]
    population = Population([p.architecture for p in proposals], seed=seeds, start=given or None)
    population.fit(
        *task.rows("train"),
        steps=steps,
        learning_rate=TUNING_RATE if given else LEARNING_RATE,
        batch_seed=setting.seed,
        promote=promote,
    )
    train_losses = population.losses(*task.rows("train"), loss=objective.loss).tolist()
    losses = population.losses(*task.rows("validation"), loss=objective.loss).tolist()
    return [
        Trial(
            number=numbers[i],
            architecture=proposal.architecture,
            weights=weights,
            train_loss=train_losses[i],
            loss=losses[i],
            objective=losses[i] + objective.cost(proposal.architecture.n_edges),
            steps=int(population.steps_taken[i]),
            seed=seeds[i],
        )
        for i, (proposal, weights) in enumerate(zip(proposals, population.weights, strict=True))
    ]
