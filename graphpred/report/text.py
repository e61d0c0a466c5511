"""What all reports share: literal text, numbers, small tables, ASCII where it must be.

Names come from users' tables, so they are never read as rich markup, never break a line and never
widen a column beyond what it is given.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from rich.cells import cell_len
from rich.console import Console, ConsoleOptions, Group, RenderableType, RenderResult
from rich.padding import Padding
from rich.segment import Segment
from rich.table import Table
from rich.text import Text

HEADING = "bold"
FAINT = "#767d88"
WARNING = "bold #c8503c"
NOTE = "#a87a1e"
BAR = "#4a8ac4"
_ASCII = str.maketrans({"…": "~", "·": ".", "−": "-", "–": "-", "█": "#", "▁": "_"})
_ASCII |= {ord(c): " " for c in "▏▎▍▌"} | {ord(c): "#" for c in "▋▊▉"}


class Report:
    """Renderables one under another, in ASCII where the console knows no more.

    Args:
        *parts: From top to bottom.
    """

    def __init__(self, *parts: RenderableType) -> None:
        self.parts = parts

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        group = Group(*self.parts)
        if not wants_ascii(options):
            yield group
            return
        for text, style, control in console.render(group, options):
            yield Segment(text if control else as_ascii(text), style, control)


class Flow:
    """Items one after another; a line breaks only between them.

    Args:
        items: What to show.
        separator: What stands between two items of a line.
    """

    def __init__(self, items: Sequence[Text], *, separator: str = " · ") -> None:
        self.items = items
        self.separator = Text(separator, style=FAINT)

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        line = Text()
        for item in self.items:
            if not line:
                line = item.copy()
            elif line.cell_len + self.separator.cell_len + item.cell_len <= options.max_width:
                line = Text.assemble(line, self.separator, item)
            else:
                yield line
                line = item.copy()
        if line:
            yield line


def wants_ascii(options: ConsoleOptions) -> bool:
    """Whether the console cannot be trusted with more than ASCII."""
    return options.ascii_only or options.legacy_windows


def as_ascii(text: str) -> str:
    """The same number of cells in ASCII.

    >>> as_ascii("naïve…")
    'na?ve~'
    """
    if text.isascii():
        return text
    known = text.translate(_ASCII)
    return "".join(c if c.isascii() else "?" * cell_len(c) for c in known)


def literal(text: object) -> str:
    r"""One line that shows a user's text: what does not print is escaped.

    >>> literal("two\nlines")
    'two\\nlines'
    """
    written = str(text)
    if written.isprintable():
        return written
    return "".join(
        c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in written
    )


def shorten(text: str, width: int) -> str:
    """Cut the middle out of a text that needs more cells than ``width``.

    >>> shorten("mean radius of the nucleus", 11)
    'mean …cleus'
    """
    if cell_len(text) <= width:
        return text
    if width < 2:
        return "…"[:width]
    for kept in range(width - 1, 0, -1):  # one cell a character, or fewer characters
        tail = kept // 2
        cut = text[: kept - tail] + "…" + (text[-tail:] if tail else "")
        if cell_len(cut) <= width:
            return cut
    return "…"


def padded(text: str, width: int) -> str:
    """A text of exactly ``width`` cells."""
    short = shorten(text, width)
    return short + " " * (width - cell_len(short))


def number(value: object) -> str:
    """A number with about three digits, a dash if there is none.

    >>> number(0.123456), number(12345.6), number(None), number(0.00001)
    ('0.123', '12,346', '–', '1e-05')
    """
    if isinstance(value, bool) or not isinstance(value, int | float):
        return "–" if value is None else literal(value)
    if isinstance(value, int) or (abs(value) >= 1000 and math.isfinite(value)):
        return f"{value:,.0f}" if abs(value) < 1e12 else f"{value:.3g}"
    if abs(value) >= 100:
        return f"{value:.4g}"
    return f"{value:.3f}" if abs(value) >= 0.01 or value == 0 else f"{value:.2g}"


def setting(value: object) -> str:
    """A number that somebody chose, without digits that he did not.

    >>> setting(0.1), setting(300), setting(0.000104166), setting(None), setting(True)
    ('0.1', '300', '0.0001042', '–', 'yes')
    """
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:.4g}" if isinstance(value, float) else number(value)


def count(n: int, noun: str) -> str:
    """A number of things.

    >>> count(1, "class"), count(2, "class"), count(0, "edge"), count(1234, "row")
    ('1 class', '2 classes', 'no edge', '1,234 rows')
    """
    if n == 0:
        return f"no {noun}"
    ending = "" if n == 1 else "es" if noun.endswith("s") else "s"
    return f"{n:,} {noun}{ending}"


def more(n: int, noun: str) -> str:
    """What is left of a list.

    >>> more(2, "class")
    '2 more classes'
    """
    return count(n, noun).replace(" ", " more ", 1)


def listed(names: Sequence[object], *, most: int = 8, width: int = 24) -> str:
    """The first names, and how many more there are.

    >>> listed(["a", "b", "c"], most=2)
    'a, b and 1 more'
    """
    shown = ", ".join(shorten(literal(name), width) for name in names[:most])
    left = len(names) - most
    return f"{shown} and {left:,} more" if left > 0 else shown


def heading(text: str) -> RenderableType:
    """A title with an empty line above it."""
    return Padding(Text(text, style=HEADING), (1, 0, 0, 0))


def key_values(values: Mapping[str, RenderableType | None]) -> Table:
    """A name and a value a line; a missing value is left out."""
    table = Table.grid(padding=(0, 2, 0, 0))
    table.add_column(style=FAINT, no_wrap=True, overflow="ellipsis", max_width=24)
    table.add_column(overflow="fold")
    for key, value in values.items():
        if value is not None:
            shown = Text(literal(value)) if isinstance(value, str) else value
            table.add_row(Text(literal(key)), shown)
    return table


def bullets(sentences: Sequence[str], *, style: str, most: int = 8) -> Iterator[RenderableType]:
    """One paragraph a sentence, the same one once; at most ``most`` of them."""
    unique = list(dict.fromkeys(literal(sentence) for sentence in sentences))
    left = len(unique) - most
    if left > 0:
        unique = [*unique[:most], f"{left:,} more of this kind."]
    for sentence in unique:
        table = Table.grid(padding=(0, 1, 0, 0))
        table.add_column(width=1)
        table.add_column(overflow="fold")
        table.add_row(Text("!" if style == WARNING else "·", style=style), Text(sentence, style))
        yield table


def plain(value: Any) -> Any:
    """Plain JSON: containers of names and finite numbers; what is not finite becomes None."""
    if isinstance(value, torch.Tensor | np.ndarray | np.generic):
        value = value.tolist()
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [plain(item) for item in value]
    if value is None or isinstance(value, bool | int | str):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return str(value)
