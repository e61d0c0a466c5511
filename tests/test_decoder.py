"""The decoder, and symmetries of encoder and decoder together."""

from copy import deepcopy

import pytest
import torch
from torch.nn.utils import parameters_to_vector
from toys import (
    WIDTH,
    in_double,
    moved_model,
    parameters_of,
    permuted_features,
    permuted_outputs,
    permuted_rows,
    same_parameters,
    seeded,
    toy_model,
    toy_task,
)

from graphpred.activations import activation_indices
from graphpred.errors import InputError
from graphpred.meta.decoder import Decoder
from graphpred.meta.draft import LATENT_SIZE
from graphpred.meta.edges import TEMPERATURE, THRESHOLD, garrote
from graphpred.meta.encoders import Embedding
from graphpred.meta.model import draw_latents
from graphpred.meta.samples import RowSample

CLOSE = {"atol": 1e-5, "rtol": 1e-5}
CLASSES = activation_indices(("relu", "tanh", "sin", "gaussian", "softplus", "abs"))
PLACES = {  # whether features, hidden neurons or outputs are along every dimension
    "hidden": "nh",
    "output": "hc",
    "into": "nh",
    "out": "hc",
    "hidden_bias": "h",
    "output_bias": "c",
    "activation": "h",
    "classes": "h",
}
TASKS = {
    "three classes": toy_task,
    "two quantities": lambda: toy_task("regression", c=2),
}


@pytest.fixture(scope="module")
def model():
    return moved_model()


@pytest.fixture(scope="module")
def exact(model):
    """The same model in double precision: rounds of refinement amplify rounding errors."""
    return deepcopy(model).double()


@pytest.fixture(scope="module", params=TASKS)
def task(request):
    return TASKS[request.param]()


@torch.no_grad()
def rounds_of(model, *tasks, prices=None, latents=None):
    """Decode tasks, by default with the same first latents for all."""
    real = next(model.parameters()).dtype
    descriptions = [toy_model().describe(task) for task in tasks]
    if real == torch.float64:
        descriptions = [in_double(description) for description in descriptions]
    latents = latents or [draw_latents(4, generator=seeded(7))] * len(tasks)
    return model(
        descriptions,
        prices=torch.tensor(prices or [0.01] * len(tasks), dtype=real),
        latents=[z.to(real) for z in latents],
    )


def decode(model, *tasks, **settings):
    return rounds_of(model, *tasks, **settings)[-1]


def tables(decoded):
    """Everything that a decoded network is made of, by name."""
    named = {
        "into": decoded.weights[0],
        "out": decoded.weights[1],
        "hidden_bias": decoded.biases[0],
        "output_bias": decoded.biases[1],
    }
    return {name: named[name] if name in named else getattr(decoded, name) for name in PLACES}


def embedding(*, n, c, r=5, seed=0):
    generator = seeded(seed)
    return Embedding(
        features=torch.randn(n, WIDTH, generator=generator),
        outputs=torch.randn(c, WIDTH, generator=generator),
        relations=torch.randn(n, c, r, generator=generator),
    )


def sample(*, n, c, q=20, seed=0):
    generator = seeded(seed)
    return RowSample(
        X=torch.randn(q, n, generator=generator),
        y=torch.eye(c)[torch.randint(c, (q,), generator=generator)],
        is_regression=False,
    )


def decoder(seed=0):
    return Decoder(
        width=WIDTH,
        relation_width=5,
        activations=CLASSES,
        n_attention=1,
        n_rounds=2,
        generator=seeded(seed),
    )


# Symmetries, end to end


def assert_same(after, before, **orders):
    """What was decoded after is what was decoded before, in another order of n, h or c."""
    expected = tables(before)
    for name, table in tables(after).items():
        wanted = expected[name]
        for dimension, letter in enumerate(PLACES[name], start=1):
            order = orders.get(letter, torch.arange(wanted.shape[dimension]))
            wanted = wanted.index_select(dimension, order)
        torch.testing.assert_close(table, wanted, **CLOSE, msg=lambda text, name=name: name + text)


def test_model_tells_features_neurons_and_outputs_apart(exact, task):
    """Otherwise the tests below could not fail."""
    decoded = decode(exact, task)

    assert decoded.hidden.std(dim=1).min() > 1e-2
    assert decoded.hidden.std(dim=2).min() > 1e-2
    assert decoded.output.std(dim=2).max() > 1e-2
    assert all(weight.any() for weight in decoded.weights)
    assert len(decoded.classes.unique()) > 1


def test_permuting_features_permutes_the_prediction(exact, task):
    order = torch.randperm(task.n_features, generator=seeded(1))

    before, after = decode(exact, task), decode(exact, permuted_features(task, order))

    assert_same(after, before, n=order)


def test_permuting_outputs_permutes_the_prediction(exact, task):
    order = torch.arange(task.n_outputs).roll(1)

    before, after = decode(exact, task), decode(exact, permuted_outputs(task, order))

    assert_same(after, before, c=order)


def test_permuting_latents_permutes_hidden_neurons(exact, task):
    z = draw_latents(4, generator=seeded(7))
    order = torch.tensor([2, 0, 3, 1])

    before, after = decode(exact, task, latents=[z]), decode(exact, task, latents=[z[order]])

    assert_same(after, before, h=order)


def test_order_of_rows_changes_nothing(exact, task):
    assert_same(decode(exact, permuted_rows(task)), decode(exact, task))


# Batches


@pytest.mark.parametrize("kind", ["classification", "regression"])
def test_a_data_set_is_decoded_in_a_batch_as_alone(exact, kind):
    tasks = [toy_task(kind, m=m, seed=m) for m in (60, 90, 41)]
    prices = [0.003, 0.3, 2.0]

    together = rounds_of(exact, *tasks, prices=prices)

    for g, (task, price) in enumerate(zip(tasks, prices, strict=True)):
        for batch, alone in zip(together, rounds_of(exact, task, prices=[price]), strict=True):
            for name, table in tables(alone).items():
                torch.testing.assert_close(tables(batch)[name][g], table[0], **CLOSE)


@pytest.mark.parametrize(
    ("other", "n_hidden"),
    [
        (toy_task(n=4), 4),
        (toy_task(c=2), 4),
        (toy_task("regression"), 4),
        (toy_task(seed=1), 3),
    ],
)
def test_data_sets_of_different_shapes_are_not_decoded_together(model, other, n_hidden):
    latents = [draw_latents(h, generator=seeded()) for h in (4, n_hidden)]

    with pytest.raises(InputError, match="one shape and kind"):
        decode(model, toy_task(), other, latents=latents)


def test_latents_of_another_size_are_refused(model):
    with pytest.raises(InputError, match=f"{LATENT_SIZE} numbers a latent"):
        decode(model, toy_task(), latents=[torch.zeros(4, LATENT_SIZE - 1)])


@pytest.mark.parametrize(
    ("n", "h", "c"), [(3, 300, 2), (2, 4, 50), (1, 1, 1), (1, 5, 2), (200, 3, 2)]
)
def test_widths_are_open(n, h, c):
    decoded = decoder()(
        [embedding(n=n, c=c)],
        samples=[sample(n=n, c=c)],
        prices=torch.tensor([0.1]),
        latents=[draw_latents(h, generator=seeded())],
    )[-1]

    assert decoded.sizes == (n, h, c)
    assert decoded.n_possible == n * h + h * c
    assert decoded.hidden.shape == (1, n, h)
    assert decoded.output.shape == (1, h, c)
    assert decoded.activation.shape == (1, h, len(CLASSES))
    for name, table in tables(decoded).items():
        assert table.isfinite().all(), name


# One quantity for weight and edge


def test_probabilities_and_weights_come_from_one_quantity(model, task):
    decoded = decode(model, task)

    for v, probability in zip((decoded.hidden, decoded.output), decoded.probabilities, strict=True):
        expected = 1 / (1 + torch.exp(-(v.abs() - THRESHOLD) / TEMPERATURE))
        torch.testing.assert_close(probability, expected)
    for v, weight in zip((decoded.hidden, decoded.output), decoded.weights, strict=True):
        kept = garrote(v, THRESHOLD)
        assert torch.equal(weight.sign(), kept.sign())
    ratio = decoded.weights[0] / garrote(decoded.hidden, THRESHOLD)  # one gain a neuron
    for neuron in ratio[0].T:
        known = neuron[neuron.isfinite()]
        torch.testing.assert_close(known, known[:1].expand_as(known))


def test_likely_edges_are_those_with_a_weight(model, task):
    decoded = decode(model, task)

    likely = [p > 0.5 for p in decoded.probabilities]

    assert any(bool(table.any()) for table in likely)
    assert all(
        torch.equal(table, weight != 0)
        for table, weight in zip(likely, decoded.weights, strict=True)
    )


def test_classes_are_those_of_the_registry_that_the_model_has(model, task):
    decoded = decode(model, task)

    assert set(decoded.classes.flatten().tolist()) <= set(model.activation_indices)
    assert torch.equal(decoded.activation.exp().sum(dim=2).round(decimals=5), torch.ones(1, 4))


@pytest.mark.parametrize("scale", [1.0, 1e3])
def test_values_stay_finite(scale):
    e = embedding(n=3, c=2)
    huge = Embedding(
        features=scale * e.features, outputs=scale * e.outputs, relations=scale * e.relations
    )

    decoded = decoder()(
        [huge],
        samples=[sample(n=3, c=2)],
        prices=torch.tensor([0.1]),
        latents=[draw_latents(4, generator=seeded())],
    )[-1]

    for name, table in tables(decoded).items():
        assert table.isfinite().all(), name
    assert decoded.hidden.abs().max() < 10


def test_price_and_latents_and_data_matter(model):
    task = toy_task()
    base = decode(model, task).hidden

    others = [
        decode(model, task, prices=[3.0]).hidden,
        decode(model, task, latents=[draw_latents(4, generator=seeded(8))]).hidden,
        decode(model, toy_task(seed=1)).hidden,
    ]

    assert all((base - other).abs().max() > 1e-3 for other in others)


@pytest.mark.parametrize("kind", ["classification", "regression"])
@pytest.mark.parametrize("build", [toy_model, moved_model])
def test_gradients_reach_every_parameter_and_are_finite(build, kind):
    model = build().requires_grad_(True)
    tasks = [toy_task(kind, seed=seed) for seed in (0, 1)]
    decoded = model(
        [model.describe(task) for task in tasks],
        prices=torch.tensor([0.003, 1.0]),
        latents=[draw_latents(4, generator=seeded())] * 2,
    )[-1]
    generator = seeded()
    real = [table for table in tables(decoded).values() if table.is_floating_point()]
    total = sum(
        (table * torch.randn(table.shape, generator=generator)).square().sum() for table in real
    )
    total.backward()

    missing = [name for name, p in model.named_parameters() if p.grad is None]
    assert missing == []
    assert parameters_to_vector(p.grad for p in model.parameters()).isfinite().all()
    if build is moved_model:
        idle = [name for name, p in model.named_parameters() if p.dim() == 2 and not p.grad.any()]
        assert idle == []


# Initial parameters


def test_initial_parameters_depend_on_the_generator_alone():
    before = torch.get_rng_state()
    first, other = parameters_of(decoder(3)), parameters_of(decoder(4))
    torch.manual_seed(12)
    again = parameters_of(decoder(3))
    torch.set_rng_state(before)

    assert same_parameters(first, again)
    assert not same_parameters(first, other)
