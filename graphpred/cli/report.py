"""``graphpred report``: what a pair folder, a meta-model or a network holds."""

from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import RenderableType

from graphpred.cli.common import EXIT_BAD_INPUT, clear_errors, console, error_console, print_json
from graphpred.errors import StoreError
from graphpred.files import load_tensors
from graphpred.meta.model import MetaModel
from graphpred.network import SparseNetwork
from graphpred.pairs.store import PairStore
from graphpred.report import (
    model_report,
    model_summary,
    network_report,
    network_summary,
    pairs_report,
    pairs_summary,
    verify_file,
    write_html,
)


def report(
    path: Annotated[Path, typer.Argument(help="Folder of pairs, model file or network file.")],
    html: Annotated[Path | None, typer.Option(help="HTML page to write as well.")] = None,
    verify: Annotated[
        bool, typer.Option("--verify", help="Read everything through and name every fault.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the report as JSON.")] = False,
) -> None:
    """Show what a file or folder that graphpred wrote holds."""
    with clear_errors():
        if verify:
            _verify(path)
        shown, summary = _read(path)
        if html is not None:
            write_html(shown, html, title=f"graphpred: {path.name}")
        if as_json:
            print_json(summary)
        else:
            console().print(shown)


def _verify(path: Path) -> None:
    faults = verify_file(path)
    for fault in faults:
        error_console().print(fault, markup=False, soft_wrap=True)
    if faults:
        raise typer.Exit(EXIT_BAD_INPUT)
    error_console().print(f"{path}: whole, nothing lost or doubled.", markup=False, soft_wrap=True)


def _read(path: Path) -> tuple[RenderableType, dict[str, Any]]:
    """The report and its JSON, whatever kind of thing it is."""
    if path.is_dir():
        store = PairStore(path)
        return pairs_report(store), pairs_summary(store)
    _, metadata = load_tensors(path, what="a folder of pairs, a meta-model or a network")
    if "graphpred_network" in metadata:
        network = SparseNetwork.load(path)
        return network_report(network), network_summary(network)
    if "graphpred_model" in metadata:
        model = MetaModel.load(path)
        return model_report(model), model_summary(model)
    raise StoreError(f"{path} must be a folder of pairs, a meta-model or a network; it is none.")
