"""The quick form of the paper's own setting: digits in place of MNIST."""

import json
import math

import pytest

from graphpred.experiments.mnist import run


@pytest.fixture(scope="module")
def out(tmp_path_factory):
    folder = tmp_path_factory.mktemp("mnist")
    run(data=None, quick=True, out=folder)
    return folder


@pytest.fixture(scope="module")
def figures(out):
    return json.loads((out / "mnist.json").read_text(encoding="utf-8"))


def test_all_methods_keep_to_the_edges_and_have_an_accuracy(figures):
    assert figures["data"] == "digits"
    for cell in figures["small"] + figures["full"]:
        for name, method in cell["methods"].items():
            assert 0 <= method["accuracy"] <= 1
            assert math.isfinite(method["rate"])
            assert name == "dense" or method["n_edges"] <= cell["n_edges"]


def test_predictions_are_better_than_a_live_random_network(figures):
    for cell in figures["small"] + figures["full"]:
        methods = cell["methods"]
        assert methods["packaged, no step"]["accuracy"] > methods["live random"]["accuracy"]


def test_finished_parts_are_not_made_again(out, figures):
    before = {path: path.stat().st_mtime_ns for path in out.rglob("*.safetensors")}
    assert before

    tables = run(data=None, quick=True, out=out)

    assert len(tables) > 2
    assert {path: path.stat().st_mtime_ns for path in out.rglob("*.safetensors")} == before
    assert json.loads((out / "mnist.json").read_text(encoding="utf-8")) == figures
