"""``graphpred demo``: the whole story on real data, in about a minute."""

import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import joblib
import typer
from rich.table import Table
from rich.text import Text

from graphpred.cli.common import clear_errors, console, error_console, print_json, progress
from graphpred.experiments.comparison import Row, compare_at, predicted_rows
from graphpred.files import make_folder
from graphpred.fitting import FitConfig, fit_predicted
from graphpred.meta.model import MetaModel
from graphpred.meta.run import RunConfig, train_meta_model
from graphpred.network import SparseNetwork
from graphpred.pairs.generate import GenerateConfig, generate_pairs
from graphpred.report import network_report, network_summary
from graphpred.task import Task

DATA = "breast_cancer"
SEARCHES = 24
DENSITY = 0.1
STEPS = 100
TRAIN_MINUTES = 0.4
OWN = "trained on the pairs"


def demo(
    seed: Annotated[int, typer.Option(min=0)] = 0,
    out: Annotated[
        Path | None, typer.Option(help="Folder to keep pairs, model and network in.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the figures as JSON.")] = False,
) -> None:
    """Predict a network for breast cancer data, train a meta-model on its pairs, compare both."""
    with clear_errors(), tempfile.TemporaryDirectory() as temporary:
        folder = out or Path(temporary)
        make_folder(folder)
        pairs, model_file = folder / "pairs", folder / "model.safetensors"
        _say(1, f"Predict a network for {DATA} in one pass, and train it.")
        task, model = Task.from_source(DATA, seed=seed), MetaModel.load()
        config = FitConfig(density=DENSITY, steps=STEPS, seed=seed)
        network = fit_predicted(task, model, config=config).network
        network.save(folder / "network.safetensors")
        if not as_json:
            console().print(network_report(network))
        _say(2, f"Search sparse networks on {SEARCHES} subsamples (random live search).")
        _generate(pairs, seed=seed)
        _say(3, f"Train a meta-model on these pairs, for {60 * TRAIN_MINUTES:.0f} seconds.")
        _train(pairs, out=model_file, seed=seed)
        _say(4, "Compare on the test part, which nothing above has seen.")
        rows = _compared(task, model, MetaModel.load(model_file), network=network, seed=seed)
        if as_json:
            print_json({"network": network_summary(network), "comparison": _plain(rows)})
        else:
            console().print(comparison_table(rows))
            console().print(_verdict(rows), soft_wrap=True)


def _say(number: int, text: str) -> None:
    error_console().print(f"[bold]{number} of 4[/] {text}", soft_wrap=True)


def _generate(pairs: Path, *, seed: int) -> None:
    config = GenerateConfig(n_searches=SEARCHES, evaluations=100, searcher="random_live", seed=seed)
    with progress("Searching") as show:
        for state in generate_pairs([DATA], out=pairs, config=config, jobs=joblib.cpu_count()):
            show(state.n_done, state.n_searches, f"{state.n_pairs} pairs")


def _train(pairs: Path, *, out: Path, seed: int) -> None:
    config = RunConfig(pairs=(str(pairs),), minutes=TRAIN_MINUTES, seed=seed)
    with progress("Training") as show:
        for report in train_meta_model(config, out=out):
            text = f"loss {report.loss:.3f}, density {report.density:.2f}"
            show(report.step, report.steps, text)


def _compared(
    task: Task, model: MetaModel, own: MetaModel, *, network: SparseNetwork, seed: int
) -> list[Row]:
    """The packaged model, the one trained on pairs, and rivals, at the network's edges."""
    n_edges = network.architecture.n_live_edges
    rows = compare_at(task, model, n_edges=n_edges, steps=STEPS, seed=seed)
    others = predicted_rows(task, own, n_edges=n_edges, steps=STEPS, seed=seed)
    trained = [replace(row, method=f"{row.method} ({OWN})") for row in others]
    return [*rows[:3], *trained, *rows[3:]]


def _plain(rows: list[Row]) -> list[dict[str, Any]]:
    return [vars(row) for row in rows]


def comparison_table(rows: list[Row]) -> Table:
    """A line a method."""
    table = Table(title="Test error at the same number of live edges", title_justify="left")
    table.add_column("method")
    table.add_column("test error", justify="right")
    table.add_column("edges", justify="right")
    table.add_column("networks trained", justify="right")
    for row in rows:
        style = "bold" if row.method.startswith("predicted") else ""
        cells = (row.method, f"{row.test_loss:.3f}", str(row.n_edges), str(row.networks))
        table.add_row(*(Text(cell, style=style) for cell in cells))
    return table


def _verdict(rows: list[Row]) -> str:
    """What the table says, wins and losses alike, to the digits that it shows."""
    losses = {row.method: round(row.test_loss, 3) for row in rows}
    ours = losses["predicted"]
    parts = []
    for method in ("live random, best of 1", "live random, best of 100"):
        theirs = losses[method]
        word = "beats" if ours < theirs else "ties with" if ours == theirs else "loses to"
        parts.append(f"{word} {method} ({theirs:.3f})")
    return f"The predicted network ({ours:.3f}) {' and '.join(parts)}."
