"""Tables and curves of the experiment on images, from its cells."""

import math
import statistics
from collections import defaultdict
from collections.abc import Sequence
from typing import Any

from rich.table import Table

from graphpred.experiments.curves import Curve
from graphpred.experiments.own_model import FORMS
from graphpred.experiments.whole_set import DENSE, LIVE, PRUNING, SEARCHED, SNIP

PACKAGED, OWN = "packaged", "own pairs"
SCRATCH, DEFAULT = "own pairs, from scratch", "own pairs, default rate"
"""Names of meta-models: unchanged; trained on pairs from the packaged one, from fresh parameters,
and from the packaged one at the learning rate of ``graphpred train``."""
Cells = Sequence[dict[str, Any]]


def method_table(small: Cells, *, title: str) -> Table:
    """All methods at the middle one of the budgets."""
    budgets = sorted({cell["n_edges"] for cell in small})
    cells = [cell for cell in small if cell["n_edges"] == budgets[len(budgets) // 2]]
    table = _table(f"{title}, K* at most {cells[0]['n_edges']}: test accuracy, %")
    for column in ("method", "mean", "deviation", "seeds", "edges", "candidates"):
        table.add_column(column, justify="left" if column == "method" else "right")
    for method in _methods(cells):
        figures = [cell["methods"][method] for cell in cells if method in cell["methods"]]
        percent = [100 * one["accuracy"] for one in figures]
        deviation = f"{statistics.stdev(percent):.2f}" if len(percent) > 1 else ""
        table.add_row(
            method,
            f"{statistics.fmean(percent):.2f}",
            deviation,
            str(len(percent)),
            f"{statistics.fmean(one['n_edges'] for one in figures):.0f}",
            str(figures[0]["candidates"]),
        )
    return table


def edges_table(cells: Cells, *, title: str) -> Table:
    """A line a method and a column for every largest K*, means over the seeds."""
    curves = _means(cells, key="n_edges")
    budgets = sorted({cell["n_edges"] for cell in cells})
    table = _table(title)
    table.add_column("method")
    for budget in budgets:
        table.add_column(str(budget), justify="right")
    for method, means in curves.items():
        table.add_row(method, *(f"{means[b]:.2f}" if b in means else "" for b in budgets))
    return table


def full_table(full: Cells, *, title: str) -> Table:
    """A line a method and two columns a budget at full size."""
    table = _table(f"{title}: test accuracy, % (edges)")
    table.add_column("method")
    for cell in full:
        table.add_column(f"K* at most {cell['n_edges']}", justify="right")
    for method in _methods(full):
        found = [cell["methods"][method] for cell in full]
        texts = (f"{100 * one['accuracy']:.2f} ({one['n_edges']:.0f})" for one in found)
        table.add_row(method, *texts)
    return table


def edges_curves(small: Cells) -> dict[str, Curve]:
    """Accuracy in percent over the largest K*, means over the seeds, of some methods."""
    shown = (
        f"{PACKAGED}, no step",
        f"{PACKAGED}, trained",
        f"{OWN}, no step",
        f"{OWN}, trained",
        PRUNING,
        SNIP,
        SEARCHED,
        LIVE,
    )
    curves = _means(small, key="n_edges")
    return {name: sorted(curves[name].items()) for name in shown if name in curves}


def image_gains(small: Cells) -> list[dict[str, Any]]:
    """Cells of images in the form of those of tables: test errors by model and form."""
    return [
        {
            "set": "images",
            "seed": cell["seed"],
            "kappa": cell["kappa"],
            "n_edges": cell["n_edges"],
            "packaged": _errors(cell, PACKAGED),
            "own": _errors(cell, OWN),
        }
        for cell in small
    ]


def _errors(cell: dict[str, Any], model: str) -> dict[str, float]:
    """Test errors of a model's predictions by form; drafts are not among them."""
    methods = {form: cell["methods"].get(f"{model}, {form}") for form in FORMS}
    return {form: 1 - figures["accuracy"] for form, figures in methods.items() if figures}


def gain_table(cells: Cells) -> Table:
    """Test losses of the packaged model and of one trained on own pairs, a line a set and form."""
    table = _table("Trained on own pairs against packaged unchanged: mean test loss")
    for column in ("set", "prediction", "packaged", "own pairs", "difference", "won, tied, lost"):
        table.add_column(column, justify="left" if column in ("set", "prediction") else "right")
    for name in dict.fromkeys(cell["set"] for cell in cells):
        own = [cell for cell in cells if cell["set"] == name]
        for form in own[0]["own"]:
            gain = gain_of(own, form)
            table.add_row(
                name,
                form,
                f"{gain['packaged']:.4f}",
                f"{gain['own']:.4f}",
                f"{gain['difference']:+.4f} ± {gain['standard_error']:.4f}",
                f"{gain['won']}, {gain['tied']}, {gain['lost']}",
            )
    return table


def gain_of(cells: Cells, form: str) -> dict[str, Any]:
    """Means over cells of one set; the standard error is over the seeds, budgets averaged.

    A negative difference says that training on own pairs has lowered the loss.
    """
    apart = defaultdict(list)
    for cell in cells:
        apart[cell["seed"]].append(cell["own"][form] - cell["packaged"][form])
    differences = [value for values in apart.values() for value in values]
    by_seed = [statistics.fmean(values) for values in apart.values()]
    error = statistics.stdev(by_seed) / math.sqrt(len(by_seed)) if len(by_seed) > 1 else math.nan
    return {
        "packaged": statistics.fmean(cell["packaged"][form] for cell in cells),
        "own": statistics.fmean(cell["own"][form] for cell in cells),
        "difference": statistics.fmean(by_seed),
        "standard_error": error,
        "won": sum(value < 0 for value in differences),
        "tied": sum(value == 0 for value in differences),
        "lost": sum(value > 0 for value in differences),
    }


def _means(cells: Cells, *, key: str) -> dict[str, dict[float, float]]:
    """Mean accuracy in percent of every method at every budget."""
    found: dict[str, dict[float, list[float]]] = defaultdict(lambda: defaultdict(list))
    for cell in cells:
        for method, figures in cell["methods"].items():
            found[method][cell[key]].append(100 * figures["accuracy"])
    return {
        method: {budget: statistics.fmean(values) for budget, values in found[method].items()}
        for method in _methods(cells)
    }


def _methods(cells: Cells) -> list[str]:
    """In their order, the dense network last."""
    names = dict.fromkeys(name for cell in cells for name in cell["methods"])
    return sorted(names, key=lambda name: name == DENSE)


def _table(title: str) -> Table:
    return Table(title=title, title_justify="left")
