"""Data sets of known structure, and how much of it is found."""

import math

import pytest
import torch
from sklearn.metrics import fbeta_score, jaccard_score
from toys import seeded

from graphpred.architecture import Architecture
from graphpred.errors import InputError
from graphpred.matching import closeness
from graphpred.space import SearchSpace
from graphpred.synthetic import (
    draw_known,
    path_probabilities,
    path_scores,
    reachable,
    recovery,
)
from graphpred.synthetic.known import MIN_CLASS_SHARE, MIN_INFLUENCE, MIN_SPREAD
from graphpred.weights import Weights

SPACES = {
    "one hidden layer": SearchSpace(
        widths=(6, 4, 3), activations=("relu", "tanh", "sin"), density=0.4
    ),
    "two hidden layers": SearchSpace(
        widths=(5, 4, 4, 2), activations=("tanh", "relu"), density=0.35
    ),
    "no hidden layer": SearchSpace(widths=(5, 3), activations=("relu",), density=0.5),
}
KINDS = ("classification", "regression")


@pytest.fixture(scope="module")
def known():
    return {
        (name, kind): draw_known(
            space, generator=seeded(3), n_rows=400, noise=0.1, kind=kind, n_irrelevant=3
        )
        for name, space in SPACES.items()
        for kind in KINDS
    }


def everything(known):
    return [(SPACES[name], kind, drawn) for (name, kind), drawn in known.items()]


def without(known, edges):
    """Scores of the true network without some edges. Float, shape ``(m, c)``."""
    weight = known.weights.edge.clone()
    weight[edges] = 0.0
    network = known.network
    network.edge.data = weight
    return network(known.task.X).detach()


# Drawing


def test_every_edge_is_live_and_there_are_as_many_as_asked(known):
    for space, _, drawn in everything(known):
        z = drawn.architecture
        assert z.n_live_edges == z.n_edges == space.n_edges
        assert z.widths == (space.widths[0] + 3, *space.widths[1:])
        names = {name for layer in z.activations[:-1] for name in layer}
        assert names <= set(space.activations)
        assert set(z.activations[-1]) == {"identity"}


def test_irrelevant_features_lead_nowhere_and_stand_anywhere():
    places = set()
    for seed in range(6):
        drawn = draw_known(
            SearchSpace(widths=(2, 2, 2), activations=("tanh",), density=1.0),
            generator=seeded(seed),
            n_irrelevant=4,
        )
        used = drawn.architecture.edges[0].unique()
        places.add(tuple(used[used < 6].tolist()))
        X = drawn.task.X.clone()
        idle = torch.ones(6, dtype=torch.bool)
        idle[used[used < 6]] = False
        X[:, idle] = 9.0
        network = drawn.network
        torch.testing.assert_close(network(X), network(drawn.task.X))

    assert all(len(place) == 2 for place in places)
    assert len(places) > 2


def test_every_edge_matters(known):
    for _, kind, drawn in everything(known):
        full = without(drawn, [])
        scale = full.std(dim=0) if kind == "regression" else torch.ones(full.shape[1])
        for edge in range(drawn.architecture.n_edges):
            change = (without(drawn, [edge]) - full) / scale
            if kind == "classification":
                change -= change.mean(dim=1, keepdim=True)
            effect = float(change.std(dim=0).max())
            assert effect > 0.95 * MIN_INFLUENCE
            assert effect == pytest.approx(float(drawn.influence[edge]), rel=0.02)


def test_networks_with_an_edge_of_little_influence_are_not_taken():
    space = SearchSpace(widths=(10, 6, 3), activations=("relu", "gaussian"), density=0.5)

    least = [float(draw_known(space, generator=seeded(s)).influence.min()) for s in range(12)]

    assert min(least) >= MIN_INFLUENCE
    assert min(least) < 2 * MIN_INFLUENCE


def test_every_hidden_neuron_matters(known):
    for _, _, drawn in everything(known):
        z, full = drawn.architecture, without(drawn, [])
        for neuron in z.edges[1].unique().tolist():
            if z.layer[neuron] < z.n_layers:
                out = (z.edges[0] == neuron).nonzero().squeeze(1)
                assert (without(drawn, out) - full).abs().amax() > MIN_INFLUENCE


def test_features_are_standard_and_the_target_is_the_networks(known):
    for _, kind, drawn in everything(known):
        task, scores = drawn.task, without(drawn, [])
        X, _ = task.rows("train")
        torch.testing.assert_close(X.mean(0), torch.zeros(X.shape[1]), atol=1e-5, rtol=0)
        assert [len(rows) for rows in vars(task.split).values()] == [200, 100, 100]
        if kind == "classification":
            connected = drawn.architecture.edges[1].unique()
            c = task.n_outputs
            used = torch.isin(torch.arange(c) + drawn.architecture.starts[-2], connected)
            torch.testing.assert_close(scores.mean(0), torch.zeros(c), atol=1e-4, rtol=0)
            torch.testing.assert_close(scores.std(0, correction=0), used.float(), atol=1e-4, rtol=0)
            assert (scores.argmax(dim=1) == task.y).float().mean() > 0.85
            spread = scores - scores.mean(dim=1, keepdim=True)
            assert spread.square().mean() >= MIN_SPREAD**2
            assert torch.bincount(task.y).min() >= MIN_CLASS_SHARE * 400 / c
        else:
            y = task.rows("train")[1]
            torch.testing.assert_close(y.std(0, correction=0), torch.ones(y.shape[1]))
            assert (scores - task.y).square().mean() < 0.1 or len(drawn.architecture.widths) == 2


@pytest.mark.parametrize("kind", KINDS)
def test_noise_has_its_strength(kind):
    space = SearchSpace(widths=(4, 3, 2), activations=("tanh", "relu"), density=0.7)
    wrong = []
    for noise in (0.0, 0.1, 1.0):
        drawn = draw_known(space, generator=seeded(), n_rows=600, noise=noise, kind=kind)
        scores, y = without(drawn, []), drawn.task.y
        if kind == "classification":
            wrong.append(float((scores.argmax(dim=1) != y).float().mean()))
        else:
            wrong.append(float((scores - y).square().mean()))

    assert wrong[0] < 1e-6
    assert 0.002 < wrong[1] < 0.1 < wrong[2]


def test_draws_depend_on_the_generator_alone():
    before = torch.get_rng_state()
    space = SPACES["one hidden layer"]

    first, second, other = (draw_known(space, generator=seeded(s)) for s in (1, 1, 2))

    assert first.architecture == second.architecture != other.architecture
    assert torch.equal(first.task.X, second.task.X)
    assert torch.equal(first.task.y, second.task.y)
    assert torch.equal(first.weights.edge, second.weights.edge)
    assert torch.equal(before, torch.get_rng_state())


def test_weights_are_of_the_architecture(known):
    for _, _, drawn in everything(known):
        assert isinstance(drawn.weights, Weights)
        drawn.weights.check(drawn.architecture)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"n_rows": 15}, "n_rows must be at least 16"),
        ({"n_irrelevant": -1}, "n_irrelevant at least 0"),
        ({"noise": -0.1}, "noise must be 0 or a finite number above"),
        ({"noise": float("inf")}, "noise must be 0 or a finite number above"),
    ],
)
def test_bad_settings_are_refused(settings, message):
    with pytest.raises(InputError, match=message):
        draw_known(SPACES["one hidden layer"], generator=seeded(), **settings)


def test_spaces_without_a_fit_network_are_refused():
    crowded = SearchSpace(widths=(2, 2, 30), activations=("tanh",), density=0.5)
    bent = SearchSpace(widths=(2, 2, 2), output_activations=("tanh",))

    with pytest.raises(InputError, match="space must have networks whose every edge matters"):
        draw_known(crowded, generator=seeded(), n_rows=20)
    with pytest.raises(InputError, match="outputs must have the activation identity"):
        draw_known(bent, generator=seeded())


# Recovery


def random_pair(seed=0, *, density=0.4):
    space = SearchSpace(widths=(5, 4, 3), activations=("relu", "tanh"), density=density)
    generator = seeded(seed)
    return [space.sample_live(generator=generator) for _ in range(2)]


def shuffled(z, seed=0):
    order = torch.arange(z.n_neurons)
    for k in range(1, z.n_layers):
        inside = slice(z.starts[k], z.starts[k + 1])
        order[inside] = order[inside][torch.randperm(z.widths[k], generator=seeded(seed))]
    return z.permuted(order)


@pytest.mark.parametrize("seed", range(5))
def test_the_true_structure_in_any_order_is_wholly_recovered(seed):
    z, _ = random_pair(seed)

    score = recovery(z, shuffled(z, seed + 1), alpha=2.0, beta=1.0)

    for overlap in (score.edges, score.paths):
        assert (overlap.precision, overlap.recall, overlap.f_score, overlap.cost) == (1, 1, 1, 0)


@pytest.mark.parametrize("seed", range(5))
def test_order_of_hidden_neurons_changes_nothing(seed):
    true, found = random_pair(seed)

    assert recovery(true, found) == recovery(true, shuffled(found, seed + 1))


@pytest.mark.parametrize("seed", range(5))
def test_counts_are_those_of_the_papers_closeness(seed):
    true, found = random_pair(seed)

    score = recovery(true, found, alpha=2.0, beta=0.5)

    assert score.edges.cost == pytest.approx(
        closeness(true, found, alpha=2.0, beta=0.5, align=True)
    )
    assert score.edges.hits + score.edges.missed == true.n_edges
    assert score.edges.hits + score.edges.false == found.n_edges


@pytest.mark.parametrize("seed", range(5))
def test_f_is_sklearns_where_both_are_defined(seed):
    true, found = random_pair(seed)
    wanted, got = (reachable(z).flatten().numpy() for z in (true, found))

    paths = recovery(true, found, alpha=0.2, beta=0.8).paths

    assert paths.f_score == pytest.approx(fbeta_score(wanted, got, beta=math.sqrt(0.8 / 0.2)))
    assert recovery(true, found, alpha=1, beta=1).paths.f_score == pytest.approx(
        jaccard_score(wanted, got)
    )


def test_false_and_missed_edges_cost_what_they_should():
    true = Architecture.from_masks([[[1], [1]], [[1]]], hidden=["relu"])
    less = Architecture.from_masks([[[1], [0]], [[1]]], hidden=["relu"])

    missed = recovery(true, less, alpha=3.0, beta=1.0).edges
    false = recovery(less, true, alpha=3.0, beta=1.0).edges

    assert (missed.hits, missed.false, missed.missed) == (2, 0, 1)
    assert (missed.precision, missed.recall, missed.f_score) == (1.0, 2 / 3, 2 / 3)
    assert (false.hits, false.false, false.missed) == (2, 1, 0)
    assert (false.precision, false.recall, false.f_score) == (2 / 3, 1.0, 2 / 5)


def test_dead_edges_do_not_count():
    true = Architecture.from_masks([[[1, 0]], [[1], [0]]], hidden=["relu", "relu"])
    dead = Architecture.from_masks([[[1, 1]], [[1], [0]]], hidden=["relu", "relu"])

    assert recovery(true, dead) == recovery(true, true)


@pytest.mark.parametrize("more", ["true", "found"])
def test_hidden_widths_may_differ(more):
    narrow = Architecture.from_masks([[[1, 0], [1, 1]], [[1], [1]]], hidden=["relu", "tanh"])
    masks = [[[0, 1, 0], [1, 1, 1]], [[1], [1], [1]]]
    wide = Architecture.from_masks(masks, hidden=["tanh", "relu", "relu"])

    true, found = (wide, narrow) if more == "true" else (narrow, wide)
    edges = recovery(true, found).edges

    extra = (edges.missed, edges.false) if more == "true" else (edges.false, edges.missed)
    assert (edges.hits, extra) == (5, (2, 0))


def test_nothing_found_and_nothing_true():
    empty = Architecture.from_masks([[[0]], [[0]]], hidden=["relu"])
    full = Architecture.from_masks([[[1]], [[1]]], hidden=["relu"])

    for true, found, value in ((empty, empty, 1), (full, empty, 0), (empty, full, 0)):
        for overlap in vars(recovery(true, found)).values():
            assert (overlap.precision, overlap.recall, overlap.f_score) == (value,) * 3


def test_skip_edges_lead_to_outputs_too():
    z = Architecture.from_edges([[0, 1], [3, 2]], activation=[0, 0, 0, 0], widths=(2, 1, 1))

    assert reachable(z).tolist() == [[True], [False]]


def test_structures_that_cannot_be_compared_are_refused():
    one = Architecture.from_masks([[[1]], [[1]]], hidden=["relu"])
    two = Architecture.from_masks([[[1], [1]], [[1]]], hidden=["relu"])

    with pytest.raises(InputError, match="same features, outputs and layers"):
        recovery(one, two)
    with pytest.raises(InputError, match="alpha and beta must be positive"):
        recovery(one, one, alpha=0.0)


# Probabilities of paths


def test_path_probabilities_are_those_of_independent_edges():
    first, second = torch.rand(3, 4, generator=seeded()), torch.rand(4, 2, generator=seeded(1))

    likely = path_probabilities([first, second])

    draws = 20000
    edges = [
        (torch.rand(draws, *p.shape, generator=seeded(2 + i)) < p).float()
        for i, p in enumerate((first, second))
    ]
    frequency = (edges[0] @ edges[1] > 0).double().mean(dim=0)
    torch.testing.assert_close(likely, frequency, atol=0.02, rtol=0)


def test_certain_probabilities_reach_what_the_structure_reaches():
    space = SearchSpace(widths=(4, 3, 3, 2), density=0.3)
    for seed in range(5):
        z = space.sample(generator=seeded(seed))
        likely = path_probabilities([mask.astype(float) for mask in z.masks])
        assert torch.equal(likely > 0.5, reachable(z))


def test_path_scores_tell_good_probabilities_from_bad_ones():
    z, _ = random_pair(2, density=0.2)
    exact = [torch.as_tensor(mask).double() for mask in z.masks]
    level = [torch.full(mask.shape, 0.3) for mask in z.masks]

    best, blind = path_scores(z, exact), path_scores(z, level)
    worst = path_scores(z, [1 - reachable(z).double(), torch.eye(3)])

    assert (best.average_precision, best.calibration_error) == (1.0, 0.0)
    assert 0.1 < blind.share < 0.9
    assert blind.average_precision == pytest.approx(blind.share)
    assert blind.calibration_error == pytest.approx(
        abs(float(path_probabilities(level)[0, 0]) - blind.share)
    )
    assert worst.average_precision <= blind.share
    assert worst.calibration_error == pytest.approx(1.0)


@pytest.mark.parametrize(
    ("probabilities", "message"),
    [
        ([], "matrices that chain"),
        ([[[0.5]], [[0.5], [0.5]]], "matrices that chain"),
        ([[0.5]], "matrices that chain"),
        ([[[1.5]]], r"in \[0, 1\]"),
        ([[[float("nan")]]], r"in \[0, 1\]"),
        ([[[0.5], [0.5]]], "from 1 features to 1 outputs"),
    ],
)
def test_bad_probabilities_are_refused(probabilities, message):
    z = Architecture.from_masks([[[1]], [[1]]], hidden=["relu"])

    with pytest.raises(InputError, match=message):
        path_scores(z, probabilities)
