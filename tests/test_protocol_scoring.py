"""Gap closed, duels, ranks and intervals against numbers worked out by hand."""

import json
import math

import numpy as np
import pytest

from graphpred.experiments.outcome import Figure
from graphpred.experiments.scoring import (
    Result,
    bootstrap_interval,
    duels,
    gap_closed,
    mean_over_sets,
    mean_ranks,
    over_seeds,
    retention,
    share_won,
)


def figure(loss, *, standard_error=0.02, balanced_error=0.5):
    return Figure(
        loss=loss,
        standard_error=standard_error,
        balanced_error=balanced_error,
        n_edges=10.0,
        networks=1,
        network_steps=300,
        cpu_seconds=0.1,
    )


def result(name="a", *, seed=-1, kappa=1.0, kind="classification", family=None, **losses):
    return Result(
        name=name,
        family=family or name,
        kind=kind,
        n_outputs=2,
        seed=seed,
        kappa=kappa,
        n_edges=10,
        steps=300,
        figures={
            method: loss if isinstance(loss, Figure) else figure(loss)
            for method, loss in losses.items()
        },
    )


@pytest.mark.parametrize(
    ("loss", "live", "ceiling", "expected"),
    [(0.2, 0.2, 0.1, 0.0), (0.1, 0.2, 0.1, 1.0), (0.3, 0.2, 0.1, -1.0), (0.15, 0.2, 0.1, 0.5)],
)
def test_gap_closed(loss, live, ceiling, expected):
    assert gap_closed(loss, live=live, ceiling=ceiling) == pytest.approx(expected)


def test_gap_goes_to_the_better_ceiling():
    one = result(ours=0.15, live=0.2, dense=0.1, boosting=0.15)

    assert one.gap_closed("ours", live="live") == pytest.approx(0.5)


def test_near_noise_set_counts_as_a_tie():
    noise = result("noise", ours=0.1, live=0.3, dense=0.295, boosting=0.4)
    clear = result("clear", ours=0.2, live=0.3, dense=0.1, boosting=0.4)

    mean = mean_over_sets([noise, clear], lambda one: one.gap_closed("ours", live="live"))

    assert noise.gap_closed("ours", live="live") is None
    assert (mean.value, mean.n_sets) == (pytest.approx(0.5), 1)


def test_losses_are_clipped():
    wild = result(kind="regression", ours=7.0, other=math.inf, third=-0.5)
    failed = result(ours=math.inf, other=math.nan)

    assert [wild.loss(method) for method in wild.figures] == [1.5, 1.5, 0.0]
    assert [failed.loss(method) for method in failed.figures] == [1.0, 1.0]


@pytest.mark.parametrize(
    ("ours", "theirs", "expected"), [(0.10, 0.13, 1), (0.10, 0.12, 0), (0.15, 0.1, -1)]
)
def test_difference_within_a_standard_error_is_a_tie(ours, theirs, expected):
    one = result(ours=ours, theirs=theirs)

    assert one.duel("ours", "theirs") == expected
    assert one.duel("theirs", "ours") == -expected


def test_duels_and_shares_are_counted():
    three = [
        result("a", ours=0.1, theirs=0.2),
        result("b", ours=0.1, theirs=0.11),
        result("c", ours=0.3, theirs=0.2),
    ]

    assert duels(three, "ours", rival="theirs") == (1, 1, 1)
    assert share_won(three, "ours", rival="theirs") == pytest.approx(2 / 3)


def test_seeds_are_averaged_before_they_are_judged():
    first = result(seed=0, ours=0.1, kind="regression")
    second = result(seed=1, ours=9.0, kind="regression")
    other = result(seed=0, ours=0.4, kind="regression", kappa=2.0)

    means = over_seeds([first, second, other])

    assert [(one.kappa, one.loss("ours")) for one in means] == [(1.0, 0.8), (2.0, 0.4)]
    assert means[0].figures["ours"].standard_error == pytest.approx(0.02)


def test_sets_count_alike_whatever_their_number_of_budgets():
    cells = [
        result("a", kappa=1.0, ours=0.1),
        result("a", kappa=2.0, ours=0.3),
        result("b", ours=0.4),
    ]

    mean = mean_over_sets(cells, lambda one: one.loss("ours"))

    assert mean.value == pytest.approx(0.3)
    assert mean.median == pytest.approx(0.3)
    assert mean.low == pytest.approx(0.2)
    assert mean.high == pytest.approx(0.4)


def test_mean_ranks_share_places():
    cells = [result("a", x=0.1, y=0.2, z=0.2), result("b", x=0.3, y=0.2, z=0.1)]

    assert mean_ranks(cells) == {"x": 2.0, "y": 2.25, "z": 1.75}


def test_interval_is_of_families():
    related = bootstrap_interval([[0.0] * 10, [1.0] * 10])
    apart = bootstrap_interval([[0.0]] * 10 + [[1.0]] * 10)

    assert related == (0.0, 1.0)
    assert 0.2 < apart[0] < 0.5 < apart[1] < 0.8


def test_interval_of_many_agrees_with_the_normal_one():
    values = np.random.default_rng(0).normal(size=400)

    low, high = bootstrap_interval([[value] for value in values.tolist()])

    error = values.std() / 20
    assert low == pytest.approx(values.mean() - 1.96 * error, abs=0.02)
    assert high == pytest.approx(values.mean() + 1.96 * error, abs=0.02)


def test_retention_is_over_sets_that_gain():
    def with_balance(name, before, after, kind="classification"):
        figures = {
            "before": figure(0.3, balanced_error=before),
            "after": figure(0.2, balanced_error=after),
        }
        return result(name, kind=kind, **figures)

    cells = [
        with_balance("half", 0.4, 0.3),  # 0.1 of 0.2 above chance
        with_balance("flat", 0.45, 0.46),  # gains 0.04
        with_balance("numbers", math.nan, math.nan, kind="regression"),
    ]

    kept = retention(cells, before="before", after="after")

    assert (kept.value, kept.n_sets) == (pytest.approx(0.5), 1)


def test_nothing_to_average_is_not_a_number():
    mean = mean_over_sets([result(ours=0.1)], lambda one: None)

    assert math.isnan(mean.value)
    assert mean.n_sets == 0


def test_results_are_json():
    one = result(ours=figure(0.1, balanced_error=math.nan))

    plain = json.loads(json.dumps(one.to_json(), allow_nan=False))

    assert plain["figures"]["ours"]["loss"] == 0.1
    assert plain["figures"]["ours"]["balanced_error"] is None
