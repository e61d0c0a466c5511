"""Statistics of a data set against their definitions, written out in numpy."""

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression, Ridge
from toys import permuted_features, permuted_outputs, permuted_rows, rebuilt, seeded, toy_task

from graphpred.meta.moments import N_BASIS, N_TARGETS
from graphpred.meta.statistics import (
    FEATURE_SIZE,
    OUTPUT_SIZE,
    PAIR_SIZE,
    RELATION_SIZE,
    RIDGE_PENALTIES,
    statistics_of,
)
from graphpred.split import Split
from graphpred.task import Task

TASKS = {
    "two classes": lambda: toy_task(c=2),
    "five classes": lambda: toy_task(c=5, m=120),
    "an absent class": lambda: toy_task(c=4, absent=True),
    "one quantity": lambda: toy_task("regression", c=1),
    "two quantities": lambda: toy_task("regression", c=2),
}
BASIS = (
    lambda x: x,
    lambda x: x**2 - 1,
    np.abs,
    lambda x: np.tanh(2 * x),
    np.sign,
    lambda x: np.cos(2 * x),
    lambda x: np.sin(2 * x),
    lambda x: np.exp(-(x**2)),
)


@pytest.fixture(scope="module", params=TASKS)
def task(request):
    return TASKS[request.param]()


@pytest.fixture(scope="module")
def statistics(task):
    return statistics_of(task)


def training_rows(task):
    X, y = task.rows("train")
    return X.numpy().astype(np.float64), y.numpy()


def target_functions(task):
    """u_kr before scaling: ``[output][function]``, each ``(m,)``."""
    _, y = training_rows(task)
    if task.is_classification:
        zero = np.zeros(len(y))
        return [[(y == k) * 1.0, zero, zero, zero] for k in range(task.n_outputs)]

    def sigmoid(z):
        return 1 / (1 + np.exp(-z))

    return [
        [q, q**2, sigmoid((-q - 0.67) / 0.3), sigmoid((q - 0.67) / 0.3)]
        for q in y.T.astype(np.float64)
    ]


N_SHAPES = OUTPUT_SIZE - len(RIDGE_PENALTIES) - 1


def correlation(a, b):
    """0 where one of both is constant."""
    spread = a.std() * b.std()
    return 0.0 if spread < 1e-9 else np.mean((a - a.mean()) * (b - b.mean())) / spread


def scaled_indicators(task):
    """u_k1, scaled to mean 0 and variance 1; zeros for an absent class. ``(m, c)``."""
    u = np.stack([functions[0] for functions in target_functions(task)], axis=1)
    spread = u.std(axis=0)
    return (u - u.mean(axis=0)) / np.where(spread > 1e-9, spread, np.inf)


def correlations(statistics):
    table = statistics.relation[:, :, 1 + len(RIDGE_PENALTIES) :].numpy()
    return table.reshape(*table.shape[:2], N_BASIS, N_TARGETS)


def test_correlations_are_those_of_every_function_with_every_target_function(task, statistics):
    X, _ = training_rows(task)

    expected = [
        [[[correlation(phi(x), u) for u in functions] for phi in BASIS] for functions in targets]
        for x in X.T
        for targets in [target_functions(task)]
    ]

    np.testing.assert_allclose(correlations(statistics), expected, atol=1e-4)


def test_ridge_coefficients_are_those_of_a_direct_solution_and_of_scikit_learn(task, statistics):
    X, _ = training_rows(task)
    m, n = X.shape
    u = scaled_indicators(task)

    for r, penalty in enumerate(RIDGE_PENALTIES):
        direct = np.linalg.solve(X.T @ X / m + penalty * np.eye(n), X.T @ u / m)
        theirs = Ridge(alpha=m * penalty, fit_intercept=False).fit(X, u).coef_.reshape(-1, n).T
        ours = statistics.relation[:, :, 1 + r].numpy()
        np.testing.assert_allclose(ours, direct, atol=1e-4)
        np.testing.assert_allclose(ours, theirs, atol=1e-4)


def test_explained_variance_is_that_of_the_ridge_predictions(task, statistics):
    X, _ = training_rows(task)
    u = scaled_indicators(task)
    present = u.std(axis=0) > 0

    for r in range(len(RIDGE_PENALTIES)):
        residual = u - X @ statistics.relation[:, :, 1 + r].numpy()
        expected = np.where(present, 1 - np.mean(residual**2, axis=0), 0)
        ours = statistics.output[:, N_SHAPES + r].numpy()
        np.testing.assert_allclose(ours, expected, atol=1e-4)


def test_linear_guess_is_ridge_at_the_least_cross_validation_error(task, statistics):
    X, y = training_rows(task)
    m, n = X.shape
    u = scaled_indicators(task)
    fits = []
    for penalty in [0.001 * 4**i for i in range(9)]:
        hat = X @ np.linalg.solve(X.T @ X / m + penalty * np.eye(n), X.T / m)
        left = 1 - 2 * np.mean(u * (hat @ u), axis=0) + np.mean((hat @ u) ** 2, axis=0)
        errors = left / (1 - (1 + np.trace(hat)) / m) ** 2
        beta = np.linalg.solve(X.T @ X / m + penalty * np.eye(n), X.T @ u / m)
        fits.append((errors.mean(), errors, beta))
    _, errors, beta = min(fits, key=lambda fit: fit[0])
    expected = (1 - errors).clip(0)

    scale, bias = 1.0, np.zeros(task.n_outputs)
    if task.is_classification:
        share = np.bincount(y, minlength=task.n_outputs) + 0.5
        share = share / share.sum()
        bias = np.log(share) - np.log(share).mean()
        scale = 1 / np.sqrt(share * (1 - share)).clip(0.05) / (1 - expected.clip(0, 0.8))
        scale = scale / (2 if task.n_outputs == 2 else 1)

    np.testing.assert_allclose(statistics.relation[:, :, 0], beta * scale, atol=1e-4, rtol=1e-4)
    np.testing.assert_allclose(statistics.output[:, -1], expected, atol=1e-4)
    np.testing.assert_allclose(statistics.bias, bias, atol=1e-5)


def test_linear_guess_is_near_logistic_regression_of_normal_classes():
    generator = seeded(4)
    y = torch.randint(0, 2, (4000,), generator=generator)
    X = torch.randn(4000, 3, generator=generator) + y[:, None] * torch.tensor([1.0, 0.5, 0.0])
    split = Split(torch.arange(4000), *[torch.arange(0)] * 2)
    task = Task.from_arrays(X.numpy(), y.numpy(), split=split)

    guess = statistics_of(task).relation[:, :, 0]

    theirs = LogisticRegression().fit(*map(np.asarray, task.rows("train"))).coef_[0]
    np.testing.assert_allclose(guess[:, 1] - guess[:, 0], theirs, atol=0.1)


def test_noise_is_given_little_weight():
    generator = seeded(5)
    X = torch.randn(60, 30, generator=generator)
    y = torch.randint(0, 2, (60,), generator=generator)
    split = Split(torch.arange(60), *[torch.arange(0)] * 2)

    statistics = statistics_of(Task.from_arrays(X.numpy(), y.numpy(), split=split))

    assert statistics.relation[:, :, 0].abs().max() < 0.2
    assert statistics.relation[:, :, 2].abs().max() > 0.3  # ridge at 0.01 believes it


def test_output_shapes_are_frequencies_or_moments(task, statistics):
    _, y = training_rows(task)
    shape = statistics.output[:, :N_SHAPES].numpy()

    if task.is_classification:
        share = np.bincount(y, minlength=task.n_outputs) / len(y)
        safe = share.clip(1e-3, 1 - 1e-3)
        np.testing.assert_allclose(shape[:, 0], share, atol=1e-6)
        np.testing.assert_allclose(shape[:, 1], np.log(safe / (1 - safe)) / 4, atol=1e-5)
        assert not shape[:, 2:].any()
    else:
        assert not shape[:, :2].any()
        np.testing.assert_allclose(shape[:, 2], np.mean(y**3, axis=0) / 4, atol=1e-4)
        np.testing.assert_allclose(shape[:, 3], np.mean(y**4, axis=0) / 8 - 0.4, atol=1e-4)
        np.testing.assert_allclose(shape[:, 4], np.mean(np.abs(y), axis=0), atol=1e-5)


def test_features_are_described_by_means_and_strongest_relations(task, statistics):
    X, _ = training_rows(task)
    strength = np.abs(correlations(statistics)).max(axis=(2, 3))
    related = np.abs(X.T @ X / len(X) - np.diag(np.mean(X**2, axis=0))).max(axis=1)

    feature = statistics.feature.numpy()

    means = np.stack([[phi(x).mean() for phi in BASIS] for x in X.T])
    np.testing.assert_allclose(feature[:, :N_BASIS], means, atol=1e-5)
    np.testing.assert_allclose(feature[:, N_BASIS], strength.max(axis=1), atol=1e-5)
    np.testing.assert_allclose(feature[:, N_BASIS + 1], strength.mean(axis=1), atol=1e-5)
    np.testing.assert_allclose(feature[:, N_BASIS + 2], related, atol=1e-5)


def test_pair_statistics_are_second_moments_and_partial_correlations(task, statistics):
    X, _ = training_rows(task)
    m, n = X.shape
    u = scaled_indicators(task)
    covariance = X.T @ X / m
    precision = np.linalg.inv(covariance + 0.1 * np.eye(n))

    for (i, j), pair in zip(statistics.neighbours.T.tolist(), statistics.pair, strict=True):
        a, b = X[:, i], X[:, j]
        expected = [
            np.mean(a * b),
            np.mean(np.sign(a) * np.sign(b)),
            np.mean((a**2 - 1) * b),
            np.mean((b**2 - 1) * a),
            np.sqrt(np.mean(np.mean((a * b)[:, None] * u, axis=0) ** 2)),
            -precision[i, j] / np.sqrt(precision[i, i] * precision[j, j]),
        ]
        np.testing.assert_allclose(pair.numpy(), expected, atol=1e-4)


def test_small_tasks_have_all_pairs_and_large_ones_a_few_per_feature():
    few, many = (statistics_of(toy_task(n=n)).neighbours for n in (5, 30))

    assert {tuple(edge) for edge in few.T.tolist()} == {
        (i, j) for i in range(5) for j in range(5) if i != j
    }
    assert torch.bincount(many[0]).tolist() == [8] * 30
    assert bool((many[0] != many[1]).all())


def test_kept_neighbours_are_the_most_strongly_related_ones():
    task = toy_task(n=12, c=2)
    X, _ = training_rows(task)
    u = scaled_indicators(task)
    interaction = np.sqrt(
        np.mean([(X.T @ (X * u[:, [k]]) / len(X)) ** 2 for k in range(2)], axis=0)
    )
    strength = np.abs(X.T @ X / len(X)) + interaction
    np.fill_diagonal(strength, -1)

    source, target = statistics_of(task).neighbours.numpy()

    for i in range(12):
        assert set(target[source == i]) == set(np.argsort(-strength[i])[:8])


@pytest.mark.parametrize("m", [20, 60, 500])
def test_size_does_not_depend_on_the_number_of_rows(m):
    statistics = statistics_of(toy_task(n=5, c=3, m=m))

    assert statistics.relation.shape == (5, 3, RELATION_SIZE)
    assert statistics.feature.shape == (5, FEATURE_SIZE)
    assert statistics.output.shape == (3, OUTPUT_SIZE)
    assert statistics.pair.shape == (20, PAIR_SIZE)
    n_train = len(toy_task(m=m).split.train)
    assert statistics.size == pytest.approx(n_train / (n_train + 100))


def test_repeating_all_rows_changes_nothing_but_the_trust():
    task = toy_task(m=40)
    X, y = task.rows("train")
    twice = Task.from_arrays(
        torch.cat([X, X]).numpy(),
        torch.cat([y, y]).numpy(),
        split=Split(torch.arange(2 * len(X)), *[torch.arange(0)] * 2),
        class_names=task.class_names,
    )

    once, again = statistics_of(task), statistics_of(twice)

    # The linear guess trusts more rows more; all the rest does not know how many there are.
    torch.testing.assert_close(once.relation[:, :, 1:], again.relation[:, :, 1:], atol=1e-4, rtol=0)
    torch.testing.assert_close(once.pair, again.pair, atol=1e-4, rtol=0)
    assert again.size > once.size


def test_kind_is_told(task, statistics):
    assert statistics.is_regression == (task.kind == "regression")


def test_order_of_rows_changes_nothing(task, statistics):
    shuffled = statistics_of(permuted_rows(task))

    for name in ("relation", "feature", "output", "bias", "pair"):
        first, second = getattr(statistics, name), getattr(shuffled, name)
        torch.testing.assert_close(first, second, atol=1e-5, rtol=0)


def pair_table(statistics, n):
    table = torch.zeros(n, n, PAIR_SIZE)
    table[statistics.neighbours[0], statistics.neighbours[1]] = statistics.pair
    return table


def test_permuting_features_permutes_statistics(task, statistics):
    order = torch.randperm(task.n_features, generator=seeded(1))

    permuted = statistics_of(permuted_features(task, order))

    close = {"atol": 1e-5, "rtol": 0}
    torch.testing.assert_close(permuted.relation, statistics.relation[order], **close)
    torch.testing.assert_close(permuted.feature, statistics.feature[order], **close)
    torch.testing.assert_close(permuted.output, statistics.output, **close)
    expected = pair_table(statistics, task.n_features)[order][:, order]
    torch.testing.assert_close(pair_table(permuted, task.n_features), expected, **close)


def test_permuting_outputs_permutes_statistics(task, statistics):
    order = torch.randperm(task.n_outputs, generator=seeded(3)).flip(0)

    permuted = statistics_of(permuted_outputs(task, order))

    close = {"atol": 1e-5, "rtol": 0}
    torch.testing.assert_close(permuted.relation, statistics.relation[:, order], **close)
    torch.testing.assert_close(permuted.output, statistics.output[order], **close)
    torch.testing.assert_close(permuted.feature, statistics.feature, **close)
    torch.testing.assert_close(permuted.pair, statistics.pair, **close)


def edge_cases():
    wide = toy_task(n=40, m=12, c=2)
    plain = toy_task()
    constant = rebuilt(plain, X=plain.X * torch.tensor([1.0, 0, 1, 1, 1]))
    twins = rebuilt(plain, X=plain.X[:, [0, 0, 1, 2, 2]])
    return {
        "fewer rows than features": wide,
        "a constant feature": constant,
        "nothing but constants": rebuilt(plain, X=torch.zeros_like(plain.X)),
        "duplicate features": twins,
        "one feature": toy_task(n=1),
        "huge values": rebuilt(plain, X=1e4 * plain.X),
        "one quantity, one feature": toy_task("regression", n=1, c=1),
    }


@pytest.mark.parametrize("name", edge_cases())
def test_statistics_are_finite_whatever_the_data(name):
    statistics = statistics_of(edge_cases()[name])

    for part in ("relation", "feature", "output", "bias", "pair"):
        assert getattr(statistics, part).isfinite().all(), part


def test_constant_feature_has_no_relation_to_anything():
    task = edge_cases()["a constant feature"]

    assert statistics_of(task).relation[1].numpy() == pytest.approx(0, abs=1e-9)


def test_duplicate_features_share_the_ridge_weight():
    relation = statistics_of(edge_cases()["duplicate features"]).relation

    torch.testing.assert_close(relation[0], relation[1], atol=1e-4, rtol=0)


def test_exclusive_or_shows_in_the_interaction_and_not_in_the_correlations():
    corners = torch.tensor([[-1.0, -1], [-1, 1], [1, -1], [1, 1]]).repeat(20, 1)
    noise = torch.randn(80, 1, generator=seeded())
    y = (corners.prod(dim=1) > 0).long()
    task = Task.from_arrays(
        torch.cat([corners, noise], dim=1).numpy(),
        y.numpy(),
        split=Split(torch.arange(80), *[torch.arange(0)] * 2),
    )

    statistics = statistics_of(task)

    interaction = pair_table(statistics, 3)[:, :, 4]
    assert correlations(statistics)[:2] == pytest.approx(0, abs=1e-5)
    assert interaction[0, 1] == pytest.approx(1, abs=1e-5)
    assert interaction[0, 2] < 0.5


@pytest.mark.parametrize("kind", ["classification", "regression"])
def test_only_training_rows_are_read(kind):
    task = toy_task(kind, m_test=10)
    others = torch.cat([task.split.validation, task.split.test])
    X, y = task.X.clone(), task.y.clone()
    X[others] = torch.nan
    y[others] = 0

    first, second = statistics_of(task), statistics_of(rebuilt(task, X=X, y=y))

    for name in ("relation", "feature", "output", "bias", "pair"):
        assert torch.equal(getattr(first, name), getattr(second, name))


def test_permuting_many_features_keeps_the_same_neighbours():
    task = toy_task(n=20)
    order = torch.randperm(20, generator=seeded(2))

    first, second = statistics_of(task), statistics_of(permuted_features(task, order))

    renamed = {(int(order[i]), int(order[j])) for i, j in second.neighbours.T.tolist()}
    assert renamed == {tuple(edge) for edge in first.neighbours.T.tolist()}
