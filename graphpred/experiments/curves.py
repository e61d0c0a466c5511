"""Curves over a logarithmic axis, as plain SVG."""

import math
from collections.abc import Mapping, Sequence
from html import escape

_WIDTH, _HEIGHT = 640, 400
_LEFT, _RIGHT, _TOP, _BOTTOM = 62, 190, 24, 52
_COLOURS = ("#0b6fb8", "#c8571b", "#2b8a3e", "#7b3fa0", "#a07800", "#555b66", "#d0387a", "#1aa0a0")
_DASHES = ("", "6 3", "2 3")
_LABEL_GAP = 15.0
_N_TICKS = 6

Curve = Sequence[tuple[float, float]]
"""Points (x, y) by rising x, x positive."""


def curves_svg(curves: Mapping[str, Curve], *, x_name: str, y_name: str) -> str:
    """A picture of named curves, each named at its right end.

    Args:
        curves: By name, at least one, with a point or more each; all share the axes.
        x_name: Of the horizontal, logarithmic axis; its ticks are at the points.
        y_name: Of the vertical axis.
    """
    points = [point for curve in curves.values() for point in curve]
    xs, ys = sorted({x for x, _ in points}), [y for _, y in points]
    low, high, step = _ticks(min(ys), max(ys))
    log_low, log_high = math.log(xs[0]), math.log(max(xs[-1], 1.01 * xs[0]))

    def place(x: float, y: float) -> tuple[float, float]:
        along = (math.log(x) - log_low) / (log_high - log_low)
        up = (y - low) / (high - low)
        return (
            _LEFT + along * (_WIDTH - _LEFT - _RIGHT),
            _HEIGHT - _BOTTOM - up * (_HEIGHT - _TOP - _BOTTOM),
        )

    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {_HEIGHT}" '
        'font-family="sans-serif" font-size="12">',
        f'<rect width="{_WIDTH}" height="{_HEIGHT}" fill="white"/>',
    ]
    right, bottom = _WIDTH - _RIGHT, _HEIGHT - _BOTTOM
    for i in range(round((high - low) / step) + 1):
        y = low + i * step
        height = place(xs[0], y)[1]
        parts.append(_line((_LEFT, height), (right, height), colour="#dddddd"))
        parts.append(_text(_LEFT - 6, height + 4, f"{y:.4g}", anchor="end"))
    for x in xs:
        across = place(x, low)[0]
        parts.append(_line((across, bottom), (across, bottom + 4), colour="#222222"))
        parts.append(_text(across, bottom + 18, f"{x:.4g}", anchor="middle"))
    parts.append(_line((_LEFT, bottom), (right, bottom), colour="#222222"))
    parts.append(_text((_LEFT + right) / 2, _HEIGHT - 12, x_name, anchor="middle"))
    parts.append(_text(_LEFT - 48, _TOP - 9, y_name, anchor="start"))
    ends = _spread([place(*curve[-1])[1] for curve in curves.values()])
    for i, (name, curve) in enumerate(curves.items()):
        parts += _curve([place(*point) for point in curve], name=name, number=i, label=ends[i])
    return "\n".join([*parts, "</svg>"]) + "\n"


def _curve(points: list[tuple[float, float]], *, name: str, number: int, label: float) -> list[str]:
    colour, dash = _COLOURS[number % len(_COLOURS)], _DASHES[number // len(_COLOURS) % len(_DASHES)]
    path = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
    dashes = f' stroke-dasharray="{dash}"' if dash else ""
    dots = [f'<circle cx="{x:.1f}" cy="{y:.1f}" r="2.6" fill="{colour}"/>' for x, y in points]
    x, y = points[-1]
    right = _WIDTH - _RIGHT
    return [
        f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="1.8"{dashes}/>',
        *dots,
        _line((x + 3, y), (right + 8, label), colour="#bbbbbb"),
        _text(right + 11, label + 4, name, anchor="start", colour=colour),
    ]


def _spread(heights: Sequence[float]) -> list[float]:
    """Heights of labels near those wanted, none nearer to another than a line of text."""
    order = sorted(range(len(heights)), key=lambda i: heights[i])
    placed = [0.0] * len(heights)
    lowest = -math.inf
    for i in order:
        lowest = max(heights[i], lowest + _LABEL_GAP)
        placed[i] = lowest
    over = max(0.0, lowest - (_HEIGHT - _BOTTOM))
    for i in reversed(order):
        if over <= 0:
            break
        placed[i] -= over
        position = order.index(i)
        if position:
            over = max(0.0, placed[order[position - 1]] + _LABEL_GAP - placed[i])
    return placed


def _ticks(low: float, high: float) -> tuple[float, float, float]:
    """Round bounds around some values, and a round step between them."""
    span = max(high - low, 1e-9)
    power = 10 ** math.floor(math.log10(span / _N_TICKS))
    step = next(power * k for k in (1, 2, 5, 10) if span / (power * k) <= _N_TICKS)
    return math.floor(low / step) * step, math.ceil(high / step) * step, step


def _line(start: tuple[float, float], end: tuple[float, float], *, colour: str) -> str:
    (x1, y1), (x2, y2) = start, end
    return (
        f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" '
        f'stroke="{colour}" stroke-width="1"/>'
    )


def _text(x: float, y: float, text: str, *, anchor: str, colour: str = "#222222") -> str:
    return (
        f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" fill="{colour}">'
        f"{escape(text)}</text>"
    )
