"""Running a search by rounds, under its ledger; between them it can be put down and taken up."""

import copy
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from graphpred.errors import InputError
from graphpred.objective import Objective, default_loss
from graphpred.searchers.base import (
    BATCH,
    SEARCHERS,
    STEPS_PER_EVALUATION,
    Ledger,
    Proposal,
    ProposingSearcher,
    RememberingSearcher,
    RunningSearcher,
    Searcher,
    Setting,
    Trial,
    evaluate,
)
from graphpred.seeds import generator_for
from graphpred.space import SearchSpace
from graphpred.task import Task
from graphpred.threads import one_thread


@dataclass(frozen=True, eq=False, kw_only=True)
class SearchState:
    """A search between two of its rounds.

    Attributes:
        searcher: A key of ``SEARCHERS``.
        space: What was searched.
        steps: Training steps of a candidate.
        seed: Of the search.
        ledger: What had been spent, and how many trials had been given.
        generator: State of the searcher's source of randomness. Uint8.
        memory: What the searcher had learnt.
    """

    searcher: str
    space: SearchSpace
    steps: int
    seed: int
    ledger: Ledger
    generator: Tensor
    memory: dict[str, Any]


class Search(Iterator[Trial]):
    """A running search: iterate over it for its trials, look at its ledger at any time."""

    def __init__(self, name: str, *, setting: Setting, after: SearchState | None = None) -> None:
        searcher = SEARCHERS[name](setting)
        if after is not None:
            setting.generator.set_state(after.generator)
            if isinstance(searcher, RememberingSearcher):
                searcher.restore(copy.deepcopy(after.memory))
        self.ledger = setting.ledger
        self._name, self._setting, self._searcher = name, setting, searcher
        self._rounds = _rounds(searcher, setting)
        self._round: Iterator[Trial] = iter(())
        self._before = self._snapshot()

    @property
    def state(self) -> SearchState:
        """Where ``search(…, after=…)`` goes on: before the round of the last trial, or at the end.

        ``state.ledger.trials`` were given before; those given since come again, the same.
        """
        return self._before

    def __next__(self) -> Trial:
        with self.ledger.running(), one_thread():
            trial = next(self._round, None)
            while trial is None:
                self._before = self._snapshot()
                self._round = iter(next(self._rounds))
                trial = next(self._round, None)
        self.ledger.trials += 1
        self.ledger.diverged += math.isinf(trial.loss)
        return trial

    def _snapshot(self) -> SearchState:
        setting, searcher = self._setting, self._searcher
        memory = searcher.state() if isinstance(searcher, RememberingSearcher) else {}
        return SearchState(
            searcher=self._name,
            space=setting.space,
            steps=setting.steps,
            seed=setting.seed,
            ledger=self.ledger.copied(),
            generator=setting.generator.get_state(),
            memory=copy.deepcopy(memory),
        )


def search(  # noqa: PLR0913 - one switch each, all of a kind
    task: Task,
    space: SearchSpace,
    *,
    searcher: str = "random",
    objective: Objective | None = None,
    evaluations: int = 100,
    cpu_seconds: float | None = None,
    densities: Sequence[float] | None = None,
    steps: int = STEPS_PER_EVALUATION,
    seed: int = 0,
    after: SearchState | None = None,
) -> Search:
    """Search a space for the architecture with the least 𝔏 on the validation part.

    Args:
        task: The data; its test part is never touched.
        space: Its widths must begin with the task's features and end with its outputs.
        searcher: A key of ``SEARCHERS``.
        objective: 𝔏; by default the error, or 1 − R², without a price.
        evaluations: Budget; one evaluation is 100 network-steps.
        cpu_seconds: Another budget; once they are spent, and a trial is there, nothing more is
            trained. The trials then depend on the machine.
        densities: Densities at which random searchers draw, in turn; by default the space's.
        steps: Training steps of every candidate.
        seed: The same seed gives the same trials.
        after: Where to go on; ``evaluations`` and ``cpu_seconds`` count from the first beginning.

    Returns:
        An iterator of ``Trial`` with a ``ledger`` and a ``state`` to go on from.

    Raises:
        InputError: If an argument does not fit the others.
    """
    if searcher not in SEARCHERS:
        raise InputError(f"searcher must be one of {', '.join(SEARCHERS)}; got {searcher!r}.")
    objective = objective or Objective(loss=default_loss(task.kind))
    _check_fit(task, space=space, objective=objective)
    if evaluations < 1 or steps < 1:
        raise InputError(f"evaluations and steps must be at least 1; got {evaluations}, {steps}.")
    if cpu_seconds is not None and not 0 < cpu_seconds < math.inf:
        raise InputError(f"cpu_seconds must be a positive number; got {cpu_seconds}.")
    densities = (space.density,) if densities is None else tuple(map(float, densities))
    if not densities or not all(0 < density <= 1 for density in densities):
        raise InputError(f"densities must be in (0, 1]; got {list(densities)}.")
    ledger = Ledger(evaluations=evaluations, cpu_budget=cpu_seconds)
    if after is not None:
        _check_same(after, searcher=searcher, space=space, steps=steps, seed=seed)
        ledger = after.ledger.copied(evaluations=evaluations, cpu_budget=cpu_seconds)
    setting = Setting(
        task=task,
        space=space,
        objective=objective,
        densities=densities,
        steps=steps,
        generator=generator_for(seed, "searcher", searcher),
        seed=seed,
        ledger=ledger,
    )
    return Search(searcher, setting=setting, after=after)


def _check_fit(task: Task, *, space: SearchSpace, objective: Objective) -> None:
    if objective.kind != task.kind:
        raise InputError(f"the loss must be for {task.kind}; got {objective.loss!r}.")
    if (space.widths[0], space.widths[-1]) != (task.n_features, task.n_outputs):
        raise InputError(
            f"the space must lead from {task.n_features} features to {task.n_outputs} outputs; "
            f"got widths {space.widths}."
        )


def _check_same(after: SearchState, **settings: Any) -> None:
    for name, value in settings.items():
        if getattr(after, name) != value:
            raise InputError(
                f"a search must go on as it began, with {name} {getattr(after, name)!r}; "
                f"got {value!r}."
            )


def _rounds(searcher: Searcher, setting: Setting) -> Iterator[Sequence[Trial]]:
    return searcher.run() if isinstance(searcher, RunningSearcher) else _driven(searcher, setting)


def _driven(searcher: ProposingSearcher, setting: Setting) -> Iterator[Sequence[Trial]]:
    """Ask, train together, tell; until the budget or the proposals end."""
    while affordable := setting.ledger.steps_left // setting.steps:
        proposals = _within(searcher.ask(min(BATCH, affordable)), setting)
        if not proposals:
            return
        trials = evaluate(proposals, setting=setting, first_number=setting.ledger.trials)
        searcher.tell(trials)
        yield trials


def _within(proposals: list[Proposal], setting: Setting) -> list[Proposal]:
    """As many of the proposals as the budget holds."""
    left = setting.ledger.steps_left
    for i, proposal in enumerate(proposals):
        left -= setting.steps if proposal.steps is None else proposal.steps
        if left < 0:
            return proposals[:i]
    return proposals
