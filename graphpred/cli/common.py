"""What all commands share: consoles, errors, progress and JSON."""

import json
import math
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import typer
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from graphpred.errors import GraphPredError
from graphpred.meta.encoders import custom_encoder
from graphpred.meta.model import MetaModel
from graphpred.report.text import plain

EXIT_BAD_INPUT = 2
EXIT_INTERRUPTED = 130
_SECONDS_PER_LINE = 60.0


def console() -> Console:
    """Standard output, for results."""
    return Console(highlight=False)


def error_console() -> Console:
    """Standard error, for progress, notices and errors."""
    return Console(stderr=True, highlight=False)


def print_json(data: Any) -> None:
    """Write JSON alone to standard output; numbers that JSON lacks become null."""
    typer.echo(json.dumps(plain(data), indent=2, ensure_ascii=False))


@contextmanager
def clear_errors() -> Iterator[None]:
    """Turn a ``GraphPredError`` into one line on standard error and exit code 2."""
    try:
        yield
    except GraphPredError as error:
        line = " ".join(str(error).split())
        error_console().print(f"[bold red]error:[/] {escape(line)}", soft_wrap=True)
        raise typer.Exit(EXIT_BAD_INPUT) from error
    except KeyboardInterrupt as interrupt:
        error_console().print("stopped; files that were finished are whole.")
        raise typer.Exit(EXIT_INTERRUPTED) from interrupt


def find_own_modules() -> None:
    """Let ``module:callable`` name modules in the current folder, as ``python -m`` would."""
    if "" not in sys.path:
        sys.path.insert(0, "")


def load_model(path: Path | None, *, encoder: str) -> MetaModel:
    """A meta-model and, if it is not a built-in one, its encoder."""
    find_own_modules()
    return MetaModel.load(path, encoder=custom_encoder(encoder))


def notice(text: str) -> None:
    """A remark on standard error."""
    error_console().print(escape(text), style="dim", soft_wrap=True)


@contextmanager
def progress(title: str) -> Iterator[Callable[[int, int, str], None]]:
    """Show how far something is: a bar in a terminal, else a line a minute.

    Yields:
        ``show(done, total, text)``.
    """
    shown = error_console()
    if not shown.is_terminal:
        yield _line_writer(title, shown)
        return
    bar = Progress(
        TextColumn("{task.description}"),
        BarColumn(bar_width=20),
        MofNCompleteColumn(),
        TimeRemainingColumn(compact=True),
        TextColumn("{task.fields[text]}"),
        console=shown,
        transient=True,
    )
    with bar:
        task = bar.add_task(title, total=None, text="")

        def show(done: int, total: int, text: str) -> None:
            bar.update(task, completed=done, total=total, text=escape(text))

        yield show


def _line_writer(title: str, shown: Console) -> Callable[[int, int, str], None]:
    last = -math.inf

    def show(done: int, total: int, text: str) -> None:
        nonlocal last
        now = time.monotonic()
        if now - last >= _SECONDS_PER_LINE or done >= total:
            last = now
            shown.print(escape(f"{title}: {done} of {total}, {text}"), soft_wrap=True)

    return show


@contextmanager
def stop_on_interrupt() -> Iterator[Callable[[], bool]]:
    """Let the first Ctrl-C end a loop at its next step; the second one interrupts at once.

    Yields:
        ``stop()``, true after the first Ctrl-C.
    """
    asked = False

    def ask(signum: int, frame: object) -> None:
        nonlocal asked
        if asked:
            raise KeyboardInterrupt
        asked = True

    before = signal.signal(signal.SIGINT, ask)
    try:
        yield lambda: asked
    finally:
        signal.signal(signal.SIGINT, before)
