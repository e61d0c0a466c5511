"""Weights predicted from a few of them: against kernel ridge regression, and in training."""

import math

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits
from sklearn.gaussian_process.kernels import RBF
from sklearn.kernel_ridge import KernelRidge
from torch.nn.functional import cross_entropy, interpolate
from toys import seeded

from graphpred.errors import InputError
from graphpred.factored import (
    DenseLayer,
    FactoredConfig,
    FactoredLayer,
    dense_network,
    empirical_kernel,
    factored_network,
    pixel_kernel,
    predict_weights,
    train_classifier,
)

# Kernels and prediction


@pytest.mark.parametrize("length_scale", [0.7, 2.0])
def test_pixel_kernel_is_that_of_gaussian_processes(length_scale):
    places = np.array([(row, column) for row in range(3) for column in range(5)], dtype=float)

    kernel = pixel_kernel(3, 5, length_scale=length_scale)

    np.testing.assert_allclose(kernel, RBF(length_scale)(places), atol=1e-12)


def test_empirical_kernel_is_the_covariance_in_units_of_the_mean_variance():
    X = torch.randn(50, 4, generator=seeded()) * torch.tensor([1.0, 2.0, 0.0, 5.0]) + 3
    covariance = np.cov(X.double().numpy().T)

    kernel = empirical_kernel(X)

    np.testing.assert_allclose(kernel, covariance / np.diag(covariance).mean(), atol=1e-7)
    assert float(kernel.diag().mean()) == pytest.approx(1)


@pytest.mark.parametrize("X", [torch.ones(5, 3), torch.ones(1, 3), torch.full((3, 2), math.nan)])
def test_inputs_that_do_not_vary_are_refused(X):
    with pytest.raises(InputError, match="two rows or more and vary"):
        empirical_kernel(X)


@pytest.mark.parametrize("ridge", [1e-3, 0.1, 10.0])
@pytest.mark.parametrize("which", ["pixels", "covariance"])
def test_prediction_is_kernel_ridge_regression(which, ridge):
    generator = seeded(1)
    kernel = (
        pixel_kernel(5, 6, length_scale=1.3)
        if which == "pixels"
        else empirical_kernel(torch.randn(20, 30, generator=generator))
    )
    indices = torch.randperm(30, generator=generator)[:9]
    known = torch.randn(9, 4, generator=generator, dtype=torch.float64)
    K = kernel.numpy()
    regression = KernelRidge(kernel="precomputed", alpha=ridge)
    regression.fit(K[np.ix_(indices, indices)], known.numpy())

    predicted = predict_weights(known, indices, kernel=kernel, ridge=ridge)

    np.testing.assert_allclose(predicted, regression.predict(K[:, indices]), atol=1e-9)


def smooth_weights(n_units=6):
    """A bump per unit on 12 by 12 pixels."""
    rows, columns = torch.meshgrid(torch.arange(12.0), torch.arange(12.0), indexing="ij")
    centres = 12 * torch.rand(n_units, 2, generator=seeded(2))
    squares = (rows[..., None] - centres[:, 0]) ** 2 + (columns[..., None] - centres[:, 1]) ** 2
    return torch.exp(-squares / 18).view(144, n_units)


def relative_error(predicted, weights, *, unknown):
    return float((predicted - weights)[unknown].norm() / weights[unknown].norm())


def test_a_quarter_of_smooth_weights_tells_the_others_and_of_rough_ones_does_not():
    weights = smooth_weights()
    rough = weights[torch.randperm(144, generator=seeded(3))]
    order = torch.randperm(144, generator=seeded(4))
    indices, unknown = order[:36], order[36:]
    kernel = pixel_kernel(12, 12, length_scale=2.5)

    smooth_error, rough_error = (
        relative_error(predict_weights(w[indices], indices, kernel=kernel), w, unknown=unknown)
        for w in (weights, rough)
    )

    assert smooth_error < 0.1
    assert rough_error > 0.7


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"known": torch.ones(3, 2)}, "a row per index"),
        ({"known": torch.ones(2)}, "a row per index"),
        ({"indices": torch.tensor([0, 4])}, "from 0 to 3"),
        ({"indices": torch.tensor([-1, 2])}, "from 0 to 3"),
        ({"kernel": torch.ones(4, 3)}, "square"),
        ({"ridge": 0.0}, "ridge must be above 0"),
    ],
)
def test_what_does_not_fit_is_refused(arguments, message):
    good = {
        "known": torch.ones(2, 2),
        "indices": torch.tensor([0, 2]),
        "kernel": torch.eye(4),
        "ridge": 0.1,
    }
    good |= arguments
    with pytest.raises(InputError, match=message):
        predict_weights(good.pop("known"), good.pop("indices"), **good)


def test_a_length_scale_of_zero_is_refused():
    with pytest.raises(InputError, match="length_scale"):
        pixel_kernel(2, 2, length_scale=0.0)


# Layers


def some_layer(*, n_units=7, kept=0.3, n_blocks=3, kernel=None, seed=0):
    kernel = pixel_kernel(4, 5, length_scale=1.5) if kernel is None else kernel
    return FactoredLayer(
        kernel, n_units, kept=kept, n_blocks=n_blocks, ridge=0.05, generator=seeded(seed)
    )


def test_a_layer_predicts_the_weights_of_every_block_from_its_own_inputs():
    layer = some_layer()
    kernel = pixel_kernel(4, 5, length_scale=1.5)
    X = torch.randn(8, 20, generator=seeded(1))

    blocks = zip(layer.indices, layer.known.detach().split([3, 2, 2], dim=1), strict=True)
    expected = torch.cat(
        [predict_weights(V, indices, kernel=kernel, ridge=0.05) for indices, V in blocks], dim=1
    )

    torch.testing.assert_close(layer.weight, expected, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(layer(X), X @ expected, atol=1e-4, rtol=1e-4)
    assert len({tuple(indices.tolist()) for indices in layer.indices}) == 3


def test_only_known_weights_and_biases_are_learned_and_counted():
    layer = some_layer(kept=0.3)

    assert {name: tuple(p.shape) for name, p in layer.named_parameters()} == {
        "known": (6, 7),
        "bias": (7,),
    }
    assert layer.kept == pytest.approx(0.3)
    layer(torch.ones(2, 20)).sum().backward()
    assert layer.known.grad.abs().sum() > 0


def test_initial_weights_are_as_large_as_those_of_a_dense_layer():
    kernel = pixel_kernel(12, 12, length_scale=2.0)
    layer = some_layer(n_units=300, kept=0.25, n_blocks=5, kernel=kernel)
    dense = DenseLayer(144, 300, generator=seeded(1))

    for weight in (layer.weight, dense.weight):
        assert float(weight.square().mean().detach()) == pytest.approx(2 / 144, rel=0.1)


@pytest.mark.parametrize("wrong", [{"kept": 0.0}, {"kept": 1.5}, {"n_blocks": 0}, {"n_blocks": 8}])
def test_wrong_shares_and_blocks_are_refused(wrong):
    with pytest.raises(InputError, match="kept must be"):
        some_layer(**wrong)


def test_the_kernel_between_hidden_units_is_the_covariance_of_their_outputs():
    X = torch.rand(60, 20, generator=seeded(1))
    config = FactoredConfig(kept=0.25, n_blocks=2, image=(4, 5))
    network = factored_network(X, widths=(20, 12, 8, 3), generator=seeded(), config=config)

    hidden = torch.relu(network[0](X)).detach()
    kernel = empirical_kernel(hidden)
    indices = network[2].indices[0]
    U = predict_weights(torch.eye(3), indices, kernel=kernel, ridge=config.ridge)

    torch.testing.assert_close(network[2].dictionaries[0], U, atol=1e-4, rtol=1e-4)
    assert isinstance(network[4], DenseLayer)
    assert network(X).shape == (60, 3)


@pytest.mark.parametrize(
    ("widths", "image", "message"),
    [((20, 3), None, "hidden layer"), ((19, 4, 3), None, "20 inputs"), ((20, 4, 3), (3, 4), "20")],
)
def test_widths_must_fit(widths, image, message):
    with pytest.raises(InputError, match=message):
        factored_network(
            torch.rand(9, 20, generator=seeded()),
            widths=widths,
            generator=seeded(),
            config=FactoredConfig(image=image),
        )


# Training


def digits(size=8):
    """Training and test digits of ``size`` by ``size`` pixels, smooth if more than eight."""
    X, y = load_digits(return_X_y=True)
    images = torch.from_numpy(X).view(-1, 1, 8, 8)
    X = interpolate(images, size=(size, size), mode="bilinear").flatten(1)  # (m, size²)
    order = torch.randperm(len(y), generator=seeded(7))
    X, y = X.float()[order] / 16, torch.from_numpy(y).long()[order]
    return (X[:1200], y[:1200]), (X[1200:], y[1200:])


def error_of(network, *, size=8, epochs=15):
    (X, y), (X_test, y_test) = digits(size)
    train_classifier(network, X, y=y, epochs=epochs, rate=3e-3, batch=32)
    with torch.no_grad():
        return float((network(X_test).argmax(dim=1) != y_test).float().mean())


def test_a_quarter_of_the_weights_costs_little_accuracy_on_smooth_images():
    """The paper's finding; on the digits' own 8 by 8 pixels, less alike, it costs more."""
    (X, _), _ = digits(16)
    widths = (256, 80, 80, 10)
    config = FactoredConfig(image=(16, 16))

    full = error_of(dense_network(widths, generator=seeded()), size=16)
    network = factored_network(X, widths=widths, generator=seeded(), config=config)
    n_learned = sum(layer.known.numel() for layer in network if isinstance(layer, FactoredLayer))

    assert n_learned == (256 * 80 + 80 * 80) / 4
    assert full < 0.05
    assert error_of(network, size=16) < full + 0.02


def test_a_dictionary_of_the_pixels_beats_one_that_leaves_the_rest_out():
    """The identity as kernel predicts zeros: units see few pixels, the paper's control."""
    (X, _), _ = digits()
    config = FactoredConfig(kept=0.12, n_blocks=1, image=(8, 8))
    errors = {"pixels": [], "identity": []}
    for seed in range(3):
        predicted = factored_network(X, widths=(64, 40, 10), generator=seeded(seed), config=config)
        control = FactoredLayer(
            torch.eye(64), 40, kept=0.12, n_blocks=1, ridge=0.01, generator=seeded(seed)
        )
        classifier = DenseLayer(40, 10, generator=seeded(seed))
        errors["pixels"].append(error_of(predicted))
        blind = torch.nn.Sequential(control, torch.nn.ReLU(), classifier)
        errors["identity"].append(error_of(blind))

    assert np.mean(errors["pixels"]) < np.mean(errors["identity"]) - 0.05


def test_training_depends_on_its_seed_alone():
    (X, y), _ = digits()
    before = torch.get_rng_state()
    weights = []
    for seed in (1, 1, 2):
        network = dense_network((64, 5, 10), generator=seeded())
        train_classifier(network, X, y=y, epochs=1, seed=seed)
        weights.append(network[0].weight.detach())

    assert torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[0], weights[2])
    assert torch.equal(before, torch.get_rng_state())


def test_training_lowers_the_loss():
    (X, y), _ = digits()
    network = dense_network((64, 20, 10), generator=seeded())
    before = float(cross_entropy(network(X), y).detach())

    train_classifier(network, X, y=y, epochs=5, rate=3e-3, batch=32)

    assert float(cross_entropy(network(X), y).detach()) < before / 2
