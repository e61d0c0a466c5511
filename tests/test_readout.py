"""Weights to the outputs in closed form, against independent solutions."""

import numpy as np
import pytest
import torch
from toys import in_double, seeded, toy_task

from graphpred.activations import activation_indices
from graphpred.meta.readout import fitted_readout
from graphpred.meta.samples import RowSample

NAMES = ("tanh", "relu", "sin", "gaussian", "abs", "tanh")


def network(*, n=5, c=3, seed=0, start=0.3):
    """Arguments of ``fitted_readout`` beside the sample."""
    generator = seeded(seed)
    h = len(NAMES)
    return {
        "into": torch.randn(n, h, generator=generator).double(),
        "hidden_bias": torch.randn(h, generator=generator).double(),
        "classes": torch.tensor(activation_indices(NAMES)),
        "mask": torch.rand(h, c, generator=generator) < 0.6,
        "out": start * torch.randn(h, c, generator=generator).double(),
        "output_bias": start * torch.randn(c, generator=generator).double(),
    }


def sample_of(task):
    return in_double(RowSample.of(task))


def hidden_values(sample, parts):
    """Hidden neurons of every row, ``(q, h)``, by numpy."""
    z = (sample.X @ parts["into"] + parts["hidden_bias"]).numpy()
    functions = (
        np.tanh,
        lambda x: np.maximum(x, 0),
        np.sin,
        lambda x: np.exp(-x * x),
        np.abs,
        np.tanh,
    )
    return np.stack([function(z[:, i]) for i, function in enumerate(functions)], axis=1)


def ridge_solution(sample, parts):
    """Weights and biases that minimise squared error and penalty of every output by itself."""
    values, y = hidden_values(sample, parts), sample.y.numpy()
    q, weight = len(values), np.zeros(parts["mask"].shape)
    deviation = np.sqrt(values.var(axis=0) + 1e-4)
    for k in range(y.shape[1]):
        used = parts["mask"][:, k].numpy()
        scaled = ((values - values.mean(axis=0)) / deviation)[:, used]
        penalty = 0.5 * used.sum() / q + 0.02
        rows = np.concatenate([scaled, np.sqrt(q * penalty) * np.eye(used.sum())])
        wanted = np.concatenate([y[:, k] - y[:, k].mean(), np.zeros(used.sum())])
        solution, *_ = np.linalg.lstsq(rows, wanted, rcond=None)
        weight[used, k] = solution / deviation[used]
    return weight, y.mean(axis=0) - values.mean(axis=0) @ weight


def penalised_loss(sample, parts, *, weight, bias):
    """Cross-entropy and the penalty that ``fitted_readout`` adds to it."""
    values = torch.from_numpy(hidden_values(sample, parts))
    scores = values @ weight + bias
    loss = torch.nn.functional.cross_entropy(scores, sample.y)
    share = sample.y.mean(dim=0)
    curvature = (share * (1 - share)).clamp(min=0.02)
    ridge = 0.5 * parts["mask"].sum(dim=0) / len(values) + 0.02
    scaled = weight * (values.var(dim=0, correction=0) + 1e-4).sqrt().unsqueeze(1)
    return float(loss + (curvature * ridge * scaled.square().sum(dim=0)).sum() / 2)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("c", [1, 3])
def test_of_quantities_it_is_ridge_regression(seed, c):
    sample, parts = sample_of(toy_task("regression", c=c)), network(c=c, seed=seed)

    fitted = fitted_readout(sample, **parts)

    weight, bias = ridge_solution(sample, parts)
    np.testing.assert_allclose(fitted.weight.numpy(), weight, atol=1e-6)
    np.testing.assert_allclose(fitted.bias.numpy(), bias, atol=1e-6)


def test_its_loss_is_that_of_the_network_on_the_rows():
    sample, parts = sample_of(toy_task("regression", c=2)), network(c=2)

    fitted = fitted_readout(sample, **parts)

    scores = torch.from_numpy(hidden_values(sample, parts)) @ fitted.weight + fitted.bias
    assert fitted.loss == pytest.approx(float((scores - sample.y).square().mean()))


def test_its_loss_of_classes_is_that_of_the_network_over_the_one_of_an_even_guess():
    sample, parts = sample_of(toy_task(c=3)), network(c=3)

    fitted = fitted_readout(sample, **parts)

    scores = torch.from_numpy(hidden_values(sample, parts)) @ fitted.weight + fitted.bias
    entropy = torch.nn.functional.cross_entropy(scores, sample.y)
    assert fitted.loss == pytest.approx(float(entropy) / np.log(3), abs=1e-5)


@pytest.mark.parametrize("c", [2, 3, 6])
@pytest.mark.parametrize("start", [0.0, 0.3, 3.0])
def test_of_classes_the_penalised_loss_never_rises(c, start):
    for seed in range(5):
        sample, parts = (
            sample_of(toy_task(c=c, m=120, seed=seed)),
            network(c=c, seed=seed, start=start),
        )
        before = penalised_loss(
            sample, parts, weight=parts["out"] * parts["mask"], bias=parts["output_bias"]
        )

        fitted = fitted_readout(sample, **parts)

        after = penalised_loss(sample, parts, weight=fitted.weight, bias=fitted.bias)
        assert after <= before + 1e-9


def imbalanced(c, *, seed, n_rare=4):
    """Classes of which all but the first are rare, and easy to tell by their features."""
    task = toy_task(c=c, m=200, seed=seed)
    sample = sample_of(task)
    y = torch.zeros(len(sample.X), dtype=torch.int64)
    for k in range(1, c):
        y[sample.X[:, k].argsort(descending=True)[:n_rare]] = k
    return RowSample(X=sample.X, y=torch.nn.functional.one_hot(y, c).double(), is_regression=False)


@pytest.mark.parametrize("c", [2, 3])
def test_of_rare_classes_the_penalised_loss_never_rises(c):
    for seed in range(5):
        sample, parts = imbalanced(c, seed=seed), network(c=c, seed=seed, start=0.0)
        parts["output_bias"] = sample.y.mean(dim=0).log()
        before = penalised_loss(sample, parts, weight=parts["out"], bias=parts["output_bias"])

        fitted = fitted_readout(sample, **parts)

        after = penalised_loss(sample, parts, weight=fitted.weight, bias=fitted.bias)
        assert after <= before + 1e-9


@pytest.mark.parametrize("c", [2, 3])
def test_of_classes_it_comes_near_the_optimum(c):
    sample, parts = sample_of(toy_task(c=c, m=120)), network(c=c, start=0.0)
    weight, bias = (torch.zeros(*shape).double().requires_grad_() for shape in ((6, c), (c,)))
    optimiser = torch.optim.LBFGS([weight, bias], max_iter=200, line_search_fn="strong_wolfe")
    values = torch.from_numpy(hidden_values(sample, parts))
    share = sample.y.mean(dim=0)
    curvature = (share * (1 - share)).clamp(min=0.02)
    ridge = 0.5 * parts["mask"].sum(dim=0) / len(values) + 0.02
    deviation = (values.var(dim=0, correction=0) + 1e-4).sqrt().unsqueeze(1)

    def closure():
        optimiser.zero_grad()
        kept = weight * parts["mask"]
        loss = torch.nn.functional.cross_entropy(values @ kept + bias, sample.y)
        loss = loss + (curvature * ridge * (kept * deviation).square().sum(dim=0)).sum() / 2
        loss.backward()
        return loss

    optimiser.step(closure)
    best = float(closure().detach())
    start = penalised_loss(sample, parts, weight=0 * parts["out"], bias=0 * bias.detach())

    fitted = fitted_readout(sample, **parts)

    after = penalised_loss(sample, parts, weight=fitted.weight, bias=fitted.bias)
    assert best - 1e-6 <= after < best + 0.1 * (start - best)


@pytest.mark.parametrize("kind", ["classification", "regression"])
def test_edges_outside_the_mask_stay_zero(kind):
    sample, parts = sample_of(toy_task(kind)), network()

    fitted = fitted_readout(sample, **parts)

    assert not fitted.weight[~parts["mask"]].any()
    assert fitted.weight[parts["mask"]].all()


@pytest.mark.parametrize("kind", ["classification", "regression"])
def test_neurons_and_weights_that_reach_no_output_do_not_matter(kind):
    sample, parts = sample_of(toy_task(kind)), network()
    parts["mask"][2] = False
    others = {name: value.clone() for name, value in parts.items()}
    others["into"][:, 2], others["hidden_bias"][2] = 7.0, -3.0
    others["out"][~parts["mask"]] = 9.0

    first, second = (fitted_readout(sample, **p) for p in (parts, others))

    torch.testing.assert_close(first.weight, second.weight)
    torch.testing.assert_close(first.bias, second.bias)


def test_without_any_edge_the_biases_are_the_mean():
    sample, parts = sample_of(toy_task("regression", c=2)), network(c=2)
    parts["mask"][:] = False

    fitted = fitted_readout(sample, **parts)

    assert not fitted.weight.any()
    torch.testing.assert_close(fitted.bias, sample.y.mean(dim=0))


def test_a_neuron_that_is_constant_loses_its_weight():
    sample, parts = sample_of(toy_task()), network()
    parts["into"][:, 0], parts["mask"][0] = 0.0, True

    fitted = fitted_readout(sample, **parts)

    assert fitted.weight.isfinite().all()
    assert (fitted.weight[0].abs() < 1e-3 * parts["out"][0].abs()).all()
