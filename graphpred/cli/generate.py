"""``graphpred generate``: pairs from data sets."""

import time
from collections.abc import Iterator
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import joblib
import typer

from graphpred.cli.common import clear_errors, console, notice, print_json, progress
from graphpred.objective import LOSSES
from graphpred.pairs.config import DEFAULT_DENSITIES, GenerateConfig
from graphpred.pairs.engines import ENGINES
from graphpred.pairs.generate import Progress, generate_pairs
from graphpred.pairs.store import PairStore
from graphpred.report import pairs_report, pairs_summary
from graphpred.searchers import SEARCHERS

SearcherName = StrEnum("SearcherName", {name: name for name in SEARCHERS})  # type: ignore[misc]
LossName = StrEnum("LossName", {name: name for name in LOSSES})  # type: ignore[misc]
EngineName = StrEnum("EngineName", {name: name for name in ENGINES})  # type: ignore[misc]

CpuSeconds = Annotated[
    float | None,
    typer.Option(
        help="Budget of a search in CPU seconds too, whichever is spent first. "
        "What is found then depends on the machine."
    ),
]
Address = Annotated[
    str | None,
    typer.Option(
        help="Running Dask scheduler or Ray cluster to use instead of one of this machine; "
        "its workers must see the folder."
    ),
]


def generate(
    data: Annotated[list[str], typer.Argument(help="Tables, or names of scikit-learn's sets.")],
    out: Annotated[Path, typer.Option(help="Folder of pair shards; created or resumed.")],
    target: Annotated[str | None, typer.Option(help="Target column; the last by default.")] = None,
    pairs: Annotated[
        int, typer.Option(min=1, help="Subsamples searched; each gives a pair per price.")
    ] = 100,
    rows: Annotated[int, typer.Option(min=1, help="Rows of a subsample.")] = 300,
    evaluations: Annotated[
        int, typer.Option(min=1, help="Budget of a search, in networks trained for 100 steps.")
    ] = 100,
    cpu_seconds: CpuSeconds = None,
    density: Annotated[
        list[float] | None, typer.Option(help="Density to draw at; may be repeated.")
    ] = None,
    penalty: Annotated[
        list[float] | None,
        typer.Option(help="C, price of an edge; may be repeated. Ten prices by default."),
    ] = None,
    loss: Annotated[LossName | None, typer.Option(help="L, to be minimised.")] = None,
    searcher: Annotated[SearcherName, typer.Option()] = SearcherName("random"),
    seed: Annotated[int, typer.Option(min=0)] = 0,
    jobs: Annotated[
        int | None, typer.Option(min=1, help="Workers of one thread; one a core by default.")
    ] = None,
    engine: Annotated[
        EngineName, typer.Option(help="Who runs the workers; never changes what is stored.")
    ] = EngineName("joblib"),
    address: Address = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print a summary as JSON.")] = False,
) -> None:
    """Search the best architectures of random subsamples and store the pairs."""
    with clear_errors():
        config = GenerateConfig(
            n_searches=pairs,
            rows=rows,
            evaluations=evaluations,
            cpu_seconds=cpu_seconds,
            densities=tuple(density or DEFAULT_DENSITIES),
            penalties=tuple(penalty or ()),
            loss=loss.value if loss else None,
            searcher=searcher.value,
            seed=seed,
        )
        states = generate_pairs(
            data,
            out=out,
            config=config,
            target=target,
            jobs=jobs or joblib.cpu_count(),
            engine=engine.value,
            address=address,
        )
        _follow(states)
        store = PairStore(out)
        if as_json:
            print_json(pairs_summary(store))
        else:
            console().print(pairs_report(store))


def _follow(states: Iterator[Progress]) -> None:
    """Run the searches under a progress display."""
    n_restarts = 0
    with progress("Pairs") as show:
        started = None
        for state in states:
            started = started or time.monotonic()
            if state.n_restarts > n_restarts:
                n_restarts = state.n_restarts
                notice("a worker died; new ones make what it had not stored.")
            each = state.pairs_per_search
            text = _text(state, time.monotonic() - started)
            show(state.n_done * each, state.n_searches * each, text)


def _text(state: Progress, seconds: float) -> str:
    if not state.n_pairs:
        return "nothing new yet"
    pace = state.n_pairs / max(seconds, 1e-9)
    return f"{pace:.1f} pairs/s, best {state.best:.3f}, median {state.median:.3f}"
