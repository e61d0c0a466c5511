"""Reports as files: a web page that needs nothing else, and a picture for a README."""

import html
import io
from pathlib import Path

from rich.console import Console, RenderableType
from rich.terminal_theme import TerminalTheme

from graphpred.files import whole_file
from graphpred.report.text import literal

WIDTH = 110
"""Columns of a page; a picture has ``PICTURE_WIDTH``."""
PICTURE_WIDTH = 88
_INK = (36, 41, 47)
_PAPER = TerminalTheme(
    (255, 255, 255),
    _INK,
    [
        _INK,
        (179, 53, 53),
        (40, 120, 70),
        (150, 105, 20),
        (47, 105, 170),
        (125, 70, 140),
        (20, 120, 130),
        (110, 118, 129),
    ],
)
_FONTS = "ui-monospace, 'DejaVu Sans Mono', Menlo, Consolas, 'Liberation Mono', monospace"
_PAGE = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>@title@</title>
<style>
{stylesheet}
body {{ color: {foreground}; background: {background}; margin: 2rem; }}
pre {{ font-family: @fonts@; font-size: 14px; line-height: 1.3; overflow-x: auto; }}
</style>
</head>
<body>
<pre><code style="font-family:inherit">{code}</code></pre>
</body>
</html>
"""
_PICTURE = """<svg class="rich-terminal" viewBox="0 0 {width} {height}" \
xmlns="http://www.w3.org/2000/svg">
<style>
.{unique_id}-matrix {{ font-family: @fonts@; font-size: {char_height}px; \
line-height: {line_height}px; }}
.{unique_id}-title {{ font-family: sans-serif; font-size: 16px; }}
{styles}
</style>
<defs>
<clipPath id="{unique_id}-clip-terminal">
<rect x="0" y="0" width="{terminal_width}" height="{terminal_height}" />
</clipPath>
{lines}
</defs>
{chrome}
<g transform="translate({terminal_x}, {terminal_y})" \
clip-path="url(#{unique_id}-clip-terminal)">
{backgrounds}
<g class="{unique_id}-matrix">
{matrix}
</g>
</g>
</svg>
"""


def write_html(renderable: RenderableType, path: str | Path, *, title: str) -> None:
    """Write a page, whole or not at all; dark text on white, nothing loaded from elsewhere.

    Args:
        renderable: What to show.
        path: The file.
        title: Of the page.

    Raises:
        StoreError: If the file cannot be written.
    """
    template = _template(_PAGE, title=html.escape(literal(title)))
    console = _recorded(renderable, width=WIDTH)
    page = console.export_html(theme=_PAPER, code_format=template)
    with whole_file(path) as temporary:
        temporary.write_text(page, encoding="utf-8")


def svg_text(renderable: RenderableType, *, title: str) -> str:
    """A picture of a terminal as SVG, dark text on white, nothing loaded from elsewhere.

    Args:
        renderable: What to show.
        title: Above the text.
    """
    console = _recorded(renderable, width=PICTURE_WIDTH)
    return console.export_svg(
        title=literal(title), theme=_PAPER, code_format=_template(_PICTURE, title="")
    )


def _template(text: str, *, title: str) -> str:
    """A template for ``str.format``, in which a title's own braces stay."""
    safe = title.replace("{", "{{").replace("}", "}}")
    return text.replace("@fonts@", _FONTS).replace("@title@", safe)


def _recorded(renderable: RenderableType, *, width: int) -> Console:
    """A console that has shown something to nobody, in full colour whatever the environment."""
    console = Console(
        record=True,
        width=width,
        file=io.StringIO(),
        force_terminal=True,
        color_system="truecolor",
        no_color=False,
        legacy_windows=False,
        _environ={},
    )
    console.print(renderable)
    return console
