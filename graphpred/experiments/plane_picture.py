"""Networks on the plane, drawn: what they decide where, and themselves, as plain SVG.

A column a network: above, its probability of the second class over the plane with the rows of the
test part; below, its live edges, blue where the weight is positive and orange where it is
negative, the thicker the larger it is among those of its layer, and the activation of every hidden
neuron.
"""

import base64
import struct
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from html import escape

import numpy as np
import torch
from numpy.typing import NDArray

from graphpred.activations import ACTIVATIONS
from graphpred.architecture import Architecture
from graphpred.population import Population
from graphpred.report.heatmap import NEGATIVE, POSITIVE
from graphpred.task import Task
from graphpred.weights import Weights

REACH = 2.6
"""Of the picture from the middle, in deviations of a feature."""
_SIDE, _GAP, _TOP, _NETWORK = 200, 24, 48, 220
_PIXELS, _LEVELS = 80, 16
_COLOURS = ((63, 135, 201), (255, 255, 255), (208, 122, 40))
"""Of probability 0, ½ and 1 of the second class."""
_POINTS = ("#1d4f80", "#8a4a0c")
_THINNEST, _THICKEST = 0.7, 3.2

Image = NDArray[np.uint8]


@dataclass(frozen=True, eq=False, kw_only=True)
class Drawn:
    """A network to draw.

    Attributes:
        title: What it is.
        caption: Figures, below the title.
        architecture: With one hidden layer.
        weights: Its own.
    """

    title: str
    caption: str
    architecture: Architecture
    weights: Weights


def plane_svg(task: Task, networks: Sequence[Drawn]) -> str:
    """A picture of networks beside each other.

    Args:
        task: Of two features and two classes.
        networks: From left to right.
    """
    width = len(networks) * (_SIDE + _GAP) + _GAP
    height = _TOP + _SIDE + _NETWORK + _GAP
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" '
        'font-family="sans-serif" font-size="12">',
        f'<rect width="{width}" height="{height}" fill="white"/>',
        f'<defs><g id="rows">{"".join(_rows(task))}</g></defs>',
    ]
    for i, network in enumerate(networks):
        left = _GAP + i * (_SIDE + _GAP)
        parts.append(_text(left, 20, network.title, size=13))
        parts.append(_text(left, 37, network.caption, size=11, colour="#555555"))
        parts.append(
            f'<image x="{left}" y="{_TOP}" width="{_SIDE}" height="{_SIDE}" '
            'preserveAspectRatio="none" '
            f'href="data:image/png;base64,{png(_coloured(probabilities(network)))}"/>'
        )
        parts.append(f'<use href="#rows" x="{left}" y="{_TOP}"/>')
        parts += _graph(task, network, left=left, top=_TOP + _SIDE + 24)
    return "\n".join([*parts, "</svg>"]) + "\n"


def _rows(task: Task) -> Iterator[str]:
    """The rows of the test part, from the upper left corner of the plane."""
    X, y = task.rows("test")
    for (a, b), k in zip(X.tolist(), y.tolist(), strict=True):
        if max(abs(a), abs(b)) < REACH:
            x, up = (_SIDE * (v + REACH) / (2 * REACH) for v in (a, -b))
            yield f'<circle cx="{x:.1f}" cy="{up:.1f}" r="1.7" fill="{_POINTS[k]}"/>'


def probabilities(network: Drawn) -> NDArray[np.float64]:
    """Probability of the second class; the first row is on top. Shape ``(_PIXELS, _PIXELS)``."""
    centres = REACH * (2 * (torch.arange(_PIXELS) + 0.5) / _PIXELS - 1)
    up, across = torch.meshgrid(-centres, centres, indexing="ij")
    X = torch.stack([across.flatten(), up.flatten()], dim=1)  # (_PIXELS², 2)
    scores = Population([network.architecture], start=[network.weights]).scores(X)[0]  # (2, m)
    share = scores.double().softmax(dim=0)[1].view(_PIXELS, _PIXELS)
    values: NDArray[np.float64] = share.numpy()
    return values


def _coloured(share: NDArray[np.float64]) -> Image:
    """Colours of probabilities, in a few levels. Shape ``(..., 3)``."""
    level = np.floor(np.clip(share, 0, 1 - 1e-9) * _LEVELS) / (_LEVELS - 1)
    low, middle, high = (np.array(colour, dtype=np.float64) for colour in _COLOURS)
    below = low + (middle - low) * (2 * level)[..., None].clip(0, 1)
    above = middle + (high - middle) * (2 * level - 1)[..., None].clip(0, 1)
    colours: Image = np.where(level[..., None] < 0.5, below, above).round().astype(np.uint8)
    return colours


def png(image: Image) -> str:
    """A PNG file of colours ``(height, width, 3)``, in base 64."""
    height, width, _ = image.shape
    rows = b"".join(b"\0" + row.tobytes() for row in image)

    def chunk(kind: bytes, data: bytes) -> bytes:
        return (
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        )

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    file = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header)
    file += chunk(b"IDAT", zlib.compress(rows, 9)) + chunk(b"IEND", b"")
    return base64.b64encode(file).decode("ascii")


def _graph(task: Task, network: Drawn, *, left: float, top: float) -> list[str]:
    """Features to the left, hidden neurons that have edges, classes to the right."""
    z, edge = network.architecture, network.weights.edge
    z, edge = z.without_dead_edges(), edge[z.live]
    hidden = sorted({n for n in z.edges.flatten().tolist() if z.starts[1] <= n < z.starts[2]})
    layers = [list(range(z.starts[1])), hidden, list(range(z.starts[2], z.n_neurons))]
    place = {}
    for layer, x in zip(layers, (left + 18, left + _SIDE / 2, left + _SIDE - 18), strict=True):
        for i, neuron in enumerate(layer):
            place[neuron] = (x, top + (_NETWORK - 40) * (i + 0.5) / len(layer))
    parts = []
    for into in (1, 2):
        here = z.layer[z.edges[1]] == into
        largest = float(edge[here].abs().max()) if bool(here.any()) else 1.0
        for (source, target), w in zip(z.edges.T[here].tolist(), edge[here].tolist(), strict=True):
            thickness = _THINNEST + (_THICKEST - _THINNEST) * abs(w) / max(largest, 1e-12)
            (x1, y1), (x2, y2) = place[source], place[target]
            parts.append(
                f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" '
                f'stroke="{NEGATIVE if w < 0 else POSITIVE}" stroke-width="{thickness:.1f}"/>'
            )
    names = dict(zip(layers[0], task.feature_names, strict=True))
    names |= {n: ACTIVATIONS[int(z.activation[n])].name for n in hidden}
    names |= dict(zip(layers[2], task.class_names, strict=True))
    for neuron, (x, y) in place.items():
        parts += _node(names[neuron], x=x, y=y)
    return parts


def _node(name: str, *, x: float, y: float) -> list[str]:
    width = 6.0 * len(name) + 8
    return [
        f'<rect x="{x - width / 2:.1f}" y="{y - 7:.1f}" width="{width:.1f}" height="14" rx="6" '
        'fill="white" stroke="#888888" stroke-width="0.8"/>',
        _text(x, y + 3.5, name, size=10, anchor="middle"),
    ]


def _text(
    x: float, y: float, text: str, *, size: int, anchor: str = "start", colour: str = "#222222"
) -> str:
    return (
        f'<text x="{x:.1f}" y="{y:.1f}" font-size="{size}" text-anchor="{anchor}" '
        f'fill="{colour}">{escape(text)}</text>'
    )
