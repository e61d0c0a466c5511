"""Tables and curves of the experiment on sets of known structure, from its cells."""

import math
import statistics
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import asdict
from typing import Any

from rich.table import Table

from graphpred.experiments.curves import Curve
from graphpred.experiments.known_methods import CHANCE, TRUE
from graphpred.experiments.known_sets import Condition

Cells = Sequence[dict[str, Any]]
_FIGURES = {
    "ap": "average precision",
    "paths": "F1 of paths",
    "edges": "F1 of edges",
    "n_edges": "K*",
    "loss": "test loss",
    "objective": "𝔏",
}
_SHORT = {"ap": "average precision of paths", "objective": "𝔏 on the test part"}


def mean_text(values: Sequence[float]) -> str:
    """Mean and its standard error over sets, or nothing."""
    if not values:
        return ""
    mean = statistics.fmean(values)
    if len(values) < 2:
        return f"{mean:.3f}"
    return f"{mean:.3f} ± {statistics.stdev(values) / math.sqrt(len(values)):.3f}"


def method_table(cells: Cells, *, families: Sequence[str]) -> Table:
    """All methods under the usual condition."""
    table = _table("Usual condition: noise 0.1, 500 training rows, density 0.25; K* of the truth")
    table.add_column("method")
    for title in _FIGURES.values():
        table.add_column(title, justify="right")
    for family in families:
        own = [cell for cell in cells if _is(cell, Condition(family=family))]
        table.add_row(f"[bold]{family}")
        for method in own[0]["methods"]:
            texts = [mean_text(_values(own, method, "ap"))]
            rest = [_values(own, method, figure) for figure in list(_FIGURES)[1:]]
            texts += [f"{statistics.fmean(values):.3f}" if values else "" for values in rest]
            table.add_row(method, *texts)
        table.add_section()
    return table


def axis_table(cells: Cells, axis: str, *, title: str, family: str, figure: str) -> Table:
    """A line a method, a column a value of what is varied; of one family."""
    table = _table(f"{_SHORT[figure]}, {family}, by {title}")
    table.add_column("method")
    by_value = _along(cells, axis, family=family)
    for value in by_value:
        table.add_column(f"{value:g}", justify="right")
    columns = list(by_value.values())
    for method in dict.fromkeys(name for own in columns for name in own[0]["methods"]):
        texts = [mean_text(_values(own, method, figure)) for own in columns]
        if any(texts):
            table.add_row(method, *texts)
    return table


def axis_curves(cells: Cells, axis: str, *, family: str, figure: str) -> dict[str, Curve]:
    """Means of a figure along what is varied, by method."""
    curves: dict[str, list[tuple[float, float]]] = defaultdict(list)
    for value, own in _along(cells, axis, family=family).items():
        for method in own[0]["methods"]:
            values = _values(own, method, figure)
            is_shown = method not in (CHANCE, TRUE) or (method == CHANCE and figure == "ap")
            if values and is_shown and not method.endswith("best of 1"):
                curves[method].append((value, statistics.fmean(values)))
    return dict(curves)


def price_table(cells: Cells, *, families: Sequence[str]) -> Table:
    """A line a family and price: K*, test loss and 𝔏 of a prediction and of one search."""
    table = _table("The price λ = C·N: one prediction, and the best of one search's trials")
    methods = list(cells[0]["methods"])
    for name in ("sets", "λ"):
        table.add_column(name, justify="left" if name == "sets" else "right")
    shown = ("n_edges", "loss", "objective")
    for figure in shown:
        for method in methods:
            table.add_column(f"{_FIGURES[figure]}\n{method}", justify="right")
    for family in families:
        mine = [cell for cell in cells if cell["family"] == family]
        for price in dict.fromkeys(cell["price"] for cell in mine):
            own = [cell for cell in mine if cell["price"] == price]
            texts = [
                f"{statistics.fmean(_values(own, method, figure)):.3f}"
                for figure in shown
                for method in methods
            ]
            table.add_row(family, f"{price:g}", *texts)
        table.add_section()
    return table


def price_curves(cells: Cells, *, family: str, figure: str) -> dict[str, Curve]:
    """Means of a figure over prices, of predictions and searches."""
    mine = [cell for cell in cells if cell["family"] == family]
    curves: dict[str, list[tuple[float, float]]] = defaultdict(list)
    for price in dict.fromkeys(cell["price"] for cell in mine):
        own = [cell for cell in mine if cell["price"] == price]
        for method in own[0]["methods"]:
            curves[method].append((price, statistics.fmean(_values(own, method, figure))))
    return dict(curves)


def cost_table(cells: Cells) -> Table:
    """A line a set and α, β: edges that are expected, given, false and missed, over the prices."""
    table = _table("α and β in training on pairs of one set; means over prices and latents")
    for column in ("set", "α", "β", "E[K]", "K*", "false", "missed", *_AT_TRUE_SIZE):
        table.add_column(column, justify="left" if column == "set" else "right")
    for cell in cells:
        costs = ["" if cell[name] is None else f"{cell[name]:g}" for name in ("alpha", "beta")]
        edges = [
            f"{_over_prices(cell, figure):.1f}"
            for figure in ("expected", "n_edges", "false", "missed")
        ]
        name = f"{cell['family']} {cell['number']}"
        table.add_row(name, *costs, *edges, *_at_true_size([cell]))
    return table


def amount_table(cells: Cells) -> Table:
    """A line a number of subsamples and rows, means over the sets; and gains over no training."""
    table = _table("Trained on pairs of one set: subsamples and their rows; means over the sets")
    for column in ("subsamples", "rows", "sets", "E[K]", *_AT_TRUE_SIZE, "frequencies"):
        table.add_column(column, justify="right")
    table.add_column("loss less that of no training", justify="right")
    groups: dict[tuple[int, int], list[dict[str, Any]]] = defaultdict(list)
    for cell in cells:
        groups[cell["searches"], cell["rows"]].append(cell)
    for (searches, rows), own in groups.items():
        expected = statistics.fmean(_over_prices(cell, "expected") for cell in own)
        told = [cell["frequencies"] for cell in own if cell["frequencies"] is not None]
        pairs = zip(own, groups[0, 0], strict=True)
        gains = [a["true"]["loss"] - b["true"]["loss"] for a, b in pairs]
        table.add_row(
            str(searches),
            str(rows),
            str(len(own)),
            f"{expected:.1f}",
            *_at_true_size(own),
            mean_text(told),
            mean_text(gains) if searches else "",
        )
    return table


_AT_TRUE_SIZE: dict[str, Callable[[dict[str, Any]], float]] = {
    "average precision": lambda cell: float(cell["true"]["ap"]),
    "F1 of paths": lambda cell: float(cell["true"]["paths"]),
    "test loss": lambda cell: float(cell["true"]["loss"]),
}
"""Of predictions with as many edges as the true network has, by column."""


def _at_true_size(cells: Cells) -> list[str]:
    return [mean_text([figure(cell) for cell in cells]) for figure in _AT_TRUE_SIZE.values()]


def _over_prices(cell: dict[str, Any], figure: str) -> float:
    return statistics.fmean(row[figure] for row in cell["prices"])


def _along(cells: Cells, axis: str, *, family: str) -> dict[float, list[dict[str, Any]]]:
    """The cells where everything but one thing is usual, by its value, rising."""
    usual = asdict(Condition(family=family))
    found: dict[float, list[dict[str, Any]]] = defaultdict(list)
    for cell in cells:
        if cell[axis] is not None and all(
            cell[name] == value for name, value in usual.items() if name != axis
        ):
            found[cell[axis]].append(cell)
    return dict(sorted(found.items()))


def _is(cell: dict[str, Any], condition: Condition) -> bool:
    return all(cell[name] == value for name, value in asdict(condition).items())


def _values(cells: Cells, method: str, figure: str) -> list[float]:
    own = [cell["methods"].get(method, {}) for cell in cells]
    return [figures[figure] for figures in own if figure in figures]


def _table(title: str) -> Table:
    return Table(title=title, title_justify="left")
