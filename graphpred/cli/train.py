"""``graphpred train``: the meta-model from pairs, from the synthetic prior, or both."""

from contextlib import ExitStack
from pathlib import Path
from typing import Annotated

import typer

from graphpred.cli.common import (
    EXIT_INTERRUPTED,
    clear_errors,
    console,
    find_own_modules,
    load_model,
    notice,
    print_json,
    progress,
    stop_on_interrupt,
)
from graphpred.meta.run import RunConfig, checkpoint_of, train_meta_model
from graphpred.meta.team import is_first_process
from graphpred.meta.training import Report
from graphpred.report import model_report, model_summary

DEFAULT_MINUTES = 10.0


def train(
    pairs: Annotated[
        list[str] | None, typer.Argument(help="Folders of pairs; none: the synthetic prior alone.")
    ] = None,
    out: Annotated[Path, typer.Option(help="Model file to write.")] = Path("model.safetensors"),
    start: Annotated[
        str | None, typer.Option("--from", help="Meta-model file to go on from, or: packaged.")
    ] = None,
    prior: Annotated[
        bool, typer.Option("--prior", help="Mix synthetic data sets with the pairs.")
    ] = False,
    steps: Annotated[int | None, typer.Option(min=1, help="Optimiser steps.")] = None,
    minutes: Annotated[
        float | None,
        typer.Option(help=f"Time to train, made into steps at the start; {DEFAULT_MINUTES:g}."),
    ] = None,
    encoder: Annotated[
        str,
        typer.Option(
            help="Data set encoder: statistics, row_attention, or your own as module:callable."
        ),
    ] = "statistics",
    seed: Annotated[int, typer.Option(min=0)] = 0,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on from the checkpoint beside the model file.")
    ] = False,
    processes: Annotated[
        int | None,
        typer.Option(
            min=1, help="Processes of this machine that train together; 1, or those of torchrun."
        ),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print a summary as JSON.")] = False,
) -> None:
    """Train the meta-model and write it to a file.

    Several processes share the data sets of every step and take the steps of one, up to rounding.
    On several machines: torchrun … -m graphpred.cli train … on each; all must see the pairs and
    the model file under the same path.
    """
    with clear_errors():
        find_own_modules()
        if steps is None and minutes is None:
            minutes = DEFAULT_MINUTES
        config = RunConfig(
            pairs=tuple(pairs or ()),
            prior=prior,
            start=start,
            steps=steps,
            minutes=minutes,
            encoder=encoder,
            seed=seed,
        )
        last = _train(config, out=out, resume=resume, processes=processes)
        if not is_first_process():
            return
        if last is not None and last.step < last.steps:
            notice(f"stopped at step {last.step}; go on with --resume ({checkpoint_of(out)}).")
            raise typer.Exit(EXIT_INTERRUPTED)
        model = load_model(out, encoder=encoder)
        if as_json:
            print_json(model_summary(model))
        else:
            console().print(model_report(model))


def _train(config: RunConfig, *, out: Path, resume: bool, processes: int | None) -> Report | None:
    """Run the training, in the first process under a progress display; the last report."""
    last = None
    with stop_on_interrupt() as stop, ExitStack() as stack:
        show = stack.enter_context(progress("Training")) if is_first_process() else None
        for report in train_meta_model(
            config, out=out, resume=resume, stop=stop, processes=processes
        ):
            if show is not None:
                if last is None:
                    notice(f"{report.steps} steps, about {report.seconds_left:.0f} s.")
                show(report.step, report.steps, _text(report))
            last = report
    return last


def _text(report: Report) -> str:
    return (
        f"loss {report.loss:.3f}: fit {report.fit:.3f}, density {report.density:.3f}, "
        f"pairs {report.pair:.3f}; {report.examples_per_second:.0f} examples/s"
    )
