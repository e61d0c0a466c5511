"""Rounds of refinement: what they reach before any training, and the pieces they are made of."""

from itertools import pairwise

import pytest
import torch
from scipy.stats import spearmanr
from torch.nn import functional
from toys import rebuilt, seeded, toy_model, toy_task

from graphpred.meta.edges import (
    EDGE_SIZE,
    THRESHOLD,
    Action,
    edge_step,
    edges_seen,
    garrote,
    limited,
    multiple,
)
from graphpred.meta.feedback import Hidden, Rows
from graphpred.meta.model import draw_latents
from graphpred.meta.refinement import PRICE_FACTOR
from graphpred.meta.relaxed import edge_loss, network_scores

KINDS = ("classification", "regression")
PRICES = (0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0)


@pytest.fixture(scope="module")
def model():
    """Initial parameters, but for classes that are drawn evenly: targets of toys are sines."""
    model = toy_model(n_rounds=10).requires_grad_(False)
    model.decoder.drafter.activation.bias.zero_()
    return model


def refined(model, task, *, prices=(0.003,), n_hidden=8, seed=0):
    """Networks before and after every round, and the sample they were refined on."""
    description = model.describe(task)
    latents = draw_latents(n_hidden, generator=seeded(seed))
    rounds = model(
        [description] * len(prices),
        prices=torch.tensor(prices),
        latents=[latents] * len(prices),
    )
    return rounds, description.sample


def losses(rounds, sample):
    """Loss of the first data set's network on the sample, before and after every round."""
    found = []
    for decoded in rounds:
        scores = network_scores(decoded, sample.X[None])[0]
        squared = (scores - sample.y).square().mean()
        entropy = functional.cross_entropy(scores, sample.y)
        found.append(float(squared if sample.is_regression else entropy))
    return found


# What untrained rounds reach


@pytest.mark.parametrize("seed", range(3))
def test_rounds_separate_classes_before_any_training(model, seed):
    found = losses(*refined(model, toy_task(m=200, seed=seed)))

    assert found[-1] < 0.75 * found[0]
    assert all(after < before + 0.02 for before, after in pairwise(found))


@pytest.mark.parametrize("seed", range(3))
def test_rounds_fit_quantities_better_than_a_linear_model_before_any_training(model, seed):
    rounds, sample = refined(model, toy_task("regression", m=200, c=1, seed=seed))
    X = functional.pad(sample.X, (0, 1), value=1.0)
    linear = X @ torch.linalg.lstsq(X, sample.y).solution

    found = losses(rounds, sample)

    assert found[-1] < 0.95 * float((linear - sample.y).square().mean())
    assert all(after < before + 0.02 for before, after in pairwise(found))


@pytest.mark.parametrize("kind", KINDS)
def test_a_higher_price_gives_fewer_edges(model, kind):
    rounds, _ = refined(model, toy_task(kind, m=200), prices=PRICES)

    expected = edge_loss(rounds[-1])
    likely = sum((p > 0.5).flatten(1).sum(dim=1) for p in rounds[-1].probabilities)

    assert spearmanr(PRICES, expected).statistic < -0.9
    assert spearmanr(PRICES, likely).statistic < -0.8
    assert likely[0] > 2 * likely[-1]


def test_edges_of_features_that_say_nothing_go(model):
    task = toy_task(n=6, m=400, c=2)
    X = task.X.clone()
    X[:, 3:] = torch.randn(len(X), 3, generator=seeded(4))

    (*_, decoded), _ = refined(model, rebuilt(task, X=X), prices=(0.03,))

    use = decoded.probabilities[0][0].mean(dim=1)
    assert use[:3].mean() > 1.3 * use[3:].mean()


# The threshold


def test_what_is_dense_at_first_becomes_sparse(model):
    rounds, _ = refined(model, toy_task(), prices=(0.1,))

    for number, decoded in enumerate(rounds):
        threshold = THRESHOLD * number / 10
        for v, weight in zip((decoded.hidden, decoded.output), decoded.weights, strict=True):
            assert torch.equal(weight != 0, v.abs() > threshold)
    assert bool((rounds[0].weights[0] != 0).all())
    assert not bool((rounds[-1].weights[0] != 0).all())


@pytest.mark.parametrize("kind", KINDS)
def test_threshold_of_edges_to_outputs_is_where_they_save_what_they_cost(model, kind):
    task, price = toy_task(kind), 0.1
    (*_, decoded), sample = refined(model, task, prices=(price,))
    kept = garrote(decoded.output, THRESHOLD)
    live = (kept[0] != 0).nonzero()
    assert len(live)

    rows = Rows.of([sample], device=torch.device("cpu"))
    said = {"weight": decoded.weights[0], "bias": decoded.biases[0], "classes": decoded.classes}
    deviation, curvature = Hidden.of(rows, **said).deviation[0], rows.curvature[0]
    for i, k in live.tolist():
        logits = decoded.weights[1][0, i, k] * deviation[i]
        unit = float(logits / kept[0, i, k])
        saved = float(curvature[k]) * (THRESHOLD * unit) ** 2 / 2
        assert saved == pytest.approx(PRICE_FACTOR * price / decoded.n_possible, rel=1e-3)


@pytest.mark.parametrize(
    ("v", "threshold", "expected"),
    [
        (0.0, 0.3, 0.0),
        (0.29, 0.3, 0.0),
        (-0.3, 0.3, 0.0),
        (0.6, 0.3, 0.45),
        (-0.6, 0.3, -0.45),
        (3.0, 0.3, 2.97),
        (0.5, 0.0, 0.5),
        (0.0, 0.0, 0.0),
    ],
)
def test_garrote(v, threshold, expected):
    assert float(garrote(torch.tensor(v), threshold)) == pytest.approx(expected, abs=1e-6)


def test_gradient_of_the_garrote_is_finite_at_zero():
    v = torch.tensor([0.0, 0.1, 1.0], requires_grad=True)

    garrote(v, 0.3).sum().backward()

    assert v.grad[:2].tolist() == [0.0, 0.0]
    assert float(v.grad[2]) == pytest.approx(1.09, abs=1e-5)


# The rule for edges


def no_action(v):
    return Action(**dict.fromkeys(Action.__dataclass_fields__, torch.zeros_like(v)))


def step_of(v, *, saved, let_go=0.9, taken=0.0, repeated=0.0):
    v = torch.full((1, 1, 1), v)
    fixed = {"threshold": 0.3, "steps": (v, v, v)}
    edge = edges_seen(v, saved=torch.full_like(v, saved), **fixed)
    assert edge.shape == (1, 1, 1, EDGE_SIZE)
    return float(
        edge_step(
            v,
            taken=torch.full_like(v, taken),
            repeated=torch.full_like(v, repeated),
            action=no_action(v),
            edge=edge,
            let_go=let_go,
        )
    )


def test_an_edge_is_let_go_if_it_saves_less_than_it_costs():
    assert step_of(1.0, saved=0.0) == pytest.approx(-0.9, abs=1e-3)
    assert step_of(-1.0, saved=0.0) == pytest.approx(0.9, abs=1e-3)
    assert step_of(1.0, saved=1.0) == pytest.approx(-0.45, abs=1e-2)
    assert step_of(1.0, saved=1e3) == pytest.approx(0.0, abs=1e-3)


def test_a_step_takes_newtons_and_repeats_the_last():
    assert step_of(1.0, saved=1e6, taken=0.2) == pytest.approx(-0.2, abs=1e-3)
    assert step_of(1.0, saved=1e6, repeated=0.2) == pytest.approx(0.2, abs=1e-3)


def test_what_the_rule_adds_is_of_limited_size():
    v = torch.ones(1, 1, 1)
    steps = {"taken": 0 * v, "repeated": 0 * v, "let_go": 0.0}
    edge = torch.zeros(1, 1, 1, EDGE_SIZE)
    wild = Action(**vars(no_action(v)) | {"free": 1e3 * v})

    assert float(edge_step(v, action=wild, edge=edge, **steps)) == pytest.approx(0.3)


def test_a_factor_is_one_if_the_rule_says_nothing():
    factors = multiple(torch.tensor([0.0, 1.0, -1.0, 1e4, -1e4]))

    assert float(factors[0]) == 1
    assert factors.isfinite().all()
    assert bool((factors > 0).all())


# Gradients through the rounds


def test_limited_is_the_identity():
    x = torch.randn(3, 4, 5, generator=seeded())

    assert torch.equal(limited(x), x)


def test_limited_clips_the_gradient_of_every_data_set_by_itself():
    x = torch.zeros(3, 4, 5, requires_grad=True)
    gradient = torch.randn(3, 4, 5, generator=seeded())
    gradient = gradient / gradient.flatten(1).norm(dim=1).view(3, 1, 1)
    gradient = gradient * torch.tensor([0.1, 5.0, 1e6]).view(3, 1, 1)

    limited(x).backward(gradient)

    norms = x.grad.flatten(1).norm(dim=1).tolist()
    assert norms == pytest.approx([0.1, 2.0, 2.0], rel=1e-4)
    direction = torch.cosine_similarity(x.grad.flatten(1), gradient.flatten(1))
    torch.testing.assert_close(direction, torch.ones(3))


def test_limited_stops_gradients_that_are_no_numbers():
    x = torch.zeros(2, 3, requires_grad=True)
    gradient = torch.tensor([[1.0, float("nan"), 0.0], [0.1, 0.2, 0.3]])

    limited(x).backward(gradient)

    assert x.grad.isfinite().all()
    torch.testing.assert_close(x.grad[1], gradient[1])


@pytest.mark.parametrize("kind", KINDS)
def test_gradients_of_all_parameters_are_finite_through_all_rounds(kind):
    model = toy_model(n_rounds=10)
    rounds, sample = refined(model, toy_task(kind), prices=(0.001, 1.0))

    scores = network_scores(rounds[-1], sample.X.expand(2, -1, -1))
    ((scores - sample.y).square().mean() + edge_loss(rounds[-1]).sum()).backward()

    for name, parameter in model.decoder.refiner.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name
        assert parameter.grad.any() or parameter.dim() == 1 or "last" not in name, name
