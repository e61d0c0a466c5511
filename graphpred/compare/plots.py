"""Line plots as SVG text that needs nothing else."""

import html
import math
from collections.abc import Sequence
from dataclasses import dataclass

WIDTH, HEIGHT = 680, 400
_LEFT, _RIGHT, _TOP, _BOTTOM = 58, 170, 28, 46
_INK, _FAINT = "#24292f", "#d0d7de"
_COLOURS = (
    "#b33535", "#2f69aa", "#287846", "#96690f", "#7d468c", "#147882", "#c2570c", "#57606a",
    "#9d174d", "#4d7c0f",
)  # fmt: skip
_DASHES = ("", "6 3", "2 2")
_N_TICKS = 5


@dataclass(frozen=True, kw_only=True)
class Line:
    """A curve with a band around it.

    Attributes:
        name: In the legend.
        x: Positive, ascending.
        y: As many.
        low: Lower end of the band.
        high: Upper end.
        is_emphasised: Drawn thick, with its band.
    """

    name: str
    x: Sequence[float]
    y: Sequence[float]
    low: Sequence[float]
    high: Sequence[float]
    is_emphasised: bool = False


def line_plot(lines: Sequence[Line], *, title: str, x_label: str, y_label: str) -> str:
    """An SVG element: x on a log scale, y from 0."""
    x_range = min(x for line in lines for x in line.x), max(x for line in lines for x in line.x)
    top = _round_up(max(max(line.y) for line in lines) or 1.0)
    axes = _Axes(low=x_range[0], high=max(x_range[1], x_range[0] * 1.01), top=top)
    parts = [*_frame(axes, title=title, x_label=x_label, y_label=y_label)]
    ordered = sorted(range(len(lines)), key=lambda i: lines[i].is_emphasised)
    parts += [part for i in ordered for part in _curve(lines[i], axes, style=_style(i))]
    parts += [part for i, line in enumerate(lines) for part in _legend(line, i)]
    body = "\n".join(parts)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" '
        f'width="{WIDTH}" role="img" font-family="sans-serif" font-size="12" fill="{_INK}">\n'
        f"{body}\n</svg>"
    )


def _round_up(value: float) -> float:
    """The least of 1, 1.5, 2, 2.5, 3, 4, 5, 8 and 10 times a power of ten that is not below."""
    power = 10.0 ** math.floor(math.log10(value))
    return power * next(m for m in (1, 1.5, 2, 2.5, 3, 4, 5, 8, 10) if m * power >= value - 1e-12)


@dataclass(frozen=True, kw_only=True)
class _Axes:
    low: float
    high: float
    top: float

    def x(self, value: float) -> float:
        share = math.log(max(value, self.low) / self.low) / math.log(self.high / self.low)
        return _LEFT + share * (WIDTH - _LEFT - _RIGHT)

    def y(self, value: float) -> float:
        share = min(max(value, 0.0), self.top) / self.top
        return HEIGHT - _BOTTOM - share * (HEIGHT - _BOTTOM - _TOP)


def _style(i: int) -> tuple[str, str]:
    return _COLOURS[i % len(_COLOURS)], _DASHES[i // len(_COLOURS) % len(_DASHES)]


def _frame(axes: _Axes, *, title: str, x_label: str, y_label: str) -> list[str]:
    bottom, right = HEIGHT - _BOTTOM, WIDTH - _RIGHT
    parts = [f'<text x="{_LEFT}" y="18" font-weight="bold">{html.escape(title)}</text>']
    for i in range(_N_TICKS + 1):
        value = axes.top * i / _N_TICKS
        y = axes.y(value)
        parts.append(f'<path d="M{_LEFT} {y:.1f}H{right}" stroke="{_FAINT}" />')
        parts.append(f'<text x="{_LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">{value:.2g}</text>')
    first, last = math.floor(math.log10(axes.low)), math.ceil(math.log10(axes.high))
    for power in range(first, last + 1):
        value = 10.0**power
        if axes.low <= value <= axes.high:
            x = axes.x(value)
            parts.append(f'<path d="M{x:.1f} {_TOP}V{bottom}" stroke="{_FAINT}" />')
            label = f"{value:g}"
            parts.append(f'<text x="{x:.1f}" y="{bottom + 16}" text-anchor="middle">{label}</text>')
    middle = (_LEFT + right) / 2
    parts.append(f'<text x="{middle}" y="{HEIGHT - 8}" text-anchor="middle">'
                 f"{html.escape(x_label)}</text>")  # fmt: skip
    parts.append(f'<text transform="translate(14 {(_TOP + bottom) / 2}) rotate(-90)" '
                 f'text-anchor="middle">{html.escape(y_label)}</text>')  # fmt: skip
    return parts


def _curve(line: Line, axes: _Axes, *, style: tuple[str, str]) -> list[str]:
    colour, dash = style
    points = [f"{axes.x(x):.1f},{axes.y(y):.1f}" for x, y in zip(line.x, line.y, strict=True)]
    parts = []
    if line.is_emphasised:
        over = [f"{axes.x(x):.1f},{axes.y(y):.1f}" for x, y in zip(line.x, line.high, strict=True)]
        under = [f"{axes.x(x):.1f},{axes.y(y):.1f}" for x, y in zip(line.x, line.low, strict=True)]
        outline = " ".join(over + under[::-1])
        parts.append(f'<polygon points="{outline}" fill="{colour}" opacity="0.15" />')
    width = 3 if line.is_emphasised else 1.5
    parts.append(
        f'<polyline points="{" ".join(points)}" fill="none" stroke="{colour}" '
        f'stroke-width="{width}" stroke-dasharray="{dash}" />'
    )
    return parts


def _legend(line: Line, i: int) -> list[str]:
    colour, dash = _style(i)
    x, y = WIDTH - _RIGHT + 10, _TOP + 8 + 17 * i
    weight = ' font-weight="bold"' if line.is_emphasised else ""
    stroke = f'stroke="{colour}" stroke-width="2" stroke-dasharray="{dash}"'
    return [
        f'<path d="M{x} {y - 4}h18" {stroke} />',
        f'<text x="{x + 24}" y="{y}"{weight}>{html.escape(line.name)}</text>',
    ]
