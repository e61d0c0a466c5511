"""What the rows say of networks, against autograd."""

import pytest
import torch
from toys import in_double, seeded, toy_task

from graphpred.activations import ACTIVATIONS, activation_indices, register_activation
from graphpred.meta.feedback import Feedback, Hidden, Rows, activated
from graphpred.meta.samples import RowSample

KINDS = ("classification", "regression")
CPU = torch.device("cpu")


def samples(kind, *lengths, n=4, c=3):
    tasks = [toy_task(kind, n=n, c=c, m=m, seed=m) for m in lengths]
    return [in_double(RowSample.of(task)) for task in tasks]


def network(n_sets, *, n=4, h=5, c=3, names=("tanh", "relu", "sin", "softplus", "gaussian")):
    """v, gain, biases, output weights and classes of random networks."""
    generator = seeded(3)

    def draw(*shape):
        return torch.randn(n_sets, *shape, generator=generator).double()

    classes = torch.tensor(activation_indices(names)).expand(n_sets, h)
    parts = {"v": draw(n, h), "gain": draw(h).exp(), "hidden_bias": draw(h)}
    return parts | {"out": 0.3 * draw(h, c), "bias": 0.3 * draw(c), "classes": classes}


def feedback_of(rows, parts):
    weight = parts["v"] * parts["gain"].unsqueeze(1)
    hidden = Hidden.of(rows, weight=weight, bias=parts["hidden_bias"], classes=parts["classes"])
    feedback = Feedback.of(rows, hidden, gain=parts["gain"], out=parts["out"], bias=parts["bias"])
    return hidden, feedback


def loss_of(sample, parts, *, g=0, mean):
    """Cross-entropy, or half the squared error, of network g; its neurons less a given mean."""
    z = sample.X @ (parts["v"][g] * parts["gain"][g]) + parts["hidden_bias"][g]  # (q, h)
    columns = [
        ACTIVATIONS[index].function(column)
        for index, column in zip(parts["classes"][g].tolist(), z.T, strict=True)
    ]
    value = torch.stack(columns, dim=1) - mean
    scores = value @ parts["out"][g] + parts["bias"][g]
    if sample.is_regression:
        return (scores - sample.y).square().sum(dim=1).mean() / 2
    return torch.nn.functional.cross_entropy(scores, sample.y)


def some_feedback(kind):
    (sample,) = samples(kind, 60)
    parts = network(1)
    rows = Rows.of([sample], device=CPU)
    hidden, feedback = feedback_of(rows, parts)
    return sample, rows, parts, hidden, feedback


def autograd(sample, parts, *, hidden):
    names = ("v", "hidden_bias", "out", "bias")
    leaves = {name: parts[name].clone().requires_grad_() for name in names}
    loss = loss_of(sample, parts | leaves, mean=hidden.mean[0])
    return dict(zip(names, torch.autograd.grad(loss, list(leaves.values())), strict=True))


# Gradients


@pytest.mark.parametrize("kind", KINDS)
def test_gradients_are_those_of_autograd(kind):
    sample, rows, parts, hidden, feedback = some_feedback(kind)

    expected = autograd(sample, parts, hidden=hidden)

    assert expected["v"].abs().max() > 0.01
    torch.testing.assert_close(feedback.hidden_gradient, expected["v"])
    scaled = feedback.output * rows.curvature.unsqueeze(1) * hidden.deviation.unsqueeze(2)
    torch.testing.assert_close(scaled, expected["out"])
    torch.testing.assert_close(feedback.output_bias * rows.curvature, expected["bias"])


@pytest.mark.parametrize("kind", KINDS)
def test_steps_are_gradients_over_curvatures(kind):
    sample, rows, parts, hidden, feedback = some_feedback(kind)
    curvature, gain = feedback.hidden_curvature, parts["gain"]

    expected = autograd(sample, parts, hidden=hidden)

    single = expected["v"] / curvature.unsqueeze(1)
    torch.testing.assert_close(feedback.hidden, single.clamp(-3, 3))
    covariance = sample.X.T @ sample.X / len(sample.X) + 0.1 * torch.eye(4)
    joint = torch.linalg.solve(covariance, expected["v"][0]) / curvature
    torch.testing.assert_close(feedback.hidden_joint[0], joint.clamp(-3, 3))
    slope = hidden.slope[0].square().mean(dim=1)
    plain = slope * (parts["out"][0].square() * rows.curvature).sum(dim=1)
    floored = plain + 0.01 * plain.mean() + 1e-6
    step = (expected["hidden_bias"] / floored).clamp(-3, 3)
    torch.testing.assert_close(feedback.hidden_bias, step)
    plain = plain * gain[0].square()
    torch.testing.assert_close(curvature[0], plain + 0.01 * plain.mean() + 1e-6)


@pytest.mark.parametrize("kind", KINDS)
def test_loss_of_a_constant_is_one(kind):
    (sample,) = samples(kind, 60, c=2)
    share = sample.y.mean(dim=0)
    y = torch.stack([torch.arange(len(sample.y)) % 2, 1 - torch.arange(len(sample.y)) % 2], dim=1)
    if kind == "regression":
        y = (sample.y - share) / sample.y.std(dim=0, correction=0)
    rows = Rows.of(
        [RowSample(X=sample.X, y=y.double(), is_regression=kind != KINDS[0])], device=CPU
    )
    parts = network(1, c=2)
    silent = parts | {"out": 0 * parts["out"], "bias": 0 * parts["bias"]}

    _, feedback = feedback_of(rows, silent)

    assert float(feedback.loss) == pytest.approx(1)


def test_large_errors_of_quantities_pull_no_harder_than_those_of_three():
    (sample,) = samples("regression", 60, c=1)
    rows = Rows.of([sample], device=CPU)
    parts = network(1, c=1)

    near, far = (
        feedback_of(rows, parts | {"bias": torch.full((1, 1), bias).double()})[1]
        for bias in (30.0, 60.0)
    )

    torch.testing.assert_close(near.hidden_gradient, far.hidden_gradient)
    assert near.loss < far.loss


def test_curvature_of_classes_is_that_of_their_shares():
    (sample,) = samples("classification", 60)
    share = sample.y.mean(dim=0)

    rows = Rows.of([sample], device=CPU)

    torch.testing.assert_close(rows.curvature[0], (share * (1 - share)).clamp(min=0.02))


# Hidden neurons


def test_hidden_neurons_have_their_mean_and_deviation():
    (sample,) = samples("classification", 60)
    parts = network(1)
    weight = parts["v"] * parts["gain"].unsqueeze(1)
    z = sample.X @ weight[0] + parts["hidden_bias"][0]

    hidden, _ = feedback_of(Rows.of([sample], device=CPU), parts)

    tanh = z[:, 0].tanh()
    torch.testing.assert_close(hidden.mean[0, 0], tanh.mean())
    torch.testing.assert_close(hidden.value[0, 0], tanh - tanh.mean())
    expected = (tanh.var(correction=0) + 1e-4).sqrt()
    torch.testing.assert_close(hidden.deviation[0, 0], expected)


def by_autograd(z, classes):
    z = z.clone().requires_grad_()
    flat = z.flatten(0, 1)
    rows = zip(classes.flatten().tolist(), flat, strict=True)
    value = torch.stack([ACTIVATIONS[index].function(row) for index, row in rows])
    (slope,) = torch.autograd.grad(value.sum(), z)
    return value.view(z.shape).detach(), slope


@pytest.mark.parametrize("index", range(len(ACTIVATIONS)), ids=[a.name for a in ACTIVATIONS])
def test_activations_and_slopes_are_those_of_autograd(index):
    z = 2 * torch.randn(2, 3, 7, generator=seeded())
    classes = torch.full((2, 3), index)

    value, slope = activated(z, classes)

    expected = by_autograd(z, classes)
    torch.testing.assert_close(value, expected[0])
    torch.testing.assert_close(slope, expected[1])


def test_mixed_classes_are_told_apart():
    classes = torch.randint(len(ACTIVATIONS), (4, 25), generator=seeded())
    z = 2 * torch.randn(4, 25, 6, generator=seeded(1))

    value, slope = activated(z, classes)

    assert len(classes.unique()) == len(ACTIVATIONS)
    expected = by_autograd(z, classes)
    torch.testing.assert_close(value, expected[0])
    torch.testing.assert_close(slope, expected[1])


def test_activations_of_a_users_own_have_slopes(registry):
    register_activation("cube", lambda x: x**3)
    z = torch.randn(1, 2, 5, generator=seeded())

    value, slope = activated(z, torch.full((1, 2), len(ACTIVATIONS) - 1))

    torch.testing.assert_close(value, z**3)
    torch.testing.assert_close(slope, 3 * z**2)


@pytest.mark.parametrize("index", range(len(ACTIVATIONS)), ids=[a.name for a in ACTIVATIONS])
def test_slopes_have_gradients(index):
    """Training differentiates through the rounds, which are made of slopes."""
    z = torch.randn(1, 1, 6, generator=seeded()).double().requires_grad_()

    _, slope = activated(z, torch.full((1, 1), index))

    step = 1e-5
    with torch.no_grad():
        shifted = [activated(z + d, torch.full((1, 1), index))[1] for d in (step, -step)]
    expected = (shifted[0] - shifted[1]) / (2 * step)
    found = torch.zeros_like(z)
    if slope.requires_grad:
        (found,) = torch.autograd.grad(slope.sum(), z, allow_unused=True, materialize_grads=True)
    torch.testing.assert_close(found, expected, atol=1e-6, rtol=1e-4)


# Samples of different length


@pytest.mark.parametrize("kind", KINDS)
def test_a_data_set_beside_one_with_more_rows_is_as_alone(kind):
    three = samples(kind, 40, 90, 41)
    parts = network(3)

    hidden, together = feedback_of(Rows.of(three, device=CPU), parts)

    for g, sample in enumerate(three):
        own = {name: value[[g]] for name, value in parts.items()}
        lone, alone = feedback_of(Rows.of([sample], device=CPU), own)
        for name, value in vars(alone).items():
            torch.testing.assert_close(getattr(together, name)[g], value[0], msg=name)
        torch.testing.assert_close(hidden.mean[g], lone.mean[0])
        torch.testing.assert_close(hidden.deviation[g], lone.deviation[0])


def test_rows_that_pad_weigh_nothing():
    short, long = samples("classification", 40, 90)

    rows = Rows.of([short, long], device=CPU)

    n_rows = [len(short.X), len(long.X)]
    assert rows.n_rows.flatten().tolist() == n_rows
    assert not rows.weight[0, :, n_rows[0] :].any()
    torch.testing.assert_close(rows.weight.sum(dim=2), torch.ones(2, 1).double())
