"""The decoder, and symmetries of encoder and decoder together."""

from dataclasses import replace

import pytest
import torch
from torch.nn.utils import parameters_to_vector
from toys import (
    WIDTH,
    parameters_of,
    permuted_features,
    permuted_outputs,
    permuted_rows,
    same_parameters,
    seeded,
    toy_model,
    toy_task,
    toy_trainer,
)

from graphpred.errors import InputError, ModelError, StoreError
from graphpred.files import save_tensors
from graphpred.meta.decoder import LATENT_SIZE, TEMPERATURE, THRESHOLD, Decoder, _frame, shrink
from graphpred.meta.encoders import Embedding
from graphpred.meta.model import MetaConfig, MetaModel, draw_latents

CLOSE = {"atol": 1e-5, "rtol": 1e-5}
FIELDS = ("hidden", "output", "gain", "hidden_bias", "output_bias", "activation")
N_ACTIVATIONS = 6
TASKS = {
    "three classes": toy_task,
    "two quantities": lambda: toy_task("regression", c=2),
}


@pytest.fixture(scope="module")
def model():
    """A model away from its special initial parameters: every head says something."""
    model = toy_model()
    for _ in toy_trainer(model, steps=10).run():
        pass
    generator = seeded(1)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.05 * torch.randn(parameter.shape, generator=generator))
    return model.requires_grad_(False)


@pytest.fixture(scope="module", params=TASKS)
def task(request):
    return TASKS[request.param]()


@torch.no_grad()
def decode(model, *tasks, hidden=4, prices=None, latents=None):
    """Decode tasks, by default with the same first latents for all."""
    widths = hidden if isinstance(hidden, list) else [hidden] * len(tasks)
    latents = latents or [draw_latents(h, generator=seeded(7)) for h in widths]
    return model(
        [model.encoder.describe(task) for task in tasks],
        prices=torch.tensor(prices or [0.1] * len(tasks)),
        latents=latents,
    )


def embedding(*, n, c, r=5, seed=0):
    generator = seeded(seed)
    return Embedding(
        features=torch.randn(n, WIDTH, generator=generator),
        outputs=torch.randn(c, WIDTH, generator=generator),
        relations=torch.randn(n, c, r, generator=generator),
    )


def decoder(seed=0):
    return Decoder(
        width=WIDTH,
        relation_width=5,
        n_activations=N_ACTIVATIONS,
        n_rounds=1,
        generator=seeded(seed),
    )


# Symmetries, end to end


def assert_same(after, before, *, features=None, hidden=None, outputs=None):
    """What was decoded after is what was decoded before, in another order."""
    n, h, c = before.sizes[0]
    features = torch.arange(n) if features is None else features
    hidden = torch.arange(h) if hidden is None else hidden
    outputs = torch.arange(c) if outputs is None else outputs
    expected = {
        "hidden": before.hidden[:, features][:, :, hidden],
        "output": before.output[:, hidden][:, :, outputs],
        "gain": before.gain[:, hidden],
        "hidden_bias": before.hidden_bias[:, hidden],
        "output_bias": before.output_bias[:, outputs],
        "activation": before.activation[:, hidden],
    }
    for name in FIELDS:
        torch.testing.assert_close(getattr(after, name), expected[name], **CLOSE)


def test_model_tells_features_neurons_and_outputs_apart(model, task):
    """Otherwise the tests below could not fail."""
    decoded = decode(model, task)

    assert decoded.hidden.std(dim=1).min() > 1e-3
    assert decoded.hidden.std(dim=2).min() > 1e-3
    assert decoded.output.std(dim=2).min() > 1e-3


def test_permuting_features_permutes_the_prediction(model, task):
    order = torch.randperm(task.n_features, generator=seeded(1))

    before, after = decode(model, task), decode(model, permuted_features(task, order))

    assert_same(after, before, features=order)


def test_permuting_outputs_permutes_the_prediction(model, task):
    order = torch.arange(task.n_outputs).roll(1)

    before, after = decode(model, task), decode(model, permuted_outputs(task, order))

    assert_same(after, before, outputs=order)


def test_permuting_latents_permutes_hidden_neurons(model, task):
    z = draw_latents(4, generator=seeded(7))
    order = torch.tensor([2, 0, 3, 1])

    before, after = decode(model, task, latents=[z]), decode(model, task, latents=[z[order]])

    assert_same(after, before, hidden=order)


def test_order_of_rows_changes_nothing(model, task):
    assert_same(decode(model, permuted_rows(task)), decode(model, task))


# Batches


def test_a_data_set_is_decoded_in_a_batch_as_alone(model):
    tasks = [toy_task(n=7, c=3), toy_task(n=2, c=4), toy_task("regression", n=3, c=1)]
    widths, prices = [3, 9, 1], [0.01, 0.3, 2.0]

    together = decode(model, *tasks, hidden=widths, prices=prices)

    for g, (task, h, price) in enumerate(zip(tasks, widths, prices, strict=True)):
        alone = decode(model, task, hidden=h, prices=[price])
        n, c = task.n_features, task.n_outputs
        assert together.sizes[g] == (n, h, c)
        real = {"hidden": (n, h), "output": (h, c), "output_bias": (c,)}
        for name in FIELDS:
            part = getattr(together, name)[g]
            inside = tuple(slice(size) for size in real.get(name, (h,)))
            torch.testing.assert_close(part[inside], getattr(alone, name)[0], **CLOSE)
            cleared = part.clone()
            cleared[inside] = 0
            assert not cleared.any(), name


def test_padded_places_are_no_edges(model):
    tasks, widths = [toy_task(n=7, c=2), toy_task(n=2, c=4)], [3, 9]

    decoded = decode(model, *tasks, hidden=widths)

    for g, (task, h) in enumerate(zip(tasks, widths, strict=True)):
        first, second = (p[g].clone() for p in decoded.probabilities)
        into, out = (w[g].clone() for w in decoded.weights)
        n, c = task.n_features, task.n_outputs
        assert bool((first[:n, :h] > 0).all())
        assert bool((second[:h, :c] > 0).all())
        for table, size in ((first, (n, h)), (into, (n, h)), (second, (h, c)), (out, (h, c))):
            table[: size[0], : size[1]] = 0
            assert not table.any()
    assert decoded.n_possible.tolist() == [7 * 3 + 3 * 2, 2 * 9 + 9 * 4]


@pytest.mark.parametrize(
    ("n", "h", "c"), [(3, 300, 2), (2, 4, 50), (1, 1, 1), (1, 5, 2), (200, 3, 2)]
)
def test_widths_are_open(n, h, c):
    latents = draw_latents(h, generator=seeded())

    decoded = decoder()([embedding(n=n, c=c)], prices=torch.tensor([0.1]), latents=[latents])

    assert decoded.hidden.shape == (1, n, h)
    assert decoded.output.shape == (1, h, c)
    assert decoded.activation.shape == (1, h, N_ACTIVATIONS)
    for name in FIELDS:
        assert getattr(decoded, name).isfinite().all(), name


def test_hidden_neurons_of_a_wider_layer_begin_like_those_of_a_narrower_one():
    narrow, wide = (draw_latents(h, generator=seeded(3)) for h in (3, 300))

    assert torch.equal(wide[:3], narrow)


# One quantity for weight and edge


def test_probabilities_and_weights_come_from_one_quantity(model, task):
    decoded = decode(model, task)

    for v, probability in zip((decoded.hidden, decoded.output), decoded.probabilities, strict=True):
        expected = 1 / (1 + torch.exp(-(v.abs() - THRESHOLD) / TEMPERATURE))
        torch.testing.assert_close(probability, expected)
    into, out = decoded.weights
    v, u = decoded.hidden, decoded.output
    plain = v.sign() * (v.abs() - THRESHOLD).relu()
    torch.testing.assert_close(into, plain * decoded.gain[:, None, :])
    torch.testing.assert_close(out, u.sign() * (u.abs() - THRESHOLD).relu())


def test_likely_edges_are_those_with_a_weight(model, task):
    decoded = decode(model, task)

    likely = [p > 0.5 for p in decoded.probabilities]

    assert any(bool(table.any()) for table in likely)
    assert all(
        torch.equal(table, weight != 0)
        for table, weight in zip(likely, decoded.weights, strict=True)
    )


@pytest.mark.parametrize(
    ("factor", "expected"), [(0.0, 0.0), (0.99, 0.0), (-0.99, 0.0), (3.0, 2.0), (-3.0, -2.0)]
)
def test_shrink_is_zero_up_to_the_threshold(factor, expected):
    value = shrink(torch.tensor(factor * THRESHOLD))

    assert float(value) == pytest.approx(expected * THRESHOLD, abs=1e-6)


@pytest.mark.parametrize("scale", [1.0, 1e3])
def test_values_stay_bounded_and_finite(scale):
    e = embedding(n=3, c=2)
    huge = Embedding(
        features=scale * e.features, outputs=scale * e.outputs, relations=scale * e.relations
    )

    decoded = decoder()(
        [huge], prices=torch.tensor([0.1]), latents=[draw_latents(4, generator=seeded())]
    )

    assert decoded.hidden.abs().max() <= 5
    assert decoded.output.abs().max() <= 5
    assert decoded.gain.min() > 0


def test_price_and_latents_and_data_matter(model):
    task = toy_task()
    base = decode(model, task).hidden

    others = [
        decode(model, task, prices=[3.0]).hidden,
        decode(model, task, latents=[draw_latents(4, generator=seeded(8))]).hidden,
        decode(model, toy_task(seed=1)).hidden,
    ]

    assert all((base - other).abs().max() > 1e-3 for other in others)


def test_gradients_reach_every_parameter_and_are_finite():
    model = toy_model()
    tasks = [toy_task(), toy_task("regression", n=3, c=1)]
    decoded = model(
        [model.encoder.describe(task) for task in tasks],
        prices=torch.tensor([0.1, 1.0]),
        latents=[draw_latents(4, generator=seeded())] * 2,
    )
    generator = seeded()
    total = sum(
        (getattr(decoded, name) * torch.randn(getattr(decoded, name).shape, generator=generator))
        .square()
        .sum()
        for name in FIELDS
    )
    total.backward()

    missing = [name for name, p in model.named_parameters() if p.grad is None]
    assert missing == []
    assert parameters_to_vector(p.grad for p in model.parameters()).isfinite().all()


# Initial parameters


def test_initial_parameters_depend_on_the_generator_alone():
    before = torch.get_rng_state()
    first, other = parameters_of(decoder(3)), parameters_of(decoder(4))
    torch.manual_seed(12)
    again = parameters_of(decoder(3))
    torch.set_rng_state(before)

    assert same_parameters(first, again)
    assert not same_parameters(first, other)


def test_building_and_predicting_leave_the_global_generator_in_a_usable_state(model):
    before = torch.get_rng_state()

    model.predict(toy_task(), seed=3)

    assert torch.equal(before, torch.get_rng_state())


def test_building_a_model_leaves_the_global_generator_alone():
    before = torch.get_rng_state()

    MetaModel()

    assert torch.equal(before, torch.get_rng_state())


def test_seed_of_the_config_decides_the_parameters():
    first, second, other = (
        parameters_of(MetaModel(MetaConfig(seed=seed, n_rounds=1))) for seed in (1, 1, 2)
    )

    assert same_parameters(first, second)
    assert not same_parameters(first, other)


# The model on disk


def test_model_comes_back_from_disk(tmp_path):
    model = MetaModel(MetaConfig(n_rounds=1, seed=3, activations=("relu", "tanh")))
    model.card = {"name": "of a test", "steps": 0}
    model.save(tmp_path / "m.safetensors")

    loaded = MetaModel.load(tmp_path / "m.safetensors")

    assert loaded.config == model.config
    assert loaded.card == model.card
    assert same_parameters(parameters_of(loaded), parameters_of(model))
    first, second = (m.predict(toy_task(), seed=1).probabilities for m in (model, loaded))
    assert torch.equal(first[0], second[0])


def test_no_model_is_packaged_yet():
    with pytest.raises(ModelError, match="graphpred train"):
        MetaModel.load()


def test_missing_and_foreign_files_are_refused(tmp_path):
    (tmp_path / "text").write_text("no model")
    save_tensors(tmp_path / "other", {"a": torch.zeros(1)}, metadata={})
    toy_model().save(tmp_path / "whole")
    whole = (tmp_path / "whole").read_bytes()
    (tmp_path / "torn").write_bytes(whole[: len(whole) // 2])

    for name in ("absent", "text", "other", "torn"):
        with pytest.raises(StoreError, match="meta-model that graphpred wrote"):
            MetaModel.load(tmp_path / name)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"price": 0.0}, "price must be"),
        ({"price": -1.0}, "price must be"),
        ({"price": float("nan")}, "price must be"),
        ({"price": float("inf")}, "price must be"),
        ({"n_hidden": 0}, "n_hidden must be at least 1"),
    ],
)
def test_bad_arguments_of_predict_are_refused(model, settings, message):
    with pytest.raises(InputError, match=message):
        model.predict(toy_task(), **settings)


@pytest.mark.parametrize("training", [True, False])
def test_predict_leaves_the_mode_of_the_model_as_it_was(training):
    model = toy_model().train(training)

    model.predict(toy_task())

    assert model.training is training


@pytest.mark.parametrize("n_slots", [9, 4, 2])
@pytest.mark.parametrize("n_outputs", [1, 2, 4])
def test_affinities_serve_all_outputs_alike(n_slots, n_outputs):
    leaning = torch.randn(1, 11, 6, generator=seeded(n_slots))
    present = torch.zeros(1, 11), torch.zeros(1, 6)
    present[0][:, :n_slots], present[1][:, :n_outputs] = 1, 1

    (frame,) = _frame(leaning, present=present)

    assert not frame[n_slots:].any()
    assert not frame[:, n_outputs:].any()
    gram = frame.T @ frame / (0.45 * n_slots)  # (c, c)
    mean_free = torch.eye(n_outputs) - (1 / n_outputs if n_outputs > 1 else 0)
    rank = min(n_slots, n_outputs - 1 if n_outputs > 1 else 1)
    values = torch.linalg.eigvalsh(gram[:n_outputs, :n_outputs])
    torch.testing.assert_close(values[-rank:], torch.ones(rank), atol=0.15, rtol=0)
    if n_slots >= n_outputs:
        torch.testing.assert_close(gram[:n_outputs, :n_outputs], mean_free, atol=0.15, rtol=0)


def test_training_starts_near_the_linear_guess():
    """With many slots and a low price, of which thresholds take little."""
    generator = seeded(2)
    relations = torch.randn(6, 3, 5, generator=generator)
    embedding = Embedding(
        features=torch.randn(6, WIDTH, generator=generator),
        outputs=torch.randn(3, WIDTH, generator=generator),
        relations=relations,
        bias=torch.tensor([0.5, 0.0, -0.5]),
    )
    decoder = Decoder(width=WIDTH, relation_width=5, n_activations=2, generator=generator)
    latents = torch.randn(200, LATENT_SIZE, generator=generator)

    decoded = decoder([embedding], prices=torch.tensor([1e-4]), latents=[latents])

    into, out = decoded.weights
    linear = (into[0] @ out[0]).detach()  # (n, c)
    guess = relations[:, :, 0] - relations[:, :, 0].mean(dim=1, keepdim=True)
    linear = linear - linear.mean(dim=1, keepdim=True)
    similarity = torch.cosine_similarity(linear.flatten(), guess.flatten(), dim=0)
    assert similarity > 0.95
    assert 0.2 < linear.norm() / guess.norm() < 1.5  # thresholds take their part
    torch.testing.assert_close(
        decoded.output_bias[0].detach(), torch.tensor([0.5, 0.0, -0.5]), atol=0.2, rtol=0
    )


def test_size_of_the_guess_changes_weights_and_no_edge(model, task):
    (embedding,) = model.encoder([model.encoder.describe(task)])
    relations = embedding.relations.clone()
    relations[:, :, 0] *= 3.0
    larger = replace(embedding, relations=relations)
    latents, prices = draw_latents(4, generator=seeded()), torch.tensor([0.1])

    first, second = (
        model.decoder([e], prices=prices, latents=[latents]) for e in (embedding, larger)
    )

    torch.testing.assert_close(first.hidden, second.hidden)
    torch.testing.assert_close(3 * first.gain, second.gain)
