"""Networks trained together against each one trained alone in a plain PyTorch loop."""

import itertools
import math
import random
from dataclasses import dataclass

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn import functional

from graphpred.activations import activation_index, register_activation
from graphpred.architecture import Architecture
from graphpred.errors import InputError
from graphpred.network import Signature, SparseNetwork
from graphpred.objective import Objective
from graphpred.population import LEARNING_RATE, Population
from graphpred.population.batches import Batches
from graphpred.population.block import Block
from graphpred.population.layout import block_layout
from graphpred.seeds import generator_for
from graphpred.space import SearchSpace
from graphpred.weights import Weights, initial_weights

CLASSES = ("identity", "relu", "tanh", "sin", "gaussian", "abs", "sigmoid", "square")


@dataclass(frozen=True)
class Case:
    """What the networks of a population look like and learn."""

    name: str
    hidden_layers: int = 1
    outputs: int = 3
    regression: bool = False
    skip: bool = False
    density: float = 0.6
    output_classes: tuple[str, ...] = ("identity",)
    hidden_classes: tuple[str, ...] = CLASSES

    @property
    def loss(self):
        return "mse" if self.regression else "log_loss"


CASES = [
    Case("no-hidden-layer", hidden_layers=0),
    Case("one-hidden-layer"),
    Case("two-classes", outputs=2),
    Case("two-hidden-layers", hidden_layers=2),
    Case("three-hidden-layers", hidden_layers=3),
    Case("one-class", hidden_classes=("tanh",)),
    Case("skip-edges", hidden_layers=2, skip=True),
    Case("deep-skip-edges", hidden_layers=3, skip=True, density=0.3),
    Case("mostly-dead", density=0.12, hidden_layers=2),
    Case("one-output", outputs=1, regression=True),
    Case("three-outputs", outputs=3, regression=True, hidden_layers=2, skip=True),
    Case("regression-without-hidden-layer", outputs=2, regression=True, hidden_layers=0),
    Case("outputs-that-fire", output_classes=("tanh", "gaussian", "softplus", "identity")),
]
N_INPUTS = 5


def random_networks(n, case, *, generator, widest=5):
    """Architectures of many widths; whatever their edges, they share inputs, outputs, depth."""
    return [_random_network(case, generator=generator, widest=widest) for _ in range(n)]


def _random_network(case, *, generator, widest):
    drawn = torch.randint(1, widest + 1, (case.hidden_layers,), generator=generator).tolist()
    widths = (N_INPUTS, *drawn, case.outputs)
    layer = [k for k, width in enumerate(widths) for _ in range(width)]
    possible = [
        (i, j)
        for i, j in itertools.combinations(range(len(layer)), 2)
        if layer[j] - layer[i] == 1 or (case.skip and layer[j] > layer[i])
    ]
    kept = torch.rand(len(possible), generator=generator) < case.density
    activation = [0] * N_INPUTS
    for names, count in (
        (case.hidden_classes, sum(drawn)),
        (case.output_classes, case.outputs),
    ):
        classes = torch.tensor([activation_index(name) for name in names])
        activation += classes[torch.randint(len(names), (count,), generator=generator)].tolist()
    edges = torch.tensor(list(itertools.compress(possible, kept.tolist())), dtype=torch.int64)
    return Architecture.from_edges(edges.reshape(-1, 2).T, activation=activation, widths=widths)


def rows_for(case, *, generator, m=40):
    X = torch.randn(m, N_INPUTS, generator=generator)
    if case.regression:
        return X, torch.tanh(X[:, : case.outputs]) + 0.1 * X[:, -1:]
    return X, (X[:, 0] + X[:, 1] * X[:, 2]).argsort().argsort() * case.outputs // m


def signature_for(z, *, regression):
    return Signature(
        kind="regression" if regression else "classification",
        feature_names=tuple(f"x{j}" for j in range(z.widths[0])),
        class_names=tuple(str(k) for k in range(z.widths[-1])),
    )


def module(z, weights, *, regression=False, dtype=torch.float32):
    """An independent network of the live edges alone."""
    live = Weights(edge=weights.edge[z.live], bias=weights.bias)
    signature = signature_for(z, regression=regression)
    return SparseNetwork(z.without_dead_edges(), live, signature=signature).to(dtype)


def plain_loop(network, batches, *, steps, learning_rate=LEARNING_RATE):
    """Adam with cosine decay as anybody would write it."""
    optimizer = torch.optim.Adam(network.parameters(), lr=learning_rate)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=steps)
    for _ in range(steps):
        X, y = next(batches)
        scores = network(X)
        if y.is_floating_point():
            loss = functional.mse_loss(scores, y)
        else:
            loss = functional.cross_entropy(scores, y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    return network


def loss_of(network, X, y, *, loss):
    with torch.no_grad():
        scores = network(X).T[None]  # (1, c, m)
    return Objective(loss=loss).losses(scores, y).item()


def tolerance(dtype):
    return 1e-5 if dtype == torch.float32 else 1e-9


def assert_close(losses, expected, *, dtype):
    assert losses.isfinite().all()
    torch.testing.assert_close(
        losses, torch.as_tensor(expected, dtype=torch.float64), atol=tolerance(dtype), rtol=0
    )


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=["float32", "float64"])
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_together_alone_and_in_a_plain_loop_are_the_same(case, dtype, generator):
    networks = random_networks(6, case, generator=generator)
    X, y = rows_for(case, generator=generator)
    seeds = list(range(20, 26))
    steps = 25

    together = Population(networks, seed=seeds, dtype=dtype).fit(X, y, steps=steps)

    losses = together.losses(X, y, loss=case.loss)
    alone = [
        Population([z], seed=[seed], dtype=dtype)
        .fit(X, y, steps=steps)
        .losses(X, y, loss=case.loss)
        for z, seed in zip(networks, seeds, strict=True)
    ]
    assert_close(losses, torch.cat(alone), dtype=dtype)
    X, y = X.to(dtype), y.to(dtype) if case.regression else y
    plain = []
    for z, seed in zip(networks, seeds, strict=True):
        start = initial_weights(z, seed=seed)
        network = module(z, start, regression=case.regression, dtype=dtype)
        plain_loop(network, itertools.repeat((X, y)), steps=steps)
        plain.append(loss_of(network, X, y, loss=case.loss))
    assert_close(losses, plain, dtype=dtype)


def test_training_does_reduce_the_loss(generator):
    case = Case("full", density=1.0)
    networks = random_networks(6, case, generator=generator)
    X, y = rows_for(case, generator=generator)
    population = Population(networks, seed=1)
    before = population.losses(X, y, loss="log_loss")

    after = population.fit(X, y, steps=60).losses(X, y, loss="log_loss")

    assert (after < before - 0.05).all()


def test_order_and_number_of_networks_do_not_matter(generator):
    case = Case("wide")
    # More than one block: at most 64 networks stand in one.
    networks = random_networks(70, case, generator=generator)
    X, y = rows_for(case, generator=generator)
    seeds = list(range(70))
    order = torch.randperm(70, generator=generator).tolist()
    few = order[:5]

    def losses(chosen):
        population = Population([networks[i] for i in chosen], seed=[seeds[i] for i in chosen])
        return population.fit(X, y, steps=20).losses(X, y, loss="log_loss")

    straight = losses(range(70))

    assert_close(losses(order), straight[order], dtype=torch.float32)
    assert_close(losses(few), straight[few], dtype=torch.float32)


def test_many_rows_and_wide_layers_stand_in_several_blocks(generator):
    case = Case("wide")
    networks = random_networks(40, case, generator=generator, widest=60)
    X, y = rows_for(case, generator=generator, m=1000)
    blocks = list(Population(networks)._blocks(list(range(40)), n_rows=1000))
    assert len(blocks) > 1
    assert all(len(block) >= 8 for block in blocks[:-1])
    assert sorted(itertools.chain(*blocks)) == list(range(40))

    together = Population(networks, seed=3).fit(X, y, steps=6).losses(X, y, loss="log_loss")

    for i in [block[0] for block in blocks]:
        start = Population(networks, seed=3).weights[i]
        alone = Population([networks[i]], start=[start]).fit(X, y, steps=6)
        assert_close(together[i : i + 1], alone.losses(X, y, loss="log_loss"), dtype=torch.float32)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_without_biases_a_network_trains_as_one_whose_biases_are_held_at_zero(case, generator):
    networks = random_networks(3, case, generator=generator)
    X, y = rows_for(case, generator=generator)
    start = [
        Weights(edge=w.edge, bias=torch.ones_like(w.bias))
        for w in (initial_weights(z, seed=i) for i, z in enumerate(networks))
    ]

    population = Population(networks, start=start, bias=False).fit(X, y, steps=15)

    for i, z in enumerate(networks):
        network = module(z, initial_weights(z, seed=i), regression=case.regression)
        network.bias.requires_grad_(False)
        if z.n_live_edges:
            plain_loop(network, itertools.repeat((X, y)), steps=15)
        expected = loss_of(network, X, y, loss=case.loss)
        assert not population.weights[i].bias.any()
        assert_close(population.losses(X, y, loss=case.loss)[i], expected, dtype=torch.float32)


def repeated(X, y, counts):
    rows = torch.repeat_interleave(torch.arange(len(X)), counts)
    return X[rows], y[rows]


@pytest.mark.parametrize("case", [CASES[1], CASES[2], CASES[10]], ids=lambda case: case.name)
def test_a_row_of_weight_two_counts_as_two_rows(case, generator):
    networks = random_networks(3, case, generator=generator)
    X, y = rows_for(case, generator=generator)
    counts = torch.randint(0, 4, (40,), generator=generator)

    def trained(X, y, **weights):
        population = Population(networks, seed=1, dtype=torch.float64)
        return population.fit(X, y, steps=20, **weights)

    weighted = trained(X, y, sample_weight=0.5 * counts)

    expected = trained(*repeated(X, y, counts))
    torch.testing.assert_close(weighted.scores(X), expected.scores(X))
    assert not torch.allclose(trained(X, y).scores(X), expected.scores(X), atol=1e-3)
    for loss in ("mse", "mae", "unexplained") if case.regression else (
        "error", "balanced_error", "log_loss", "auc_error",
    ):  # fmt: skip
        torch.testing.assert_close(
            weighted.losses(X, y, loss=loss, sample_weight=0.5 * counts),
            expected.losses(*repeated(X, y, counts), loss=loss),
        )


def test_class_weights_are_sample_weights(generator):
    case = CASES[1]
    networks = random_networks(3, case, generator=generator)
    X, _ = rows_for(case, generator=generator)
    y = torch.tensor([0] * 25 + [1] * 10 + [2] * 5)

    def scores(**weights):
        return Population(networks, seed=1).fit(X, y, steps=20, **weights).scores(X)

    of_classes = torch.tensor([1.0, 2.0, 0.5])
    assert torch.equal(scores(class_weight=of_classes), scores(sample_weight=of_classes[y]))
    assert torch.equal(
        scores(class_weight="balanced"),
        scores(sample_weight=1 / torch.tensor([25.0, 10.0, 5.0]).double()[y]),
    )
    both = scores(class_weight=[1.0, 2.0, 0.5], sample_weight=torch.arange(1.0, 41.0))
    assert torch.equal(both, scores(sample_weight=of_classes[y] * torch.arange(1.0, 41.0)))


def test_weights_reach_mini_batches(generator):
    case = CASES[2]
    networks = random_networks(2, case, generator=generator)
    X, y = rows_for(case, generator=generator, m=1100)
    only_first = (y == 0).float()

    population = Population(networks, seed=1).fit(X, y, steps=30, sample_weight=only_first)

    assert (population.predict(X) == 0).float().mean() > 0.95
    unweighted = Population(networks, seed=1).fit(X, y, steps=30)
    assert (unweighted.predict(X) == 0).float().mean() < 0.8


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        ({"sample_weight": torch.ones(3)}, "one number a row, 40; got"),
        ({"sample_weight": torch.zeros(40)}, "at least 0, and some above"),
        ({"sample_weight": -torch.ones(40)}, "at least 0, and some above"),
        ({"sample_weight": torch.full((40,), torch.nan)}, "at least 0, and some above"),
        ({"class_weight": [1.0, 2.0]}, "one number a class, 3; got"),
        ({"class_weight": "even"}, "numbers or 'balanced'; got 'even'"),
    ],
)
def test_weights_of_rows_must_fit(weights, message, generator):
    case = CASES[1]
    X, y = rows_for(case, generator=generator)
    population = Population(random_networks(1, case, generator=generator))

    with pytest.raises(InputError, match=message):
        population.fit(X, y, **weights)


def test_targets_have_no_class_weights(generator):
    case = CASES[9]
    X, y = rows_for(case, generator=generator)
    population = Population(random_networks(1, case, generator=generator))

    with pytest.raises(InputError, match="needs classes"):
        population.fit(X, y, class_weight="balanced")


def test_a_dense_first_layer_is_one_product(generator):
    space = SearchSpace(widths=(30, 30, 2), activations=("tanh", "relu"))

    first, second = (
        block_layout(
            [space.sample(generator=generator, n_edges=n_edges)],
            bias=True,
            device=torch.device("cpu"),
        )
        .layers[0]
        .dense
        for n_edges in (700, 90)
    )

    assert first is not None
    assert second is None


def test_same_seed_gives_the_same_bits_and_another_seed_another_network(generator):
    case = CASES[3]
    networks = random_networks(5, case, generator=generator)
    X, y = rows_for(case, generator=generator)

    first, second, other = (
        Population(networks, seed=seed).fit(X, y, steps=10).scores(X) for seed in (1, 1, 2)
    )

    assert torch.equal(first, second)
    assert not torch.allclose(first, other, atol=1e-3)


def test_a_registered_activation_trains_like_any_other(registry, generator):
    register_activation("bump", lambda x: x / (1 + x * x))
    case = Case("registered", hidden_classes=("tanh", "bump", "abs"))
    networks = random_networks(4, case, generator=generator)
    assert any("bump" in z.activations[0] for z in networks)
    X, y = rows_for(case, generator=generator)

    together = Population(networks, seed=list(range(4))).fit(X, y, steps=20)

    plain = [
        plain_loop(module(z, initial_weights(z, seed=i)), itertools.repeat((X, y)), steps=20)
        for i, z in enumerate(networks)
    ]
    expected = [loss_of(network, X, y, loss="log_loss") for network in plain]
    assert_close(together.losses(X, y, loss="log_loss"), expected, dtype=torch.float32)


def test_a_network_without_edges_learns_the_class_frequencies():
    empty = Architecture.from_edges([[], []], activation=[0, 0, 3, 0, 0], widths=(2, 1, 2))
    X, y = torch.randn(40, 2, generator=generator_for(0)), torch.tensor([0, 0, 0, 1] * 10)
    full = Architecture.from_masks([[[1], [1]], [[1, 1]]], hidden=["tanh"])

    population = Population([empty, full, empty], seed=0).fit(X, y, steps=300)

    entropy = -0.75 * math.log(0.75) - 0.25 * math.log(0.25)
    losses = population.losses(X, y, loss="log_loss")
    torch.testing.assert_close(
        losses[[0, 2]], torch.full((2,), entropy).double(), atol=1e-4, rtol=0
    )
    assert population.losses(X, y)[0] == 0.25
    assert losses[1] < entropy


@given(case=st.sampled_from(CASES), seed=st.integers(0, 2**20), n=st.integers(1, 5))
def test_gradients_are_those_of_autograd(case, seed, n):
    generator = generator_for(seed)
    networks = [z.without_dead_neurons()[0] for z in random_networks(n, case, generator=generator)]
    X, y = rows_for(case, generator=generator, m=12)
    X, y = X.double(), y.double() if case.regression else y
    start = [
        Weights(
            edge=torch.randn(z.n_edges, generator=generator).double(),
            bias=torch.randn(z.n_neurons - N_INPUTS, generator=generator).double(),
        )
        for z in networks
    ]
    numbers = torch.cat([*(w.edge for w in start), *(w.bias for w in start)])
    block = Block(networks, numbers[None], bias=True)
    batches = Batches(X, y, weight=None, n_outputs=case.outputs, seed=0)

    gradient = torch.zeros_like(numbers)
    gradient[block.layout.place] = block.gradient(batches, step=0)
    modules = [module(z, w, dtype=torch.float64) for z, w in zip(networks, start, strict=True)]
    for network in modules:
        scores = network(X)
        loss = functional.mse_loss if case.regression else functional.cross_entropy
        loss(scores, y).backward()
    parameters = [network.edge for network in modules] + [network.bias for network in modules]
    expected = [torch.zeros_like(p) if p.grad is None else p.grad for p in parameters]
    torch.testing.assert_close(gradient, torch.cat(expected), atol=1e-10, rtol=1e-8)


def test_no_step_leaves_the_weights_untouched(generator):
    case = CASES[3]
    networks = random_networks(3, case, generator=generator)
    X, y = rows_for(case, generator=generator)
    start = [
        Weights(
            edge=torch.randn(z.n_edges, generator=generator),
            bias=torch.randn(z.n_neurons - N_INPUTS, generator=generator),
        )
        for z in networks
    ]

    population = Population(networks, start=start).fit(X, y, steps=0)

    for z, weights, given_weights in zip(
        population.architectures, population.weights, start, strict=True
    ):
        assert torch.equal(weights.edge, given_weights.edge * z.live)
        assert torch.equal(weights.bias, given_weights.bias)


def test_training_begins_at_the_start_and_does_not_change_it(generator):
    case = CASES[1]
    (z,) = random_networks(1, case, generator=generator)
    X, y = rows_for(case, generator=generator)
    start = initial_weights(z, seed=5)
    copy = Weights(edge=start.edge.clone(), bias=start.bias.clone())

    given_start = Population([z], start=[start]).fit(X, y, steps=15, learning_rate=0.01)

    seeded = Population([z], seed=[5]).fit(X, y, steps=15, learning_rate=0.01)
    assert torch.equal(given_start.weights[0].edge, seeded.weights[0].edge)
    assert torch.equal(start.edge, copy.edge)
    assert torch.equal(start.bias, copy.bias)
    network = module(z, start)
    plain_loop(network, itertools.repeat((X, y)), steps=15, learning_rate=0.01)
    expected = loss_of(network, X, y, loss="log_loss")
    assert_close(given_start.losses(X, y, loss="log_loss"), [expected], dtype=torch.float32)


def test_training_goes_on_from_the_present_weights(generator):
    case = CASES[1]
    networks = random_networks(2, case, generator=generator)
    X, y = rows_for(case, generator=generator)
    once = Population(networks, seed=0).fit(X, y, steps=10)

    again = Population(networks, start=once.weights).fit(X, y, steps=10)

    assert torch.equal(once.fit(X, y, steps=10).scores(X), again.scores(X))


def test_dead_parts_keep_no_weight_after_fit():
    # Hidden neuron 0 has no output, hidden neuron 1 no input; only hidden neuron 2 is live.
    z = Architecture.from_masks(
        [[[1, 0, 1], [1, 0, 0]], [[0, 0], [1, 1], [1, 0]]], hidden=["tanh", "gaussian", "sin"]
    )
    start = Weights(edge=torch.ones(z.n_edges), bias=torch.ones(5))
    X, y = torch.randn(20, 2, generator=generator_for(1)), torch.tensor([0, 1] * 10)

    (weights,) = Population([z], start=[start]).fit(X, y, steps=3).weights

    assert not weights.edge[~z.live].any()
    assert weights.edge[z.live].all()
    assert weights.bias.ne(0).tolist() == [False, False, True, True, True]


@pytest.mark.parametrize("regression", [False, True])
def test_more_than_1024_rows_come_in_batches_of_512(regression, generator):
    case = Case("batches", regression=regression)
    networks = random_networks(3, case, generator=generator)
    X, y = rows_for(case, generator=generator, m=1100)

    def batches(seed):
        for epoch in itertools.count():
            order = torch.randperm(1100, generator=generator_for(seed, "epoch", epoch))
            yield from ((X[rows], y[rows]) for rows in (order[:512], order[512:1024]))

    population = Population(networks, seed=[0, 1, 2]).fit(X, y, steps=7, batch_seed=9)

    plain = [
        plain_loop(module(z, initial_weights(z, seed=i)), batches(9), steps=7)
        for i, z in enumerate(networks)
    ]
    expected = [loss_of(network, X, y, loss=case.loss) for network in plain]
    losses = population.losses(X, y, loss=case.loss)
    assert_close(losses, expected, dtype=torch.float32)
    other = Population(networks, seed=[0, 1, 2]).fit(X, y, steps=7, batch_seed=10)
    assert not torch.allclose(losses, other.losses(X, y, loss=case.loss), atol=1e-5)


def test_exactly_1024_rows_are_one_batch(generator):
    case = Case("full")
    networks = random_networks(2, case, generator=generator)
    X, y = rows_for(case, generator=generator, m=1024)

    first, second = (
        Population(networks).fit(X, y, steps=3, batch_seed=seed).scores(X) for seed in (0, 1)
    )

    assert torch.equal(first, second)


@pytest.mark.parametrize("regression", [False, True])
def test_a_network_that_overflows_is_lost_alone(regression, generator):
    case = Case("overflow", hidden_layers=3, regression=regression)
    networks = random_networks(5, case, generator=generator)
    bomb = Architecture.from_masks(
        [np.ones((N_INPUTS, 2)), np.ones((2, 2)), np.ones((2, 2)), np.ones((2, 3))],
        hidden=["square"] * 6,
    )
    X, y = rows_for(case, generator=generator)
    sane = initial_weights(bomb, seed=0)
    start = [initial_weights(z, seed=i) for i, z in enumerate(networks)]

    def trained(factor):
        huge = Weights(edge=sane.edge * factor, bias=sane.bias)
        architectures = [*networks[:2], bomb, *networks[2:]]
        return Population(architectures, start=[*start[:2], huge, *start[2:]]).fit(X, y, steps=5)

    calm, exploded = trained(0.1), trained(1e20)

    assert calm.losses(X, y).isfinite().all()
    assert exploded.losses(X, y).isfinite().tolist() == [True, True, False, True, True, True]
    assert exploded.losses(X, y)[2] == math.inf
    others = [0, 1, 3, 4, 5]
    assert torch.equal(calm.scores(X)[others], exploded.scores(X)[others])


def test_padding_does_not_bring_in_the_overflow_of_another_network(generator):
    # Neighbours of uneven widths have padded places; the lost network stands first in the block.
    case = Case("padded", hidden_layers=3, density=0.9)
    networks = [z for z in random_networks(12, case, generator=generator) if z.n_edges > 20][:5]
    assert len(networks) == 5
    bomb = Architecture.from_masks(
        [np.ones((N_INPUTS, 1)), [[1]], [[1]], [[1, 1, 1]]], hidden=["identity"] * 3
    )
    X, y = rows_for(case, generator=generator)
    huge = Weights(edge=torch.full((bomb.n_edges,), 1e20), bias=torch.zeros(6))
    start = [huge, *(initial_weights(z, seed=i) for i, z in enumerate(networks))]

    losses = Population([bomb, *networks], start=start).fit(X, y, steps=3).losses(X, y)

    assert losses.isfinite().tolist() == [False] + [True] * 5


def test_global_generators_are_left_alone(generator):
    case = CASES[1]
    networks = random_networks(3, case, generator=generator)
    X, y = rows_for(case, generator=generator, m=1100)
    before = torch.get_rng_state(), np.random.get_state()[1].copy(), random.getstate()

    Population(networks, seed=0).fit(X, y, steps=3).losses(X, y)

    assert torch.equal(torch.get_rng_state(), before[0])
    np.testing.assert_array_equal(np.random.get_state()[1], before[1])
    assert random.getstate() == before[2]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_shapes_and_networks_agree_with_scores(case, generator):
    networks = random_networks(4, case, generator=generator)
    X, y = rows_for(case, generator=generator)

    population = Population(networks, seed=0).fit(X, y, steps=4)

    scores, losses = population.scores(X), population.losses(X, y)
    assert len(population) == 4
    assert scores.shape == (4, case.outputs, 40)
    assert losses.shape == (4,)
    assert losses.dtype == torch.float64
    predicted = population.predict(X)
    if case.regression:
        assert torch.equal(predicted, scores.transpose(1, 2))
    else:
        assert torch.equal(predicted, scores.argmax(dim=1))
        torch.testing.assert_close(losses, (predicted != y).double().mean(dim=1))
    for network, own in zip(population.networks(), scores, strict=True):
        torch.testing.assert_close(network(X), own.T, atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(network.scores(X.numpy()), own.T, atol=1e-5, rtol=1e-5)


def test_networks_of_a_float64_population_take_raw_rows(generator):
    case = CASES[1]
    networks = random_networks(2, case, generator=generator)
    X, y = rows_for(case, generator=generator)
    population = Population(networks, dtype=torch.float64).fit(X, y, steps=2)

    scores = torch.stack([network.scores(X.numpy()) for network in population.networks()])

    torch.testing.assert_close(scores, population.scores(X).transpose(1, 2), atol=1e-9, rtol=0)


@pytest.mark.parametrize("m", [0, 1, 8191, 8193, 20_000])
def test_scores_of_any_number_of_rows(m, generator):
    case = CASES[3]
    networks = random_networks(2, case, generator=generator)
    X = torch.randn(m, N_INPUTS, generator=generator)

    scores = Population(networks, seed=0).scores(X)

    assert scores.shape == (2, 3, m)
    with torch.no_grad():
        for i, network in enumerate(Population(networks, seed=0).networks()):
            torch.testing.assert_close(scores[i].T, network(X), atol=1e-5, rtol=1e-5)


def test_targets_may_be_a_vector(generator):
    case = Case("vector", outputs=1, regression=True)
    networks = random_networks(2, case, generator=generator)
    X, y = rows_for(case, generator=generator)

    vector, matrix = (
        Population(networks).fit(X, target, steps=3).losses(X, target) for target in (y[:, 0], y)
    )

    assert torch.equal(vector, matrix)


def small_population():
    z = Architecture.from_masks([[[1], [1]], [[1, 1]]], hidden=["tanh"])
    return Population([z, z]), torch.zeros(6, 2), torch.tensor([0, 1] * 3)


def test_architectures_must_fit_together():
    z = Architecture.from_masks([[[1], [1]], [[1, 1]]], hidden=["tanh"])
    flat = Architecture.from_masks([[[1, 0], [1, 1]]])
    weights = initial_weights(z, seed=0)

    with pytest.raises(InputError, match="at least one architecture; got none"):
        Population([])
    with pytest.raises(InputError, match=r"agree in inputs, outputs and layers; got .*\(2, 2, 1\)"):
        Population([z, flat])
    with pytest.raises(InputError, match="seed must be one number, or one per network, 2; got 3"):
        Population([z, z], seed=[1, 2, 3])
    with pytest.raises(InputError, match="start must hold weights for 2 networks; got 1"):
        Population([z, z], start=[weights])
    with pytest.raises(InputError, match=r"one per edge and one bias per neuron, \(3, 2\)"):
        Population([flat], start=[weights])


@pytest.mark.parametrize(
    ("X", "y", "message"),
    [
        (torch.zeros(6, 3), None, r"X must have shape \(m, 2\); got \(6, 3\)"),
        (torch.zeros(6), None, r"X must have shape \(m, 2\); got \(6,\)"),
        (None, torch.zeros(6, 3), r"y must have shape \(6, 2\); got \(6, 3\)"),
        (None, torch.zeros(5, 2), "same rows, at least one; got 6 and 5"),
        (None, torch.tensor([0, 1, 2] * 2), "6 classes from 0 to 1; .* with classes 0 to 2"),
        (None, torch.tensor([0, -1] * 3), "6 classes from 0 to 1; .* with classes -1 to 0"),
        (None, torch.tensor([[0, 1]] * 6), r"6 classes from 0 to 1; got shape \(6, 2\)"),
        (None, torch.tensor([0, 1]), "same rows, at least one; got 6 and 2"),
        (None, torch.zeros(0, dtype=torch.int64), "same rows, at least one; got 6 and 0"),
        (torch.zeros(0, 2), torch.zeros(0, 2), "same rows, at least one; got 0 and 0"),
    ],
)
def test_rows_must_fit_the_networks(X, y, message):
    population, good_X, good_y = small_population()
    X, y = good_X if X is None else X, good_y if y is None else y

    for call in (population.fit, population.losses):
        with pytest.raises(InputError, match=message):
            call(X, y)


def test_steps_and_loss_must_be_possible():
    population, X, y = small_population()

    with pytest.raises(InputError, match="steps must be at least 0; got -1"):
        population.fit(X, y, steps=-1)
    with pytest.raises(InputError, match=r"loss for classification must be one of .*; got 'mse'"):
        population.losses(X, y, loss="mse")
    with pytest.raises(InputError, match=r"loss for regression must be one of .*; got 'error'"):
        population.losses(X, torch.zeros(6, 2), loss="error")
    with pytest.raises(InputError, match=r"loss must be one of .*; got 'hinge'"):
        population.losses(X, y, loss="hinge")
