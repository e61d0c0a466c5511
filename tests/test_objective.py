"""Losses against scikit-learn, and the price of edges."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from sklearn import metrics

from graphpred.errors import GraphPredError, InputError
from graphpred.objective import LOSSES, Objective, auc_error, default_loss

CLASSIFICATION = {
    "error": lambda y, p: 1 - metrics.accuracy_score(y, p.argmax(1)),
    "balanced_error": lambda y, p: 1 - metrics.balanced_accuracy_score(y, p.argmax(1)),
    "auc_error": lambda y, p: (
        1
        - metrics.roc_auc_score(
            y, p[:, 1] if p.shape[1] == 2 else p, multi_class="ovr", average="macro"
        )
    ),
    "log_loss": lambda y, p: metrics.log_loss(y, p, labels=range(p.shape[1])),
}
REGRESSION = {
    "mse": metrics.mean_squared_error,
    "mae": metrics.mean_absolute_error,
    "unexplained": lambda y, prediction: 1 - metrics.r2_score(y, prediction),
}


def test_every_loss_is_compared_here_and_knows_its_kind():
    kinds = {name: kind for name, (_, kind) in LOSSES.items()}

    assert kinds == {
        **dict.fromkeys(CLASSIFICATION, "classification"),
        **dict.fromkeys(REGRESSION, "regression"),
    }
    assert default_loss("classification") == "error"
    assert default_loss("regression") == "unexplained"
    assert Objective(loss="mse").kind == "regression"


@pytest.mark.parametrize("ties", [False, True], ids=["distinct", "ties"])
@pytest.mark.parametrize("n_classes", [2, 3, 5])
@pytest.mark.parametrize("name", CLASSIFICATION)
def test_classification_losses_of_many_networks_are_those_of_sklearn(
    name, n_classes, ties, generator
):
    y = torch.cat([torch.arange(n_classes), torch.randint(n_classes, (40,), generator=generator)])
    rows = torch.randint(8, y.shape, generator=generator) if ties else torch.arange(len(y))
    scores = 2 * torch.randn(4, n_classes, len(y), generator=generator)[:, :, rows]

    losses = Objective(loss=name).losses(scores, y)

    probabilities = scores.double().softmax(dim=1).transpose(1, 2).numpy()
    expected = [CLASSIFICATION[name](y.numpy(), p) for p in probabilities]
    assert losses.dtype == torch.float64
    np.testing.assert_allclose(losses.numpy(), expected, atol=1e-6)


@given(st.lists(st.tuples(st.booleans(), st.integers(-3, 3)), min_size=2, max_size=12))
def test_auc_error_is_the_share_of_pairs_in_the_wrong_order(rows):
    y = torch.tensor([positive for positive, _ in rows]).long()
    score = torch.tensor([float(value) for _, value in rows])
    pairs = [(p, n) for p in score[y == 1].tolist() for n in score[y == 0].tolist()]
    scores = torch.stack([torch.zeros_like(score), score]).unsqueeze(0)  # (1, 2, m)
    if not pairs:
        with pytest.raises(InputError, match="rows of two classes"):
            auc_error(scores, y)
        return

    wrong = sum((p < n) + (p == n) / 2 for p, n in pairs) / len(pairs)

    assert auc_error(scores, y).item() == pytest.approx(wrong)


@pytest.mark.parametrize("n_outputs", [1, 3])
@pytest.mark.parametrize("name", REGRESSION)
def test_regression_losses_of_many_networks_are_those_of_sklearn(name, n_outputs, generator):
    y = 5 + 3 * torch.randn(30, n_outputs, generator=generator)
    scores = 5 + torch.randn(4, n_outputs, 30, generator=generator)

    losses = Objective(loss=name).losses(scores, y)

    expected = [REGRESSION[name](y.numpy(), each.T.numpy()) for each in scores]
    assert losses.dtype == torch.float64
    np.testing.assert_allclose(losses.numpy(), expected, rtol=1e-5)


@pytest.mark.parametrize("constant", [0.0, 0.1, 1 / 3, 1e6 + 0.1])
@pytest.mark.parametrize("n_rows", [1, 37, 1000])
def test_unexplained_of_a_constant_target_is_the_squared_error(constant, n_rows):
    y = torch.full((n_rows, 1), constant, dtype=torch.float64)

    losses = Objective(loss="unexplained").losses((y.T + 2).expand(2, 1, n_rows), y)

    assert losses.tolist() == pytest.approx([4, 4])


def test_balanced_error_leaves_classes_without_rows_out():
    scores = torch.eye(3)[[0, 2, 2]].T.unsqueeze(0)  # predicts 0, 2, 2

    losses = Objective(loss="balanced_error").losses(scores, torch.tensor([0, 0, 2]))

    assert losses.tolist() == [0.25]  # mean of 1/2 and 0; class 1 does not occur


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("name", LOSSES)
def test_network_with_scores_that_are_not_finite_has_infinite_loss_and_neighbours_do_not_notice(
    name, bad, generator
):
    objective = Objective(loss=name, penalty=0.1)
    scores = torch.randn(3, 2, 10, generator=generator)
    y = torch.arange(10) % 2
    if objective.kind == "regression":
        y = torch.randn(10, 2, generator=generator)
    expected = objective.value(scores, y, n_edges=[1, 2, 3])
    scores[1, 0, 4] = bad

    values = objective.value(scores, y, n_edges=[1, 2, 3])

    assert values[1] == math.inf
    assert torch.equal(values[[0, 2]], expected[[0, 2]])


@given(st.floats(0, 10), st.lists(st.integers(0, 10**6), min_size=3, max_size=3))
def test_value_is_loss_plus_c_times_k(c, n_edges):
    scores = torch.tensor([[[2.0, 0.0], [1.0, 3.0]], [[0.0, 0], [1, 1]], [[1, 1], [0, 0]]])

    values = Objective(penalty=c).value(scores, torch.tensor([0, 0]), n_edges=n_edges)

    expected = [loss + c * k for loss, k in zip([0.5, 1.0, 0.0], n_edges, strict=True)]
    assert values.tolist() == pytest.approx(expected, rel=1e-12)


def test_any_increasing_function_can_be_the_penalty():
    objective = Objective(penalty=lambda k: math.log1p(k) / 10)

    values = objective.value(torch.tensor([[[1.0], [0.0]]]), torch.tensor([1]), n_edges=[7])

    assert objective.cost(7) == pytest.approx(math.log(8) / 10)
    assert values.tolist() == pytest.approx([1 + math.log(8) / 10])
    assert Objective(penalty=lambda k: float(k >= 5)).cost(5) == 1  # flat parts are allowed


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"loss": "accuracy"}, "one of error, balanced_error, .*unexplained; got 'accuracy'"),
        ({"penalty": -0.1}, "number of at least 0; got -0.1"),
        ({"penalty": math.nan}, "number of at least 0; got nan"),
        ({"penalty": math.inf}, "number of at least 0; got inf"),
        ({"penalty": lambda k: -k}, r"not decrease .* g\(0\) = 0.0, g\(1\) = -1.0"),
        ({"penalty": lambda k: abs(k - 9)}, r"not decrease .* g\(0\) = 9.0, g\(1\) = 8.0"),
        ({"penalty": lambda k: min(k, 2000 - k)}, r"not decrease .* g\(1024\) = 976.0"),
        ({"penalty": lambda k: math.nan}, "not decrease .* nan"),
        ({"penalty": lambda k: math.inf}, "not decrease .* inf"),
    ],
)
def test_bad_field_is_refused_with_the_reason(fields, message):
    with pytest.raises(GraphPredError, match=message) as caught:
        Objective(**fields)

    assert isinstance(caught.value, InputError)


def test_a_price_may_grow_beyond_what_a_float_holds():
    objective = Objective(penalty=lambda k: 1.01**k)

    assert objective.cost(10) == pytest.approx(1.01**10)
    assert objective.cost(10**6) == math.inf
