"""Synthetic sets of known structure: what is found of it, and what the method's numbers do.

The paper's study in five parts: (1) recovery of the true structure and 𝔏 over noise, training rows
and the true network's density; (2) both over the share of edges that a network may have; (3) the
price C against K* and error; (4) α and β in meta-training; (5) the number of subsamples and of
their rows, where a meta-model is trained on pairs of one set.
"""

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

from rich.table import Table

from graphpred.experiments.curves import curves_svg
from graphpred.experiments.known_meta import MetaSettings, OwnSet
from graphpred.experiments.known_methods import Effort, found_by_all, searched
from graphpred.experiments.known_sets import Condition, KnownSet, known_set, measured
from graphpred.experiments.known_tables import (
    amount_table,
    axis_curves,
    axis_table,
    cost_table,
    method_table,
    price_curves,
    price_table,
)
from graphpred.experiments.parts import kept, write_json
from graphpred.files import make_folder, whole_file
from graphpred.meta.model import MetaModel
from graphpred.pairs.config import DEFAULT_DENSITIES

FIGURES = "known_structure.json"
AXES = {
    "noise": "noise, deviations of a score",
    "rows": "training rows",
    "density": "density of the true network",
    "share": "share of the possible edges allowed",
}
"""What is varied, one at a time: fields of ``Condition``."""


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What is done.

    Attributes:
        families: Of the first three parts; keys of ``FAMILIES``.
        sets: Of every condition.
        noise: Varied, as the three below; the first three hold the usual value.
        rows: Training rows.
        density: Of the true network.
        share: Of the edges that a network may have.
        effort: What is searched.
        prices: λ of the third part.
        meta: The last two parts.
    """

    families: tuple[str, ...] = ("two quantities", "three classes")
    sets: int = 6
    noise: tuple[float, ...] = (0.03, 0.1, 0.3, 1.0)
    rows: tuple[int, ...] = (60, 200, 500, 2000)
    density: tuple[float, ...] = (0.15, 0.25, 0.4)
    share: tuple[float, ...] = (0.05, 0.1, 0.2, 0.4, 0.8)
    effort: Effort = field(default_factory=Effort)
    prices: tuple[float, ...] = (0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0)
    meta: MetaSettings = field(default_factory=MetaSettings)

    def conditions(self) -> Iterator[Condition]:
        """The usual condition of every family, and those where one thing is another."""
        for family in self.families:
            usual = Condition(family=family)
            yield usual
            for axis in AXES:
                for value in getattr(self, axis):
                    if value != getattr(usual, axis):
                        yield replace(usual, **{axis: value})


QUICK = Settings(
    families=("two quantities",),
    sets=2,
    noise=(0.1, 1.0),
    rows=(500,),
    density=(0.25,),
    share=(0.4,),
    effort=Effort(live=20, paper=20, pruned=2, steps=100),
    prices=(0.03, 1.0),
    meta=MetaSettings(
        families=("a quantity",),
        numbers=(0,),
        n_rows=200,
        evaluations=20,
        steps=2,
        searches=(2,),
        rows=(60,),
        usual_searches=2,
        usual_rows=60,
        costs=((2.0, 0.25),),
        cost_steps=2,
        cost_batch=2,
        latents=1,
    ),
)


def run(*, data: Path | None, quick: bool, out: Path) -> list[Table]:
    """Do the experiment, or what is missing of it.

    Args:
        data: Not used: all sets are synthetic.
        quick: A small form.
        out: Folder of the figures, the pictures and the parts that are kept.

    Returns:
        All methods under the usual condition; average precision and 𝔏 along what is varied; the
        price; α and β; subsamples and their rows.
    """
    settings = QUICK if quick else Settings()
    described = asdict(settings)
    folder = out / f"parts-{hashlib.sha256(repr(described).encode()).hexdigest()[:8]}"
    make_folder(folder)
    model = MetaModel.load()
    cells = _recovery_cells(settings, model, folder=folder)
    prices = _price_cells(settings, model, folder=folder)
    costs = _cost_cells(settings.meta, model, folder=folder / "meta")
    amounts = _amount_cells(settings.meta, model, folder=folder / "meta")
    write_json(
        out / FIGURES,
        {
            "settings": described,
            "recovery": cells,
            "prices": prices,
            "costs": costs,
            "amounts": amounts,
        },
    )
    for family in settings.families:
        _draw(cells, prices, family=family, out=out)
    return [
        method_table(cells, families=settings.families),
        *(
            axis_table(cells, axis, title=title, family=family, figure=figure)
            for axis, title in AXES.items()
            for figure in ("ap", "objective")
            for family in settings.families
        ),
        price_table(prices, families=settings.families),
        cost_table(costs),
        amount_table(amounts),
    ]


def _draw(
    cells: list[dict[str, Any]], prices: list[dict[str, Any]], *, family: str, out: Path
) -> None:
    """The pictures of a family."""
    pictures = {
        f"{axis}-{figure}": curves_svg(curves, x_name=f"{AXES[axis]}: {family}", y_name=y_name)
        for axis, figure, y_name in (
            ("noise", "ap", "average precision of paths"),
            ("rows", "ap", "average precision of paths"),
            ("share", "loss", "test loss"),
        )
        if (curves := axis_curves(cells, axis, family=family, figure=figure))
    }
    pictures["price"] = curves_svg(
        price_curves(prices, family=family, figure="n_edges"),
        x_name=f"price of an edge, λ = C·N: {family}",
        y_name="live edges K*",
    )
    for name, picture in pictures.items():
        with whole_file(out / f"{name}-{family.replace(' ', '-')}.svg") as temporary:
            temporary.write_text(picture, encoding="utf-8")


def _recovery_cells(settings: Settings, model: MetaModel, *, folder: Path) -> list[dict[str, Any]]:
    """Of every condition and set: figures of all methods."""

    def cell(condition: Condition, number: int) -> dict[str, Any]:
        one = known_set(condition, number=number)
        methods = found_by_all(one, model, effort=settings.effort, seed=number)
        return {**asdict(condition), "number": number, "methods": methods}

    return [
        kept(folder / f"{condition.name}-{number}.json", partial(cell, condition, number))
        for condition in settings.conditions()
        for number in range(settings.sets)
    ]


def _price_cells(settings: Settings, model: MetaModel, *, folder: Path) -> list[dict[str, Any]]:
    """Of every family, set and price: what the model predicts and what one search has."""

    def cells(family: str, number: int) -> list[dict[str, Any]]:
        one = known_set(Condition(family=family), number=number)
        methods = _at_prices(one, model, settings=settings, seed=number)
        return [
            {"family": family, "number": number, "price": price, "methods": own}
            for price, own in zip(settings.prices, methods, strict=True)
        ]

    found: list[dict[str, Any]] = []
    for family in settings.families:
        for number in range(settings.sets):
            path = folder / f"prices-{family.replace(' ', '-')}-{number}.json"
            found += kept(path, partial(cells, family, number))
    return found


def _at_prices(
    one: KnownSet, model: MetaModel, *, settings: Settings, seed: int
) -> list[dict[str, Any]]:
    """Predictions, and the best of one search, at every price; 𝔏 is at that price."""
    trials = searched(
        one,
        "random_live",
        evaluations=settings.effort.live,
        densities=DEFAULT_DENSITIES,
        seed=seed,
    )
    predictions = model.predict(one.task, seed=seed).along(settings.prices)
    found = []
    for price, prediction in zip(settings.prices, predictions, strict=True):
        each = price / one.space.n_possible_edges
        best = min(trials, key=lambda trial: trial.loss + each * trial.architecture.n_edges)
        proposal = prediction.proposal()
        assert proposal.start is not None
        methods = {
            "predicted": measured(one, proposal.architecture, proposal.start),
            "live random": measured(one, best.architecture, best.weights),
        }
        for own in methods.values():
            own["objective"] = own["loss"] + each * own["n_edges"]
        found.append(methods)
    return found


def _cost_cells(meta: MetaSettings, packaged: MetaModel, *, folder: Path) -> list[dict[str, Any]]:
    """Of α and β: what models trained at those predict, and the packaged one before."""

    def cell(own: OwnSet, alpha: float, beta: float) -> dict[str, Any]:
        return own.looked_at(own.model_at(alpha, beta))

    cells = []
    for own in _own_sets(meta, numbers=meta.cost_numbers, folder=folder):
        untrained = _untrained(own, packaged, folder=folder)
        cells.append({**own.facts, "alpha": None, "beta": None, **untrained})
        for alpha, beta in meta.costs:
            path = folder / f"costs-{own.name}-{alpha:g}-{beta:g}.json"
            figures = kept(path, partial(cell, own, alpha, beta))
            cells.append({**own.facts, "alpha": alpha, "beta": beta, **figures})
    return cells


def _amount_cells(meta: MetaSettings, packaged: MetaModel, *, folder: Path) -> list[dict[str, Any]]:
    """Of numbers of subsamples and of their rows; the packaged model has none."""

    def cell(own: OwnSet, searches: int, rows: int) -> dict[str, Any]:
        looked_at = own.looked_at(own.model(searches=searches, rows=rows))
        return looked_at | {"frequencies": own.frequencies(searches=searches, rows=rows)}

    cells = []
    for own in _own_sets(meta, numbers=meta.numbers, folder=folder):
        untrained = _untrained(own, packaged, folder=folder)
        cells.append({**own.facts, "searches": 0, "rows": 0, "frequencies": None, **untrained})
        for searches, rows in meta.amounts:
            path = folder / f"amounts-{own.name}-{searches}-{rows}.json"
            figures = kept(path, partial(cell, own, searches, rows))
            cells.append({**own.facts, "searches": searches, "rows": rows, **figures})
    return cells


def _own_sets(meta: MetaSettings, *, numbers: Sequence[int], folder: Path) -> list[OwnSet]:
    return [
        OwnSet(family, number, settings=meta, folder=folder)
        for family in meta.families
        for number in numbers
    ]


def _untrained(own: OwnSet, packaged: MetaModel, *, folder: Path) -> dict[str, Any]:
    """What the packaged model predicts for a set as it is."""
    figures: dict[str, Any] = kept(
        folder / f"untrained-{own.name}.json", lambda: own.looked_at(packaged)
    )
    return figures
