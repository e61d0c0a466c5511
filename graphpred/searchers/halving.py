"""Live random search in which hopeless candidates stop early; see ``population.halving``."""

from collections.abc import Iterator
from typing import Any

import torch

from graphpred.population import Halving
from graphpred.searchers.base import BATCH, Setting, Trial, trained_together
from graphpred.searchers.random import random_live_search


class HalvingSearch:
    """Draws as ``random_live`` does and spends on candidates what they promise.

    A candidate that was stopped is a trial too: with the weights it had, and the steps it took.
    """

    def __init__(self, setting: Setting) -> None:
        self._setting = setting
        self._draws = random_live_search(setting)

    def run(self) -> Iterator[list[Trial]]:
        """Yield the trials of one population after another until the budget is spent."""
        setting = self._setting
        while affordable := setting.ledger.steps_left // setting.steps:
            proposals = self._draws.ask(min(BATCH, affordable))
            costs = [setting.objective.cost(p.architecture.n_edges) for p in proposals]
            X, y = setting.task.rows("validation")
            promote = Halving(X=X, y=y, loss=setting.objective.loss, costs=torch.tensor([costs]))
            first = setting.ledger.trials
            numbers = range(first, first + len(proposals))
            trials = trained_together(
                proposals, numbers, setting=setting, steps=setting.steps, promote=promote
            )
            setting.ledger.charge(
                networks=len(trials), network_steps=sum(trial.steps for trial in trials)
            )
            yield trials

    def state(self) -> dict[str, Any]:
        """That of the draws."""
        return self._draws.state()

    def restore(self, state: dict[str, Any]) -> None:
        """Go on with the draws."""
        self._draws.restore(state)
