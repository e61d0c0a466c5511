"""What is left of dense networks: live edges by strength, the schedules, and the three searches."""

import itertools
import math
from collections import Counter

import numpy as np
import pytest
import torch
from toys import seeded, toy_task

from graphpred.architecture import Architecture
from graphpred.network import Signature, SparseNetwork
from graphpred.objective import Objective
from graphpred.population import Population
from graphpred.searchers import search, sparsified
from graphpred.searchers.pruning import NETWORKS, pruned_once, snipped
from graphpred.searchers.sparsified import (
    gradually_pruned,
    pruning_turns,
    saliency,
    snip_architectures,
    strongest_live,
    strongest_subnetwork,
)
from graphpred.space import SearchSpace
from graphpred.synthetic.known import draw_known
from graphpred.weights import Weights, initial_weights

SPARSIFY = {"once": pruned_once, "gradually": gradually_pruned, "snip": snipped}
SEARCHES = ("magnitude_pruning", "gradual_pruning", "snip")
DEEP = (4, 3, 4, 2)


def dense(widths, n_networks=2):
    space = SearchSpace(widths=widths, activations=("tanh", "sin", "gaussian"))
    return [
        space.sample(generator=seeded(i), n_edges=space.n_possible_edges) for i in range(n_networks)
    ]


def random_scores(widths, seed):
    generator = seeded(seed)
    return [torch.rand(a, b, generator=generator) for a, b in itertools.pairwise(widths)]


def live_part(masks):
    """Masks of the live edges alone, and their number: by paths, one after the other."""
    alive = [np.zeros(mask.shape, dtype=bool) for mask in masks]
    widths = [mask.shape[0] for mask in masks] + [masks[-1].shape[1]]
    for path in itertools.product(*(range(width) for width in widths)):
        edges = list(enumerate(itertools.pairwise(path)))
        if all(masks[k][edge] for k, edge in edges):
            for k, edge in edges:
                alive[k][edge] = True
    return alive, sum(int(mask.sum()) for mask in alive)


def above(scores, threshold):
    return live_part([(table >= threshold).numpy() for table in scores])


# The strongest live edges


@pytest.mark.parametrize("widths", [(3, 4), (3, 4, 2), (2, 3, 3, 2), (3, 2, 2, 2, 1)])
@pytest.mark.parametrize("seed", range(6))
def test_strongest_live_edges_are_those_above_the_lowest_threshold(widths, seed):
    scores = random_scores(widths, seed)
    values = torch.cat([table.flatten() for table in scores]).sort(descending=True).values
    n_edges = len(widths) - 1 + seed * len(values) // 8

    masks = strongest_live(*scores, n_edges=n_edges)

    within = [v for v in values if above(scores, v)[1] <= n_edges]
    lowest = min(within, default=torch.tensor(2.0))
    following = [v for v in values if v < lowest][:1]
    sure, n_sure = above(scores, lowest)
    possible, _ = above(scores, following[0]) if following else (sure, n_sure)
    _, n_live = live_part(masks)
    assert n_live == sum(int(mask.sum()) for mask in masks)
    assert max(n_sure, n_edges - len(widths) + 2) <= n_live <= n_edges
    for mask, must, may in zip(masks, sure, possible, strict=True):
        assert bool(mask[torch.from_numpy(must)].all())
        assert not bool(mask[torch.from_numpy(~may)].any())


def test_an_edge_that_would_join_too_many_brings_its_strongest_path():
    # Of two hidden layers: 0.1 joins all the others at once.
    first = torch.tensor([[0.5, 0.9]])
    second = torch.tensor([[0.8, 0.2], [0.7, -torch.inf]])
    third = torch.tensor([[0.1], [-torch.inf]])

    masks = strongest_live(first, second, third, n_edges=3)

    assert [mask.tolist() for mask in masks] == [
        [[False, True]],
        [[False, False], [True, False]],
        [[True], [False]],
    ]
    assert sum(int(m.sum()) for m in strongest_live(first, second, third, n_edges=4)) == 3
    assert sum(int(m.sum()) for m in strongest_live(first, second, third, n_edges=5)) == 5


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_scores_of_a_diverged_network_still_give_live_edges(value):
    scores = [table * value for table in random_scores((4, 3, 3, 2), 0)]

    masks = strongest_live(*scores, n_edges=9)

    assert 7 <= live_part(masks)[1] == sum(int(mask.sum()) for mask in masks) <= 9


def test_subnetwork_knows_where_its_edges_stood():
    z = dense(DEEP, 1)[0]
    scores = torch.rand(z.n_edges, generator=seeded(0))

    smaller, positions = strongest_subnetwork(z, scores, n_edges=9)

    assert torch.equal(smaller.edges, z.edges[:, positions])
    assert torch.equal(smaller.activation, z.activation)
    assert 7 <= smaller.n_live_edges == smaller.n_edges <= 9


# SNIP


@pytest.mark.parametrize(("kind", "c"), [("classification", 3), ("regression", 2)])
def test_saliency_is_the_change_of_the_loss_with_a_gate(kind, c):
    task = toy_task(kind, n=4, c=c, m=80)
    (z,) = dense((4, 3, 3, c), 1)
    weights = initial_weights(z, seed=5)
    X, y = task.rows("train")
    network = SparseNetwork(z, weights, signature=Signature.of(task)).double()

    def loss(gates):
        with torch.no_grad():
            network.edge.copy_(weights.edge.double() * gates)
            scores = network(X.double())
            if kind == "regression":
                return float((scores - y.double()).square().mean())
            return float(torch.nn.functional.cross_entropy(scores, y))

    step = 1e-5 * torch.eye(z.n_edges, dtype=torch.float64)
    expected = [abs(loss(1 + own) - loss(1 - own)) / 2e-5 for own in step]
    found = saliency([z], task, seeds=[5], batch_seed=0)[0]
    torch.testing.assert_close(found, torch.tensor(expected).float(), atol=2e-5, rtol=1e-3)


def test_snip_spends_one_step_on_its_gradient():
    task = toy_task(n=4, c=2, m=80)
    networks = dense(DEEP)
    settings = {"n_edges": [9, 15], "seeds": [1, 2], "batch_seed": 0}

    population = snipped(networks, task, steps=20, **settings)

    kept = snip_architectures(networks, task, **settings)
    trained = Population(kept, seed=[1, 2]).fit(*task.rows("train"), steps=19)
    assert population.architectures == tuple(kept)
    assert torch.equal(population.scores(task.X), trained.scores(task.X))


# Pruning by magnitude


def test_gradual_pruning_follows_the_cubic(monkeypatch):
    asked = []

    def spy(z, scores, *, n_edges):
        asked.append(n_edges)
        return strongest_subnetwork(z, scores, n_edges=n_edges)

    monkeypatch.setattr(sparsified, "strongest_subnetwork", spy)
    task = toy_task(n=8, c=3, m=80)
    networks = dense((8, 8, 6, 3), 1)  # N = 130

    gradually_pruned(networks, task, n_edges=[30], steps=80, seeds=[0], batch_seed=0)

    first, last = 0.0, 1 - 30 / 130
    sparsity = [last + (first - last) * (1 - t / 20) ** 3 for t in range(1, 21)]
    expected = [130 * (1 - own) for own in sparsity]
    assert asked == pytest.approx(expected, abs=0.501)
    assert asked[-1] == 30


def test_turns_leave_a_quarter_of_the_steps_and_fit_into_few():
    assert pruning_turns(80) == list(range(3, 61, 3))
    assert pruning_turns(7) == [1, 2, 3, 4, 5]
    assert pruning_turns(2) == [1]
    assert pruning_turns(1) == [0]


def test_pruning_once_keeps_the_largest_weights_of_the_dense_network_and_goes_on_from_them():
    task = toy_task(n=5, c=3, m=80)
    networks = dense((5, 3))  # every edge is live
    X, y = task.rows("train")

    population = pruned_once(networks, task, n_edges=[4, 7], steps=31, seeds=[1, 2], batch_seed=0)

    first_half = Population(networks, seed=[1, 2]).fit(X, y, steps=15)
    for i, (n_edges, weights) in enumerate(zip((4, 7), first_half.weights, strict=True)):
        largest = np.argsort(-np.abs(weights.edge.numpy()))[:n_edges]
        expected = {tuple(edge) for edge in networks[i].edges[:, np.sort(largest)].T.tolist()}
        z = population.architectures[i]
        assert {tuple(edge) for edge in z.edges.T.tolist()} == expected
        start = Weights(edge=weights.edge[np.sort(largest)], bias=weights.bias)
        second_half = Population([z], start=[start]).fit(X, y, steps=16)
        torch.testing.assert_close(population.weights[i].edge, second_half.weights[0].edge)


@pytest.mark.parametrize("name", SPARSIFY)
@pytest.mark.parametrize("steps", [1, 2, 3, 40])
def test_every_network_ends_within_its_own_ceiling(name, steps):
    task = toy_task(n=4, c=2, m=80)
    ceilings = [3, 9, 20, 28]

    population = SPARSIFY[name](
        dense(DEEP, 4), task, n_edges=ceilings, steps=steps, seeds=range(4), batch_seed=0
    )

    for z, ceiling in zip(population.architectures, ceilings, strict=True):
        assert ceiling - 2 <= z.n_live_edges == z.n_edges <= ceiling


def test_a_network_that_diverges_does_not_stop_its_neighbours():
    task = toy_task(n=4, c=2, m=80)
    space = SearchSpace(widths=(4, 4, 4, 4, 2), activations=("square",))
    wild = space.sample(generator=seeded(0), n_edges=space.n_possible_edges)
    tame = Architecture.from_masks(wild.masks, hidden=["tanh"] * 12)

    population = gradually_pruned(
        [wild, tame], task, n_edges=[12, 12], steps=40, seeds=[1, 2], batch_seed=0, rate=1e3
    )

    scores = population.scores(task.X)
    alone = gradually_pruned(
        [tame], task, n_edges=[12], steps=40, seeds=[2], batch_seed=0, rate=1e3
    )
    assert not bool(scores[0].isfinite().all())
    assert bool(scores[1].isfinite().all())
    assert population.architectures[1] == alone.architectures[0]


# The searches


@pytest.mark.parametrize("name", SEARCHES)
@pytest.mark.parametrize("widths", [(4, 2), (4, 4, 2), (4, 3, 3, 2)])
def test_densities_come_in_turn_and_a_step_is_a_step(name, widths):
    task = toy_task(n=4, c=2, m=80)
    space = SearchSpace(widths=widths)

    running = search(
        task, space, searcher=name, densities=(0.5, 1.0, 0.7), evaluations=2, steps=15, seed=1
    )
    trials = list(running)

    ceilings = [space.n_edges_at(d) for d in (0.5, 1.0, 0.7)]
    assert len(trials) == 200 // 15 > NETWORKS
    assert running.ledger.networks == len(trials)
    assert running.ledger.network_steps == 15 * len(trials)
    for i, trial in enumerate(trials):
        z = trial.architecture
        assert trial.steps == 15
        assert ceilings[i % 3] - (len(widths) - 2) <= z.n_edges <= ceilings[i % 3]
        assert z.n_live_edges == z.n_edges
    assert len({trial.architecture.activation for trial in trials}) > 1


def known_tasks(n_tasks):
    """Regressions on 6 of 20 features, by networks with few edges."""
    activations = ("relu", "tanh", "sin", "gaussian", "abs")
    space = SearchSpace(widths=(6, 4, 1), activations=activations, density=0.5)
    return [
        draw_known(space, generator=seeded(i), n_irrelevant=14, n_rows=600, kind="regression")
        for i in range(n_tasks)
    ]


def test_pruning_beats_random_networks_and_finds_the_features_that_matter():
    mean, best, share = Counter(), Counter(), Counter()
    for known in known_tasks(3):
        task = known.task
        space = SearchSpace(widths=(20, 20, 1), density=21 / 420)
        matter = set(known.architecture.edges[0].tolist())
        for name in ("random", "random_live", *SEARCHES):
            objective = Objective(loss="unexplained")
            trials = list(search(task, space, searcher=name, objective=objective, evaluations=8))
            losses = [min(2.0, trial.objective) for trial in trials]
            assert len(losses) == 8
            mean[name] += sum(losses) / 24
            best[name] += min(losses) / 3
            sources = [s for t in trials for s in t.architecture.edges[0].tolist() if s < 20]
            share[name] += sum(s in matter for s in sources) / len(sources) / 3

    for name in ("magnitude_pruning", "gradual_pruning"):
        for figure in (mean, best):
            assert figure[name] < 0.6 * figure["random_live"] < 0.6 * figure["random"]
        assert share[name] > 2 * share["random_live"]
    assert mean["snip"] < mean["random_live"]
    assert share["snip"] > 1.5 * share["random_live"]
