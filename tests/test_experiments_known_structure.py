"""The experiment on sets of known structure: its quick form, and its parts."""

import json
import math
import statistics
import xml.etree.ElementTree as ET

import numpy as np
import pytest
import torch
from toys import seeded

from graphpred.architecture import Architecture
from graphpred.experiments.known_methods import (
    CHANCE,
    LASSO,
    PREDICTED,
    PROBABLE,
    TRUE,
    best_sizes,
    lasso,
)
from graphpred.experiments.known_sets import (
    Condition,
    KnownSet,
    known_set,
    least_loss,
    measured,
    path_precision,
    path_strength,
)
from graphpred.experiments.known_structure import FIGURES, QUICK, Settings, run
from graphpred.experiments.known_tables import axis_curves, mean_text
from graphpred.space import SearchSpace
from graphpred.synthetic import draw_known, reachable
from graphpred.weights import Weights


@pytest.fixture(scope="module")
def out(tmp_path_factory):
    folder = tmp_path_factory.mktemp("known")
    run(data=None, quick=True, out=folder)
    return folder


@pytest.fixture(scope="module")
def figures(out):
    return json.loads((out / FIGURES).read_text())


def numbers(value):
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, list):
        return [number for part in value for number in numbers(part)]
    return [value] if isinstance(value, int | float) else []


def mean(cells, method, figure):
    return statistics.fmean(cell["methods"][method][figure] for cell in cells)


def test_every_part_has_its_cells_and_all_numbers_are_finite(figures):
    conditions = list(QUICK.conditions())

    assert len(figures["recovery"]) == len(conditions) * QUICK.sets
    assert len(figures["prices"]) == len(QUICK.families) * QUICK.sets * len(QUICK.prices)
    assert len(figures["costs"]) == 1 + len(QUICK.meta.costs)
    assert [cell["searches"] for cell in figures["amounts"]] == [0, 2]
    assert all(math.isfinite(number) for number in numbers(figures))


def test_prediction_finds_more_than_chance_and_than_one_random_network(figures):
    cells = figures["recovery"]

    chance = mean(cells, CHANCE, "ap")

    assert mean(cells, PROBABLE, "ap") > chance + 0.2
    assert mean(cells, PREDICTED, "ap") > mean(cells, "live random, best of 1", "ap")
    assert mean(cells, PREDICTED, "edges") > mean(cells, CHANCE, "edges")


def test_true_network_loses_least_and_networks_keep_to_their_edges(figures):
    for cell in figures["recovery"]:
        allowed = cell["methods"][TRUE]["n_edges"]
        if cell["share"] is not None:
            allowed = math.floor(cell["share"] * (12 * 12 + 12 * 2))
        for name, own in cell["methods"].items():
            assert own.get("loss", 1.0) >= 0.98 * cell["methods"][TRUE]["loss"]
            assert name == TRUE or own.get("n_edges", 0) <= allowed


def test_higher_price_gives_fewer_edges(figures):
    by_price = {
        price: [cell for cell in figures["prices"] if cell["price"] == price]
        for price in QUICK.prices
    }

    for method in ("predicted", "live random"):
        n_edges = [mean(cells, method, "n_edges") for cells in by_price.values()]
        assert n_edges == sorted(n_edges, reverse=True)
        assert n_edges[0] > n_edges[-1]


def test_pictures_are_xml(out):
    pictures = sorted(out.glob("*.svg"))

    assert len(pictures) == 4
    for picture in pictures:
        assert ET.parse(picture).getroot().tag.endswith("svg")


def test_a_stopped_run_makes_only_what_is_missing(out, figures):
    (folder,) = out.glob("parts-*")
    parts = sorted(folder.rglob("*.json"))
    lost = next(part for part in parts if part.name.startswith("two-quantities"))
    before = {part: part.stat().st_mtime_ns for part in parts if part != lost}
    lost.unlink()
    (out / FIGURES).unlink()

    run(data=None, quick=True, out=out)

    assert json.loads((out / FIGURES).read_text()) == figures
    assert {part: part.stat().st_mtime_ns for part in before} == before


def test_conditions_differ_in_one_thing():
    conditions = list(Settings().conditions())

    assert len(set(conditions)) == len(conditions) == len({one.name for one in conditions})
    for one in conditions:
        usual = Condition(family=one.family)
        assert sum(a != b for a, b in zip(vars(one).items(), vars(usual).items(), strict=True)) <= 1


def test_fewer_rows_of_the_same_network_and_the_same_test_part():
    few, many = (
        known_set(Condition(family="three classes", rows=rows), number=3) for rows in (40, 400)
    )

    assert few.known.architecture == many.known.architecture
    assert [len(rows) for rows in vars(few.task.split).values()] == [40, 20, 1000]
    assert torch.equal(few.task.rows("test")[1], many.task.rows("test")[1])
    assert least_loss(few) == least_loss(many)


def test_share_sets_the_number_of_edges_that_are_allowed():
    one = known_set(Condition(family="two quantities", share=0.5), number=0)

    assert one.n_edges == (12 * 12 + 12 * 2) // 2
    assert one.space.n_edges_at(one.share) == one.n_edges


def test_strength_of_paths_is_the_product_of_absolute_weight_matrices():
    space = SearchSpace(widths=(5, 4, 3), density=0.5)
    z = space.sample(generator=seeded(1))
    weights = Weights(edge=torch.randn(z.n_edges, generator=seeded(2)), bias=torch.zeros(7))
    table = np.zeros((12, 12))
    table[z.edges[0].numpy(), z.edges[1].numpy()] = np.abs(weights.edge.numpy())

    strength = path_strength(z, weights)

    expected = [
        [sum(table[i, h] * table[h, k] for h in range(5, 9)) for k in range(9, 12)]
        for i in range(5)
    ]
    assert strength.numpy() == pytest.approx(np.array(expected), rel=1e-5)


def test_precision_is_perfect_for_the_truth_and_the_share_for_nothing():
    true = Architecture.from_masks([[[1], [0], [0], [1]], [[1, 0]]], hidden=["relu"])
    wanted = reachable(true).double()

    assert path_precision(true, wanted) == 1.0
    assert path_precision(true, torch.zeros(4, 2)) == 0.25
    assert path_precision(true, 1 - wanted) < 0.5


def test_the_truth_measured_is_found_whole():
    one = known_set(Condition(family="two quantities", rows=2000), number=1)

    figures = measured(one, one.known.architecture, one.known.weights)

    assert figures["paths"] == figures["edges"] == figures["ap"] == 1.0
    assert figures["n_edges"] == one.n_edges
    assert figures["objective"] == pytest.approx(
        figures["loss"] + 0.1 * one.n_edges / one.space.n_possible_edges
    )


@pytest.mark.parametrize(("kind", "c"), [("regression", 2), ("classification", 3)])
def test_lasso_finds_a_linear_structure(kind, c):
    space = SearchSpace(widths=(6, 4, c), activations=("identity",), density=0.3)
    known = draw_known(
        space, generator=seeded(5), n_rows=2000, noise=0.05, kind=kind, n_irrelevant=6
    )
    one = KnownSet(
        known=known, task=known.task, n_edges=2 * int(reachable(known.architecture).sum())
    )

    figures = measured(one, *lasso(one))

    assert figures["ap"] > 0.9
    assert figures["paths"] > (0.8 if kind == "regression" else 0.7)
    assert figures["n_edges"] <= one.n_edges
    assert kind == "classification" or figures["loss"] < 0.05


def test_sizes_of_the_best_of_some():
    assert best_sizes(300) == [1, 10, 100, 300]
    assert best_sizes(100) == [1, 10, 100]
    assert best_sizes(1) == [1]


def test_means_and_curves_come_from_the_cells_of_one_axis(figures):
    curves = axis_curves(figures["recovery"], "noise", family="two quantities", figure="ap")

    assert [x for x, _ in curves[LASSO]] == list(QUICK.noise)
    assert "live random, best of 1" not in curves
    assert mean_text([1.0, 3.0]) == "2.000 ± 1.000"
    assert mean_text([]) == ""
