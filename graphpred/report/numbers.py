"""``Numbers``: a table of names and numbers that stays whole in a narrow terminal.

Rich cuts every column of a table that is too wide, numbers too. Here names are cut first, then
bars and gaps shrink, then whole columns go, and a line says which.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

from rich.cells import cell_len
from rich.console import Console, ConsoleOptions, RenderResult
from rich.measure import Measurement
from rich.text import Text

from graphpred.report.text import BAR, FAINT, HEADING, literal, padded

_LEAST_NAME = 8
_MAX_NAME = 32
_LEAST_BAR = 6
_MAX_BAR = 30
_EIGHTHS = " ▏▎▍▌▋▊▉"


@dataclass(frozen=True, kw_only=True)
class Row:
    """A name, its numbers, and a share for its bar; without numbers it is a title."""

    name: str
    cells: Sequence[str] = ()
    share: float | None = None


@dataclass(kw_only=True)
class Numbers:
    """A column of names, columns of numbers, and bars if rows have shares.

    Attributes:
        columns: Names of all columns, that of the names first.
        rows: From top to bottom.
        spare: Columns that go first where there is no room.
    """

    columns: Sequence[str]
    rows: list[Row] = field(default_factory=list)
    spare: Sequence[str] = ()

    def add(self, name: str, *cells: str, share: float | None = None) -> None:
        """Add a row."""
        self.rows.append(Row(name=literal(name), cells=cells, share=share))

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        kept, gap, name = self._layout(options.max_width)
        widths = {k: self._width(k) for k in kept}
        used = name + sum(gap + width for width in widths.values())
        bar = min(options.max_width - used - gap, _MAX_BAR)
        if any(self.columns):
            heads = [f"{self.columns[k]:>{gap + widths[k]}}" for k in kept]
            yield _line(Text(padded(self.columns[0], name) + "".join(heads), style=FAINT))
        for row in self.rows:
            if not row.cells:
                yield _line(Text(padded(row.name, options.max_width), style=HEADING))
                continue
            cells = [f"{row.cells[k - 1]:>{gap + widths[k]}}" for k in kept]
            line = Text(padded(row.name, name) + "".join(cells))
            if row.share is not None and bar >= _LEAST_BAR:
                line.append(" " * gap + _bar(row.share, bar), style=BAR)
            yield _line(line)
        left = [column for k, column in enumerate(self.columns) if k and k not in kept]
        if left:
            yield Text(f"no room for: {', '.join(left)}", style=FAINT)

    def __rich_measure__(self, console: Console, options: ConsoleOptions) -> Measurement:
        return Measurement(min(20, options.max_width), options.max_width)

    def _layout(self, width: int) -> tuple[list[int], int, int]:
        """The columns of numbers that have room, the gap before each, cells for a name."""
        kept = list(range(1, len(self.columns)))
        goes = [self.columns.index(name) for name in self.spare]
        goes += [k for k in reversed(kept) if k not in goes]
        wanted = min(self._width(0), _MAX_NAME)
        least = min(wanted, _LEAST_NAME)
        gap = 2
        while kept and least + self._taken(kept, gap) > width:
            if gap == 2:
                gap = 1
            else:
                kept.remove(goes.pop(0))
        room = width - self._taken(kept, gap)
        return kept, gap, max(min(wanted, room), 1)

    def _taken(self, kept: Sequence[int], gap: int) -> int:
        return sum(gap + self._width(k) for k in kept)

    def _width(self, k: int) -> int:
        rows = [row for row in self.rows if row.cells]
        texts = [row.name if k == 0 else row.cells[k - 1] for row in rows]
        return max(cell_len(text) for text in [self.columns[k], *texts])


def _bar(share: float, width: int) -> str:
    eighths = round(min(max(share, 0.0), 1.0) * width * 8)
    return "█" * (eighths // 8) + _EIGHTHS[eighths % 8]


def _line(text: Text) -> Text:
    text.rstrip()
    text.no_wrap, text.overflow = True, "crop"
    return text
