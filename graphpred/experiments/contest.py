"""All methods in one cell."""

from collections.abc import Sequence

import torch

from graphpred.experiments.comparison import frequent_architecture
from graphpred.experiments.linear import ridge_coefficients
from graphpred.experiments.outcome import Figure
from graphpred.experiments.pool import Pool
from graphpred.experiments.predicted import predictions, trained_afresh
from graphpred.experiments.protocol import Cell, DataSet
from graphpred.experiments.rivals import RIVALS, rate_of
from graphpred.experiments.scoring import Result
from graphpred.meta.model import MetaModel
from graphpred.pairs.pair import Pair
from graphpred.searchers import Proposal
from graphpred.task import Task

SIZES = (1, 10, 100, 1000)
"""Random candidates to choose from."""
RANDOM = ("live", "paper")
EDGE_FREQUENCIES = "edge frequencies alone"
NEAREST = "nearest training set's"
SIMILARITY_PENALTY = 0.1
"""Of the ridge coefficients that say how near two data sets are."""


def contest(
    data_set: DataSet,
    cell: Cell,
    *,
    pool: Pool,
    model: MetaModel | None = None,
    pairs: Sequence[Pair] = (),
    n_live: int = 1000,
) -> Result:
    """Figures of all methods in one cell.

    Args:
        data_set: Of the cell.
        cell: Where they compete.
        pool: Gives the rivals.
        model: Gives the predictions; without it there are rivals alone.
        pairs: What architectures that do not look at the data are made from; those of the cell's
            widths are used, and without any there are no such methods.
        n_live: Live random candidates to choose from.
    """
    figures = _random(cell, pool=pool, n_live=n_live)
    figures |= {name: pool.figure(name, cell) for name in RIVALS if name not in RANDOM}
    figures |= pair_figures(cell, pairs)
    if model is not None:
        figures |= predictions(model, cell)
    return Result.of(cell, family=data_set.family, figures=figures)


def best_of(method: str, size: int) -> str:
    """The name of the best of some random candidates."""
    return f"{method}, best of {size}"


def _random(cell: Cell, *, pool: Pool, n_live: int) -> dict[str, Figure]:
    figures = {}
    for method in RANDOM:
        outcome = pool.outcome(method, cell, n_candidates=n_live)
        for size in SIZES:
            if size <= len(outcome):
                figures[best_of(method, size)] = outcome.best_of(size, steps=cell.steps)
    return figures


def pair_figures(cell: Cell, pairs: Sequence[Pair]) -> dict[str, Figure]:
    """Architectures of the pairs of the cell's widths, trained from fresh weights.

    The unconditional decoder, which is the mean architecture too, takes the edges that most of them
    have; the other rival is the architecture of the subsample whose ridge coefficients are nearest.
    """
    own = cell.space.widths, cell.task.kind
    alike = [pair for pair in pairs if (pair.architecture.widths, pair.kind) == own]
    if not alike:
        return {}
    found = {EDGE_FREQUENCIES: frequent_architecture(alike, n_edges=cell.n_edges)}
    small = [pair for pair in alike if pair.architecture.n_edges <= cell.n_edges]
    if small:
        found[NEAREST] = _nearest(cell, small).architecture
    rate = rate_of("fresh", cell.steps)
    return {
        name: trained_afresh(cell, [Proposal(architecture=z)], rate=rate).best_of(
            1, steps=cell.steps
        )
        for name, z in found.items()
    }


def _nearest(cell: Cell, pairs: Sequence[Pair]) -> Pair:
    """Of the most similar subsample, the pair with the most edges."""
    own, _ = ridge_coefficients(cell.task, SIMILARITY_PENALTY)
    bases: dict[tuple[str, int], Task] = {}
    distances: dict[tuple[str, int], float] = {}  # of a subsample
    for pair in pairs:
        key, origin = (pair.digest, pair.search), (pair.digest, pair.split_seed)
        if key in distances:
            continue
        if origin not in bases:
            bases[origin] = Task.from_source(
                pair.source, target=pair.target, kind=cell.task.kind, seed=pair.split_seed
            )
        rows = torch.tensor(pair.train_rows), torch.tensor(pair.validation_rows)
        task = bases[origin].take(train=rows[0], validation=rows[1])
        other, _ = ridge_coefficients(task, SIMILARITY_PENALTY)
        distances[key] = float((own - other).norm())
    return min(pairs, key=lambda p: (distances[p.digest, p.search], -p.architecture.n_edges))
