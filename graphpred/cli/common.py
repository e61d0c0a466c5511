"""What all commands share: consoles, errors, progress and JSON."""

import json
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import typer
from rich.console import Console
from rich.markup import escape
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    Task,
    TextColumn,
)
from rich.table import Column
from rich.text import Text

from graphpred.errors import GraphPredError
from graphpred.meta.encoders import custom_encoder
from graphpred.meta.model import MetaModel
from graphpred.report.text import plain

EXIT_BAD_INPUT = 2
EXIT_INTERRUPTED = 130
_SECONDS_PER_LINE = 60.0
_live: list[Console] = []  # where a bar is now: what is printed elsewhere would break its line


def console() -> Console:
    """Standard output, for results."""
    return Console(highlight=False)


def error_console() -> Console:
    """Standard error, for progress, notices and errors."""
    return _live[-1] if _live else Console(stderr=True, highlight=False)


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
    """Show how far something is and when it will end: a bar in a terminal, else a line a minute.

    Yields:
        ``show(done, total, text)``.
    """
    shown = error_console()
    with _bar(title, shown) if shown.is_terminal else _lines(title, shown) as show:
        yield show


@contextmanager
def _bar(title: str, shown: Console) -> Iterator[Callable[[int, int, str], None]]:
    columns = (
        TextColumn("{task.description}"),
        BarColumn(bar_width=max(4, min(20, shown.width - 70))),
        MofNCompleteColumn(),
        _TimeLeft(),
        TextColumn("{task.fields[text]}", table_column=Column(no_wrap=True, overflow="ellipsis")),
    )
    end = _End()
    with Progress(*columns, console=shown, transient=True) as bar:
        task = bar.add_task(title, total=None, text="", end=end)
        _live.append(shown)

        def show(done: int, total: int, text: str) -> None:
            end.update(done, total)
            bar.update(task, completed=done, total=total, text=escape(text))

        try:
            yield show
        finally:
            _live.remove(shown)


@contextmanager
def _lines(title: str, shown: Console) -> Iterator[Callable[[int, int, str], None]]:
    """A line at the start, one a minute even if nothing happens, and one at the end."""
    end, over = _End(), threading.Event()
    latest: list[str] = []

    def write() -> None:
        if latest:
            shown.print(escape(f"{latest[-1]}{end.text()}"), soft_wrap=True)

    def write_each_minute() -> None:
        while not over.wait(_SECONDS_PER_LINE):
            write()

    def show(done: int, total: int, text: str) -> None:
        first = not latest
        end.update(done, total)
        latest[:] = [f"{title}: {done} of {total}, {text}"]
        if first or done >= total:
            write()

    clock = threading.Thread(target=write_each_minute, daemon=True)
    clock.start()
    try:
        yield show
    finally:
        over.set()
        clock.join()


class _End:
    """When something will be over, at the pace it has had since it was first looked at."""

    def __init__(self) -> None:
        self._first: tuple[int, float] | None = None
        self._at: float | None = None

    def update(self, done: int, total: int) -> None:
        """Look at it again."""
        now = time.monotonic()
        if self._first is None:
            self._first = done, now
        before, started = self._first
        if before < done < total:
            self._at = now + (total - done) * (now - started) / (done - before)
        else:
            self._at = None

    @property
    def seconds(self) -> float | None:
        """Time left; None while there is no pace, and at the end."""
        return None if self._at is None else max(0.0, self._at - time.monotonic())

    def text(self) -> str:
        """What to add to a line."""
        seconds = self.seconds
        return "" if seconds is None else f", {_clock(seconds)} left"


def _clock(seconds: float) -> str:
    return str(timedelta(seconds=round(seconds)))


class _TimeLeft(ProgressColumn):
    """Time left of a task with a field ``end``."""

    def render(self, task: Task) -> Text:
        seconds = task.fields["end"].seconds
        return Text("-:--:--" if seconds is None else _clock(seconds), style="progress.remaining")


@contextmanager
def stop_on_interrupt() -> Iterator[Callable[[], bool]]:
    """Let the first Ctrl-C end a loop at its next step; the second one interrupts at once.

    A request to terminate, as ``torchrun`` sends when it has lost a process, counts as one.

    Yields:
        ``stop()``, true after the first Ctrl-C.
    """
    asked = False

    def ask(signum: int, frame: object) -> None:
        nonlocal asked
        if asked:
            raise KeyboardInterrupt
        asked = True

    before = {number: signal.signal(number, ask) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield lambda: asked
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
