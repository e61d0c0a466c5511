"""Hard-concrete gates: their formulas, the training with them, and what they leave."""

import itertools
import math

import numpy as np
import pytest
import torch
from toys import seeded, toy_task

from graphpred.network import Signature, SparseNetwork
from graphpred.objective import Objective
from graphpred.searchers import search
from graphpred.searchers.l0_gates import (
    GatedNetworks,
    Gating,
    gated,
    gates,
    open_probability,
    settled_gates,
)
from graphpred.searchers.sparsified import task_batches
from graphpred.space import SearchSpace
from graphpred.synthetic.known import draw_known
from graphpred.weights import Weights

DEEP = (4, 3, 4, 2)


def dense(widths, n_networks=2):
    space = SearchSpace(widths=widths, activations=("tanh", "sin", "gaussian"))
    return [
        space.sample(generator=seeded(i), n_edges=space.n_possible_edges) for i in range(n_networks)
    ]


def gated_networks(widths=DEEP, *, log_alpha=0.0, n_networks=2):
    gating = Gating(log_alpha=log_alpha)
    return GatedNetworks(dense(widths, n_networks), seeds=list(range(n_networks)), gating=gating)


def known_task(seed):
    """A regression on 6 of 20 features, by a network with few edges."""
    activations = ("relu", "tanh", "sin", "gaussian", "abs")
    space = SearchSpace(widths=(6, 4, 1), activations=activations, density=0.5)
    return draw_known(space, generator=seeded(seed), n_irrelevant=14, n_rows=600, kind="regression")


# Formulas


def test_gates_are_the_hard_concrete_of_the_paper():
    log_alpha = torch.linspace(-6, 6, 13)
    noise = torch.rand(13, generator=seeded(0))

    u, alpha = noise.double().numpy(), np.exp(log_alpha.double().numpy())
    s = 1 / (1 + ((1 - u) / u / alpha) ** 1.5)  # σ((ln u − ln(1 − u) + ln α) / (2/3))
    expected = np.clip(1.2 * s - 0.1, 0, 1)
    np.testing.assert_allclose(gates(log_alpha, noise), expected, atol=1e-5)
    settled = np.clip(1.2 * alpha / (1 + alpha) - 0.1, 0, 1)
    np.testing.assert_allclose(settled_gates(log_alpha), settled, atol=1e-6)


@pytest.mark.parametrize("log_alpha", [-4.0, -1.0, 0.0, 2.0])
def test_expected_number_of_open_gates_is_what_draws_give(log_alpha):
    n = 400_000
    values = torch.full((n,), log_alpha)

    drawn = gates(values, torch.rand(n, generator=seeded(1)).clamp(1e-6, 1 - 1e-6))

    expected = float(open_probability(torch.tensor(log_alpha)))
    error = 5 * math.sqrt(expected * (1 - expected) / n)
    assert float((drawn > 0).float().mean()) == pytest.approx(expected, abs=error)
    # By symmetry, a gate is 1 as often as one with −ln α is 0.
    ones = 1 - float(open_probability(torch.tensor(-log_alpha)))
    error = 5 * math.sqrt(ones * (1 - ones) / n)
    assert float((drawn == 1).float().mean()) == pytest.approx(ones, abs=error)


def test_gradient_of_the_expected_number_is_that_of_finite_differences():
    networks = gated_networks()
    networks.log_alpha = 3 * torch.randn(2, 32, generator=seeded(0), dtype=torch.float64)
    values = networks.log_alpha.clone()

    networks.log_alpha.requires_grad_()
    networks.expected_open().sum().backward()
    found = networks.log_alpha.grad

    for i, j in ((0, 0), (0, 17), (1, 31)):
        total = []
        for step in (1e-5, -1e-5):
            networks.log_alpha = values.clone()
            networks.log_alpha[i, j] += step
            total.append(float(networks.expected_open()[i]))
        assert float(found[i, j]) == pytest.approx((total[0] - total[1]) / 2e-5, rel=1e-6)


def test_the_ceiling_comes_down_along_a_cubic():
    gating = Gating(descent=0.8)
    first, last = torch.tensor([100.0, 50.0]), torch.tensor([20.0, 10.0])

    levels = [gating.ceiling(p, first=first, last=last).tolist() for p in (0.0, 0.4, 0.8, 1.0)]

    assert levels == [[100, 50], [30, 15], [20, 10], [20, 10]]


# Networks with gates


@pytest.mark.parametrize("widths", [(4, 2), (4, 5, 2), DEEP])
def test_scores_are_those_of_single_networks(widths):
    networks, alone = gated_networks(widths), dense(widths)
    networks.bias = torch.randn(networks.bias.shape, generator=seeded(2))
    edge = networks.edge * torch.rand(networks.edge.shape, generator=seeded(3))
    task = toy_task(n=widths[0], c=2)

    scores = networks.scores(task.X, edge)

    for i, z in enumerate(alone):
        weights = Weights(edge=edge[i], bias=networks.bias[i])
        single = SparseNetwork(z, weights, signature=Signature.of(task))
        torch.testing.assert_close(scores[i].T, single(task.X).detach(), atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize(("kind", "c"), [("classification", 2), ("regression", 2)])
def test_gradients_of_weights_and_gates_are_those_of_finite_differences(kind, c):
    task = toy_task(kind, n=4, c=c, m=60)
    X, y = (part.double() if part.is_floating_point() else part for part in task.rows("train"))
    noise = torch.rand(1, 32, generator=seeded(4), dtype=torch.float64)
    networks = gated_networks(n_networks=1)
    networks.bias = torch.randn(networks.bias.shape, generator=seeded(5)).double()
    names = ("edge", "log_alpha")
    start = {name: getattr(networks, name).detach().double() for name in names}

    def loss(edge, log_alpha):
        scores = networks.scores(X, edge * gates(log_alpha, noise))[0].T
        if kind == "regression":
            return (scores - y).square().mean()
        return torch.nn.functional.cross_entropy(scores, y)

    values = {name: value.clone().requires_grad_() for name, value in start.items()}
    loss(**values).backward()

    n_open = int((gates(start["log_alpha"], noise) > 0).sum())
    assert n_open < 32
    for name, j in itertools.product(names, range(32)):
        step = torch.zeros(1, 32, dtype=torch.float64)
        step[0, j] = 1e-6
        up, down = (loss(**(start | {name: start[name] + s})) for s in (step, -step))
        expected = float(up - down) / 2e-6
        assert float(values[name].grad[0, j]) == pytest.approx(expected, abs=1e-7, rel=1e-4)


@pytest.mark.parametrize("kind", ["classification", "regression"])
def test_the_loss_is_that_of_the_task(kind):
    task = toy_task(kind, n=4, c=2, m=60)
    networks = gated_networks(log_alpha=30.0)  # always open

    losses = networks.losses(task_batches(task, seed=0)[0])

    X, y = task.rows("train")
    loss = "mse" if kind == "regression" else "log_loss"
    expected = Objective(loss=loss).losses(networks.scores(X, networks.edge), y)
    torch.testing.assert_close(losses.double(), expected, atol=1e-5, rtol=1e-5)


def test_a_network_does_not_depend_on_its_neighbours():
    task = toy_task(n=4, c=2, m=80)
    first, second = dense(DEEP)
    both = [first, second]

    together = gated(both, task, n_edges=[12, 9], steps=30, seeds=[1, 2], batch_seed=0)

    for i in range(2):
        alone = gated([both[i]], task, n_edges=[(12, 9)[i]], steps=30, seeds=[1 + i], batch_seed=0)
        assert alone.architectures[0] == together.architectures[i]
        torch.testing.assert_close(alone.weights[0].edge, together.weights[i].edge)


@pytest.mark.parametrize("steps", [50, 150])
def test_the_multiplier_steers_the_number_of_open_gates_towards_the_ceiling(steps):
    task = known_task(1).task
    ceilings = [40, 100, 420]

    n_open = {}
    for steering in (0.0, Gating().steering):
        networks = GatedNetworks(
            dense((20, 20, 1), 3), seeds=[0, 1, 2], gating=Gating(steering=steering)
        )
        networks.train(task, ceilings=ceilings, steps=steps, batch_seed=0)
        settled = (settled_gates(networks.log_alpha) > 0).sum(dim=1).tolist()
        assert settled == pytest.approx(networks.expected_open().tolist(), rel=0.2)
        n_open[steering] = settled

    free, steered = n_open.values()
    assert min(free) > 250
    for found, ceiling in zip(steered[:2], ceilings[:2], strict=True):
        assert 0.5 * ceiling < found < 1.8 * ceiling
    assert steered[2] == free[2]  # nothing is too many


# What is left


def test_what_is_left_are_the_open_gates_within_the_ceiling():
    networks = gated_networks((6, 5, 2), n_networks=3)
    networks.log_alpha = 3 * torch.randn(3, 40, generator=seeded(0))
    settled = settled_gates(networks.log_alpha)
    n_open = int((settled[1] > 0).sum())
    networks.log_alpha[2] = -9.0 + torch.rand(40, generator=seeded(1))  # all closed

    kept = networks.cut([10, 40, 40])

    assert [z.n_live_edges for z, _ in kept] == [z.n_edges for z, _ in kept]
    assert [9 <= kept[0][0].n_edges <= 10, kept[2][0].n_edges == 2] == [True, True]
    assert n_open - 1 <= kept[1][0].n_edges <= n_open < 40
    z, weights = kept[1]
    whole = dense((6, 5, 2), 3)[1]
    product = dict(
        zip(
            map(tuple, whole.edges.T.tolist()),
            (networks.edge[1] * settled[1]).tolist(),
            strict=True,
        )
    )
    assert weights.edge.tolist() == [product[tuple(edge)] for edge in z.edges.T.tolist()]


@pytest.mark.parametrize("steps", [1, 2, 7])
def test_few_steps_are_enough_for_a_network_within_its_ceiling(steps):
    task = toy_task(n=4, c=2, m=80)

    population = gated(
        dense(DEEP, 3), task, n_edges=[3, 9, 30], steps=steps, seeds=[0, 1, 2], batch_seed=0
    )

    for z, ceiling in zip(population.architectures, (3, 9, 30), strict=True):
        assert 3 <= z.n_live_edges == z.n_edges <= ceiling


def test_gates_beat_random_networks_and_keep_the_features_that_matter():
    space = SearchSpace(widths=(20, 20, 1), density=21 / 420)
    figures = {name: [] for name in ("random", "random_live", "l0_gates")}
    shares = []
    for i in range(3):
        known = known_task(i)
        matter = set(known.architecture.edges[0].tolist())
        for name, found in figures.items():
            objective = Objective(loss="unexplained")
            running = search(known.task, space, searcher=name, objective=objective, evaluations=8)
            trials = list(running)
            assert running.ledger.networks == len(trials) == 8
            assert running.ledger.network_steps == 800
            assert all(t.architecture.n_edges <= 21 for t in trials)
            losses = [min(2.0, trial.objective) for trial in trials]
            found.append((sum(losses) / 8, min(losses)))
        sources = [s for t in trials for s in t.architecture.edges[0].tolist() if s < 20]
        shares.append(sum(s in matter for s in sources) / len(sources))

    means = {name: np.mean(found, axis=0) for name, found in figures.items()}
    assert (means["l0_gates"] < 0.75 * means["random_live"]).all()
    assert (means["l0_gates"] < 0.5 * means["random"]).all()
    assert min(shares) > 0.5
