"""The experiment in the plane: its quick form, its sets and its pictures."""

import base64
import json
import math
import struct
import xml.etree.ElementTree as ET
import zlib

import numpy as np
import pytest
import torch

from graphpred.architecture import Architecture
from graphpred.experiments.plane import (
    BEST_LIVE,
    DENSE,
    DRAWN,
    FIGURES,
    FRESH,
    LIVE,
    NO_STEP,
    QUICK,
    TRAINED,
    run,
)
from graphpred.experiments.plane_picture import Drawn, plane_svg, png, probabilities
from graphpred.experiments.plane_sets import PLANE_SETS, plane_task
from graphpred.weights import Weights

SVG = "{http://www.w3.org/2000/svg}"


@pytest.fixture(scope="module")
def out(tmp_path_factory):
    folder = tmp_path_factory.mktemp("plane")
    run(data=None, quick=True, out=folder)
    return folder


@pytest.fixture(scope="module")
def cells(out):
    return json.loads((out / FIGURES).read_text())["cells"]


def line(feature, *, threshold=0.0):
    """A network that says the second class where a feature is above a threshold."""
    masks = [[[int(feature == 0)], [int(feature == 1)]], [[0, 1]]]
    z = Architecture.from_masks(masks, hidden=["identity"])
    weights = Weights(edge=torch.tensor([1.0, 5.0]), bias=torch.tensor([-threshold, 0.0, 0.0]))
    return Drawn(title="a < line", caption="", architecture=z, weights=weights)


def test_every_method_has_finite_figures_in_every_cell(cells):
    assert len(cells) == len(QUICK.sets) * (len(QUICK.budgets) + len(QUICK.widths))
    for cell in cells:
        for method, figures in cell["methods"].items():
            assert all(math.isfinite(value) for value in figures.values())
            assert 0 <= figures["error"] <= 1
            assert method == DENSE or 1 <= figures["n_edges"] <= cell["n_edges"]


def test_networks_with_enough_neurons_are_better_than_chance(cells):
    usual = [cell for cell in cells if cell["n_hidden"] == QUICK.n_hidden]

    for cell in usual:
        errors = {method: figures["error"] for method, figures in cell["methods"].items()}
        assert errors[BEST_LIVE] < 0.15
        assert errors[NO_STEP] < 0.3
        assert errors[BEST_LIVE] <= errors[LIVE]


def test_training_keeps_the_structure(cells):
    for cell in cells:
        n_edges = {cell["methods"][method]["n_edges"] for method in (NO_STEP, TRAINED, FRESH)}

        assert len(n_edges) == 1


def test_pictures_show_the_networks_of_the_cells(out, cells):
    drawn = [cell for cell in cells if cell["networks"]]

    assert len(drawn) == len(list(out.glob("*.svg"))) == len(QUICK.sets)
    for cell in drawn:
        root = ET.parse(out / f"{cell['set']}-{cell['n_edges']}.svg").getroot()
        shown = sum(cell["methods"][method]["n_edges"] for method in DRAWN)
        assert len(root.findall(f"{SVG}image")) == len(DRAWN)
        assert len(root.findall(f"{SVG}line")) == shown


def test_a_stopped_run_makes_only_what_is_missing(out, cells):
    (folder,) = out.glob("parts-*")
    lost, *others = sorted(folder.glob("*.json"))
    before = {part: part.stat().st_mtime_ns for part in others}
    lost.unlink()
    pictures = {path: path.read_bytes() for path in out.glob("*.svg")}

    run(data=None, quick=True, out=out)

    assert json.loads((out / FIGURES).read_text())["cells"] == cells
    assert {part: part.stat().st_mtime_ns for part in others} == before
    assert {path: path.read_bytes() for path in pictures} == pictures


@pytest.mark.parametrize("name", PLANE_SETS)
def test_sets_are_balanced_scaled_and_not_linear(name):
    task, again = (plane_task(name, n_rows=1000, seed=3) for _ in range(2))
    X, y = task.rows("train")

    line_ = np.linalg.lstsq(np.c_[X.numpy(), np.ones(len(X))], 2.0 * y.numpy() - 1, rcond=None)[0]
    error = ((np.c_[X.numpy(), np.ones(len(X))] @ line_ > 0) != y.numpy()).mean()

    assert torch.equal(task.X, again.X)
    assert torch.equal(task.y, again.y)
    assert not torch.equal(task.X, plane_task(name, n_rows=1000, seed=4).X)
    assert 0.4 < float(y.float().mean()) < 0.6
    assert X.mean(dim=0).abs().max() < 1e-5
    assert error > 0.08
    assert name == "moons" or error > 0.3


def test_first_row_of_the_plane_is_on_top_and_features_go_right_and_up():
    right, up = probabilities(line(0)), probabilities(line(1))

    assert (right[:, -1] > 0.9).all()
    assert (right[:, 0] < 0.1).all()
    assert (up[0] > 0.9).all()
    assert (up[-1] < 0.1).all()


def test_png_holds_the_colours():
    image = np.random.default_rng(0).integers(0, 256, size=(3, 5, 3), dtype=np.uint8)

    file = base64.b64decode(png(image))

    chunks, at = {}, 8
    while at < len(file):
        (size,) = struct.unpack(">I", file[at : at + 4])
        kind, data = file[at + 4 : at + 8], file[at + 8 : at + 8 + size]
        (check,) = struct.unpack(">I", file[at + 8 + size : at + 12 + size])
        assert check == zlib.crc32(kind + data)
        chunks[kind], at = data, at + 12 + size
    assert file[:8] == b"\x89PNG\r\n\x1a\n"
    assert struct.unpack(">II", chunks[b"IHDR"][:8]) == (5, 3)
    rows = np.frombuffer(zlib.decompress(chunks[b"IDAT"]), dtype=np.uint8).reshape(3, 1 + 15)
    assert np.array_equal(rows[:, 1:].reshape(3, 5, 3), image)
    assert not rows[:, 0].any()


def test_picture_escapes_its_text_and_colours_edges_by_sign():
    task = plane_task("xor", n_rows=80, seed=0)
    drawn = line(0)
    negative = Weights(edge=torch.tensor([1.0, -5.0]), bias=torch.zeros(3))
    other = Drawn(title="b", caption="", architecture=drawn.architecture, weights=negative)

    lines = ET.fromstring(plane_svg(task, [drawn, other])).findall(f"{SVG}line")

    colours = [one.get("stroke") for one in lines]
    assert colours[0] == colours[1] == colours[2] != colours[3]
