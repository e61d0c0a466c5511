"""How far a run is: a bar in a terminal, a line a minute elsewhere, with the time that is left."""

import io
import time

import pytest
from rich.console import Console

from graphpred.cli import common
from graphpred.cli.generate import _text
from graphpred.pairs.generate import Progress

STATE = Progress(
    n_done=123_456,
    n_searches=1_000_000,
    n_pairs=1_000_000,
    pairs_per_search=10,
    best=0.1234,
    median=123.4567,
)


@pytest.fixture
def shown(monkeypatch):
    """Makes a console of a width, in a terminal or not, and gives what was written to it."""

    def make(*, width, terminal):
        written = io.StringIO()
        console = Console(file=written, width=width, force_terminal=terminal, color_system=None)
        monkeypatch.setattr(common, "error_console", lambda: console)
        return written

    return make


def test_text_has_pace_best_and_median():
    assert _text(STATE, 1000.0) == "1000.0 pairs/s, best 0.123, median 123.457"
    assert _text(Progress(**vars(STATE) | {"n_pairs": 0}), 1.0) == "nothing new yet"


def test_a_line_at_the_start_and_the_end_and_one_a_minute_in_between(shown, monkeypatch):
    monkeypatch.setattr(common, "_SECONDS_PER_LINE", 0.2)
    written = shown(width=80, terminal=False)

    with common.progress("Pairs") as show:
        show(100, 400, "slow")
        time.sleep(0.05)
        show(200, 400, "quick")
        show(201, 400, "quick")
        time.sleep(0.25)  # nothing happens meanwhile
        show(400, 400, "over")

    first, second, last = written.getvalue().splitlines()
    assert first == "Pairs: 100 of 400, slow"
    assert second.startswith("Pairs: 201 of 400, quick, 0:00:0")
    assert second.endswith(" left")
    assert last == "Pairs: 400 of 400, over"


@pytest.mark.parametrize("width", [80, 120])
def test_bar_fits_the_terminal_with_all_its_figures(shown, width):
    written = shown(width=width, terminal=True)

    with common.progress("Pairs") as show:
        show(0, 100_000, "nothing new yet")
        time.sleep(0.01)
        show(12_340, 100_000, "1000.0 pairs/s, best 0.123, median 0.457")
        time.sleep(0.15)

    frames = written.getvalue().replace("\r", "\n").splitlines()
    full = [line for line in frames if "12340/100000" in line]
    assert full
    assert all("best 0.123, median 0.457" in line for line in full)
    assert all("0:00:0" in line for line in full)


def test_notices_stand_above_the_bar(shown):
    written = shown(width=80, terminal=True)

    with common.progress("Pairs") as show:
        show(1, 2, "half")
        common.notice("a worker died; new ones make what it had not stored.")
        assert common.error_console().file is written
        time.sleep(0.15)

    lines = [line.strip() for line in written.getvalue().replace("\r", "\n").splitlines()]
    assert any(
        line.endswith("a worker died; new ones make what it had not stored.") and "half" not in line
        for line in lines
    )


def test_time_left_counts_from_where_the_run_began(monkeypatch):
    now = 0.0
    monkeypatch.setattr(common.time, "monotonic", lambda: now)
    end = common._End()

    end.update(500, 1000)  # an earlier run's
    assert end.seconds is None
    assert end.text() == ""
    now = 10.0
    end.update(600, 1000)
    assert end.seconds == 40.0
    now = 12.0
    assert end.text() == ", 0:00:38 left"
    now = 3600.0
    assert end.text() == ", 0:00:00 left"
    end.update(1000, 1000)
    assert end.text() == ""
