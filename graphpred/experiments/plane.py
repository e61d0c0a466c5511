"""Two classes in the plane: what predicted, trained and searched networks decide where.

All have at most the same number of live edges and the same hidden width, which must be above two,
the number of features, for such problems. Networks are chosen by log loss on the validation part.
"""

import hashlib
import math
import statistics
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from rich.table import Table

from graphpred.architecture import Architecture
from graphpred.experiments.parts import kept, write_json
from graphpred.experiments.plane_picture import Drawn, plane_svg
from graphpred.experiments.plane_sets import PLANE_SETS, plane_task
from graphpred.experiments.rivals import rate_of
from graphpred.files import make_folder, whole_file
from graphpred.meta.model import MetaModel
from graphpred.population import FITTED_RATE, LEARNING_RATE, Population
from graphpred.searchers import Proposal
from graphpred.searchers.sparsified import gradually_pruned
from graphpred.seeds import derived_seed, generator_for
from graphpred.space import SearchSpace
from graphpred.task import Task
from graphpred.weights import Weights

FIGURES = "plane.json"
NO_STEP, TRAINED = "predicted, no step", "predicted, trained on"
FRESH = "its structure, trained afresh"
BEST_PREDICTED, LIVE, BEST_LIVE = "best predicted, no step", "one live random", "best live random"
PRUNED, DENSE = "best gradual pruning", "best dense network"
DRAWN = (NO_STEP, FRESH, BEST_LIVE, PRUNED)
"""Methods whose networks are drawn, from left to right."""

Found = dict[str, tuple[Architecture, Weights]]
"""The network of every method."""


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What is done.

    Attributes:
        sets: Keys of ``PLANE_SETS``.
        n_rows: Of a set.
        seeds: Of sets, latents and draws; those of the first one are drawn.
        n_hidden: Hidden neurons.
        budgets: Largest K*.
        widths: Hidden neurons that are compared at ``width_budget``.
        width_budget: Largest K* there, or all that are possible.
        predictions: With other latents, of which the best is taken.
        live: Live random networks, likewise.
        starts: Pruned and dense networks and fresh starts of a predicted one, likewise.
        steps: Of all training.
    """

    sets: tuple[str, ...] = tuple(PLANE_SETS)
    n_rows: int = 800
    seeds: tuple[int, ...] = (0, 1, 2, 3)
    n_hidden: int = 12
    budgets: tuple[int, ...] = (8, 16, 32)
    widths: tuple[int, ...] = (2, 4, 32)
    width_budget: int = 16
    predictions: int = 8
    live: int = 100
    starts: int = 8
    steps: int = 300


QUICK = Settings(
    sets=("moons", "xor"),
    n_rows=400,
    seeds=(0,),
    n_hidden=8,
    budgets=(16,),
    widths=(2,),
    predictions=2,
    live=20,
    starts=2,
    steps=100,
)


def run(*, data: Path | None, quick: bool, out: Path) -> list[Table]:
    """Do the experiment, or what is missing of it.

    Args:
        data: Not used.
        quick: A small form.
        out: Folder of the figures, the pictures and the parts that are kept.

    Returns:
        Test errors of all methods by set and budget, and by hidden width.
    """
    settings = QUICK if quick else Settings()
    described = asdict(settings)
    folder = out / f"parts-{hashlib.sha256(repr(described).encode()).hexdigest()[:8]}"
    make_folder(folder)
    model = MetaModel.load()
    usual = [(settings.n_hidden, k) for k in settings.budgets]
    others = [(h, min(settings.width_budget, 4 * h)) for h in settings.widths]

    def cell(name: str, seed: int, n_hidden: int, n_edges: int) -> dict[str, Any]:
        task = plane_task(name, n_rows=settings.n_rows, seed=seed)
        found = _found(
            task, model, n_hidden=n_hidden, n_edges=n_edges, settings=settings, seed=seed
        )
        is_drawn = n_hidden == settings.n_hidden and seed == settings.seeds[0]
        return {
            "set": name,
            "seed": seed,
            "n_hidden": n_hidden,
            "n_edges": n_edges,
            "methods": {method: _figures(task, *network) for method, network in found.items()},
            "networks": {m: _plain(*found[m]) for m in DRAWN} if is_drawn else {},
        }

    cells = [
        kept(folder / f"{name}-{seed}-{h}-{k}.json", partial(cell, name, seed, h, k))
        for name in settings.sets
        for seed in settings.seeds
        for h, k in dict.fromkeys([*usual, *others])
    ]
    write_json(out / FIGURES, {"settings": described, "cells": cells})
    for one in cells:
        if one["networks"]:
            _draw(one, settings=settings, out=out)
    return [
        *(error_table(cells, n_hidden=settings.n_hidden, n_edges=k) for k in settings.budgets),
        width_table(cells, shapes=others),
    ]


def _found(
    task: Task, model: MetaModel, *, n_hidden: int, n_edges: int, settings: Settings, seed: int
) -> Found:
    """The network of every method."""
    prediction = model.predict(task, n_hidden=n_hidden, seed=seed)
    proposal = prediction.proposal(n_edges=n_edges)
    more = prediction.sample(
        settings.predictions - 1, generator=generator_for(seed, "predicted"), n_edges=n_edges
    )
    space = SearchSpace(widths=(2, n_hidden, 2))
    generator = generator_for(seed, "live")
    live = [space.sample_live(generator=generator, n_edges=n_edges) for _ in range(settings.live)]
    dense = [
        space.sample(generator=generator, n_edges=space.n_possible_edges)
        for _ in range(settings.starts)
    ]
    seeds = {
        purpose: [derived_seed(seed, purpose, i) for i in range(k)]
        for purpose, k in (("live", settings.live), ("starts", settings.starts))
    }
    train = partial(_trained, task, steps=settings.steps, seed=seed)
    searched = train(Population(live, seed=seeds["live"]), rate=rate_of("live", settings.steps))
    pruned = gradually_pruned(
        dense,
        task,
        n_edges=[n_edges] * len(dense),
        steps=settings.steps,
        seeds=seeds["starts"],
        batch_seed=seed,
        rate=rate_of("pruning", settings.steps),
    )
    whole = train(Population(dense, seed=seeds["starts"]), rate=rate_of("dense", settings.steps))
    again = Population([proposal.architecture] * settings.starts, seed=seeds["starts"])
    return {
        NO_STEP: _best(_started([proposal]), task),
        TRAINED: _best(train(_started([proposal]), rate=FITTED_RATE), task),
        FRESH: _best(train(again, rate=LEARNING_RATE), task),
        BEST_PREDICTED: _best(_started([proposal, *more]), task),
        LIVE: (searched.architectures[0], searched.weights[0]),
        BEST_LIVE: _best(searched, task),
        PRUNED: _best(pruned, task),
        DENSE: _best(whole, task),
    }


def _started(proposals: Iterable[Proposal]) -> Population:
    """Networks with the weights that were proposed."""
    started = [(p.architecture, p.start) for p in proposals if p.start is not None]
    return Population([z for z, _ in started], start=[weights for _, weights in started])


def _trained(
    task: Task, population: Population, *, steps: int, seed: int, rate: float
) -> Population:
    X, y = task.rows("train")
    return population.fit(X, y, steps=steps, learning_rate=rate, batch_seed=seed)


def _best(population: Population, task: Task) -> tuple[Architecture, Weights]:
    """By log loss on the validation part."""
    best = int(population.losses(*task.rows("validation"), loss="log_loss").argmin())
    return population.architectures[best], population.weights[best]


def _figures(task: Task, z: Architecture, weights: Weights) -> dict[str, float]:
    """Losses on the test part, and K*."""
    population = Population([z], start=[weights])
    X, y = task.rows("test")
    return {
        "error": float(population.losses(X, y, loss="error")[0]),
        "log_loss": float(population.losses(X, y, loss="log_loss")[0]),
        "n_edges": float(z.n_live_edges),
    }


def _plain(z: Architecture, weights: Weights) -> dict[str, Any]:
    return {
        "architecture": z.to_json(),
        "edge": weights.edge.tolist(),
        "bias": weights.bias.tolist(),
    }


def _draw(cell: dict[str, Any], *, settings: Settings, out: Path) -> None:
    """The picture of a set at one budget."""
    drawn = []
    for method, network in cell["networks"].items():
        figures = cell["methods"][method]
        drawn.append(
            Drawn(
                title=method,
                caption=f"{figures['n_edges']:.0f} edges, test error {figures['error']:.3f}",
                architecture=Architecture.from_json(network["architecture"]),
                weights=Weights(
                    edge=torch.tensor(network["edge"]), bias=torch.tensor(network["bias"])
                ),
            )
        )
    task = plane_task(cell["set"], n_rows=settings.n_rows, seed=cell["seed"])
    with whole_file(out / f"{cell['set']}-{cell['n_edges']}.svg") as temporary:
        temporary.write_text(plane_svg(task, drawn), encoding="utf-8")


def error_table(cells: Sequence[dict[str, Any]], *, n_hidden: int, n_edges: int) -> Table:
    """A line a method and a column a set: mean test error over the seeds."""
    own = _by_set(cells, n_hidden=n_hidden, n_edges=n_edges)
    title = f"Test error, {n_hidden} hidden neurons, at most {n_edges} live edges"
    table = Table(title=title, title_justify="left")
    table.add_column("method")
    for name in own:
        table.add_column(name, justify="right")
    for method in next(iter(own.values()))[0]["methods"]:
        table.add_row(method, *(_mean_error(group, method) for group in own.values()))
    return table


def width_table(cells: Sequence[dict[str, Any]], *, shapes: Sequence[tuple[int, int]]) -> Table:
    """A line a hidden width and method, a column a set: mean test error over the seeds."""
    table = Table(title="Test error by hidden width", title_justify="left")
    for column in ("hidden neurons", "K* at most", "method"):
        table.add_column(column)
    for name in dict.fromkeys(cell["set"] for cell in cells):
        table.add_column(name, justify="right")
    for n_hidden, n_edges in shapes:
        own = _by_set(cells, n_hidden=n_hidden, n_edges=n_edges)
        for method in (NO_STEP, BEST_PREDICTED, BEST_LIVE, PRUNED):
            texts = [_mean_error(group, method) for group in own.values()]
            table.add_row(str(n_hidden), str(n_edges), method, *texts)
        table.add_section()
    return table


def _by_set(
    cells: Sequence[dict[str, Any]], *, n_hidden: int, n_edges: int
) -> dict[str, list[dict[str, Any]]]:
    found: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for cell in cells:
        if (cell["n_hidden"], cell["n_edges"]) == (n_hidden, n_edges):
            found[cell["set"]].append(cell)
    return dict(found)


def _mean_error(cells: Sequence[dict[str, Any]], method: str) -> str:
    """Mean and standard error over the seeds."""
    errors = [cell["methods"][method]["error"] for cell in cells]
    if len(errors) < 2:
        return f"{errors[0]:.3f}"
    spread = statistics.stdev(errors) / math.sqrt(len(errors))
    return f"{statistics.fmean(errors):.3f} ± {spread:.3f}"
