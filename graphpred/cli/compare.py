"""``graphpred compare``: all searchers on the same data under one ledger."""

from pathlib import Path
from typing import Annotated

import joblib
import typer

from graphpred.cli.common import clear_errors, console, notice, print_json, progress
from graphpred.compare import (
    CompareConfig,
    Comparison,
    comparison_report,
    comparison_summary,
    run_comparison,
    write_page,
)
from graphpred.compare.contest import missing
from graphpred.searchers import SEARCHERS

ALL = "all"
PAGE = "report.html"


def compare(
    data: Annotated[list[str], typer.Argument(help="Tables, or names of scikit-learn's sets.")],
    target: Annotated[str | None, typer.Option(help="Target column; the last by default.")] = None,
    methods: Annotated[
        list[str] | None,
        typer.Option(help="Searchers, with commas between or repeated; all by default."),
    ] = None,
    evaluations: Annotated[
        int, typer.Option(min=1, help="Budget of a search, in networks trained for 100 steps.")
    ] = 100,
    seeds: Annotated[int, typer.Option(min=1, help="Splits, and searches on each.")] = 3,
    out: Annotated[Path, typer.Option(help="Folder of results; created or resumed.")] = Path(
        "comparison"
    ),
    kappa: Annotated[float, typer.Option(help="Most edges, in units of features + outputs.")] = 2.0,
    price: Annotated[float, typer.Option(help="Price of an edge times their number N.")] = 0.1,
    rows: Annotated[
        int, typer.Option(min=8, help="Rows of a data set; larger ones are drawn from.")
    ] = 4000,
    jobs: Annotated[
        int | None, typer.Option(min=1, help="Workers of one thread; one a core by default.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print a summary as JSON.")] = False,
) -> None:
    """Compare searchers on data sets: ranks, costs, anytime curves."""
    with clear_errors():
        named = [name for text in methods or [ALL] for name in text.split(",") if name]
        names = () if ALL in named else tuple(dict.fromkeys(named))
        config = CompareConfig(
            methods=names,
            evaluations=evaluations,
            seeds=seeds,
            kappa=kappa,
            price=price,
            rows=rows,
        )
        for name in names or SEARCHERS:
            if extra := missing(name):
                notice(f"{name} is left out: pip install 'graphpred[{extra}]' adds what it needs.")
        states = run_comparison(
            data, out=out, config=config, target=target, jobs=jobs or joblib.cpu_count()
        )
        with progress("Searches") as show:
            for state in states:
                show(state.n_done, state.n_cells, state.last)
        comparison = Comparison.load(out)
        write_page(comparison, out / PAGE)
        if as_json:
            print_json(comparison_summary(comparison))
        else:
            console().print(comparison_report(comparison))
            notice(f"{out / PAGE} shows the curves, {out} holds all figures.")
