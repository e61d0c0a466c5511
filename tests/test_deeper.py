"""Networks with several hidden layers."""

import math
from dataclasses import replace
from itertools import pairwise, product

import numpy as np
import pytest
import torch
from toys import (
    permuted_features,
    permuted_outputs,
    permuted_rows,
    seeded,
    silent_model,
    toy_task,
)

from graphpred.architecture import Architecture
from graphpred.errors import InputError
from graphpred.meta import deeper
from graphpred.meta.deeper import DeepPrediction
from graphpred.meta.layerwise import Reading, hidden_widths, stacked
from graphpred.meta.likely import LikelyEdges, flattened, mosaic, places, refitted, tables
from graphpred.meta.prediction import N_DRAFTS, Prediction
from graphpred.meta.samples import RowSample
from graphpred.population import Population
from graphpred.split import Split
from graphpred.task import Task

TASKS = {
    "three classes": lambda: toy_task(n=6),
    "twelve classes": lambda: toy_task(n=4, c=12, m=150),
    "two quantities": lambda: toy_task("regression", n=5, c=2),
    "one feature": lambda: toy_task(n=1, c=2),
}
CASES = [
    ("three classes", (6, 4)),
    ("twelve classes", (5, 1, 3)),
    ("two quantities", (3, 4, 2, 3)),
    ("one feature", (1, 1)),
]


@pytest.fixture(scope="module")
def prediction(meta_model):
    return meta_model.predict(toy_task(n=6), n_hidden=(6, 4), price=0.05, seed=1)


def losses(proposals, task, part="train", loss="log_loss"):
    population = Population(
        [one.architecture for one in proposals], start=[one.start for one in proposals]
    )
    return population.losses(*task.rows(part), loss=loss)


def assert_valid(proposal, widths, limit=math.inf):
    z = proposal.architecture
    proposal.start.check(z)
    assert z.widths == widths
    assert z.n_edges == z.n_live_edges <= limit
    assert not z.has_skip_edges
    assert bool(proposal.start.edge.isfinite().all() and proposal.start.bias.isfinite().all())
    assert set(z.activations[-1]) == {"identity"}


@pytest.mark.parametrize(("name", "hidden"), CASES)
def test_every_possible_edge_and_neuron_has_its_numbers(meta_model, name, hidden):
    task = TASKS[name]()
    drawn = meta_model.predict(task, n_hidden=hidden)

    widths = (task.n_features, *hidden, task.n_outputs)
    shapes = list(pairwise(widths))
    for one in (drawn, drawn.fitted(20)):
        assert isinstance(one, DeepPrediction)
        assert one.widths == widths
        assert one.n_possible_edges == sum(a * b for a, b in shapes)
        assert [tuple(p.shape) for p in one.probabilities] == shapes
        assert [tuple(w.shape) for w in one.weights] == shapes
        assert [tuple(b.shape) for b in one.biases] == [(k,) for k in widths[1:]]
        assert one.classes.shape == (sum(hidden),)
        assert one.activation_probabilities.shape == (sum(hidden), len(one.activations))
        total = one.activation_probabilities.sum(dim=1)
        torch.testing.assert_close(total, torch.ones_like(total))
        assert all(bool(((p > 0) & (p <= 1)).all()) for p in one.probabilities)
        assert one.familiarity == meta_model.predict(task).familiarity


@pytest.mark.parametrize(("name", "hidden"), CASES)
def test_layers_are_those_asked_for_and_edges_no_more(meta_model, name, hidden):
    prediction = meta_model.predict(TASKS[name](), n_hidden=hidden)

    for n_edges in (5, 12, 2000):
        proposal = prediction.proposal(n_edges=n_edges)

        assert_valid(proposal, prediction.widths, n_edges)
        assert proposal.architecture.n_edges


@pytest.mark.parametrize("limit", [5, 30])
@pytest.mark.parametrize(("name", "hidden"), CASES[:3])
def test_a_network_too_large_to_be_fitted_is_cut(meta_model, name, hidden, limit, monkeypatch):
    monkeypatch.setattr("graphpred.meta.surgery._MOST_EXACT", 2)
    monkeypatch.setattr("graphpred.meta.surgery._MOST_POSSIBLE", 2)
    prediction = meta_model.predict(TASKS[name](), n_hidden=hidden)

    fitted = prediction.fitted(limit)
    (drawn,) = prediction.fitted_draws(1, limit=limit, generator=seeded())

    assert not fitted.is_fitted
    assert not drawn.is_fitted
    for one in (fitted, drawn):
        assert_valid(one.chosen(limit), prediction.widths, limit)
        assert one.chosen(limit).architecture.n_edges


def test_likely_edges_are_those_of_the_network(prediction):
    for one in (prediction, prediction.fitted(20), prediction.fitted()):
        z = one.chosen().architecture
        assert all(
            np.array_equal(p.numpy() >= 0.5, mask)
            for p, mask in zip(one.probabilities, z.masks, strict=True)
        )
        assert all(
            np.array_equal(w.numpy() != 0, mask)
            for w, mask in zip(one.weights, z.masks, strict=True)
        )
        assert one.n_live_edges == z.n_edges


def test_a_dearer_edge_gives_fewer(prediction):
    sizes = [one.n_live_edges for one in prediction.along([1e-3, 0.05, 5.0])]

    assert sizes[0] > sizes[1] > sizes[2]
    assert prediction.at(0.05).n_live_edges == sizes[1]
    assert prediction.at(0.05).fitted().chosen().architecture.n_edges <= sizes[1]
    assert prediction.at(0.05).fitted().price == 0.05


def test_density_is_a_share_of_all_possible_edges(prediction):
    n_possible = 6 * 6 + 6 * 4 + 4 * 3

    assert prediction.architecture(density=0.3) == prediction.architecture(
        n_edges=math.floor(0.3 * n_possible)
    )


def test_one_layer_of_several_is_one_layer(meta_model):
    task = toy_task()

    one, other = (meta_model.predict(task, n_hidden=h) for h in (5, (5,)))

    assert isinstance(other, Prediction)
    assert torch.equal(one.probabilities[0], other.probabilities[0])


@pytest.mark.parametrize("name", ["three classes", "two quantities"])
def test_layers_on_each_other_say_what_the_last_network_says(meta_model, name):
    """Scaling the hidden neurons, and leaving out what is dead, changes nothing."""
    task = TASKS[name]()
    first = meta_model.predict(task, n_hidden=6).fitted(30).chosen(30)
    read = Reading.of(first, X=task.X[:20])
    above = read.task(task)
    rest = meta_model.predict(above, n_hidden=4).fitted(12).chosen(12)

    both = stacked(first, rest, read=read)

    assert both.architecture.widths == (task.n_features, 6, 4, task.n_outputs)
    scores = [
        Population([one.architecture], start=[one.start]).predict(X)
        for one, X in ((both, task.X), (rest, above.X))
    ]
    torch.testing.assert_close(*scores, atol=1e-3, rtol=1e-3)


def test_two_layers_learn_a_product_of_sines_better_than_its_mean(meta_model):
    X = 2 * torch.rand(600, 3, generator=seeded()) - 1
    y = torch.sin(3 * X[:, 0] * X[:, 1]) + X[:, 2]
    rows = torch.arange(600)
    split = Split(train=rows[:400], validation=rows[400:500], test=rows[500:])
    task = Task.from_arrays(X, y, kind="regression", split=split)

    proposal = meta_model.predict(task, n_hidden=(10, 8)).proposal(n_edges=60)

    assert float(losses([proposal], task, "test", "unexplained")[0]) < 0.3


def test_same_seed_same_network_and_the_global_generator_is_left_alone(meta_model):
    task, before = toy_task(n=6), torch.get_rng_state()

    first, second, other = (
        meta_model.predict(task, n_hidden=(5, 4), seed=seed).proposal(n_edges=20)
        for seed in (1, 1, 2)
    )

    assert first.architecture == second.architecture
    assert torch.equal(first.start.edge, second.start.edge)
    assert first.architecture != other.architecture
    assert torch.equal(before, torch.get_rng_state())


def test_draws_are_diverse_and_told_by_their_generator(prediction):
    first, second = (prediction.sample(3, generator=seeded(3), n_edges=20) for _ in range(2))
    free = prediction.sample(1, generator=seeded(3))

    assert [one.architecture for one in first] == [one.architecture for one in second]
    assert len({one.architecture for one in first}) > 1
    for one in first:
        assert_valid(one, prediction.widths, 20)
    for one in free:
        assert_valid(one, prediction.widths)
    assert len(prediction.redraw(2, generator=seeded())) == 2


def test_activations_may_be_restricted(meta_model):
    prediction = meta_model.predict(toy_task(), n_hidden=(5, 4), activations=("relu",))

    z = prediction.architecture(n_edges=25)

    assert set(z.activations[0] + z.activations[1]) == {"relu"}


@pytest.mark.parametrize("many", [toy_task(n=6), toy_task("regression", n=5, c=2)])
def test_permuted_data_give_the_permuted_prediction(meta_model, many):
    """Up to rounding, as for one layer; fits and cuts amplify that in both."""
    features, outputs = (
        torch.randperm(n, generator=seeded(n)) for n in (many.n_features, many.n_outputs)
    )
    first, second, third = meta_model.predict(many, n_hidden=(5, 4)).probabilities

    by_feature = meta_model.predict(permuted_features(many, features), n_hidden=(5, 4))
    by_output = meta_model.predict(permuted_outputs(many, outputs), n_hidden=(5, 4))
    by_row = meta_model.predict(permuted_rows(many), n_hidden=(5, 4))

    for found, expected in (
        (by_feature, (first[features], second, third)),
        (by_output, (first, second, third[:, outputs])),
        (by_row, (first, second, third)),
    ):
        for table, wanted in zip(found.probabilities, expected, strict=True):
            torch.testing.assert_close(table, wanted, atol=5e-3, rtol=0)


def test_rows_of_all_layers_are_chosen_by_the_data():
    """Not by what neurons say of them, whose last bits depend on the order of features."""
    task = toy_task(m=1500, c=4)
    seen = []

    def predict(above, *, sample, moments, **_):
        seen.append((above, sample, moments))
        raise StopIteration

    prediction = silent_model().predict(task, n_hidden=(5, 4))
    layers = replace(prediction._layers, predict=predict)
    with pytest.raises(StopIteration):
        layers.along([0.1])

    ((above, sample, moments),) = seen
    original = RowSample.of(task, limit=4096)
    assert torch.equal(sample.y, original.y)
    assert sample.X.shape == (original.shape[0], above.n_features)
    assert moments.n_rows == len(task.split.train)
    assert len(moments.rows.X) == 1024


@pytest.mark.parametrize("hidden", [(4, 3), (2, 1, 2)])
def test_a_model_that_says_nothing_gives_an_empty_network_or_a_path(hidden):
    prediction = silent_model().predict(toy_task(), n_hidden=hidden)

    assert prediction.n_live_edges == 0
    assert prediction.proposal().architecture.n_edges == 0
    assert prediction.fitted().is_fitted is False
    assert 0 < prediction.architecture(n_edges=len(hidden) + 1).n_edges <= len(hidden) + 1


@pytest.mark.parametrize("n_hidden", [(), (0,), (4, 0), "x", "13", (4, 2.0), [True], 0, -1, 2.5])
def test_widths_that_cannot_be_are_refused(meta_model, n_hidden):
    with pytest.raises(InputError, match=r"n_hidden must be at least 1.*; got"):
        meta_model.predict(toy_task(), n_hidden=n_hidden)


def test_widths_may_come_in_any_sequence():
    for widths in ([13, 8], (13, 8), np.array([13, 8])):
        assert hidden_widths(widths) == (13, 8)
    assert hidden_widths(np.int32(3)) == (3,)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"n_edges": 2}, "3 edges or more; got 2"),
        ({"density": 0.01}, "3 edges or more; got 0"),
        ({"density": 1.5}, "density must be"),
        ({"density": 0.5, "n_edges": 9}, "not both"),
    ],
)
def test_limits_that_cannot_be_are_refused(prediction, settings, message):
    with pytest.raises(InputError, match=message):
        prediction.proposal(**settings)
    with pytest.raises(InputError, match=message):
        prediction.sample(1, generator=seeded(), **settings)


@pytest.mark.parametrize("price", [0, -1, math.inf, math.nan])
def test_a_price_must_be_a_positive_number(prediction, price):
    with pytest.raises(InputError, match="price must be a positive number"):
        prediction.at(price)


# Tables of all possible edges


def random_edges(widths, seed=0):
    generator = seeded(seed)
    n_hidden = sum(widths[1:-1])
    probabilities = tuple(torch.rand(shape, generator=generator) for shape in pairwise(widths))
    return LikelyEdges(
        probabilities=probabilities,
        weights=tuple(torch.randn(p.shape, generator=generator) for p in probabilities),
        biases=tuple(torch.randn(k, generator=generator) for k in widths[1:]),
        classes=torch.randint(6, (n_hidden,), generator=generator),
    )


WIDTHS = [(3, 4, 2), (3, 1, 4, 2), (2, 3, 3, 2, 2)]


@pytest.mark.parametrize("widths", WIDTHS)
def test_places_of_edges_and_tables_agree(widths):
    edges = random_edges(widths)
    z = edges.top(sum(a * b for a, b in pairwise(widths))).architecture

    assert torch.equal(places(z.edges, widths=widths).sort().values, torch.arange(z.n_edges))
    flat = flattened(edges.weights)
    assert all(map(torch.equal, tables(flat, widths=widths), edges.weights))


@pytest.mark.parametrize("widths", WIDTHS)
def test_the_path_is_the_most_probable_one(widths):
    edges = random_edges(widths)
    best = max(
        product(*map(range, widths)),
        key=lambda path: math.prod(
            float(p[i, j]) for p, (i, j) in zip(edges.probabilities, pairwise(path), strict=True)
        ),
    )

    z = edges.path().architecture

    assert [tuple(np.argwhere(mask)[0]) for mask in z.masks] == list(pairwise(best))
    assert z.n_edges == len(widths) - 1


@pytest.mark.parametrize("widths", WIDTHS)
def test_top_edges_are_the_most_probable_ones_without_dead_ones(widths):
    edges = random_edges(widths)
    flat = flattened(edges.probabilities)
    masks = tables(flat >= flat.sort().values[-9], widths=widths)
    expected = Architecture.from_masks(masks, hidden=["relu"] * sum(widths[1:-1]))

    z = edges.top(9).architecture

    assert all(map(np.array_equal, z.masks, expected.without_dead_edges().masks))


@pytest.mark.parametrize("seed", range(3))
def test_many_layers_give_more_than_a_constant(meta_model, seed):
    task = toy_task(n=5, c=3, m=200, seed=seed)
    _, y = task.rows("train")
    share = y.bincount().double() / len(y)
    constant = -float((share * share.log()).sum())

    proposal = meta_model.predict(task, n_hidden=(5, 4, 3)).proposal(n_edges=40)

    assert float(losses([proposal], task)) < 0.8 * constant


@pytest.mark.parametrize("hidden", [(6,), (5, 4, 3)])
def test_weights_to_the_outputs_are_fitted_anew(meta_model, hidden):
    task = toy_task("regression", n=5, c=2)
    proposal = meta_model.predict(task, n_hidden=hidden).proposal(n_edges=40)
    z = proposal.architecture
    into_outputs = z.edges[1] >= z.starts[-2]
    edge = torch.where(into_outputs, 0.0, proposal.start.edge)
    spoiled = replace(proposal, start=replace(proposal.start, edge=edge))

    found, loss = refitted(spoiled, sample=RowSample.of(task))

    assert torch.equal(found.start.edge[~into_outputs], proposal.start.edge[~into_outputs])
    assert math.isfinite(loss)
    own, worse = losses([found, spoiled], task, loss="mse").tolist()
    assert own < 0.8 * worse


def test_a_mosaic_says_of_every_neuron_what_its_network_said():
    generator = seeded(0)
    widths = (3, 2, 4, 5)
    said = [[torch.rand(shape, generator=generator) for shape in pairwise(widths)] for _ in "abc"]
    neurons = (torch.tensor([1, 4]), torch.tensor([0, 3, 6, 9]))  # of networks 0, 2; 0, 0, 1, 2

    into, between, out = mosaic(said, neurons=neurons)

    assert torch.equal(into, torch.stack([said[0][0][:, 1], said[2][0][:, 0]], dim=1))
    assert torch.equal(
        out, torch.stack([said[0][2][0], said[0][2][3], said[1][2][2], said[2][2][1]])
    )
    least = min(float(network[1].min()) for network in said)
    own = {(0, 0): said[0][1][1, 0], (0, 1): said[0][1][1, 3], (1, 3): said[2][1][0, 1]}
    for i, j in product(range(2), range(4)):
        assert float(between[i, j]) == float(own.get((i, j), least))


def test_one_network_alone_is_its_own_mosaic(prediction):
    every = [torch.arange(h) for h in prediction.widths[1:-1]]
    said = mosaic([prediction.probabilities], neurons=every)
    assert all(torch.equal(a, b) for a, b in zip(said, prediction.probabilities, strict=True))


def test_a_network_is_made_of_several_drafts_and_a_draw_of_one(prediction, monkeypatch):
    given = []
    original = deeper.operated

    def watched(drafts, **settings):
        given.append(len(drafts))
        return original(drafts, **settings)

    monkeypatch.setattr(deeper, "operated", watched)
    prediction.fitted(20)
    prediction.fitted_draws(2, limit=20, generator=seeded(0))

    assert given == [N_DRAFTS, 1, 1]


def test_drafts_begin_with_the_layers_and_differ(prediction):
    layers = prediction._layers
    first, *others = layers.drafts(3)

    assert first is layers
    assert len(others) == 2
    assert len(layers.drafts(100)) == N_DRAFTS
    assert len({one.seed for one in (first, *others)}) == 3
    assert [one.seed for one in others] == [one.seed for one in layers.drafts(3)[1:]]
    assert len(others[0].drafts(3)) == 1
