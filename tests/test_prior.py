"""The synthetic prior over data sets: what whole draws are like."""

import math
from collections import Counter

import pytest
import torch
from sklearn.ensemble import RandomForestClassifier, RandomForestRegressor
from sklearn.linear_model import LogisticRegression, Ridge
from toys import seeded

from graphpred.errors import InputError
from graphpred.synthetic import FAMILIES, PRIOR_VERSION, PriorConfig, draw_task, draw_tasks
from graphpred.synthetic.features import Columns

SMALL = PriorConfig(
    features=(1, 12), classes=(2, 6), outputs=(1, 2), train_rows=(20, 120), validation_rows=20
)
N_DRAWS = 96


@pytest.fixture(scope="module")
def tasks():
    return draw_tasks(N_DRAWS, generator=seeded(), config=SMALL, group=4)


def same(first, second):
    return (
        first.X.shape == second.X.shape
        and torch.equal(first.X, second.X)
        and torch.equal(first.y, second.y)
    )


def gains_of(task, *models):
    """What models gain on validation rows over the majority class, or the mean; and that."""
    arrays = [part.numpy() for rows in ("train", "validation") for part in task.rows(rows)]
    X, y, X_new, y_new = (a.ravel() if i % 2 and task.n_outputs == 1 else a
                          for i, a in enumerate(arrays))  # fmt: skip
    base = 0.0
    if task.is_classification:
        base = float((y_new == Counter(y.tolist()).most_common(1)[0][0]).mean())
    return [float(model.fit(X, y).score(X_new, y_new)) - base for model in models], base


def test_draws_are_valid(tasks):
    for task in tasks:
        X, y = task.rows("train")
        assert 20 <= len(X) <= 120
        assert len(task.rows("validation")[0]) == 20
        assert not len(task.split.test)
        assert 1 <= task.n_features <= 12
        assert task.X.isfinite().all()
        assert task.X.abs().max() <= 30
        assert (X.amax(0) > X.amin(0)).all()
        torch.testing.assert_close(X.mean(0), torch.zeros(task.n_features), atol=0.05, rtol=0)
        torch.testing.assert_close(
            X.std(0, correction=0), torch.ones(task.n_features), atol=0.05, rtol=0
        )
        if task.is_classification:
            assert 2 <= task.n_outputs <= 6
            assert 0 <= int(task.y.min()) <= int(task.y.max()) < task.n_outputs
            assert int((torch.bincount(y) >= 2).sum()) >= 2
        else:
            assert 1 <= task.n_outputs <= 2
            ones = torch.ones(task.n_outputs)
            torch.testing.assert_close(y.mean(0), 0 * ones, atol=1e-4, rtol=0)
            torch.testing.assert_close(y.std(0, correction=0), ones, atol=1e-4, rtol=0)
            assert task.y.isfinite().all()


def test_sizes_and_kinds_vary(tasks):
    kinds = Counter(task.kind for task in tasks)

    assert 0.1 * N_DRAWS < kinds["regression"] < 0.45 * N_DRAWS
    assert len({task.n_features for task in tasks}) > 6
    assert {task.n_outputs for task in tasks if task.is_classification} >= {2, 3, 4}
    assert len({len(task.split.train) for task in tasks}) > 15


@pytest.mark.parametrize(("share", "kind"), [(0.0, "classification"), (1.0, "regression")])
def test_share_of_regressions_is_obeyed(share, kind):
    config = PriorConfig(features=(2, 4), train_rows=(20, 30), regression_share=share)

    kinds = {draw_task(generator=seeded(seed), config=config).kind for seed in range(10)}

    assert kinds == {kind}


@pytest.mark.parametrize("kind", ["classification", "regression"])
def test_ranges_include_both_ends(kind):
    config = PriorConfig(
        features=(3, 4),
        classes=(2, 3),
        outputs=(2, 3),
        train_rows=(20, 21),
        regression_share=float(kind == "regression"),
    )

    drawn = draw_tasks(60, generator=seeded(), config=config, group=1)

    assert {task.n_features for task in drawn} == {3, 4}
    assert {task.n_outputs for task in drawn} == {2, 3}
    assert {len(task.split.train) for task in drawn} == {20, 21}


def test_draws_depend_on_the_generator_alone():
    before = torch.get_rng_state()

    first, second, other = (
        draw_tasks(10, generator=seeded(seed), config=SMALL, group=4) for seed in (5, 5, 6)
    )
    alone, again = (draw_task(generator=seeded(5), config=SMALL) for _ in range(2))

    assert all(map(same, first, second))
    assert not any(map(same, first, other))
    assert same(alone, again)
    assert torch.equal(before, torch.get_rng_state())


def test_no_two_draws_of_one_generator_are_alike(tasks):
    for i, task in enumerate(tasks):
        assert not any(same(task, other) for other in tasks[:i])


def test_a_group_shares_its_shape_and_nothing_else():
    generator = seeded()

    together = draw_tasks(12, generator=generator, config=SMALL, group=12)
    apart = draw_tasks(12, generator=generator, config=SMALL, group=1)

    assert len({(task.X.shape, task.kind, task.n_outputs) for task in together}) <= 2
    assert len({(task.X.shape, task.kind, task.n_outputs) for task in apart}) > 8
    assert draw_tasks(0, generator=generator) == []


def test_tasks_hold_what_a_learner_sees(monkeypatch):
    monkeypatch.setattr(Columns, "observed", lambda columns: torch.full_like(columns.values, 7.0))

    assert (draw_task(generator=seeded(), config=SMALL).X == 7).all()


@pytest.mark.parametrize(("k", "group"), [(-1, 4), (3, 0)])
def test_bad_numbers_of_data_sets_are_refused(k, group):
    with pytest.raises(InputError, match="k must be at least 0 and group at least 1"):
        draw_tasks(k, generator=seeded(), group=group)


@pytest.mark.parametrize(
    ("n", "m", "c"), [(100, 1000, 50), (2, 400, 10), (100, 60, 60), (1, 20, 2)]
)
def test_extreme_shapes_can_be_drawn(n, m, c):
    config = PriorConfig(
        features=(n, n), classes=(c, c), train_rows=(m, m), regression_share=0.0, imbalance=0.5
    )

    for task in draw_tasks(3, generator=seeded(), config=config):
        assert task.X.shape == (m + config.validation_rows, n)
        assert task.n_outputs == c
        present = len(task.y.unique())
        assert present >= (0.7 * c if m >= 20 * c and n > 2 else 2)


def test_targets_can_be_learnt_and_not_all_by_a_line_nor_all_perfectly():
    config = PriorConfig(features=(2, 12), classes=(2, 4), train_rows=(300, 300))
    linear, flexible, perfect = [], [], []
    for task in draw_tasks(48, generator=seeded(1), config=config, group=4):
        models = (
            (LogisticRegression(max_iter=3000), RandomForestClassifier(15, random_state=0))
            if task.is_classification
            else (Ridge(), RandomForestRegressor(15, random_state=0))
        )
        gains, base = gains_of(task, *models)
        linear.append(gains[0] > 0.05)
        flexible.append(max(gains) > 0.05)
        perfect.append(max(gains) + base > 0.97)

    assert sum(flexible) > 0.7 * len(flexible)
    assert 0.3 * len(linear) < sum(linear) < sum(flexible)
    assert sum(perfect) < 0.4 * len(perfect)


def quiet(**settings):
    """Two even classes without any noise."""
    common = {"classes": (2, 2), "regression_share": 0.0}
    silent = {"noise": 0.0, "label_noise": 0.0, "imbalance": 0.0}
    return PriorConfig(**(common | silent | settings))


def test_parity_is_not_for_lines():
    """Parity alone is nearly invisible to a line and plain to a forest; linear alone is not."""
    gains = {}
    for family in ("linear", "parity"):
        config = quiet(features=(2, 2), train_rows=(600, 600), families=(family,), missing=0.0)
        models = LogisticRegression(), RandomForestClassifier(10, random_state=0)
        drawn = draw_tasks(32, generator=seeded(), config=config, group=8)
        gains[family] = torch.tensor([gains_of(task, *models)[0] for task in drawn])

    assert gains["linear"][:, 0].median() > 0.4
    assert gains["parity"][:, 0].median() < 0.15
    assert gains["parity"][:, 1].median() > 0.3


def test_noise_in_the_target_is_obeyed():
    accuracy = []
    for settings in ({}, {"noise": 4.0}, {"label_noise": 1.0}):
        config = quiet(features=(3, 3), train_rows=(500, 500), families=("linear",), **settings)
        found = [
            gains_of(task, LogisticRegression())
            for task in draw_tasks(32, generator=seeded(), config=config)
        ]
        accuracy.append(sum(gains[0] + base for gains, base in found) / len(found))

    assert accuracy[0] > 0.93
    assert accuracy[1] < accuracy[0] - 0.05
    assert accuracy[2] < accuracy[0] - 0.03


def test_the_version_grows_when_draws_change():
    """If this fails because the prior was changed on purpose, raise PRIOR_VERSION."""
    drawn = draw_tasks(4, generator=seeded(), config=SMALL, group=2)

    summary = [(*task.X.shape, task.n_outputs, task.kind[0]) for task in drawn]
    assert (PRIOR_VERSION, summary) == FROZEN
    assert drawn[0].X[0, 0].item() == pytest.approx(FROZEN_VALUE, abs=1e-3)


FROZEN = (4, [(99, 3, 1, "r"), (99, 3, 1, "r"), (54, 1, 1, "r"), (54, 1, 1, "r")])
FROZEN_VALUE = -0.2867


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"features": (0, 3)}, "features must be a range from 1 up"),
        ({"features": (5, 3)}, "features must be a range"),
        ({"classes": (1, 3)}, "classes must be a range from 2 up"),
        ({"outputs": (0, 3)}, "outputs must be a range from 1 up"),
        ({"train_rows": (10, 30)}, "train_rows must be a range from 20 up"),
        ({"validation_rows": 0}, "validation_rows must be at least 1"),
        ({"regression_share": 1.5}, "regression_share must be in"),
        ({"regression_share": -0.1}, "regression_share must be in"),
        ({"label_noise": 1.5}, "label_noise must be in"),
        ({"missing": -1.0}, "missing must be in"),
        ({"noise": -0.1}, "noise must be 0 or a finite number above"),
        ({"output_noise": math.inf}, "output_noise must be 0 or a finite number above"),
        ({"imbalance": float("inf")}, "imbalance must be 0 or a finite number above"),
        ({"imbalance": float("nan")}, "imbalance must be 0 or a finite number above"),
        ({"families": ()}, "families must be some of linear, "),
        ({"families": ("linear", "none")}, "families must be some of linear, "),
    ],
)
def test_bad_configs_are_refused(settings, message):
    with pytest.raises(InputError, match=message):
        PriorConfig(**settings)


def test_every_family_is_in_the_default_prior():
    assert PriorConfig().families == tuple(FAMILIES)
