"""The price of an edge, chosen by validation as the paper does."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from graphpred.errors import InputError
from graphpred.objective import Objective, default_loss
from graphpred.searchers.base import Trial
from graphpred.searchers.driver import search
from graphpred.space import SearchSpace
from graphpred.task import Task


@dataclass(frozen=True, eq=False, kw_only=True)
class TunedPenalty:
    """The chosen C and what led to it.

    Attributes:
        penalty: C with the least validation loss; the larger one of a tie.
        best: For every C tried, ascending, the trial that is best by training loss + C·K.
    """

    penalty: float
    best: tuple[tuple[float, Trial], ...]


def tune_penalty(
    task: Task,
    space: SearchSpace,
    *,
    penalties: Sequence[float],
    loss: str | None = None,
    searcher: str = "random",
    evaluations: int = 100,
    densities: Sequence[float] = (0.02, 0.05, 0.1, 0.2, 0.4),
    seed: int = 0,
) -> TunedPenalty:
    """Choose C: for each, the best architecture on the training part; of these, by validation.

    One search serves all prices, since its trials know L and K.

    Args:
        task: The data; its test part is never touched.
        space: The architectures to choose from.
        penalties: Prices C to choose from, each at least 0.
        loss: Name of L; by default that of the task's kind.
        searcher: A key of ``SEARCHERS``.
        evaluations: Budget of the search.
        densities: Densities at which random searchers draw.
        seed: The same seed gives the same choice.

    Raises:
        InputError: If no penalty is given or one is negative.
    """
    if not penalties or not all(0 <= c < math.inf for c in penalties):
        raise InputError(f"penalties must be numbers of at least 0; got {list(penalties)}.")
    trials = list(
        search(
            task,
            space,
            searcher=searcher,
            objective=Objective(loss=loss or default_loss(task.kind)),
            evaluations=evaluations,
            densities=densities,
            seed=seed,
        )
    )
    best = []
    for c in sorted(penalties):
        chosen = min(trials, key=lambda trial: trial.train_loss + c * trial.architecture.n_edges)
        best.append((c, chosen))
    penalty, _ = min(best, key=lambda item: (item[1].loss, -item[0]))
    return TunedPenalty(penalty=penalty, best=tuple(best))
