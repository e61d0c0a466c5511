"""Reversible training: exact arithmetic, exact reversal, hypergradients, and tuning by them."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn import functional
from toys import seeded, toy_task

from graphpred.architecture import Architecture
from graphpred.errors import InputError
from graphpred.network import Signature, SparseNetwork
from graphpred.reversible import (
    BitBuffer,
    Descent,
    DivergenceError,
    Schedule,
    TuningConfig,
    hypergradients,
    tune_training,
)
from graphpred.reversible.fixed_point import DENOMINATOR, RADIX, multiply, numerator_of, to_fixed
from graphpred.space import SearchSpace
from graphpred.task import Task
from graphpred.weights import initial_weights

N_WEIGHTS = 3 * 4 + 4 * 2
GROUPS = torch.tensor([0] * 12 + [1] * 8)


# Fixed-point numbers


def as_integers(buffer, n):
    """What a buffer holds, as Python's integers."""
    return [sum(int(limb[j]) << 32 * k for k, limb in enumerate(buffer.limbs)) for j in range(n)]


@given(
    values=st.lists(st.integers(-(2**62) + 1, 2**62 - 1), min_size=1, max_size=4),
    numerators=st.lists(st.integers(1, DENOMINATOR - 1), max_size=30),
)
def test_multiplication_is_that_of_integers_without_limit_and_can_be_undone(values, numerators):
    fixed, buffer = np.array(values), BitBuffer(len(values))
    expected, kept = list(values), [0] * len(values)
    for n in numerators:
        multiply(fixed, numerator=n, denominator=DENOMINATOR, buffer=buffer)
        for j, c in enumerate(expected):
            i = kept[j] * DENOMINATOR + c % DENOMINATOR
            expected[j], kept[j] = c // DENOMINATOR * n + i % n, i // n

    assert fixed.tolist() == expected
    assert as_integers(buffer, len(values)) == kept
    assert buffer.bit_lengths.tolist() == [i.bit_length() for i in kept]

    for n in reversed(numerators):
        multiply(fixed, numerator=DENOMINATOR, denominator=n, buffer=buffer)
    assert fixed.tolist() == values
    assert not buffer.limbs


def test_multiplication_multiplies_but_for_the_last_bits():
    values = np.array([1.5, -0.75, 100.0, 0.0])
    fixed = to_fixed(values)

    multiply(fixed, numerator=58982, denominator=DENOMINATOR, buffer=BitBuffer(4))

    np.testing.assert_allclose(fixed / RADIX, values * 58982 / 2**16, rtol=0, atol=2.0**-35)


@pytest.mark.parametrize("momentum", [0.5, 0.9, 0.99])
def test_buffer_grows_by_the_information_that_multiplication_loses(momentum):
    generator = np.random.default_rng(0)
    fixed, buffer, n = to_fixed(generator.normal(size=50)), BitBuffer(50), numerator_of(momentum)
    for _ in range(1000):
        multiply(fixed, numerator=n, denominator=DENOMINATOR, buffer=buffer)
        fixed += to_fixed(0.1 * generator.normal(size=50))

    per_step = buffer.bit_lengths.mean() / 1000
    assert per_step == pytest.approx(math.log2(DENOMINATOR / n), abs=0.005)
    stored = 8 * buffer.n_bytes / 50 / 1000
    assert per_step <= stored < per_step + 0.032 + 0.005  # at most one limb more
    if momentum == 0.9:
        assert max(per_step, stored) <= 0.16


@pytest.mark.parametrize("value", [1024.0, -2000.0, math.nan, math.inf])
def test_numbers_out_of_range_are_refused(value):
    with pytest.raises(DivergenceError, match="below 1024"):
        to_fixed(np.array([0.0, value]))


@pytest.mark.parametrize("momentum", [0.0, 1.0, -0.5, math.nan])
def test_momentum_outside_its_range_is_refused(momentum):
    with pytest.raises(InputError, match="momentum must be between 0 and 1"):
        Schedule.constant(GROUPS, steps=2, rate=0.1, momentum=momentum)


# Descent and hypergradients


X = torch.randn(30, 3, generator=seeded(1), dtype=torch.float64)
Y = (X[:, 0] * X[:, 1] > 0).long()


def cross_entropy(w, theta, rows):
    """Of a network of 3, 4 and 2 neurons with gates."""
    gated = w * theta["gates"].sigmoid()
    hidden = torch.tanh(X[rows] @ gated[:12].view(3, 4))
    return functional.cross_entropy(hidden @ gated[12:].view(4, 2), Y[rows])


def inner(w, theta, step):
    """With weight decay; other rows at odd steps."""
    squares = torch.stack([w[:12] @ w[:12], w[12:] @ w[12:]])
    return cross_entropy(w, theta, slice(step % 2, 20, 2)) + theta["decay"].exp() @ squares / 2


def outer(w, theta):
    return cross_entropy(w, theta, slice(20, 30)) + 0.01 * theta["gates"].sigmoid().sum()


def start():
    return 0.7 * torch.randn(N_WEIGHTS, generator=seeded(2), dtype=torch.float64)


def some_theta():
    return {
        "decay": torch.tensor([-3.0, -2.0], dtype=torch.float64),
        "gates": torch.randn(N_WEIGHTS, generator=seeded(3), dtype=torch.float64),
    }


def some_schedule(steps=12):
    generator = seeded(4)
    numerators = torch.randint(40_000, 64_000, (steps,), generator=generator)
    return Schedule(
        rates=0.2 + 0.6 * torch.rand(steps, 2, generator=generator, dtype=torch.float64),
        momentum=numerators.double() / DENOMINATOR,
        groups=GROUPS,
    )


def unrolled(w, rates, momentum, theta):
    """The outer loss after a plain descent in floating point, as a graph."""
    v = torch.zeros_like(w)
    for step in range(len(rates)):
        (g,) = torch.autograd.grad(inner(w, theta, step), w, create_graph=True)
        v = momentum[step] * v - (1 - momentum[step]) * g
        w = w + rates[step, GROUPS] * v
    return outer(w, theta)


def arguments(schedule, theta):
    tensors = (start(), schedule.rates, schedule.momentum, *theta.values())
    return [tensor.clone().requires_grad_() for tensor in tensors]


def outer_loss(w, rates, momentum, *theta):
    return unrolled(w, rates, momentum, dict(zip(("decay", "gates"), theta, strict=True)))


def found(schedule, theta):
    result = hypergradients(inner, start(), outer=outer, schedule=schedule, theta=theta)
    gradients = [result.start, result.rates, result.momentum, *result.theta.values()]
    return result, gradients


def test_hypergradients_are_those_of_finite_differences():
    schedule, theta = some_schedule(), some_theta()
    _, gradients = found(schedule, theta)
    tensors, epsilon = arguments(schedule, theta), 1e-5
    for which, gradient in enumerate(gradients):
        differences = []
        for entry in range(gradient.numel()):
            values = []
            for sign in (1, -1):
                moved = [tensor.detach().clone() for tensor in tensors]
                moved[which].view(-1)[entry] += sign * epsilon
                moved[0].requires_grad_()
                values.append(float(outer_loss(*moved).detach()))
            differences.append((values[0] - values[1]) / (2 * epsilon))
        expected = torch.tensor(differences, dtype=torch.float64).view(gradient.shape)
        assert (gradient - expected).norm() < 1e-6 * expected.norm()
        assert ((gradient - expected).abs() <= 1e-4 * expected.abs() + 1e-9).all()


def test_hypergradients_are_those_of_the_unrolled_training():
    schedule, theta = some_schedule(60), some_theta()
    result, gradients = found(schedule, theta)
    tensors = arguments(schedule, theta)
    value = outer_loss(*tensors)

    assert result.value == pytest.approx(float(value.detach()), abs=1e-8)
    for gradient, expected in zip(gradients, torch.autograd.grad(value, tensors), strict=True):
        torch.testing.assert_close(gradient, expected, rtol=1e-6, atol=1e-9)


def test_momentum_is_its_nearest_fraction_in_every_term():
    schedule = some_schedule()
    moved = replace(schedule, momentum=schedule.momentum + 0.4 / DENOMINATOR)

    (first, gradients), (second, others) = (found(s, some_theta()) for s in (schedule, moved))

    assert first.value == second.value
    assert all(torch.equal(a, b) for a, b in zip(gradients, others, strict=True))


def test_a_thousand_steps_are_undone_to_the_last_bit():
    schedule = Schedule.constant(GROUPS, steps=1000, rate=0.5, momentum=0.9)
    descent = Descent(inner, start(), schedule=schedule, theta=some_theta())
    states = []
    for _ in range(1000):
        states.append((descent.weights, descent.velocity))
        descent.forward()
    assert not descent.is_at_start
    assert descent.buffer.bit_lengths.max() <= 160

    for w, v in reversed(states):
        descent.backward()
        assert torch.equal(descent.weights, w)
        assert torch.equal(descent.velocity, v)
    assert descent.is_at_start
    assert torch.equal(descent.weights, (start() * RADIX).round() / RADIX)


def test_floating_point_does_not_find_its_way_back():
    """What the method is for: dividing by β magnifies rounding errors a step after the other."""
    w, v, theta, end = start(), torch.zeros(N_WEIGHTS, dtype=torch.float64), some_theta(), 1000

    def gradient(w, step):
        w = w.clone().requires_grad_()
        return torch.autograd.grad(inner(w, theta, step), w)[0]

    for step in range(end):
        v = 0.9 * v - 0.1 * gradient(w, step)
        w = w + 0.5 * v
    for step in reversed(range(end)):
        w = w - 0.5 * v
        v = (v + 0.1 * gradient(w, step)) / 0.9
        if not v.abs().max() < 1e6:
            return
    assert (w - start()).abs().max() > 1e-8


def bytes_saved(compute):
    """Bytes of all tensors that autograd keeps for the way back, each storage once."""
    storages = {}

    def keep(tensor):
        storage = tensor.untyped_storage()
        storages[storage.data_ptr()] = storage  # held, so that no address is used again
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        kept = compute()
    del kept
    return sum(storage.nbytes() for storage in storages.values())


def test_memory_is_a_fiftieth_of_a_stored_trajectory_and_of_backpropagation():
    steps = 1000
    schedule = Schedule.constant(GROUPS, steps=steps, rate=0.5, momentum=0.9)
    tensors = arguments(schedule, some_theta())

    result = hypergradients(inner, start(), outer=outer, schedule=schedule, theta=some_theta())
    saved = bytes_saved(lambda: outer_loss(*tensors))

    trajectory = 8 * N_WEIGHTS * steps  # the weights alone
    assert 50 * result.n_bytes < trajectory < saved


def test_a_linear_loss_has_hypergradients_too():
    schedule = Schedule.constant(torch.zeros(2, dtype=torch.int64), steps=3, rate=0.5)

    result = hypergradients(
        lambda w, theta, step: w.sum(),
        torch.zeros(2),
        outer=lambda w, theta: w.sum(),
        schedule=schedule,
        theta={"unused": torch.ones(3)},
    )

    assert torch.equal(result.start, torch.ones(2, dtype=torch.float64))
    assert torch.equal(result.theta["unused"], torch.zeros(3, dtype=torch.float64))
    beta = numerator_of(0.9) / DENOMINATOR
    expected = [-2 * (1 - beta ** (step + 1)) for step in range(3)]
    torch.testing.assert_close(result.rates[:, 0], torch.tensor(expected, dtype=torch.float64))


@pytest.mark.parametrize("steps", [3, 300])
def test_a_loss_that_changes_its_mind_is_refused(steps):
    generator = seeded()

    def loss(w, theta, step):
        return (w**2).sum() * torch.rand((), generator=generator)

    schedule = Schedule.constant(torch.zeros(2, dtype=torch.int64), steps=steps, rate=0.5)
    with pytest.raises(InputError, match="must give the same gradient"):
        hypergradients(loss, torch.ones(2), outer=lambda w, _: w.sum(), schedule=schedule)


def test_divergence_is_said():
    schedule = Schedule.constant(torch.zeros(1, dtype=torch.int64), steps=200, rate=100.0)
    with pytest.raises(DivergenceError, match="Lower learning rates"):
        hypergradients(
            lambda w, theta, step: (w**2).sum(),
            torch.ones(1),
            outer=lambda w, theta: w.sum(),
            schedule=schedule,
        )


def test_shapes_that_do_not_fit_are_refused():
    with pytest.raises(InputError, match="one number per weight"):
        Descent(inner, torch.zeros(3), schedule=some_schedule())
    with pytest.raises(InputError, match="shapes"):
        Schedule(rates=torch.ones(3, 1), momentum=torch.full((2,), 0.5), groups=GROUPS * 0)
    with pytest.raises(InputError, match="groups"):
        Schedule(rates=torch.ones(3, 1), momentum=torch.full((3,), 0.5), groups=GROUPS)


# Tuning


def sparse(task, *, widths=(4,), seed=0):
    space = SearchSpace(
        widths=(task.n_features, *widths, task.n_outputs),
        activations=("relu", "tanh", "sin"),
        density=0.6,
    )
    return space.sample(generator=seeded(seed))


def tuned_quickly(task, *, network=None, **settings):
    settings = {"steps": 10, "rounds": 3} | settings
    return tune_training(sparse(task) if network is None else network, task, **settings)


@pytest.mark.parametrize("kind", ["classification", "regression"])
@pytest.mark.parametrize("hyper", [("rates",), ("momentum",), ("decay",), ("gates",)])
def test_tuning_lowers_the_outer_loss_and_moves_only_what_it_may(kind, hyper):
    task, config = toy_task(kind), TuningConfig()

    tuned = tuned_quickly(task, hyper=hyper)

    assert len(tuned.losses) == 4
    assert min(tuned.losses) < tuned.losses[0]
    moved = {
        "rates": not torch.allclose(tuned.rates, torch.tensor(config.rate).double()),
        "momentum": not torch.allclose(tuned.momentum, torch.tensor(config.momentum).double()),
        "decay": not torch.allclose(tuned.decay, torch.tensor(config.decay).double()),
        "gates": not torch.equal(tuned.gates, torch.ones_like(tuned.gates)),
    }
    assert {name for name, did in moved.items() if did} == set(hyper)


@pytest.mark.parametrize("kind", ["classification", "regression"])
def test_the_network_has_the_loss_it_was_chosen_by(kind):
    task = toy_task(kind)

    tuned = tuned_quickly(task, hyper=("rates", "gates"))

    X, y = task.rows("validation")
    scores = tuned.network(X)
    loss = functional.mse_loss if kind == "regression" else functional.cross_entropy
    assert float(loss(scores, y).detach()) == pytest.approx(min(tuned.losses), rel=1e-5)


def test_the_price_is_paid_on_gates_and_closes_them():
    task = toy_task()

    free, dear = (
        tuned_quickly(task, hyper=("gates",), config=TuningConfig(price=price, tuning_rate=0.3))
        for price in (0.0, 30.0)
    )

    z = dear.network.architecture
    assert dear.losses[0] - free.losses[0] == pytest.approx(
        30 * 0.9 * z.n_edges / z.n_possible_edges
    )
    assert dear.gates.mean() < free.gates.mean()
    assert dear.architecture(gate=0.8).n_edges < z.n_edges


def test_gates_of_features_that_lead_nowhere_close_most():
    """Relaxed gates find the inputs that matter: the lasting use of the method here."""
    generator = seeded(5)
    X = torch.randn(300, 8, generator=generator)
    y = (X[:, 0] + X[:, 1] + 0.3 * torch.randn(300, generator=generator) > 0).long()
    task = Task.from_arrays(X, y, generator=generator)
    z = Architecture.from_masks([torch.ones(8, 3), torch.ones(3, 2)], hidden=["tanh"] * 3)
    config = TuningConfig(gate=0.5, price=0.5, tuning_rate=0.2)

    tuned = tune_training(z, task, hyper=("gates",), steps=30, rounds=10, config=config)

    first = z.edges[1] < 11
    relevant = z.edges[0] < 2
    assert tuned.gates[first & relevant].mean() > 0.1 + tuned.gates[first & ~relevant].mean()


def test_rates_far_too_low_are_found_out():
    task = toy_task(m=200)
    config = TuningConfig(rate=0.01, tuning_rate=0.5)

    tuned = tuned_quickly(task, hyper=("rates",), config=config, rounds=8)

    assert tuned.rates.mean() > 0.1
    assert min(tuned.losses) < tuned.losses[0] - 0.1


def test_a_round_that_diverges_is_taken_back():
    task = toy_task("regression")
    config = TuningConfig(rate=0.5, tuning_rate=8.0)

    tuned = tuned_quickly(task, hyper=("rates",), config=config, rounds=4)

    assert math.inf in tuned.losses
    assert math.isfinite(min(tuned.losses))
    assert np.isfinite(tuned.network.predict(np.zeros((2, task.n_features)))).all()


def test_test_rows_are_not_looked_at():
    task = toy_task(m_test=20)
    spoilt = task.X.clone()
    spoilt[task.split.test] = torch.nan

    first, second = (tuned_quickly(t) for t in (task, replace(task, X=spoilt)))

    assert first.losses == second.losses


def test_same_seed_gives_the_same_and_leaves_the_global_generator_alone():
    task = toy_task()
    before = torch.get_rng_state()

    first, again, other = (tuned_quickly(task, seed=seed) for seed in (1, 1, 2))

    assert first.losses == again.losses
    assert torch.equal(first.network.edge, again.network.edge)
    assert first.losses != other.losses
    assert torch.equal(before, torch.get_rng_state())


def test_training_starts_at_the_weights_of_a_network():
    task, z = toy_task(), sparse(toy_task())
    weights = initial_weights(z, seed=0)
    network = SparseNetwork(z, weights, signature=Signature.of(task))
    better = tuned_quickly(task, network=network, hyper=("rates",)).network

    resumed = tuned_quickly(task, network=better, hyper=("rates",))

    assert resumed.losses[0] < tuned_quickly(task, network=network, rounds=0).losses[0]
    assert torch.equal(network.edge, weights.edge)


def test_mini_batches_skip_edges_and_several_layers():
    task = toy_task(m=1600)
    edges = [[0, 1, 2, 0, 5, 6, 7, 8, 2], [5, 6, 5, 9, 7, 8, 9, 10, 11]]
    z = Architecture.from_edges(
        edges, activation=[0] * 5 + [3, 5, 2, 3] + [0] * 3, widths=(5, 2, 2, 3)
    )

    tuned = tuned_quickly(task, network=z, hyper=("rates", "momentum", "decay", "gates"))

    assert z.has_skip_edges
    assert tuned.rates.shape == (10, 3)
    assert min(tuned.losses) < tuned.losses[0]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"hyper": ()}, "hyper must name"),
        ({"hyper": ("width",)}, "hyper must name"),
        ({"steps": 0}, "steps must be 1"),
        ({"rounds": -1}, "rounds 0 or more"),
        ({"network": sparse(toy_task(n=4))}, "from 5 features"),
    ],
)
def test_wrong_arguments_are_refused(settings, message):
    with pytest.raises(InputError, match=message):
        tuned_quickly(toy_task(), **settings)


@pytest.mark.parametrize(
    "wrong", [{"rate": 0.0}, {"momentum": 1.0}, {"gate": 0.0}, {"price": -1.0}, {"decay": math.inf}]
)
def test_wrong_settings_are_refused(wrong):
    with pytest.raises(InputError, match=next(iter(wrong))):
        TuningConfig(**wrong)


def test_a_network_that_diverges_at_once_is_said():
    with pytest.raises(DivergenceError, match="learning rates"):
        tuned_quickly(toy_task("regression"), config=TuningConfig(rate=1e6))
