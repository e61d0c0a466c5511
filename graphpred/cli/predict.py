"""``graphpred predict``: a sparse network for a data set, and its report."""

from pathlib import Path
from typing import Annotated

import typer

from graphpred.cli.common import clear_errors, console, load_model, notice, print_json, progress
from graphpred.errors import InputError
from graphpred.fitting import FitConfig, fit_predicted
from graphpred.meta.moments import Moments
from graphpred.report import network_report, network_summary
from graphpred.streaming import STREAM_VALUES, is_large, stream_task
from graphpred.task import Task


def predict(
    data: Annotated[str, typer.Argument(help="A table, or the name of a scikit-learn set.")],
    target: Annotated[str | None, typer.Option(help="Target column; the last by default.")] = None,
    model: Annotated[
        Path | None, typer.Option(help="Meta-model file; the packaged one by default.")
    ] = None,
    density: Annotated[
        float | None, typer.Option(help="Largest share of the possible edges, in (0, 1].")
    ] = None,
    penalty: Annotated[
        float | None, typer.Option(help="C, price of an edge, instead of a density.")
    ] = None,
    hidden: Annotated[
        str | None,
        typer.Option(
            help="Hidden neurons, as many as features by default; 13,8 for two layers of 13 and 8."
        ),
    ] = None,
    steps: Annotated[int, typer.Option(min=0, help="Training steps; 0: none.")] = 300,
    candidates: Annotated[
        int, typer.Option(min=1, help="Structures drawn; the best on validation rows is kept.")
    ] = 1,
    seed: Annotated[int, typer.Option(min=0)] = 0,
    out: Annotated[Path | None, typer.Option(help="Network file to write.")] = None,
    encoder: Annotated[
        str, typer.Option(help="The model's encoder, if it is your own: module:callable.")
    ] = "statistics",
    stream_above: Annotated[
        int, typer.Option(min=0, help="Files with more values, rows x columns, are streamed.")
    ] = STREAM_VALUES,
    as_json: Annotated[bool, typer.Option("--json", help="Print the report as JSON.")] = False,
) -> None:
    """Predict structure and weights for a data set, train them, and show the network."""
    with clear_errors():
        meta_model = load_model(model, encoder=encoder)
        is_streamed = is_large(data, limit=stream_above)
        config = FitConfig(
            density=density,
            penalty=penalty,
            n_hidden=_hidden(hidden),
            steps=steps,
            candidates=candidates,
            train_on="train" if is_streamed else "fit",
            seed=seed,
        )
        task, moments = _read(data, target=target, seed=seed, is_streamed=is_streamed)
        network = fit_predicted(task, meta_model, config=config, moments=moments).network
        if out is not None:
            network.save(out)
        if as_json:
            print_json(network_summary(network))
        else:
            console().print(network_report(network))
            if out is not None:
                notice(f"written to {out}")


def _hidden(text: str | None) -> tuple[int, ...] | None:
    """Widths of hidden layers that are given as text."""
    try:
        return None if text is None else tuple(int(part) for part in text.split(","))
    except ValueError as error:
        raise InputError(
            f"--hidden must be whole numbers with commas between them, as in 13,8; got {text!r}."
        ) from error


def _read(
    data: str, *, target: str | None, seed: int, is_streamed: bool
) -> tuple[Task, Moments | None]:
    """The data set; if its file is large, a sample of its rows and sums over those for training."""
    if not is_streamed:
        return Task.from_source(data, target=target, seed=seed), None
    with progress("Reading in batches") as show:
        streamed = stream_task(
            data,
            target=target,
            seed=seed,
            progress=lambda done, total: show(done, total, "rows, in two passes"),
        )
    notice(streamed.task.notices[0])
    return streamed.task, streamed.moments
