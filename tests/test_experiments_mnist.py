"""The quick form of the paper's own setting, digits in place of MNIST, and its parts."""

import json
import math
import statistics
import xml.etree.ElementTree as ET
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from graphpred.activations import IDENTITY, activation_index
from graphpred.architecture import Architecture
from graphpred.errors import DataError, InputError
from graphpred.experiments.images import Images
from graphpred.experiments.mnist import PICTURE, QUICK, run
from graphpred.experiments.mnist_tables import gain_of, image_gains
from graphpred.experiments.own_model import FORMS, trained_model
from graphpred.experiments.whole_set import best_searched
from graphpred.meta.examples import TRAINING_ROWS, PairExamples
from graphpred.meta.model import MetaModel
from graphpred.meta.run import checkpoint_of
from graphpred.meta.training import TrainConfig, Trainer
from graphpred.pairs.store import PairStore
from graphpred.population import Population
from graphpred.weights import initial_weights

RANDOM = ("live random", "live random, best of 4", "SNIP", "gradual pruning")


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
    assert len(figures["small"]) == len(QUICK.seeds) * len(QUICK.kappas)
    assert len(figures["full"]) == len(QUICK.full_densities)
    for cell in figures["small"] + figures["full"]:
        for name, method in cell["methods"].items():
            assert 0 <= method["accuracy"] <= 1
            assert math.isfinite(method["rate"])
            assert name == "dense" or method["n_edges"] <= cell["n_edges"]


def test_every_model_makes_three_figures_and_rivals_are_there(figures):
    for cell in figures["small"]:
        for model in ("packaged", "own pairs", "own pairs, from scratch"):
            assert {f"{model}, {form}" for form in FORMS[1:]} <= cell["methods"].keys()
        assert {*RANDOM, "best of the searched", "dense"} <= cell["methods"].keys()


def test_searchers_have_equal_budgets_and_keep_to_the_edges(figures):
    (cell,) = figures["searches"]
    assert set(cell["methods"]) == set(QUICK.searchers)
    for found in cell["methods"].values():
        assert 0 < found["accuracy"] <= 1
        assert found["candidates"] <= QUICK.search_evaluations
        assert 0 < found["n_edges"] <= cell["n_edges"]


def test_predictions_are_better_than_a_live_random_network(figures):
    for cell in figures["small"] + figures["full"]:
        methods = cell["methods"]
        assert methods["packaged, no step"]["accuracy"] > methods["live random"]["accuracy"]


def test_tables_have_finite_losses_of_both_models(figures):
    cells = figures["tables"]

    assert {cell["set"] for cell in cells} == set(QUICK.tables.sets)
    for cell in cells:
        for model in ("packaged", "own"):
            assert set(cell[model]) == set(FORMS)
            assert all(0 < loss < 1 for loss in cell[model].values())
        assert cell["own"]["draft"] != cell["packaged"]["draft"]


def test_the_picture_is_an_svg(out):
    assert ET.parse(out / PICTURE).getroot().tag.endswith("svg")


def test_finished_parts_are_not_made_again(out, figures):
    before = {path: path.stat().st_mtime_ns for path in out.rglob("*.safetensors")}
    assert before

    tables = run(data=None, quick=True, out=out)

    assert len(tables) == 5
    assert list(tables[2].columns[0].cells) == list(QUICK.searchers)
    assert {path: path.stat().st_mtime_ns for path in out.rglob("*.safetensors")} == before
    assert json.loads((out / "mnist.json").read_text(encoding="utf-8")) == figures


def test_a_part_that_is_missing_comes_out_the_same(out, figures):
    (part,) = out.glob("parts-*/small-1-1.json")
    part.unlink()

    run(data=None, quick=True, out=out)

    assert json.loads((out / "mnist.json").read_text(encoding="utf-8")) == figures


def test_no_test_image_is_in_a_subsample(out):
    small = Images.digits().pooled(QUICK.side)
    (source,) = out.glob("parts-*/training.npz")
    with np.load(source) as arrays:
        X, y = arrays["X"], arrays["y"]

    train = small.split.train.numpy()

    assert np.array_equal(X, small.pixels[train].reshape(len(train), -1))
    assert np.array_equal(y, small.labels[train])
    assert train.max() < len(small.labels) - small.n_test


def test_a_stopped_training_of_a_model_goes_on(out, tmp_path):
    (pairs,) = out.glob("parts-*/pairs-1")
    config = TrainConfig(steps=2, learning_rate=QUICK.training_rate, seed=1)
    model = MetaModel.load()
    examples = PairExamples(
        PairStore(pairs), describe=lambda task: model.describe(task, limit=TRAINING_ROWS), seed=1
    )
    unfinished = tmp_path / "model.safetensors"
    trainer = Trainer(model, draw=examples.draw, config=config)
    reports = list(trainer.run(checkpoint=checkpoint_of(unfinished), stop=lambda: trainer.step > 0))
    assert len(reports) == 1

    resumed = trained_model(pairs, out=unfinished, steps=2, seed=1, rate=QUICK.training_rate)

    (whole,) = out.glob("parts-*/own-1.safetensors")
    own = MetaModel.load(whole).state_dict()
    assert all(torch.equal(value, own[name]) for name, value in resumed.state_dict().items())
    assert not checkpoint_of(unfinished).exists()


def test_pooled_pixels_are_means_of_squares():
    images = Images.digits()

    small = images.pooled(2)

    assert small.pixels.shape == (1797, 2, 2)
    assert small.pixels[5, 1, 0] == pytest.approx(images.pixels[5, 4:, :4].mean())
    assert small.task().n_rows == 1797
    with pytest.raises(InputError, match="must divide 8"):
        images.pooled(3)


@pytest.mark.parametrize("upper", [True, False])
def test_images_are_read_flat_or_square_and_in_either_case(tmp_path, upper):
    generator = np.random.default_rng(0)
    X, y = generator.integers(256, size=(20, 4, 4)).astype(np.uint8), np.arange(20) % 2
    arrays = {"x_train": X[:12], "y_train": y[:12], "x_test": X[12:], "y_test": y[12:]}
    if upper:
        arrays = {
            name.replace("x", "X", 1): part.reshape(len(part), -1) if name[0] == "x" else part
            for name, part in arrays.items()
        }
    np.savez(tmp_path / "shapes.npz", **arrays)

    images = Images.read(tmp_path / "shapes.npz")

    assert np.array_equal(images.pixels, X.astype(np.float32))
    assert (images.name, images.side, images.n_test) == ("shapes", 4, 8)
    assert np.array_equal(images.labels, y)
    assert images.task().split.test.tolist() == list(range(12, 20))


@pytest.mark.parametrize("content", ["absent", "text", "other arrays", "not square"])
def test_what_holds_no_images_is_refused(tmp_path, content):
    path = tmp_path / "images.npz"
    if content == "text":
        path.write_text("no images")
    elif content == "other arrays":
        np.savez(path, X=np.zeros((3, 4)))
    elif content == "not square":
        y = np.zeros(3)
        np.savez(path, x_train=np.zeros((3, 5)), y_train=y, x_test=np.zeros((3, 5)), y_test=y)

    with pytest.raises(DataError, match="images must be"):
        Images.read(path)


def found_pair(z, *, names, loss):
    return SimpleNamespace(architecture=z, feature_names=names, loss=loss)


def test_searched_architectures_say_the_same_of_all_features():
    z = Architecture.from_masks(
        [[[1, 0], [1, 1]], [[1, 0], [0, 1]]], hidden=["relu", "tanh"], output=["identity"] * 2
    )
    task = SimpleNamespace(n_features=4, feature_names=("a", "b", "c", "d"))
    pair = found_pair(z, names=("b", "d"), loss=0.1)

    (wide,) = best_searched([pair], task=task, n_edges=10, k=5)

    X = torch.randn(6, 4, generator=torch.Generator().manual_seed(0))
    weights = initial_weights(z, seed=0)
    narrow = Population([z], start=[weights]).scores(X[:, [1, 3]])
    assert wide.widths == (4, 2, 2)
    assert torch.allclose(Population([wide], start=[weights]).scores(X), narrow)
    assert wide.activation.tolist() == [IDENTITY] * 4 + [
        *(activation_index(name) for name in ("relu", "tanh")),
        *[IDENTITY] * 2,
    ]


def test_searched_architectures_are_different_small_enough_and_of_least_loss():
    def path(hidden):
        return Architecture.from_masks([[[1]], [[1]]], hidden=[hidden])

    big = Architecture.from_masks([[[1, 1]], [[1], [1]]], hidden=["relu", "relu"])
    task = SimpleNamespace(n_features=1, feature_names=("a",))
    found = [("tanh", 0.3), ("relu", 0.1), ("relu", 0.2), ("sin", 0.4)]
    pairs = [found_pair(path(name), names=("a",), loss=loss) for name, loss in found]
    pairs.append(found_pair(big, names=("a",), loss=0.0))

    assert best_searched(pairs, task=task, n_edges=3, k=2) == [path("relu"), path("tanh")]
    assert best_searched([], task=task, n_edges=3, k=2) == []


def test_gains_are_means_over_seeds_of_means_over_budgets():
    values = {1: [(0.5, 0.4), (0.3, 0.3)], 2: [(0.2, 0.3), (0.6, 0.2)]}
    cells = [
        {"seed": seed, "packaged": {"no step": before}, "own": {"no step": after}}
        for seed, pairs in values.items()
        for before, after in pairs
    ]

    gain = gain_of(cells, "no step")

    assert gain["packaged"] == pytest.approx(0.4)
    assert gain["own"] == pytest.approx(0.3)
    assert gain["difference"] == pytest.approx(statistics.fmean([-0.05, -0.15]))
    assert gain["standard_error"] == pytest.approx(0.1 / 2)
    assert (gain["won"], gain["tied"], gain["lost"]) == (2, 1, 1)


def test_gains_of_images_are_errors_of_both_models(figures):
    for cell, gain in zip(figures["small"], image_gains(figures["small"]), strict=True):
        accuracy = cell["methods"]["own pairs, trained"]["accuracy"]
        assert gain["own"]["trained"] == pytest.approx(1 - accuracy)
        assert set(gain["packaged"]) == set(FORMS[1:])
