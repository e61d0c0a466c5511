"""``graphpred compare``: trajectories, scores against hand computation, resuming, the page."""

import itertools
import json
import math
from concurrent.futures.process import BrokenProcessPool

import numpy as np
import pandas as pd
import pytest
import torch
from scipy.stats import friedmanchisquare
from sklearn.linear_model import LogisticRegression
from typer.testing import CliRunner

from graphpred.cli.main import app
from graphpred.compare import CompareConfig, Comparison, comparison_summary, run_comparison
from graphpred.compare.contest import Cell
from graphpred.compare.plots import Line, line_plot
from graphpred.compare.references import REFERENCES, reference_point
from graphpred.compare.scores import (
    at_budget,
    budgets,
    critical_difference,
    equivalent_evaluations,
    ranks_at,
    regret_curve,
)
from graphpred.compare.trajectory import trajectory
from graphpred.errors import EngineError, InputError, StoreError
from graphpred.objective import Objective
from graphpred.pairs.engines import Engine
from graphpred.searchers import search
from graphpred.seeds import generator_for
from graphpred.space import SearchSpace
from graphpred.split import Split
from graphpred.task import Task

METHODS = ("random", "random_live", "halving")
CONFIG = CompareConfig(methods=METHODS, evaluations=6, seeds=2, steps=50)


@pytest.fixture
def task():
    generator = generator_for("compare")
    X = torch.randn(120, 4, generator=generator)
    y = (X[:, 0] + X[:, 1].abs() > 0.5).long()
    parts = [torch.arange(a, b) for a, b in itertools.pairwise((0, 60, 90, 120))]
    return Task.from_arrays(X, y, kind="classification", split=Split(*parts))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A finished comparison."""
    out = tmp_path_factory.mktemp("comparison")
    list(run_comparison(["iris", "diabetes"], out=out, config=CONFIG))
    return out


# Trajectories


@pytest.mark.parametrize("searcher", ["random_live", "halving"])
def test_a_trajectory_holds_every_improvement_at_its_cost(task, searcher):
    objective = Objective(loss="error", penalty=0.001)
    space = SearchSpace(widths=(4, 4, 2), density=0.5)
    given = {"searcher": searcher, "objective": objective, "evaluations": 20, "seed": 1}
    trials = list(search(task, space, **given))

    running = search(task, space, **given)
    points = trajectory(running, task=task, objective=objective)

    best = [p.validation_objective for p in points]
    assert best[:-1] == sorted(set(best[:-1]), reverse=True)
    assert best[-1] == best[-2] == min(trial.objective for trial in trials)
    for currency in ("evaluations", "networks", "cpu_seconds", "wall_seconds"):
        spent = [getattr(p, currency) for p in points]
        assert spent == sorted(spent)
        assert spent[0] == 0 < spent[-1]
    assert points[-1].evaluations == running.ledger.network_steps / 100 <= 20
    assert points[-1].networks == running.ledger.networks == len(trials)
    if searcher == "random_live":
        expected, least = [], math.inf
        for trial in trials:
            if trial.objective < min(least, best[0]):
                expected.append(trial.number + 1)
                least = trial.objective
        assert [round(p.evaluations, 9) for p in points[1:-1]] == expected


def test_points_are_measured_on_the_test_rows(task):
    objective = Objective(loss="error", penalty=0.01)
    running = search(task, SearchSpace(widths=(4, 4, 2)), objective=objective, evaluations=5)

    first, *_, last = trajectory(running, task=task, objective=objective)

    _, y = task.rows("train")
    _, test = task.rows("test")
    assert first.test_loss == pytest.approx(float((test != y.mode().values).double().mean()))
    assert (first.n_edges, first.test_objective) == (0, first.test_loss)
    assert last.test_objective == pytest.approx(last.test_loss + 0.01 * last.n_edges)


@pytest.mark.parametrize("name", REFERENCES)
@pytest.mark.parametrize("source", ["iris", "diabetes"])
def test_reference_lines(name, source):
    task = Task.from_source(source)
    loss = "error" if task.is_classification else "unexplained"

    point = reference_point(name, task=task, objective=Objective(loss=loss), seed=0)

    assert 0 <= point.test_loss < 0.8
    assert point.networks == 0
    assert (point.n_edges > 0) == (name != "boosting")
    if (name, source) == ("linear", "iris"):
        X, y = (part.numpy() for part in task.rows("train"))
        model = LogisticRegression(max_iter=1000).fit(X, y)
        X_test, y_test = (part.numpy() for part in task.rows("test"))
        assert point.test_loss == pytest.approx(1 - model.score(X_test, y_test))


def test_reference_line_survives_a_class_without_training_rows(task):
    y = task.y.clone()
    y[task.split.train[0]] = 2
    y[task.split.test[0]] = 2
    rows = task.split
    odd = Task.from_arrays(
        task.X, y, kind="classification", split=Split(rows.train[1:], rows.validation, rows.test)
    )

    point = reference_point("linear", task=odd, objective=Objective(loss="log_loss"), seed=0)

    assert math.isfinite(point.test_loss)


# Scores


def made_up(curves, *, evaluations=100.0):
    """Points of methods on data sets: {data: {method: [(evaluations, 𝔏), …]}}."""
    rows = []
    for data, methods in curves.items():
        for method, steps in methods.items():
            for spent, objective in [(0.0, 1.0), *steps, (evaluations, steps[-1][1])]:
                rows.append(
                    {
                        "data": data,
                        "kind": "classification",
                        "seed": 0,
                        "method": method,
                        "is_reference": method == "linear",
                        "evaluations": spent,
                        "networks": spent,
                        "cpu_seconds": spent / 10,
                        "wall_seconds": spent / 10,
                        "test_objective": objective,
                        "test_loss": objective,
                        "n_edges": 5,
                    }
                )
    return pd.DataFrame(rows)


CURVES = {
    "one": {
        "random_live": [(1, 0.6), (10, 0.4), (100, 0.2)],
        "good": [(1, 0.4), (50, 0.1)],
        "odd": [(1, 0.5)],
        "linear": [(0, 0.3)],
    },
    "two": {
        "random_live": [(1, 0.6), (30, 0.3)],
        "good": [(1, 0.35), (50, 0.3)],
        "odd": [(1, 0.3)],
        "linear": [(0, 0.3)],
    },
}


def test_budgets_pay_for_what_they_reach():
    points = made_up(CURVES)

    reached = at_budget(points, 10).set_index(["data", "method"])["test_objective"]

    assert reached["one", "random_live"] == 0.4
    assert reached["two", "random_live"] == 0.6
    assert reached["one", "good"] == 0.4
    assert budgets(100) == [1, 2, 3, 5, 10, 20, 30, 50, 100]
    assert budgets(7) == [1, 2, 3, 5, 7]


def test_ranks_are_those_of_the_objectives_and_ties_share():
    ranks = ranks_at(made_up(CURVES), 100)

    # one: good .1, random_live .2, odd .5; two: all .3
    assert ranks.mean == {"random_live": 2.0, "good": 1.5, "odd": 2.5}
    values = np.array([[0.2, 0.1, 0.5], [0.3, 0.3, 0.3]])
    assert ranks.p_value == pytest.approx(friedmanchisquare(*values.T).pvalue)
    assert ranks.n_sets == 2
    assert ranks.critical_difference == pytest.approx(2.343 * math.sqrt(3 * 4 / 12), rel=1e-3)


@pytest.mark.parametrize(("k", "q"), [(2, 1.960), (5, 2.728), (10, 3.164)])
def test_critical_difference_has_the_published_quantiles(k, q):
    assert critical_difference(k, 30) == pytest.approx(q * math.sqrt(k * (k + 1) / 180), rel=1e-3)


def test_equivalent_evaluations_are_the_baseline_s_first_as_good_ones():
    points = made_up({"one": CURVES["one"]})

    def worth(budget, method):
        return equivalent_evaluations(points, budget, method=method, baseline="random_live")

    assert worth(1, "good") == 10
    assert worth(100, "good") == math.inf
    assert worth(100, "odd") == 10
    assert worth(100, "random_live") == 100


def test_regret_runs_from_the_constant_to_the_best_of_all():
    curve = regret_curve(made_up({"one": CURVES["one"]}), method="random_live")

    regret = curve.set_index("budget")["median"]
    assert regret[1] == pytest.approx((0.6 - 0.1) / 0.9)
    assert regret[100] == pytest.approx((0.2 - 0.1) / 0.9)


# Running


def test_results_hold_all_cells_and_settings(folder):
    comparison = Comparison.load(folder)

    cells = comparison.points.groupby(["data", "seed", "method"]).size()
    assert len(cells) == 2 * 2 * (len(METHODS) + len(REFERENCES))
    assert comparison.settings["evaluations"] == 6
    summary = comparison_summary(comparison)
    json.dumps(summary)
    assert summary["methods"]["random"]["networks"] == 12  # 6 evaluations of 50 steps
    assert summary["methods"]["linear"]["is_reference"]
    assert set(summary["ranks"][-1]["mean"]) == set(METHODS)
    assert [one["budget"] for one in summary["ranks"]] == [1, 6]


def test_a_stopped_comparison_goes_on_with_what_is_missing(folder, tmp_path):
    whole = Comparison.load(folder).points
    running = run_comparison(["iris", "diabetes"], out=tmp_path, config=CONFIG)
    for state in running:
        if state.n_done == 7:
            break
    running.close()
    with pytest.raises(StoreError, match="must hold a finished comparison"):
        Comparison.load(tmp_path)
    stored = {path.name: path.stat().st_mtime_ns for path in (tmp_path / "cells").iterdir()}
    assert 7 <= len(stored) < 24

    *_, last = run_comparison(["iris", "diabetes"], out=tmp_path, config=CONFIG)

    assert (last.n_done, last.n_cells) == (24, 24)
    after = {path.name: path.stat().st_mtime_ns for path in (tmp_path / "cells").iterdir()}
    assert after.items() >= stored.items()
    timeless = [c for c in whole if not c.endswith("seconds")]
    pd.testing.assert_frame_equal(Comparison.load(tmp_path).points[timeless], whole[timeless])


def test_a_worker_that_dies_ends_the_comparison_in_one_sentence(tmp_path, monkeypatch):
    def die(calls):
        raise BrokenProcessPool
        yield

    monkeypatch.setattr(Engine, "run", lambda engine, calls: die(calls))

    with pytest.raises(EngineError, match=r"^a worker died, .*; finished cells are whole, and"):
        list(run_comparison(["iris"], out=tmp_path, config=CompareConfig(), jobs=2))


def test_other_settings_need_another_folder_but_more_methods_do_not(folder):
    more = CompareConfig(methods=("random",), evaluations=7, seeds=2, steps=50)
    with pytest.raises(InputError, match="with evaluations 6, which must stay; got 7"):
        next(run_comparison(["iris"], out=folder, config=more))

    one = CompareConfig(methods=("random",), evaluations=6, seeds=1, steps=50)
    assert next(run_comparison(["iris"], out=folder, config=one)).n_done == 4


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"methods": ("oracle",)}, "methods must be some of random, .*, or all; got oracle"),
        ({"evaluations": 0}, "evaluations must be at least 1; got 0"),
        ({"kappa": 0.0}, "kappa must be positive"),
        ({"price": -1.0}, "price at least 0"),
        ({"n_hidden": 0}, "n_hidden must be at least 1; got 0"),
    ],
)
def test_settings_must_be_in_range(settings, message):
    with pytest.raises(InputError, match=message):
        CompareConfig(**settings)


def test_all_methods_are_those_that_can_run_anywhere():
    chosen = CompareConfig().chosen

    assert "exhaustive" not in chosen
    assert {"random", "halving", "meta_model"} <= set(chosen)


def test_names_of_cells_are_safe_file_names(task):
    odd = Cell(task=task, seed=0, method="random")

    assert "/" not in odd.key
    assert odd.key.endswith("-split0-random")


# The command and the page


def test_command_prints_the_table_and_writes_the_page(tmp_path):
    out = tmp_path / "results"
    arguments = ["compare", "iris", "--methods", "random,random_live,halving", "--out", str(out)]
    arguments += ["--evaluations", "4", "--seeds", "1", "--jobs", "1"]

    shown = CliRunner().invoke(app, arguments)

    assert shown.exit_code == 0, shown.stderr
    for name in ("random_live", "halving", "boosting", "Mean ranks"):
        assert name in shown.stdout
    page = (out / "report.html").read_text(encoding="utf-8")
    assert page.count("<svg") == 2
    assert "<script" not in page
    assert "http" not in page.replace("http://www.w3.org/2000/svg", "")
    printed = CliRunner().invoke(app, [*arguments, "--json"])
    assert set(json.loads(printed.stdout)["methods"]) >= {"random", "linear"}


def test_command_says_what_is_wrong(tmp_path):
    shown = CliRunner().invoke(app, ["compare", "iris", "--methods", "x", "--out", str(tmp_path)])

    assert shown.exit_code == 2
    assert "got x." in shown.stderr


def test_a_plot_holds_its_curves_and_survives_odd_values():
    lines = [
        Line(name="a<b", x=[1, 10, 100], y=[1, 0.5, 0.0], low=[0] * 3, high=[1] * 3),
        Line(name="flat", x=[1, 1, 1], y=[0, 0, 0], low=[0] * 3, high=[0] * 3, is_emphasised=True),
    ]

    svg = line_plot(lines, title="t", x_label="x", y_label="y")

    assert svg.count("<polyline") == 2
    assert svg.count("<polygon") == 1
    assert "a&lt;b" in svg
    assert "nan" not in svg
