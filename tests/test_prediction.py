"""Networks chosen from a predicted distribution."""

import math

import numpy as np
import pytest
import torch
from toys import rebuilt, seeded, silent_model, toy_task

from graphpred.activations import ACTIVATIONS
from graphpred.architecture import Architecture
from graphpred.errors import InputError
from graphpred.meta.decoder import Decoded
from graphpred.meta.encoders import Embedding
from graphpred.meta.prediction import _BISECTIONS, PRICE_RANGE, Prediction

TASKS = {
    "three classes": lambda: toy_task(n=6),
    "two quantities": lambda: toy_task("regression", c=2),
    "one feature": lambda: toy_task(n=1, c=2),
}


@pytest.fixture(scope="module")
def prediction(meta_model):
    return meta_model.predict(toy_task(n=6), seed=1)


@pytest.fixture(scope="module", params=TASKS)
def any_prediction(request, meta_model):
    return meta_model.predict(TASKS[request.param](), n_hidden=5)


def assert_valid(z, prediction):
    assert z.widths == prediction.widths
    assert z.n_edges == z.n_live_edges
    assert set(z.activations[0]) <= set(prediction.activations)
    assert set(z.activations[1]) == {"identity"}


def most_probable(prediction, k):
    """The k most probable edges, by masks, without the dead ones."""
    flat = np.concatenate([p.numpy().ravel() for p in prediction.probabilities])
    chosen = np.zeros(len(flat), dtype=bool)
    chosen[np.argsort(-flat, kind="stable")[:k]] = True
    n, h, c = prediction.widths
    masks = [chosen[: n * h].reshape(n, h), chosen[n * h :].reshape(h, c)]
    return Architecture.from_masks(masks, hidden=["relu"] * h).without_dead_edges()


def test_sizes_are_those_asked_for(meta_model):
    task = toy_task(n=6, c=3)

    default, wide = meta_model.predict(task), meta_model.predict(task, n_hidden=11)

    assert default.widths == (6, 6, 3)
    assert wide.widths == (6, 11, 3)
    assert wide.n_possible_edges == 6 * 11 + 11 * 3
    assert [tuple(p.shape) for p in wide.probabilities] == [(6, 11), (11, 3)]
    assert [tuple(b.shape) for b in wide.biases] == [(11,), (3,)]
    assert wide.activation_probabilities.shape == (11, len(wide.activations))


def test_probabilities_are_probabilities(any_prediction):
    for table in any_prediction.probabilities:
        assert bool(((table > 0) & (table <= 1)).all())
    total = any_prediction.activation_probabilities.sum(dim=1)
    torch.testing.assert_close(total, torch.ones_like(total))


@pytest.mark.parametrize("n_edges", [2, 3, 5, 8, 13, 20, 40, 54, 1000])
def test_architecture_has_at_most_the_edges_allowed(any_prediction, n_edges):
    z = any_prediction.architecture(n_edges=n_edges)

    assert_valid(z, any_prediction)
    assert z.n_edges <= n_edges


def test_likely_edges_are_used_up_but_for_one_neurons_edges(any_prediction):
    """One more edge revives at most the dead ones of one hidden neuron."""
    n, _, c = any_prediction.widths

    for limit in range(2, any_prediction.n_possible_edges + 1, 3):
        z = any_prediction.architecture(n_edges=limit)
        likely = any_prediction.near(limit).architecture()
        assert min(limit - max(n, c), likely.n_edges) <= z.n_edges <= limit


def test_a_network_is_not_filled_up_with_unlikely_edges(any_prediction):
    cheapest = any_prediction.at(PRICE_RANGE[0])
    limit = any_prediction.n_possible_edges

    proposal = any_prediction.proposal(n_edges=limit)

    if cheapest.architecture().n_edges:
        assert proposal.architecture == any_prediction.near(limit).architecture()
        assert bool((proposal.start.edge != 0).all())


@pytest.mark.parametrize("limit", [2, 7, 15, 30])
def test_within_takes_as_many_of_the_most_probable_edges_as_possible(any_prediction, limit):
    n_likely = sum(int((p >= 0.5).sum()) for p in any_prediction.probabilities)
    expected = [
        z.masks
        for k in range(n_likely + 1)
        if (z := most_probable(any_prediction, k)).n_edges <= limit
    ][-1]

    z = any_prediction.within(limit).architecture

    if any(mask.any() for mask in expected):
        assert all(map(np.array_equal, z.masks, expected))
    else:
        assert (z.n_edges, z.n_live_edges) == (2, 2)  # the most probable path


def test_density_is_a_share_of_the_possible_edges(prediction):
    n_possible = prediction.n_possible_edges

    by_density = prediction.architecture(density=0.3)

    assert by_density == prediction.architecture(n_edges=math.floor(0.3 * n_possible))
    assert by_density.n_edges <= 0.3 * n_possible


def test_density_is_not_cut_by_rounding_errors(prediction):
    n_possible = prediction.n_possible_edges

    assert prediction.limit(density=7 / n_possible) == 7


def test_without_a_limit_likely_edges_are_taken(prediction):
    z = prediction.architecture()

    likely = sum(int((p >= 0.5).sum()) for p in prediction.probabilities)
    assert all(map(np.array_equal, z.masks, most_probable(prediction, likely).masks))
    for mask, p in zip(z.masks, prediction.probabilities, strict=True):
        assert bool((p.numpy()[mask] >= 0.5).all())


def test_hidden_neurons_have_their_most_probable_activation(prediction):
    names = prediction.architecture().activations[0]

    chosen = prediction.activation_probabilities.argmax(dim=1)
    assert names == tuple(prediction.activations[i] for i in chosen)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"n_edges": 5, "density": 0.2}, "not both"),
        ({"n_edges": 1}, "2 edges or more; got 1"),
        ({"n_edges": 0}, "2 edges or more; got 0"),
        ({"density": 0.001}, "2 edges or more; got 0"),
    ],
)
def test_bad_limits_are_refused(prediction, settings, message):
    with pytest.raises(InputError, match=message):
        prediction.architecture(**settings)
    with pytest.raises(InputError, match=message):
        prediction.sample(1, generator=seeded(), **settings)


class PricedDecoder:
    """Stands in for a decoder: every edge has its own price above which it is unlikely."""

    def __init__(self, *, widths):
        self.widths = widths
        n, h, c = widths
        generator = seeded()
        self.hidden = 4 * torch.rand(1, n, h, generator=generator) - 4
        self.output = 4 * torch.rand(1, h, c, generator=generator) - 4

    def __call__(self, embeddings, *, prices, latents):
        n, h, c = self.widths
        return Decoded(
            hidden=(self.hidden - prices.log()).clamp(min=0),
            output=(self.output - prices.log()).clamp(min=0),
            gain=torch.ones(1, h),
            hidden_bias=torch.zeros(1, h),
            output_bias=torch.zeros(1, c),
            activation=torch.zeros(1, h, 2),
            sizes=((n, h, c),),
        )


@pytest.fixture
def priced():
    widths = (4, 5, 2)
    nothing = torch.zeros(0)
    return Prediction.decode(
        PricedDecoder(widths=widths),
        embedding=Embedding(features=nothing, outputs=nothing, relations=nothing),
        price=0.1,
        activations=("relu", "tanh"),
        latents=nothing,
    )


def test_near_is_the_highest_price_that_gives_enough_edges(priced):
    cheap, dear = (priced.at(price).architecture().n_edges for price in PRICE_RANGE)
    assert (cheap, dear) == (priced.n_possible_edges, 0)

    for limit in range(1, cheap + 1):
        near = priced.near(limit)
        just_above = near.price * (PRICE_RANGE[1] / PRICE_RANGE[0]) ** (1 / 2**_BISECTIONS)
        assert near.architecture().n_edges >= limit
        assert priced.at(just_above).architecture().n_edges < limit


def test_near_is_the_lowest_price_if_even_that_gives_too_few(priced):
    assert priced.near(priced.n_possible_edges + 1).price == PRICE_RANGE[0]


def test_start_is_the_predicted_weights_and_biases(any_prediction):
    proposal = any_prediction.proposal()
    z, start = proposal.architecture, proposal.start
    n, h, _ = any_prediction.widths

    start.check(z)
    for (source, target), weight in zip(z.edges.T.tolist(), start.edge.tolist(), strict=True):
        table = any_prediction.weights[0 if target < n + h else 1]
        place = (source, target - n) if target < n + h else (source - n, target - n - h)
        assert weight == float(table[place])
    assert torch.equal(start.bias, torch.cat(any_prediction.biases))


def test_start_weights_are_those_of_the_price_that_gave_the_edges(prediction):
    near = prediction.near(9)

    proposal = prediction.proposal(n_edges=9)

    assert proposal.architecture == near.within(9).architecture
    assert torch.equal(proposal.start.edge, near.within(9).start.edge)


def test_another_price_gives_other_probabilities_of_the_same_shape(prediction):
    cheap, dear = prediction.at(0.001), prediction.at(10.0)

    assert (cheap.price, dear.price) == (0.001, 10.0)
    assert cheap.widths == dear.widths == prediction.widths
    assert not torch.allclose(cheap.probabilities[0], dear.probabilities[0], atol=1e-4)


def test_at_the_same_price_the_prediction_is_the_same(prediction):
    again = prediction.at(prediction.price)

    assert torch.equal(again.probabilities[0], prediction.probabilities[0])


def test_same_seed_gives_the_same_prediction_and_another_seed_another(meta_model):
    task = toy_task()

    first, second, other = (meta_model.predict(task, seed=seed) for seed in (3, 3, 4))

    assert torch.equal(first.probabilities[0], second.probabilities[0])
    assert torch.equal(first.weights[1], second.weights[1])
    assert not torch.allclose(first.probabilities[0], other.probabilities[0])


def test_drawn_candidates_are_valid_diverse_and_start_from_their_own_weights(prediction):
    drawn = prediction.sample(8, generator=seeded(), n_edges=12)

    assert len(drawn) == 8
    for proposal in drawn:
        assert_valid(proposal.architecture, prediction)
        assert proposal.architecture.n_edges <= 12
        proposal.start.check(proposal.architecture)
    assert len({proposal.architecture.canonical()[0] for proposal in drawn}) >= 4


def test_draws_are_reproducible_and_leave_the_global_generator_alone(prediction):
    before = torch.get_rng_state()

    first, second, other = (
        [p.architecture for p in prediction.sample(3, generator=seeded(seed), density=0.2)]
        for seed in (5, 5, 6)
    )

    assert first == second
    assert first != other
    assert torch.equal(before, torch.get_rng_state())


def test_redrawn_predictions_share_the_price_and_not_the_latents(prediction):
    first, second = prediction.redraw(2, generator=seeded())

    assert first.price == second.price == prediction.price
    assert not torch.allclose(first.probabilities[0], second.probabilities[0])


def test_test_rows_do_not_matter(meta_model):
    task = toy_task(m_test=15)
    X = task.X.clone()
    X[task.split.test] = torch.nan

    first, second = meta_model.predict(task), meta_model.predict(rebuilt(task, X=X))

    assert torch.equal(first.probabilities[0], second.probabilities[0])


def test_a_model_without_a_word_gives_an_empty_network_or_any_of_the_size():
    prediction = silent_model().predict(toy_task())

    assert prediction.architecture().n_edges == 0
    assert 0 < prediction.architecture(n_edges=20).n_edges <= 20


def test_activation_names_are_registered(prediction):
    assert set(prediction.activations) <= {activation.name for activation in ACTIVATIONS}
