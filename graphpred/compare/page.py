"""A comparison to read: tables in the terminal, and a page with the curves."""

import html
import io
import math
from pathlib import Path
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

from graphpred.compare.contest import Comparison
from graphpred.compare.plots import Line, line_plot
from graphpred.compare.scores import comparison_summary, regret_curve
from graphpred.files import whole_file

OWN = "meta_model"
"""The method that plots show thick."""
_PAGE_WIDTH = 130
_HEAD = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>graphpred compare</title>
<style>
body { color: #24292f; background: #fff; margin: 2rem; font-family: sans-serif; }
pre { font-size: 13px; line-height: 1.3; overflow-x: auto; }
figure { display: inline-block; margin: 0 1.5rem 1.5rem 0; }
</style>
</head>
<body>
<h1>Comparison of searchers</h1>
"""


def comparison_report(comparison: Comparison) -> RenderableType:
    """What it was, the methods from best to worst, their ranks at several budgets."""
    summary = comparison_summary(comparison)
    return Group(_setting(summary), _methods(summary), _ranks(summary), *_notes(summary))


def write_page(comparison: Comparison, path: str | Path) -> None:
    """The report and the anytime curves as one web page, whole or not at all."""
    console = Console(width=_PAGE_WIDTH, file=io.StringIO(), color_system=None, record=True)
    console.print(comparison_report(comparison))
    table = html.escape(console.export_text())
    plots = "\n".join(f"<figure>{plot}</figure>" for plot in _plots(comparison))
    with whole_file(path) as temporary:
        text = f"{_HEAD}<pre>{table}</pre>\n{plots}\n</body>\n</html>\n"
        temporary.write_text(text, encoding="utf-8")


def _setting(summary: dict[str, Any]) -> Text:
    settings, n = summary["settings"], len(summary["data"])
    named = ", ".join(summary["data"][:8]) + (", …" if n > 8 else "")
    return Text(
        f"{n} data sets ({named}), splits of each: {summary['n_splits']}. "
        f"{settings['evaluations']} evaluations of {settings['steps']} steps a search, "
        f"at most {settings['kappa']:g} (n + c) edges, price {settings['price']:g}.\n"
    )


def _methods(summary: dict[str, Any]) -> Table:
    final = summary["ranks"][-1]["mean"]
    table = Table(
        title="After the whole budget (means over data sets)",
        box=SIMPLE_HEAD,
        pad_edge=False,
        collapse_padding=True,
    )
    table.add_column("method", no_wrap=True)
    baseline = summary["baseline"]
    columns = ["test 𝔏", "±", "error", "K", "nets", "CPU s", "rank"]
    for name in columns + (["worth"] if baseline else []):
        table.add_column(name, justify="right", no_wrap=True)
    methods = summary["methods"]
    for name in sorted(methods, key=lambda m: (methods[m]["is_reference"], final.get(m, 0))):
        own = methods[name]
        row = [
            f"{own['test_objective']:.3f}",
            f"{own['spread']:.3f}",
            f"{own['test_loss']:.3f}",
            f"{own['n_edges']:.0f}",
            "–" if own["is_reference"] else f"{own['networks']:.0f}",
            f"{own['cpu_seconds']:.1f}",
            f"{final[name]:.2f}" if name in final else "–",
        ]
        worth = list(own.get("equivalent_evaluations", {}).values())
        most = summary["settings"]["evaluations"]
        if baseline:
            row.append("–" if not worth else _evaluations(worth[-1], most=most))
        style = "bold" if name == OWN else "dim" if own["is_reference"] else ""
        table.add_row(name, *row, style=style)
    return table


def _evaluations(value: float, *, most: float) -> str:
    return f">{most:g}" if math.isinf(value) else f"{value:.3g}"


def _ranks(summary: dict[str, Any]) -> Table:
    ranks = summary["ranks"]
    table = Table(
        title="Mean ranks by evaluations", box=SIMPLE_HEAD, pad_edge=False, collapse_padding=True
    )
    table.add_column("method", no_wrap=True)
    for one in ranks:
        table.add_column(f"{one['budget']:g}", justify="right")
    final = ranks[-1]["mean"]
    for name in sorted(final, key=final.__getitem__):
        cells = [f"{one['mean'][name]:.2f}" for one in ranks]
        table.add_row(name, *cells, style="bold" if name == OWN else "")
    last = ranks[-1]
    if not math.isnan(last["critical_difference"]):
        values = (f"{one['critical_difference']:.2f}" for one in ranks)
        table.add_row("critical difference", *values, style="dim")
        table.add_row("p of Friedman's test", *(f"{o['p_value']:.1g}" for o in ranks), style="dim")
    return table


def _notes(summary: dict[str, Any]) -> list[Text]:
    notes = [
        "𝔏 = L + C·K on test rows, of the network that validation rows chose; one evaluation is "
        "100 steps of one network; rank 1 is best. linear, mlp and boosting are scikit-learn's, "
        "without a search: trees have no edges, so theirs cost nothing here. "
        "±: deviation over splits."
    ]
    if summary["baseline"]:
        notes.append(
            f"worth: evaluations after which {summary['baseline']} is as good, the median over "
            "data sets."
        )
    if OWN in summary["methods"]:
        notes.append("What the meta-model cost to train is not in its row.")
    return [Text(f"\n{note}", style="dim") for note in notes]


def _plots(comparison: Comparison) -> list[str]:
    points = comparison.points
    names = points.loc[~points["is_reference"], "method"].unique().tolist()
    plots = []
    for currency, label in (("evaluations", "evaluations"), ("cpu_seconds", "CPU seconds")):
        lines = []
        for name in names:
            curve = regret_curve(points, method=name, currency=currency)
            lines.append(
                Line(
                    name=name,
                    x=curve["budget"].tolist(),
                    y=curve["median"].tolist(),
                    low=curve["low"].tolist(),
                    high=curve["high"].tolist(),
                    is_emphasised=name == OWN,
                )
            )
        plots.append(
            line_plot(
                lines,
                title=f"What is left to gain, against {label} (median and quartiles)",
                x_label=label,
                y_label="regret: 1 a constant, 0 the best of all",
            )
        )
    return plots
