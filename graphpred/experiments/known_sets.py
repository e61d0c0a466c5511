"""Sets of known structure under varied conditions, and how much of it a network has found.

Notation: n features, h hidden neurons, c outputs, N possible edges, K* live ones; 𝔏 = L + C·K*.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import count
from typing import NamedTuple

import torch
from sklearn.metrics import average_precision_score
from torch import Tensor

from graphpred.architecture import Architecture
from graphpred.objective import Kind, Objective, default_loss
from graphpred.population import Population
from graphpred.searchers.sparsified import edge_tables
from graphpred.seeds import generator_for
from graphpred.space import SearchSpace
from graphpred.synthetic import KnownTask, draw_known, path_scores, reachable, recovery
from graphpred.task import Task
from graphpred.weights import Weights

PRICE = 0.1
"""λ = C·N of 𝔏, where nothing else is said."""
ACTIVATIONS = ("relu", "tanh", "sin", "gaussian")
"""Of the hidden neurons of true networks; of those that are looked for there are more."""
N_ROWS = 4000
"""Rows of a set before its training rows are cut down; a quarter of them is for testing."""


class Family(NamedTuple):
    """Of true networks: their widths, what they say, and features that lead nowhere."""

    widths: tuple[int, int, int]
    kind: Kind
    n_irrelevant: int = 4


FAMILIES = {
    "two quantities": Family((8, 6, 2), "regression"),
    "three classes": Family((8, 6, 3), "classification"),
    "a quantity": Family((8, 6, 1), "regression"),
}
"""By name. Of quantities the paths from features to outputs are what the data say; what is added
to the scores of all classes changes no class, so paths to classes are not as certain."""


@dataclass(frozen=True, kw_only=True)
class Condition:
    """What a set is like, and how large a network may be.

    Attributes:
        family: A key of ``FAMILIES``.
        noise: Deviation of the noise, in deviations of a score.
        rows: Training rows.
        density: Share of the possible edges that the true network has.
        share: Share of the possible edges that a network may have, ``SearchSpace.density``; None
            for as many edges as the true network has.
    """

    family: str
    noise: float = 0.1
    rows: int = 500
    density: float = 0.25
    share: float | None = None

    @property
    def name(self) -> str:
        """For a file."""
        share = "true" if self.share is None else f"{self.share:g}"
        family = self.family.replace(" ", "-")
        return f"{family}-{self.noise:g}-{self.rows}-{self.density:g}-{share}"


@dataclass(frozen=True, eq=False, kw_only=True)
class KnownSet:
    """A set of known structure, and the network that is looked for.

    Attributes:
        known: The true network and the data that it gave.
        task: Its data with fewer rows to train and choose on, and the same to test on.
        n_edges: Largest K*.
    """

    known: KnownTask
    task: Task
    n_edges: int

    @property
    def space(self) -> SearchSpace:
        """As many hidden neurons as features, the paper's."""
        n = self.task.n_features
        return SearchSpace(widths=(n, n, self.task.n_outputs))

    @property
    def objective(self) -> Objective:
        """𝔏 at ``PRICE``."""
        penalty = PRICE / self.space.n_possible_edges
        return Objective(loss=default_loss(self.task.kind), penalty=penalty)

    @property
    def share(self) -> float:
        """Of the edges that a network may have, for ``SearchSpace.n_edges_at``."""
        return self.n_edges / self.space.n_possible_edges


def known_set(condition: Condition, *, number: int) -> KnownSet:
    """The set of a condition and number; conditions share networks where they can."""
    known = drawn(condition, number=number, n_rows=N_ROWS)
    split, generator = known.task.split, generator_for(number, "known rows")
    train, validation = (
        part[torch.randperm(len(part), generator=generator)[:size]]
        for part, size in ((split.train, condition.rows), (split.validation, condition.rows // 2))
    )
    n_edges = known.architecture.n_edges
    found = KnownSet(
        known=known,
        task=known.task.take(train=train, validation=validation, test=split.test),
        n_edges=n_edges,
    )
    if condition.share is None:
        return found
    n_edges = max(2, found.space.n_edges_at(condition.share))
    return KnownSet(known=known, task=found.task, n_edges=n_edges)


def drawn(condition: Condition, *, number: int, n_rows: int) -> KnownTask:
    """A true network all of whose outputs depend on a feature, and its data."""
    family = FAMILIES[condition.family]
    space = SearchSpace(widths=family.widths, activations=ACTIVATIONS, density=condition.density)
    for attempt in count():
        known = draw_known(
            space,
            generator=generator_for(number, "known structure", condition.family, attempt),
            n_rows=n_rows,
            noise=condition.noise,
            kind=family.kind,
            n_irrelevant=family.n_irrelevant,
        )
        if bool(reachable(known.architecture).any(dim=0).all()):
            break
    return known


def measured(one: KnownSet, architecture: Architecture, weights: Weights) -> dict[str, float]:
    """What a network has found of the true structure, and what it loses on the test part.

    Returns:
        ``ap``: average precision of the paths from features to outputs by ``path_strength``;
        ``paths`` and ``edges``: F1 of paths, and of edges after matching hidden neurons;
        ``n_edges``: K*; ``loss``; and ``objective``: 𝔏.
    """
    true = one.known.architecture
    score = recovery(true, architecture)
    n_edges, objective = architecture.n_live_edges, one.objective
    population = Population([architecture], start=[weights])
    loss = float(population.losses(*one.task.rows("test"), loss=objective.loss)[0])
    return {
        "ap": path_precision(true, path_strength(architecture, weights)),
        "paths": score.paths.f_score,
        "edges": score.edges.f_score,
        "n_edges": float(n_edges),
        "loss": loss,
        "objective": loss + objective.cost(n_edges),
    }


def path_strength(z: Architecture, weights: Weights) -> Tensor:
    """Σ |w| · … · |w| over the paths from a feature to an output. Float, shape ``(n, c)``."""
    tables = edge_tables(z, weights.edge.abs(), absent=0.0)
    strength: Tensor = torch.linalg.multi_dot(tables)
    return strength


def path_precision(true: Architecture, strength: Tensor) -> float:
    """Average precision of the true paths when they are ordered by strength, ``(n, c)``."""
    wanted = reachable(true)
    return float(average_precision_score(wanted.flatten().numpy(), strength.flatten().numpy()))


def probability_precision(true: Architecture, probabilities: Sequence[Tensor]) -> float:
    """Average precision of the true paths by the probabilities of edges."""
    return path_scores(true, probabilities).average_precision


def least_loss(one: KnownSet) -> float:
    """Loss of the true network on the test part: what noise leaves."""
    known = one.known
    population = Population([known.architecture], start=[known.weights])
    return float(population.losses(*known.task.rows("test"), loss=one.objective.loss)[0])
