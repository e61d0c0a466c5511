"""The synthetic prior over data sets."""

from collections import Counter

import pytest
import torch
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.neighbors import KNeighborsClassifier
from toys import seeded

from graphpred.errors import InputError
from graphpred.synthetic import prior
from graphpred.synthetic.prior import PriorConfig, draw_task

SMALL = PriorConfig(features=(1, 12), classes=(2, 6), train_rows=(20, 120), validation_rows=20)
N_DRAWS = 60


@pytest.fixture(scope="module")
def tasks():
    return [draw_task(generator=seeded(seed), config=SMALL) for seed in range(N_DRAWS)]


def test_draws_are_valid(tasks):
    for task in tasks:
        X, y = task.rows("train")
        assert 20 <= len(X) <= 120
        assert len(task.rows("validation")[0]) == 20
        assert not len(task.split.test)
        assert 1 <= task.n_features <= 12
        assert task.X.isfinite().all()
        varies = X.amax(0) > X.amin(0)
        torch.testing.assert_close(
            X.mean(0)[varies], torch.zeros(int(varies.sum())), atol=0.3, rtol=0
        )
        assert task.X.abs().max() <= 30
        if task.is_classification:
            assert 2 <= task.n_outputs <= 6
            assert 0 <= int(task.y.min()) <= int(task.y.max()) < task.n_outputs
            assert int((torch.bincount(y) >= 2).sum()) >= 2
        else:
            assert task.n_outputs == 1
            torch.testing.assert_close(y.std(0, correction=0), torch.ones(1), atol=1e-4, rtol=0)
            assert task.y.isfinite().all()


def test_sizes_and_kinds_vary(tasks):
    kinds = Counter(task.kind for task in tasks)

    assert 0.1 * N_DRAWS < kinds["regression"] < 0.45 * N_DRAWS
    assert len({task.n_features for task in tasks}) > 6
    assert {task.n_outputs for task in tasks if task.is_classification} >= {2, 3, 4}
    assert len({len(task.split.train) for task in tasks}) > 20


@pytest.mark.parametrize(("share", "kind"), [(0.0, "classification"), (1.0, "regression")])
def test_share_of_regressions_is_obeyed(share, kind):
    config = PriorConfig(features=(2, 4), train_rows=(20, 30), regression_share=share)

    kinds = {draw_task(generator=seeded(seed), config=config).kind for seed in range(10)}

    assert kinds == {kind}


def test_ranges_include_both_ends():
    config = PriorConfig(features=(3, 4), classes=(2, 3), train_rows=(20, 21), regression_share=0.0)

    drawn = [draw_task(generator=seeded(seed), config=config) for seed in range(40)]

    assert {task.n_features for task in drawn} == {3, 4}
    assert {task.n_outputs for task in drawn} == {2, 3}
    assert {len(task.split.train) for task in drawn} == {20, 21}


def test_draws_depend_on_the_generator_alone():
    before = torch.get_rng_state()

    first, second, other = (draw_task(generator=seeded(seed), config=SMALL) for seed in (5, 5, 6))

    assert torch.equal(first.X, second.X)
    assert torch.equal(first.y, second.y)
    assert first.X.shape != other.X.shape or not torch.equal(first.X, other.X)
    assert torch.equal(before, torch.get_rng_state())


def test_draws_of_one_generator_differ():
    generator = seeded()

    first, second = (draw_task(generator=generator, config=SMALL) for _ in range(2))

    assert first.X.shape != second.X.shape or not torch.equal(first.X, second.X)


def test_targets_can_be_learnt_and_not_all_by_a_line(tasks):
    """Families are varied: some targets are linear, some need more, few are noise."""
    linear, any_model = 0, 0
    for task in tasks:
        (X, y), (X_new, y_new) = (
            [part.numpy() for part in task.rows(p)] for p in ("train", "validation")
        )
        if not task.is_classification:
            linear += Ridge().fit(X, y).score(X_new, y_new) > 0.5
            any_model += 1
            continue
        constant = max(Counter(y.tolist()).values()) / len(y)
        line = LogisticRegression(max_iter=2000).fit(X, y).score(X_new, y_new)
        near = KNeighborsClassifier(5).fit(X, y).score(X_new, y_new)
        linear += line > constant + 0.1
        any_model += max(line, near) > constant + 0.1

    assert 0.2 * N_DRAWS < linear < 0.9 * N_DRAWS
    assert any_model > 0.5 * N_DRAWS


@pytest.mark.parametrize("family", prior._FAMILIES, ids=lambda f: f.__name__)
@pytest.mark.parametrize(("n", "c"), [(1, 1), (2, 3), (12, 10)])
def test_every_family_gives_finite_scores_that_depend_on_the_features(family, n, c):
    X = torch.randn(200, n, generator=seeded(1))

    scores, again = (family(X, c, seeded(2)) for _ in range(2))

    assert scores.shape == (200, c)
    assert scores.isfinite().all()
    assert torch.equal(scores, again)
    assert scores.std(dim=0).max() > 0
    assert torch.equal(family(X[:50], c, seeded(2)), scores[:50]) or family is prior._network


def test_families_see_interactions():
    """The products hold an exclusive or: invisible to a line, visible to the product of signs."""
    X = torch.randn(4000, 2, generator=seeded())

    scores = torch.cat([prior._products(X, 1, seeded(seed)) for seed in range(6)], dim=1)

    line = torch.linalg.lstsq(X, scores).solution
    assert line.abs().max() < 0.1
    agreement = (scores.sign() == X.prod(dim=1, keepdim=True).sign()).float().mean(dim=0)
    assert agreement.min() > 0.99


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"features": (0, 3)}, "features must be a range from 1 up"),
        ({"features": (5, 3)}, "features must be a range"),
        ({"classes": (1, 3)}, "classes must be a range from 2 up"),
        ({"train_rows": (10, 30)}, "train_rows must be a range from 20 up"),
        ({"validation_rows": 0}, "validation_rows must be at least 1"),
        ({"regression_share": 1.5}, "regression_share must be in"),
        ({"regression_share": -0.1}, "regression_share must be in"),
    ],
)
def test_bad_configs_are_refused(settings, message):
    with pytest.raises(InputError, match=message):
        PriorConfig(**settings)
