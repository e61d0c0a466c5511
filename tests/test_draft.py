"""The first guess of a network, before any row is read."""

import math
from dataclasses import replace

import pytest
import torch
from toys import WIDTH, seeded

from graphpred.meta.draft import LATENT_SIZE, Drafter, frame
from graphpred.meta.encoders import Embedding

N_ACTIVATIONS = 4


def drafter(seed=0, **settings):
    return Drafter(
        width=WIDTH,
        relation_width=5,
        n_activations=N_ACTIVATIONS,
        n_rounds=1,
        generator=seeded(seed),
        **settings,
    )


def embedding(*, n=6, c=3, seed=0, bias=None):
    generator = seeded(seed)
    return Embedding(
        features=torch.randn(n, WIDTH, generator=generator),
        outputs=torch.randn(c, WIDTH, generator=generator),
        relations=torch.randn(n, c, 5, generator=generator),
        bias=bias,
    )


@torch.no_grad()
def drafted(e, *, price=0.1, n_hidden=5, seed=0, by=None, **settings):
    latents = torch.randn(1, n_hidden, LATENT_SIZE, generator=seeded(seed))
    return (by or drafter())([e], prices=torch.tensor([price]), latents=latents, **settings)


def test_shapes_are_those_promised():
    draft = drafted(embedding(n=6, c=3), n_hidden=5)

    assert draft.v.shape == (1, 6, 5)
    assert draft.gain.shape == draft.hidden_bias.shape == draft.choice.shape == (1, 5)
    assert draft.activation.shape == (1, 5, N_ACTIVATIONS)
    assert draft.slots.shape == (1, 5, WIDTH)
    assert draft.features.shape == (1, 6, WIDTH)
    assert draft.outputs.shape == (1, 3, WIDTH)


def test_output_biases_are_those_guessed():
    bias = torch.tensor([0.5, 0.0, -0.5])

    assert torch.equal(drafted(embedding(bias=bias)).output_bias[0], bias)
    assert not drafted(embedding()).output_bias.any()


# Importance of edges


def test_all_neurons_weigh_in_alike_but_for_their_amplitude():
    by = drafter()
    with torch.no_grad():
        by.per_slot.weight.zero_(), by.per_slot.bias.zero_()

    size = drafted(embedding(), by=by).v[0].square().mean(dim=0).sqrt()

    assert size.min() > 0.1
    torch.testing.assert_close(size, size[:1].expand_as(size), atol=0, rtol=1e-2)


def test_a_higher_price_makes_v_smaller_and_leaves_the_function():
    by = drafter()
    with torch.no_grad():
        for layer in by.context:
            if isinstance(layer, torch.nn.Linear):
                layer.weight.zero_(), layer.bias.zero_()

    cheap, dear = (drafted(embedding(), price=price, by=by) for price in (0.01, 1.0))

    assert (dear.v.abs() < 0.7 * cheap.v.abs()).all()
    torch.testing.assert_close(dear.v * dear.gain[:, None], cheap.v * cheap.gain[:, None])


def test_size_of_the_guess_changes_nothing():
    e = embedding()
    relations = e.relations.clone()
    relations[:, :, 0] *= 3.0

    first, second = drafted(e), drafted(replace(e, relations=relations))

    torch.testing.assert_close(first.v, second.v)
    torch.testing.assert_close(first.gain, second.gain)


def test_neurons_look_in_directions_of_the_guess_when_training_starts():
    """Nearly all of v is in the space that the guessed weights of the outputs span."""
    e, noise = embedding(n=40, c=3), embedding(n=40, c=3, seed=9)

    v = drafted(e, n_hidden=50).v[0]

    def explained(guess):
        basis, _ = torch.linalg.qr(guess)
        return float((basis.T @ v).square().sum() / v.square().sum())

    assert explained(e.relations[:, :, 0]) > 2 * explained(noise.relations[:, :, 0])


# Activation classes


def test_classes_are_drawn_evenly_when_training_starts():
    draft = drafted(embedding(), n_hidden=4000)

    share = torch.bincount(draft.choice[0], minlength=N_ACTIVATIONS) / 4000
    torch.testing.assert_close(share, torch.full((4,), 0.25), atol=0.03, rtol=0)


def test_classes_are_drawn_from_their_probabilities():
    by = drafter()
    with torch.no_grad():
        by.activation.bias.copy_(torch.tensor([2.0, 0.0, -1.0, 0.5]))

    draft = drafted(embedding(), n_hidden=4000, by=by)

    expected = draft.activation[0].exp().mean(dim=0)
    share = torch.bincount(draft.choice[0], minlength=N_ACTIVATIONS) / 4000
    assert expected.max() > 0.4
    torch.testing.assert_close(share, expected, atol=0.03, rtol=0)


def test_favoured_classes_are_drawn_until_more_is_learned():
    draft = drafted(embedding(), n_hidden=4000, by=drafter(favoured=[1, 3]))

    share = torch.bincount(draft.choice[0], minlength=N_ACTIVATIONS) / 4000
    torch.testing.assert_close(share[[1, 3]], torch.full((2,), 0.49), atol=0.03, rtol=0)


def test_classes_that_are_not_allowed_are_not_drawn_though_favoured():
    allowed = torch.tensor([True, False, True, False])
    draft = drafted(embedding(), by=drafter(favoured=[1, 3]), n_hidden=200, allowed=allowed)

    assert set(draft.choice[0].tolist()) == {0, 2}
    torch.testing.assert_close(draft.activation.exp()[..., allowed], torch.full((1, 200, 2), 0.5))


def test_every_class_stays_possible_where_all_are_tried():
    by = drafter()
    with torch.no_grad():
        by.activation.bias.copy_(torch.tensor([50.0, 0.0, 0.0, 0.0]))

    probability = drafted(embedding(), by=by, explore=True).activation.exp()
    bare = drafted(embedding(), by=by).activation.exp()

    assert probability.min() >= 0.05
    assert bare.min() < 1e-6
    torch.testing.assert_close(probability.sum(dim=2), torch.ones(1, 5))


def test_a_neurons_class_decides_its_weights():
    draft = drafted(embedding(), n_hidden=20)
    by = drafter()
    with torch.no_grad():
        by.activation.bias.copy_(torch.tensor([50.0, 0.0, 0.0, 0.0]))

    other = drafted(embedding(), n_hidden=20, by=by)

    changed = (draft.choice != other.choice)[0]
    assert changed.any()
    assert (~changed).any()
    assert ((draft.v - other.v)[0].abs().amax(dim=0)[changed] > 1e-3).all()


def test_probabilities_of_classes_teach_nothing_but_their_own_head():
    by = drafter()
    latents = torch.randn(1, 5, LATENT_SIZE, generator=seeded())

    draft = by([embedding()], prices=torch.tensor([0.1]), latents=latents)
    draft.activation[..., 0].sum().backward()

    taught = {name for name, p in by.named_parameters() if p.grad is not None}
    assert taught == {"activation.weight", "activation.bias"}


# Affinities


@pytest.mark.parametrize("n_slots", [9, 4, 2])
@pytest.mark.parametrize("n_outputs", [1, 2, 4])
def test_affinities_serve_all_outputs_alike(n_slots, n_outputs):
    leaning = torch.randn(1, n_slots, n_outputs, generator=seeded(n_slots))

    (affinity,) = frame(leaning)

    gram = affinity.T @ affinity * n_outputs / n_slots  # (c, c)
    mean_free = torch.eye(n_outputs) - (1 / n_outputs if n_outputs > 1 else 0)
    rank = min(n_slots, n_outputs - 1 if n_outputs > 1 else 1)
    values = torch.linalg.eigvalsh(gram)
    torch.testing.assert_close(values[-rank:], torch.ones(rank), atol=0.15, rtol=0)
    if n_slots >= n_outputs:
        torch.testing.assert_close(gram, mean_free, atol=0.15, rtol=0)


def test_affinities_of_a_tight_frame_stay():
    angles = 2 * math.pi * torch.arange(6) / 6
    plane, _ = torch.linalg.qr(torch.eye(3)[:, :2] - 1 / 3)
    leaning = torch.stack([angles.cos(), angles.sin()], dim=1) @ plane.T  # (6, 3)

    (affinity,) = frame(leaning[None])

    cosine = torch.cosine_similarity(affinity, leaning, dim=1)
    torch.testing.assert_close(cosine, torch.ones(6), atol=1e-4, rtol=0)


def test_no_leaning_is_no_affinity():
    assert not frame(torch.zeros(1, 4, 3)).any()


# Initial parameters


def test_initial_parameters_depend_on_the_generator_alone():
    before = torch.get_rng_state()
    first, other = drafted(embedding()), drafted(embedding(), by=drafter(1))
    torch.manual_seed(12)
    again = drafted(embedding())
    torch.set_rng_state(before)

    assert torch.equal(first.v, again.v)
    assert not torch.allclose(first.v, other.v)
