"""The meta-model: what it keeps of a task, its parameters and its file."""

import pytest
import torch
from toys import parameters_of, same_parameters, seeded, toy_model, toy_task

from graphpred.errors import InputError, ModelError, StoreError
from graphpred.files import save_tensors
from graphpred.meta.draft import LATENT_SIZE
from graphpred.meta.model import MetaConfig, MetaModel, draw_latents
from graphpred.meta.samples import FIT_LIMIT, RowSample


@pytest.fixture(scope="module")
def model():
    return toy_model()


def test_a_description_has_what_the_encoder_says_and_a_sample_of_the_rows(model):
    task = toy_task()

    whole, few = model.describe(task), model.describe(task, limit=7)

    assert torch.equal(whole.encoded.relation, model.encoder.describe(task).relation)
    assert torch.equal(whole.sample.X, RowSample.of(task, limit=FIT_LIMIT).X)
    assert torch.equal(few.sample.X, whole.sample.X[:7])
    assert torch.equal(few.encoded.relation, whole.encoded.relation)


def test_there_is_a_network_before_the_first_round_and_after_every_one():
    model = toy_model(n_rounds=3)

    rounds = model(
        [model.describe(toy_task())],
        prices=torch.tensor([0.1]),
        latents=[draw_latents(4, generator=seeded())],
    )

    assert len(rounds) == 4


@pytest.mark.parametrize(("training", "least"), [(True, 0.4), (False, 0.0)])
def test_all_activation_classes_are_tried_in_training_alone(training, least):
    model = toy_model().train(training)

    decoded = model(
        [model.describe(toy_task())],
        prices=torch.tensor([0.1]),
        latents=[draw_latents(4, generator=seeded())],
    )[-1]

    even = 1 / len(model.config.activations)
    seldom = decoded.activation.exp().min() / even
    assert least <= seldom < least + 0.1


def test_hidden_neurons_of_a_wider_layer_begin_like_those_of_a_narrower_one():
    narrow, wide = (draw_latents(h, generator=seeded(3)) for h in (3, 300))

    assert wide.shape == (300, LATENT_SIZE)
    assert torch.equal(wide[:3], narrow)


# Parameters


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
    model = MetaModel(MetaConfig(n_rounds=2, seed=3, activations=("relu", "tanh")))
    model.card = {"name": "of a test", "steps": 0}
    model.save(tmp_path / "m.safetensors")

    loaded = MetaModel.load(tmp_path / "m.safetensors")

    assert loaded.config == model.config
    assert loaded.card == model.card
    assert same_parameters(parameters_of(loaded), parameters_of(model))
    first, second = (m.predict(toy_task(), seed=1).probabilities for m in (model, loaded))
    assert torch.equal(first[0], second[0])


def test_a_missing_packaged_model_is_a_clear_error(monkeypatch):
    monkeypatch.setattr("graphpred.meta.model.PACKAGED", "absent.safetensors")

    with pytest.raises(ModelError, match=r"absent\.safetensors must lie in .* and is missing"):
        MetaModel.load()


def test_the_packaged_model_is_the_one_that_is_loaded_without_a_name(monkeypatch, tmp_path):
    model = toy_model(seed=5)
    model.save(tmp_path / "m")
    monkeypatch.setattr("graphpred.meta.model.packaged_model", lambda: tmp_path / "m")

    loaded = MetaModel.load(encoder=model.encoder)

    assert same_parameters(parameters_of(loaded), parameters_of(model))


def test_a_model_of_another_format_is_refused(monkeypatch, tmp_path):
    monkeypatch.setattr("graphpred.meta.model.FORMAT_VERSION", 1)
    toy_model().save(tmp_path / "old")
    monkeypatch.undo()

    with pytest.raises(StoreError, match="must have model format 2; got 1"):
        MetaModel.load(tmp_path / "old")


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


def test_many_hidden_neurons_can_be_predicted():
    task, model = toy_task(n=12, c=4, m=80), toy_model(n_rounds=2)

    proposal = model.predict(task, n_hidden=300).proposal(n_edges=40)

    assert 0 < proposal.architecture.n_live_edges <= 40
