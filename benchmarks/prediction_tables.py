"""The tables of ``prediction.py``."""

import math
import statistics
from collections.abc import Callable

from measuring import WIDTH
from rich.console import Console
from rich.table import Table

from graphpred.experiments.contest import SIZES, best_of
from graphpred.experiments.predicted import FRESH, NO_STEP, PREDICTED, SHUFFLED, Front
from graphpred.experiments.scoring import (
    Mean,
    Result,
    duels,
    mean_over_sets,
    mean_ranks,
    over_seeds,
    retention,
    share_won,
)

GROUPS: dict[str, Callable[[Result], bool]] = {
    "all": lambda result: True,
    "2 to 4 classes": lambda result: result.kind != "regression" and result.n_outputs < 5,
    "5 and more": lambda result: result.kind != "regression" and result.n_outputs >= 5,
    "regression": lambda result: result.kind == "regression",
}


def print_tables(
    results: list[Result], fronts: list[Front], *, console: Console, n_live: int
) -> None:
    """Print everything that was measured, for every number of steps."""
    live = best_of("live", max(size for size in SIZES if size <= n_live))
    for steps in dict.fromkeys(result.steps for result in results):
        own = over_seeds([result for result in results if result.steps == steps])
        console.print(_methods(own, live=live, steps=steps))
        if PREDICTED in own[0].figures:
            console.print(_groups(own, live=live))
            console.print(_shares(own))
            console.print(_retention(own))
    if fronts:
        console.print(_front(fronts))


def _methods(results: list[Result], *, live: str, steps: int) -> Table:
    n_sets, ours = len({result.name for result in results}), PREDICTED
    title = f"{steps} steps, {n_sets} data sets, {len(results)} cells; G against {live}"
    table = Table(title=title, width=WIDTH, padding=(0, 0))
    table.add_column("method")
    for heading in ("loss", "rank", "G", "95 %", "median", "sets", "won", "K*", "steps", "CPU s"):
        table.add_column(heading, justify="right", no_wrap=True)
    ranks = mean_ranks(results)
    for method in sorted(results[0].figures, key=lambda name: not name.startswith(ours)):
        loss = mean_over_sets(results, lambda result, m=method: result.loss(m))
        gap = mean_over_sets(results, lambda result, m=method: result.gap_closed(m, live=live))
        figures = [result.figures[method] for result in results]
        n_edges = statistics.fmean(figure.n_edges for figure in figures)
        compared = ours in results[0].figures and method != ours
        won = duels(results, ours, rival=method) if compared else ("–",)
        table.add_row(
            method,
            f"{loss.value:.3f}",
            f"{ranks[method]:.1f}",
            *_gap(gap),
            "/".join(map(str, won)),
            f"{n_edges:.0f}" if not math.isnan(n_edges) else "–",
            f"{figures[0].network_steps:,}",
            f"{statistics.fmean(figure.cpu_seconds for figure in figures):.2f}",
        )
    table.caption = f"won: cells won/tied/lost by '{ours}', ties within one standard error"
    return table


def _gap(gap: Mean) -> tuple[str, str, str, str]:
    interval = f"{gap.low:.2f}…{gap.high:.2f}"
    return f"{gap.value:.2f}", interval, f"{gap.median:.2f}", str(gap.n_sets)


def _ours(results: list[Result]) -> list[str]:
    return [name for name in results[0].figures if name.startswith(PREDICTED)]


def _groups(results: list[Result], *, live: str) -> Table:
    title = f"Gap closed, G, against {live}: mean, 95 %, data sets"
    table = Table(title=title, width=WIDTH, padding=(0, 0))
    table.add_column("method", no_wrap=True)
    for group in GROUPS:
        table.add_column(group, justify="right", no_wrap=True)
    for method in [*_ours(results), "pruning", "l1"]:
        row = []
        for belongs in GROUPS.values():
            own = [result for result in results if belongs(result)]
            gap = mean_over_sets(own, lambda result, m=method: result.gap_closed(m, live=live))
            row.append("–" if not gap.n_sets else "{} {} {}".format(*_gap(gap)[:2], gap.n_sets))
        table.add_row(method, *row)
    return table


def _shares(results: list[Result]) -> Table:
    names = [best_of("live", size) for size in SIZES]
    sizes = [name for name in names if name in results[0].figures]
    table = Table(title="Share of cells with a lower loss than live random networks", width=WIDTH)
    table.add_column("method", no_wrap=True)
    for name in sizes:
        table.add_column(name, justify="right")
    for method in (NO_STEP, PREDICTED, FRESH, SHUFFLED):
        shares = (share_won(results, method, rival=name) for name in sizes)
        table.add_row(method, *(f"{share:.0%}" for share in shares))
    return table


def _retention(results: list[Result]) -> str:
    kept = retention(results, before=NO_STEP, after=PREDICTED)
    return (
        f"Of the balanced accuracy above chance after training, the predicted weights alone have "
        f"{kept.value:.0%} ({kept.low:.0%} to {kept.high:.0%}; {kept.n_sets} sets)."
    )


def _front(fronts: list[Front]) -> str:
    correlation, ours, live = (
        statistics.fmean(getattr(front, name) for front in fronts)
        for name in ("correlation", "hypervolume", "live_hypervolume")
    )
    better = statistics.fmean(front.hypervolume > front.live_hypervolume for front in fronts)
    return (
        f"Front over ten prices: Spearman of price and K* {correlation:.2f}; hypervolume "
        f"{ours:.3f}, of 200 live random candidates {live:.3f}; larger in {better:.0%} of "
        f"{len(fronts)} fronts."
    )
