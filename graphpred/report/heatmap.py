"""``HeatMap``: a matrix of edges in block characters, as wide as the terminal allows.

A cell is two characters: a shade for the strength, and beside it the sign of the weight if the
network has that edge. So a map can be read without colour;
colour only tells the same once more. Where only ASCII is possible, a digit stands for the shade.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from rich.cells import cell_len
from rich.console import Console, ConsoleOptions, RenderResult
from rich.measure import Measurement
from rich.text import Text

from graphpred.report.text import FAINT, Flow, count, literal, more, number, padded, wants_ascii

SHADES = ((0.75, "█"), (0.5, "▓"), (0.25, "▒"), (0.05, "░"))
"""Least strength of every shade; what is weaker is a dot."""
POSITIVE = "#3f87c9"
NEGATIVE = "#d07a28"
ABSENT = "#8a8f98"
_MEANINGS = {"weight": "share of the largest weight"}
_MAX_LABEL = 36
_LEAST_LABEL = 8
_CELL = 2
_MAX_COLUMN = 12
_LEAST_COLUMN = 5  # of a name that is cut


@dataclass(frozen=True, eq=False, kw_only=True)
class HeatMap:
    """How strong every edge between two layers is.

    Attributes:
        values: Strength in [0, 1]. Float, shape ``(r, c)``.
        signs: Sign of the weight of every edge that the network has, 0 if it has not.
            Int, shape ``(r, c)``.
        row_names: r names.
        column_names: c names.
        nouns: What a row and a column are, in the singular.
        measure: What strength means.
        scale: Strength 1 in units of the measure.
        max_rows: Rows to show at most, the strongest ones, in their own order. Of more than
            half as many, those that have no edge and only dots are left out.
    """

    values: NDArray[np.float64]
    signs: NDArray[np.int8]
    row_names: Sequence[str]
    column_names: Sequence[str]
    nouns: tuple[str, str]
    measure: str = "probability"
    scale: float = 1.0
    max_rows: int = 24

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        ascii_only = wants_ascii(options)
        rows = self._rows()
        names = [literal(self.row_names[r]) for r in rows]
        columns, label, column = self._layout(names, width=options.max_width)
        heads = [padded(literal(self.column_names[c]), column) for c in columns]
        yield _line(Text(" " * (label + 1) + " ".join(heads).rstrip(), style=FAINT))
        for r, name in zip(rows, names, strict=True):
            line = Text(padded(name, label) + " ")
            for c in columns:
                line.append_text(_cell(self.values[r, c], self.signs[r, c], ascii_only=ascii_only))
                line.append(" " * (column + 1 - _CELL))
            line.rstrip()
            yield _line(line)
        yield from self._rest(rows, axis=0)
        yield from self._rest(columns, axis=1)

    def __rich_measure__(self, console: Console, options: ConsoleOptions) -> Measurement:
        return Measurement(min(20, options.max_width), options.max_width)

    def _rows(self) -> list[int]:
        """The rows to show."""
        rows = _strongest(self.values, self.signs, most=self.max_rows)
        if len(self.values) <= self.max_rows // 2:
            return rows
        telling = (self.signs != 0).any(axis=1) | (self.values >= SHADES[-1][0]).any(axis=1)
        return [r for r in rows if telling[r]] or rows

    def _layout(self, names: Sequence[str], *, width: int) -> tuple[list[int], int, int]:
        """The columns to show; cells for a row's name and for a column."""
        longest = max((cell_len(name) for name in names), default=0)
        n_columns = len(self.column_names)
        wanted = max((cell_len(literal(name)) for name in self.column_names), default=0)
        column = min(max(wanted, _CELL), _MAX_COLUMN)
        spare = width - n_columns * (column + 1)
        label = min(longest, _MAX_LABEL, max(_LEAST_LABEL, width * 2 // 5, spare))
        room = max(width - label, 1)  # every column with the space before it
        if n_columns * (column + 1) > room:
            column = max(min(column, _LEAST_COLUMN), room // n_columns - 1)
        n_shown = max(room // (column + 1), 1)
        return _strongest(self.values.T, self.signs.T, most=n_shown), label, column

    def _rest(self, shown: Sequence[int], *, axis: int) -> RenderResult:
        """A line on the rows or columns that are left out."""
        left = np.setdiff1d(np.arange(self.values.shape[axis]), shown)
        if not len(left):
            return
        strongest = float(self.values.take(left, axis=axis).max(initial=0.0)) * self.scale
        n_edges = int(np.count_nonzero(self.signs.take(left, axis=axis)))
        many = more(len(left), self.nouns[axis])
        yield Text(
            f"{many}, strongest {self.measure} {number(strongest)}, {count(n_edges, 'edge')}",
            style=FAINT,
        )


class Legend:
    """How to read a heat map.

    Args:
        measures: What strength means in the maps above.
    """

    def __init__(self, measures: Sequence[str]) -> None:
        self.measures = measures

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        ascii_only = wants_ascii(options)
        what = " or ".join(dict.fromkeys(_MEANINGS.get(name, name) for name in self.measures))
        if ascii_only:
            items = [Text(f"{what} in tenths,", FAINT), Text(". under 0.05", FAINT)]
        else:
            items = [Text(f"{what} from", FAINT)]
            items += [Text(f"{shade} {least:g}", FAINT) for least, shade in reversed(SHADES)]
        yield Flow(items, separator="  ")
        minus = "-" if ascii_only else "−"
        signs = Text.assemble(("+", POSITIVE), " ", (minus, NEGATIVE))
        yield Flow([signs, Text("an edge, by the sign of its weight", FAINT)], separator="  ")


def _strongest(values: NDArray[np.float64], signs: NDArray[np.int8], *, most: int) -> list[int]:
    """The rows with edges first, then those of the highest values, in their own order."""
    peak = values.max(axis=1, initial=0.0)
    has_edge = (signs != 0).any(axis=1)
    order = np.lexsort((-peak, ~has_edge))  # by the last key first
    chosen: list[int] = np.sort(order[:most]).tolist()
    return chosen


def _cell(value: float, sign: int, *, ascii_only: bool) -> Text:
    style = POSITIVE if sign > 0 else NEGATIVE if sign < 0 else ABSENT
    if ascii_only:
        shade = str(min(int(value * 10 + 1e-6), 9)) if value >= SHADES[-1][0] else "."
        mark = "+" if sign > 0 else "-" if sign < 0 else " "
        return Text(shade + mark, style=style)
    shade = next((glyph for least, glyph in SHADES if value >= least), "·")
    if sign:
        return Text(shade + ("+" if sign > 0 else "−"), style=f"bold {style}")
    return Text(shade + " ", style=style)


def _line(text: Text) -> Text:
    text.no_wrap, text.overflow = True, "crop"
    return text
