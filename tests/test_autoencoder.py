"""The autoencoder of architectures: what it encodes, decodes, draws and learns."""

from dataclasses import replace

import pytest
import torch
from toys import WIDTH, seeded

from graphpred.activations import activation_index
from graphpred.architecture import Architecture
from graphpred.errors import GraphPredError, InputError, ModelError, StoreError
from graphpred.meta.autoencoder import (
    LATENT_SIZE,
    N_OWN,
    ArchitectureAutoencoder,
    AutoencoderConfig,
    draw_latents,
)
from graphpred.meta.autoencoder_training import (
    AutoencoderTrainer,
    AutoencoderTraining,
    latent_bits,
)
from graphpred.meta.encoders import Embedding, StatisticsEncoder
from graphpred.meta.graph_corpus import (
    CorpusConfig,
    GraphExample,
    draw_corpus,
    input_relevance,
    prefer_relevant,
)
from graphpred.meta.ordered import draw_codes
from graphpred.space import SearchSpace

ACTIVATIONS = ("relu", "tanh", "abs")
CORPUS = CorpusConfig(
    groups=12, tasks=4, graphs=4, hidden=(3, 8), features=(3, 8), activations=ACTIVATIONS
)
STEPS = 150


def toy_encoder():
    return StatisticsEncoder(width=WIDTH, n_rounds=1, generator=seeded())


def toy_autoencoder(seed=0):
    config = AutoencoderConfig(n_messages=16, activations=ACTIVATIONS, seed=seed)
    return ArchitectureAutoencoder(config, encoder=toy_encoder())


def toy_trainer(model, **config):
    groups = list(draw_corpus(CORPUS, describe=model.encoder.describe, seed=0))
    return AutoencoderTrainer(model, groups=groups, config=AutoencoderTraining(**config))


@pytest.fixture(scope="module")
def trained():
    """An autoencoder after some training, and the bits of every step."""
    model = toy_autoencoder()
    reports = list(toy_trainer(model, steps=STEPS).run())
    return model.requires_grad_(False), [report.bits for report in reports]


@pytest.fixture(scope="module")
def held_out(trained):
    config = replace(CORPUS, groups=6, tasks=8)
    return list(draw_corpus(config, describe=trained[0].encoder.describe, seed=1))


def random_embedding(n=5, c=3, *, relation_width, seed=0):
    generator = seeded(seed)
    return Embedding(
        features=torch.randn(n, WIDTH, generator=generator),
        outputs=torch.randn(c, WIDTH, generator=generator),
        relations=torch.randn(n, c, relation_width, generator=generator),
    )


@pytest.fixture
def case(generator):
    """An untrained model, an architecture, its data set's embedding and codes."""
    model = toy_autoencoder().requires_grad_(False)
    embedding = random_embedding(relation_width=model.encoder.relation_width)
    space = SearchSpace(widths=(5, 7, 3), activations=ACTIVATIONS)
    z = space.sample_live(generator=generator, n_edges=18)
    return model, z, {"embeddings": [embedding], "codes": [draw_codes(5, 3, generator=generator)]}


def permuted_hidden(z, order):
    n, h, _ = z.widths
    neurons = torch.arange(z.n_neurons)
    neurons[n : n + h] = n + order
    return z.permuted(neurons)


# Encoding and decoding


def test_latents_of_a_neuron_are_sixteen_numbers(case):
    model, z, given = case

    posterior = model.encode([z], **given)

    assert LATENT_SIZE <= 16
    assert posterior.mean.shape == posterior.deviation.shape == (1, 7, LATENT_SIZE)
    assert (posterior.low >= 0).all()
    assert (posterior.low + posterior.width <= 1 + 1e-12).all()


def test_permuting_hidden_neurons_permutes_latents(case, generator):
    model, z, given = case
    order = torch.randperm(7, generator=generator)

    plain = model.encode([z], **given)
    other = model.encode([permuted_hidden(z, order)], **given)

    torch.testing.assert_close(other.mean[0], plain.mean[0, order], atol=1e-9, rtol=0)
    torch.testing.assert_close(other.deviation[0], plain.deviation[0, order], atol=1e-9, rtol=0)


def test_permuting_latents_permutes_hidden_neurons(case, generator):
    model, _, given = case
    latents = draw_latents(1, n_hidden=7, generator=generator)
    order = torch.randperm(7, generator=generator)

    (plain,), (other,) = (model.decode(x, **given) for x in (latents, latents[:, order]))

    assert other == permuted_hidden(plain, order)


def test_permuting_features_and_outputs_leaves_latents(case, generator):
    model, z, given = case
    (embedding,), (codes,) = given["embeddings"], given["codes"]
    features, outputs = (torch.randperm(k, generator=generator) for k in (5, 3))
    v_1, v_2 = (torch.from_numpy(mask) for mask in z.masks)
    other = Architecture.from_masks([v_1[features], v_2[:, outputs]], hidden=z.activations[0])

    plain = model.encode([z], **given)
    permuted = model.encode(
        [other],
        embeddings=[
            Embedding(
                features=embedding.features[features],
                outputs=embedding.outputs[outputs],
                relations=embedding.relations[features][:, outputs],
            )
        ],
        codes=[torch.cat([codes[:3][outputs], codes[3:][features]])],
    )

    torch.testing.assert_close(permuted.mean, plain.mean, atol=1e-5, rtol=0)


def test_features_of_equal_embedding_are_told_apart(generator):
    model = toy_autoencoder().requires_grad_(False)
    embedding = random_embedding(relation_width=model.encoder.relation_width)
    same = Embedding(
        features=embedding.features[:1].expand(5, -1),
        outputs=embedding.outputs[:1].expand(3, -1),
        relations=embedding.relations[:1, :1].expand(5, 3, -1),
    )
    given = {"embeddings": [same], "codes": [draw_codes(5, 3, generator=generator)]}
    z = SearchSpace(widths=(5, 7, 3), activations=ACTIVATIONS).sample_live(generator=generator)

    assert model.decode(model.encode([z], **given).mean, **given) == [z]


def test_widths_are_the_probability(case):
    model, z, given = case

    posterior = model.encode([z], **given)
    own, shared = posterior.width[0, :, :N_OWN], posterior.width[0, 0, N_OWN:]

    bound = own.log().sum() + shared.log().sum()
    torch.testing.assert_close(bound, model.evidence_bound([z], **given)[0])


@pytest.mark.parametrize("n_edges", [2, 12, 45, 56])
def test_any_live_architecture_comes_back(case, generator, n_edges):
    model, _, given = case
    space = SearchSpace(widths=(5, 7, 3), activations=ACTIVATIONS)
    for _ in range(5):
        z = space.sample_live(generator=generator, n_edges=n_edges)
        latents = model.encode([z], **given).sample(generator=generator)
        assert model.decode(latents, **given) == [z]


def test_trained_model_reconstructs_held_out_graphs(trained, held_out, generator):
    model, _ = trained
    n_same = n_all = 0
    for group in held_out:
        n, _, c = group[0].architecture.widths
        wanted = [example.architecture for example in group]
        given = {
            "embeddings": model.encoder([example.description for example in group]),
            "codes": [draw_codes(n, c, generator=generator) for _ in group],
        }
        found = model.decode(model.encode(wanted, **given).sample(generator=generator), **given)
        n_same += sum(
            a.canonical()[0] == b.canonical()[0] for a, b in zip(wanted, found, strict=True)
        )
        n_all += len(group)

    assert n_same == n_all


# Training


def test_training_needs_fewer_bits(trained):
    _, bits = trained

    assert sum(bits[-20:]) < 0.9 * sum(bits[:20])


def test_the_data_set_matters(trained, held_out):
    model, _ = trained

    def mean_bits(groups):
        found = [latent_bits(model, group, generator=seeded(3)).mean() for group in groups]
        return float(torch.stack(found).mean())

    assert mean_bits(held_out) < mean_bits([of_others(group) for group in held_out])


def of_others(group):
    """Examples with the description of another data set of their group."""
    return [
        GraphExample(
            description=other.description,
            strength=example.strength,
            architecture=example.architecture,
        )
        for example, other in zip(group, group[CORPUS.graphs :] + group, strict=False)
    ]


def test_a_stopped_training_goes_on_to_the_same_parameters(tmp_path):
    whole, part, resumed = toy_autoencoder(), toy_autoencoder(), toy_autoencoder(seed=1)
    list(toy_trainer(whole, steps=4).run())
    stopped = toy_trainer(part, steps=4)
    list(stopped.run(checkpoint=tmp_path / "state", stop=lambda: stopped.step == 2))

    trainer = toy_trainer(resumed, steps=4)
    trainer.model.config = part.config
    trainer.restore(tmp_path / "state")
    list(trainer.run())

    for ours, theirs in zip(resumed.parameters(), whole.parameters(), strict=True):
        assert torch.equal(ours, theirs)


def test_checkpoint_of_another_training_is_refused(tmp_path):
    toy_trainer(toy_autoencoder(), steps=4).save(tmp_path / "state")

    with pytest.raises(StoreError, match="steps"):
        toy_trainer(toy_autoencoder(), steps=5).restore(tmp_path / "state")


# Draws


def test_draws_are_valid_and_different(trained, held_out, generator):
    model, _ = trained
    (embedding,) = model.encoder([held_out[0][0].description])

    drawn = model.draw(200, embedding=embedding, n_hidden=8, generator=generator)

    assert all(z.n_edges == z.n_live_edges >= 2 for z in drawn)
    assert {z.widths[1] for z in drawn} == {8}
    assert len({z.canonical()[0] for z in drawn}) > 190


def test_same_generator_same_draws_and_global_state_untouched(trained, held_out):
    model, _ = trained
    (embedding,) = model.encoder([held_out[0][0].description])
    before = torch.get_rng_state()

    first, second = (
        model.draw(9, embedding=embedding, n_hidden=6, generator=seeded(4)) for _ in range(2)
    )
    ArchitectureAutoencoder(AutoencoderConfig(n_messages=8))

    assert first == second
    assert torch.equal(before, torch.get_rng_state())


def test_one_neuron_and_one_feature_are_enough(generator):
    model = toy_autoencoder().requires_grad_(False)
    embedding = random_embedding(1, 1, relation_width=model.encoder.relation_width)

    drawn = model.draw(20, embedding=embedding, n_hidden=1, generator=generator)

    assert {z.n_live_edges for z in drawn} == {2}


@pytest.mark.parametrize("value", [0.0, 0.5, 1 - 1e-9])
def test_equal_latents_are_decoded_too(case, value):
    model, _, given = case

    (z,) = model.decode(torch.full((1, 7, LATENT_SIZE), value, dtype=torch.float64), **given)

    assert z.n_edges == z.n_live_edges >= 2


# The corpus


def test_corpus_is_live_prefers_relevant_features_and_repeats():
    first, second = (list(draw_corpus(CORPUS, describe=lambda _: None, seed=2)) for _ in range(2))
    examples = [example for group in first for example in group]
    relevance = [input_relevance(e.architecture, strength=e.strength) for e in examples]

    assert all(e.architecture.n_live_edges == e.architecture.n_edges for e in examples)
    assert sum(relevance) / len(relevance) > 0.2
    again = [example for group in second for example in group]
    assert [e.architecture for e in examples] == [e.architecture for e in again]


def test_preferring_features_keeps_the_number_of_inputs(generator):
    z = SearchSpace(widths=(6, 5, 2)).sample_live(generator=generator, n_edges=20)

    other = prefer_relevant(z, strength=torch.rand(6, 2, generator=generator), generator=generator)

    assert (other.masks[0].sum(axis=0) == z.masks[0].sum(axis=0)).all()
    assert (other.masks[1] == z.masks[1]).all()


# Files and errors


def test_saved_and_loaded_model_is_the_same(trained, case, tmp_path):
    model, _ = trained
    _, z, given = case
    model.card["steps"] = STEPS
    model.save(tmp_path / "model")

    loaded = ArchitectureAutoencoder.load(tmp_path / "model", encoder=toy_encoder())

    assert loaded.config == model.config
    assert loaded.card == model.card
    assert torch.equal(loaded.encode([z], **given).mean, model.encode([z], **given).mean)


def test_a_file_for_another_encoder_or_of_another_kind_is_refused(case, tmp_path):
    model, z, _ = case
    model.save(tmp_path / "model")
    z.save(tmp_path / "architecture")

    with pytest.raises(ModelError):
        ArchitectureAutoencoder.load(tmp_path / "model")
    for name in ("architecture", "absent"):
        with pytest.raises(StoreError):
            ArchitectureAutoencoder.load(tmp_path / name)


def unusable():
    """Architectures that cannot be encoded, for five features and three outputs."""
    v_1, v_2 = torch.zeros(5, 7), torch.zeros(7, 3)
    names = ["relu"] * 7
    yield Architecture.from_masks([v_1, v_2], hidden=names)  # empty
    yield Architecture.from_masks([v_1 + 1, v_2], hidden=names)  # dead
    yield Architecture.from_masks([v_1 + 1, v_2 + 1], hidden=["softplus"] * 7)
    yield Architecture.from_masks([v_1 + 1, v_2 + 1], hidden=names, output="tanh")
    yield Architecture.from_masks([v_1[:4] + 1, v_2 + 1], hidden=names)
    yield Architecture.from_masks([torch.ones(5, 3)])
    skipping = torch.tensor([[0, 0, 5], [5, 12, 12]])
    identity, relu = activation_index("identity"), activation_index("relu")
    classes = [identity] * 5 + [relu] * 7 + [identity] * 3
    yield Architecture.from_edges(skipping, activation=classes, widths=(5, 7, 3))


@pytest.mark.parametrize("z", list(unusable()))
def test_an_architecture_outside_the_domain_is_an_input_error(case, z):
    model, _, given = case

    with pytest.raises(InputError):
        model.encode([z], **given)


def test_wrong_arguments_are_errors_of_ours(case, generator):
    model, z, given = case
    latents = draw_latents(1, n_hidden=7, generator=generator)
    (embedding,) = given["embeddings"]

    for wrong in (latents[..., :3], latents + 1, latents.expand(2, -1, -1)):
        with pytest.raises(GraphPredError):
            model.decode(wrong, **given)
    with pytest.raises(InputError, match="codes"):
        model.encode([z], embeddings=[embedding], codes=[torch.rand(3, generator=generator)])
    with pytest.raises(InputError, match="n_hidden"):
        model.draw(3, embedding=embedding, n_hidden=0, generator=generator)
    with pytest.raises(InputError):
        AutoencoderTraining(steps=0)
    with pytest.raises(InputError):
        CorpusConfig(hidden=(9, 3))
