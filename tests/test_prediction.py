"""Networks chosen from a predicted distribution."""

import math
import sys
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
import torch
from toys import rebuilt, seeded, silent_model, toy_task

from graphpred.activations import ACTIVATIONS, activation_names
from graphpred.architecture import Architecture
from graphpred.errors import InputError
from graphpred.meta.prediction import N_DRAFTS, _operated
from graphpred.meta.readout import fitted_readout
from graphpred.meta.samples import RowSample
from graphpred.meta.sparse_fit import SparseFit
from graphpred.network import Signature, SparseNetwork

TASKS = {
    "three classes": lambda: toy_task(n=6),
    "two quantities": lambda: toy_task("regression", c=2),
    "one feature": lambda: toy_task(n=1, c=2),
}


@pytest.fixture(scope="module")
def prediction(meta_model):
    return meta_model.predict(toy_task(n=6), price=0.01, seed=1)


@pytest.fixture(scope="module", params=TASKS)
def any_prediction(request, meta_model):
    return meta_model.predict(TASKS[request.param](), price=0.01, n_hidden=5)


@pytest.fixture(scope="module")
def settled(any_prediction):
    """One draft: that of which networks are made."""
    return any_prediction.settled()


def n_likely(prediction):
    return sum(int((p >= 0.5).sum()) for p in prediction.probabilities)


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


def test_likely_edges_are_used_up_but_for_two_neurons_edges(any_prediction):
    """One more edge revives the dead ones of one hidden neuron; another neuron may go whole."""
    n, _, c = any_prediction.widths

    for limit in range(2, any_prediction.n_possible_edges + 1, 7):
        z = any_prediction.architecture(n_edges=limit)
        likely = any_prediction.near(limit).architecture()
        assert min(limit - 2 * max(n, c), likely.n_edges) <= z.n_edges <= limit


def test_a_network_is_not_filled_up_with_edges_of_no_weight(any_prediction):
    limit = any_prediction.n_possible_edges

    proposal = any_prediction.proposal(n_edges=limit)

    assert 0 < proposal.architecture.n_edges <= limit
    assert bool((proposal.start.edge != 0).all())


@pytest.mark.parametrize("limit", [2, 7, 15, 30])
def test_as_many_of_the_most_probable_edges_as_possible_are_chosen(settled, limit):
    expected = [
        z.masks
        for k in range(n_likely(settled) + 1)
        if (z := most_probable(settled, k)).n_edges <= limit
    ][-1]

    z = settled.chosen(limit).architecture

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


def test_without_a_limit_likely_edges_are_taken(settled):
    z = settled.chosen().architecture

    assert all(map(np.array_equal, z.masks, most_probable(settled, n_likely(settled)).masks))
    for mask, p in zip(z.masks, settled.probabilities, strict=True):
        assert bool((p.numpy()[mask] >= 0.5).all())


@pytest.mark.parametrize("limit", [None, 6, 11])
def test_the_likely_edges_of_a_fitted_prediction_are_its_network(any_prediction, limit):
    fitted = any_prediction.fitted(limit)

    proposal = fitted.chosen(limit)

    assert fitted.fitted(limit) is fitted
    assert n_likely(fitted) == proposal.architecture.n_edges > 0
    for mask, p, w in zip(
        proposal.architecture.masks, fitted.probabilities, fitted.weights, strict=True
    ):
        assert np.array_equal(mask, p.numpy() >= 0.5)
        assert np.array_equal(mask, w.numpy() != 0)
    assert torch.equal(proposal.start.bias, torch.cat(fitted.biases))
    if limit is None:
        assert fitted.price == any_prediction.price
        assert proposal.architecture.n_edges <= any_prediction.at(any_prediction.price).n_live_edges


def test_at_another_price_a_fitted_prediction_is_a_draft_again(prediction):
    fitted = prediction.fitted(9)

    again = fitted.at(prediction.price)

    draft = replace(prediction, _latents=fitted._latents).at(prediction.price)
    assert torch.equal(again.probabilities[0], draft.probabilities[0])
    assert not torch.equal(again.probabilities[0], fitted.probabilities[0])


def test_hidden_neurons_have_the_activation_that_was_drawn(settled):
    names = settled.architecture().activations[0]

    assert names == tuple(activation_names(settled.classes))
    assert set(names) <= set(settled.activations)


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


# Several drafts


def loss_of(prediction, sample):
    """Of the network without a limit on the sample, and the price of its edges."""
    proposal = prediction.chosen()
    scores = scores_of(proposal, sample.X)
    if sample.is_regression:
        loss = float((scores - sample.y).square().mean())
    else:
        loss = float(torch.nn.functional.cross_entropy(scores, sample.y))
        loss /= math.log(max(2, sample.y.shape[1]))
    return loss + prediction.price * proposal.architecture.n_edges / prediction.n_possible_edges


def scores_of(proposal, X):
    n, _, c = proposal.architecture.widths
    names = tuple(map(str, range(max(n, c))))
    signature = Signature(kind="classification", feature_names=names[:n], class_names=names[:c])
    with torch.no_grad():
        return SparseNetwork(proposal.architecture, proposal.start, signature=signature)(X)


@pytest.mark.parametrize("name", ["three classes", "two quantities"])
def test_the_draft_that_fits_the_rows_best_is_kept(meta_model, name):
    task = TASKS[name]()
    prediction = meta_model.predict(task, price=0.01)
    drafts = [
        replace(prediction, _latents=z, _others=()).at(0.01)
        for z in (prediction._latents, *prediction._others)
    ]
    losses = [loss_of(draft, RowSample.of(task)) for draft in drafts]

    kept = loss_of(prediction.settled(), RowSample.of(task))

    assert len(drafts) == N_DRAFTS
    assert max(losses) > min(losses) + 1e-3
    assert kept == pytest.approx(min(losses), abs=1e-4)


def test_a_draft_that_is_kept_stays(settled):
    assert settled.settled() is settled


def test_a_fitted_network_takes_neurons_from_its_drafts_and_is_among_the_best(prediction):
    sample = RowSample.of(toy_task(n=6))
    draft = prediction._draft(12)
    latents = [draft._latents, *draft._others]
    drafts = [replace(draft, _latents=z).at(draft.price) for z in latents]
    alone = [_operated([one], limit=12) for one in drafts]
    losses = [loss_of(one, sample) for one in alone]

    kept = prediction.fitted(12)

    assert len(losses) == N_DRAFTS
    assert loss_of(kept, sample) <= sorted(losses)[1]
    assert max(losses) > min(losses) + 1e-3
    known = {tuple(z.tolist()) for z in torch.cat(latents)}
    assert {tuple(z.tolist()) for z in kept._latents} <= known
    assert len({tuple(z.tolist()) for z in kept._latents}) == prediction.widths[1]


@pytest.mark.parametrize("hidden", [12, (10, 8)])
@pytest.mark.parametrize("kind", ["classification", "regression"])
def test_large_networks_are_fitted(meta_model, kind, hidden, monkeypatch):
    monkeypatch.setattr("graphpred.meta.surgery._MOST_EXACT", 15)
    task = toy_task(kind, n=6, c=2)
    sample = RowSample.of(task)
    prediction = meta_model.predict(task, n_hidden=hidden)

    proposals = [prediction.proposal(n_edges=k) for k in (16, 40, 10_000)]
    proposals += prediction.sample(2, generator=seeded(), n_edges=30)

    limits = (16, 40, 10_000, 30, 30)
    for proposal, limit in zip(proposals, limits, strict=True):
        z = proposal.architecture
        assert 0 < z.n_edges == z.n_live_edges <= limit
        assert bool(proposal.start.edge.isfinite().all())
    assert prediction.fitted(40).is_fitted
    losses = [SparseFit(one, sample=sample).loss for one in proposals]
    assert max(losses) < constant_loss(sample)


def constant_loss(sample):
    share = sample.y.mean(dim=0)
    if sample.is_regression:
        return float((sample.y - share).square().sum(dim=1).mean()) / 2
    return -float((share * share.log()).sum())


# Weights to start from


def test_start_has_the_predicted_weights_into_hidden_neurons(settled):
    proposal = settled.chosen()
    z, start = proposal.architecture, proposal.start
    n, h, _ = settled.widths

    start.check(z)
    assert z.n_edges
    for (source, target), weight in zip(z.edges.T.tolist(), start.edge.tolist(), strict=True):
        if target < n + h:
            assert weight == float(settled.weights[0][source, target - n])
    assert torch.equal(start.bias[:h], settled.biases[0])


@pytest.mark.parametrize("limit", [None, 8])
def test_start_has_the_best_weights_to_outputs_for_the_chosen_edges(settled, limit):
    proposal = settled.chosen(limit)
    z, start = proposal.architecture, proposal.start
    n, h, _ = settled.widths
    first, second = (torch.from_numpy(mask) for mask in z.masks)

    fitted = fitted_readout(
        settled._sample,
        into=settled.weights[0] * first,
        hidden_bias=settled.biases[0],
        classes=settled.classes,
        mask=second,
        out=settled.weights[1] * second,
        output_bias=settled.biases[1],
    )

    for (source, target), weight in zip(z.edges.T.tolist(), start.edge.tolist(), strict=True):
        if target >= n + h:
            expected = float(fitted.weight[source - n, target - n - h])
            assert weight == pytest.approx(expected, abs=1e-5)
    torch.testing.assert_close(start.bias[h:], fitted.bias, atol=1e-5, rtol=0)


def test_what_is_dead_does_not_matter(settled):
    proposal = settled.chosen(8)
    masks = [torch.from_numpy(mask) for mask in proposal.architecture.masks]
    garbage = [torch.where(mask, w, 7.0) for mask, w in zip(masks, settled.weights, strict=True)]

    spoiled = replace(settled, weights=tuple(garbage)).chosen(8)

    assert spoiled.architecture == proposal.architecture
    torch.testing.assert_close(spoiled.start.edge, proposal.start.edge)
    n_hidden = settled.widths[1]
    torch.testing.assert_close(spoiled.start.bias[n_hidden:], proposal.start.bias[n_hidden:])


def test_proposal_is_the_fitted_network(prediction):
    fitted = prediction.fitted(9).chosen(9)

    proposal = prediction.proposal(n_edges=9)

    assert proposal.architecture == fitted.architecture
    assert torch.equal(proposal.start.edge, fitted.start.edge)


# Other prices and latents


def test_prices_decoded_together_are_as_alone(prediction):
    prices = (0.003, 0.1, 3.0)

    together = prediction.along(prices)

    assert [one.price for one in together] == list(prices)
    for one, price in zip(together, prices, strict=True):
        alone = prediction.at(price)
        for name in ("probabilities", "weights", "biases"):
            for first, second in zip(getattr(one, name), getattr(alone, name), strict=True):
                torch.testing.assert_close(first, second, atol=1e-3, rtol=1e-3)
        assert torch.equal(one.classes, alone.classes)


def test_a_higher_price_gives_fewer_likely_edges(prediction):
    counts = [n_likely(one) for one in prediction.along((0.001, 0.1, 10.0))]

    assert all(cheap > dear for cheap, dear in pairwise(counts))


@pytest.mark.parametrize("price", [0.0, -1.0, math.nan, math.inf])
def test_bad_prices_are_refused(prediction, price):
    with pytest.raises(InputError, match="price must be a positive number"):
        prediction.at(price)


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


def test_draws_of_which_nothing_is_left_are_drafts_at_the_price(prediction, monkeypatch):
    monkeypatch.setattr(sys.modules["graphpred.meta.prediction"], "_operated", lambda *a, **k: None)
    draws = prediction.fitted_draws(2, generator=seeded())
    drafts = prediction.redraw(2, generator=seeded())

    for draw, draft in zip(draws, drafts, strict=True):
        assert draw.price == prediction.price
        assert draw.chosen().architecture == draft.chosen().architecture


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
