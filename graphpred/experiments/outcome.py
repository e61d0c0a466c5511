"""What candidates reached, and the figures of the best of them by validation.

Notation: k candidates, m rows, c classes or outputs, B networks.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, fields

import torch
from torch import Tensor

from graphpred.objective import LOSSES, Objective, default_loss
from graphpred.task import Task

Scorer = Callable[[Tensor], Tensor]
"""From rows, float ``(m, n)``, to scores of k candidates, float ``(k, c, m)``."""


@dataclass(frozen=True, kw_only=True)
class Figure:
    """One method in one cell, as it is written to JSON.

    Attributes:
        loss: Error, or 1 − R², on the test part.
        standard_error: Of ``loss``, over the rows of the test part.
        balanced_error: 1 − mean recall on the test part; NaN for a regression.
        n_edges: K*; of a linear model its coefficients; NaN for what has no edges.
        networks: Candidates that were trained for it.
        network_steps: Optimiser steps, over all these networks.
        cpu_seconds: For all these networks.
    """

    loss: float
    standard_error: float
    balanced_error: float
    n_edges: float
    networks: int
    network_steps: int
    cpu_seconds: float

    def to_json(self) -> dict[str, float | None]:
        """Plain numbers, None for those that are none."""
        return {k: v if math.isfinite(v) else None for k, v in asdict(self).items()}


@dataclass(frozen=True, eq=False, kw_only=True)
class Outcome:
    """What k candidates reached; every field is float64, shape ``(k,)``.

    Attributes:
        validation: Loss on the validation part; candidates are chosen by it.
        test: Loss on the test part.
        standard_error: Of ``test``, over the rows of the test part.
        balanced_error: On the test part; NaN for a regression.
        n_edges: K*.
        cpu_seconds: What each candidate took.
    """

    validation: Tensor
    test: Tensor
    standard_error: Tensor
    balanced_error: Tensor
    n_edges: Tensor
    cpu_seconds: Tensor

    @classmethod
    def measured(
        cls, task: Task, scorer: Scorer, *, n_edges: Sequence[float], cpu_seconds: float = 0.0
    ) -> "Outcome":
        """Measure candidates on the validation and the test part.

        Args:
            task: The data set.
            scorer: Gives the scores of all candidates.
            n_edges: K* of every candidate.
            cpu_seconds: What all of them took together.
        """
        objective = Objective(loss=default_loss(task.kind))
        X, y = task.rows("test")
        scores = scorer(X)
        edges = torch.tensor(n_edges, dtype=torch.float64)
        balanced = torch.full_like(edges, torch.nan)
        if task.is_classification:
            balanced = LOSSES["balanced_error"][0](scores, y, None)
        validation_X, validation_y = task.rows("validation")
        test, validation = objective.losses(scores, y), scorer(validation_X)
        return cls(
            validation=objective.losses(validation, validation_y),
            test=test,
            standard_error=_standard_error(scores, y),
            balanced_error=balanced,
            n_edges=edges,
            cpu_seconds=torch.full_like(edges, cpu_seconds / len(edges)),
        )

    @classmethod
    def joined(cls, parts: Sequence["Outcome"]) -> "Outcome":
        """All candidates, one part after the other."""
        return cls(**{f.name: torch.cat([getattr(p, f.name) for p in parts]) for f in fields(cls)})

    def __len__(self) -> int:
        return len(self.test)

    def __getitem__(self, chosen: slice | Tensor) -> "Outcome":
        return Outcome(**{f.name: getattr(self, f.name)[chosen] for f in fields(self)})

    def within(self, n_edges: int) -> "Outcome":
        """The candidates with no more live edges."""
        return self[self.n_edges <= n_edges]

    def best_of(self, size: int, *, steps: int) -> Figure:
        """The best of ``size`` by validation: the mean over disjoint groups of so many.

        Args:
            size: How many candidates to choose from, at most k.
            steps: That each of them was trained for.
        """
        n_groups = len(self) // size
        groups = torch.arange(n_groups * size).view(n_groups, size)
        best = groups[torch.arange(n_groups), self.validation[groups].argmin(dim=1)]  # (n_groups,)
        chosen = self[best]
        return Figure(
            loss=float(chosen.test.mean()),
            standard_error=float(chosen.standard_error.mean()),
            balanced_error=float(chosen.balanced_error.mean()),
            n_edges=float(chosen.n_edges.mean()),
            networks=size,
            network_steps=size * steps,
            cpu_seconds=float(self.cpu_seconds.mean()) * size,
        )


def _standard_error(scores: Tensor, y: Tensor) -> Tensor:
    """Of the mean loss over the rows. Float64, shape ``(k,)``."""
    if y.is_floating_point():
        squared = (scores.double() - y.T.double()).square()  # (k, c, m)
        variance = y.double().var(dim=0, correction=0).clamp(min=1e-12)  # (c,)
        per_row = (squared / variance[:, None]).mean(dim=1)  # (k, m)
    else:
        per_row = (scores.argmax(dim=1) != y).double()
    deviation: Tensor = per_row.std(dim=1, correction=0)
    return deviation / math.sqrt(len(y))
