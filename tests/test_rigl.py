"""RigL and SET: densities of the layers, what a turn drops and grows, and which grows better."""

import itertools
from collections import Counter

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from toys import seeded, toy_task

from graphpred.network import Signature, SparseNetwork
from graphpred.objective import Objective
from graphpred.searchers import SEARCHERS, search
from graphpred.searchers.pruning import SparsifyingSearch
from graphpred.searchers.rigl import (
    Rewiring,
    SparseTraining,
    erdos_renyi,
    exchanged,
    random_masks,
    rewired,
)
from graphpred.searchers.sparsified import masked, strongest_live, task_batches
from graphpred.space import SearchSpace
from graphpred.synthetic.known import draw_known
from graphpred.weights import Weights

DEEP = (5, 4, 4, 2)


def dense(widths, n_networks=2):
    space = SearchSpace(widths=widths, activations=("tanh", "sin", "gaussian"))
    return [
        space.sample(generator=seeded(i), n_edges=space.n_possible_edges) for i in range(n_networks)
    ]


def tables(widths, seed):
    generator = seeded(seed)
    return [torch.randn(a, b, generator=generator) for a, b in itertools.pairwise(widths)]


def n_live(masks):
    widths = [len(masks[0]), *(mask.shape[1] for mask in masks)]
    return masked(dense(widths, 1)[0], masks).n_live_edges


# Densities


@given(
    widths=st.lists(st.integers(1, 12), min_size=2, max_size=5),
    share=st.floats(0.01, 1.0),
)
@settings(deadline=None)
def test_densities_sum_to_the_budget_and_follow_the_widths(widths, share):
    shapes = list(itertools.pairwise(widths))
    n_edges = max(1, int(share * sum(a * b for a, b in shapes)))

    densities = erdos_renyi(widths, n_edges=n_edges)

    total = sum(p * a * b for p, (a, b) in zip(densities, shapes, strict=True))
    assert total == pytest.approx(n_edges)
    assert all(0 < p <= 1 + 1e-9 for p in densities)
    scales = [p * a * b / (a + b) for p, (a, b) in zip(densities, shapes, strict=True)]
    for p, scale in zip(densities, scales, strict=True):
        assert scale == pytest.approx(max(scales)) or p == 1


def test_starting_edges_are_live_and_have_the_densities_of_their_layers():
    widths, n_edges = (20, 20, 20, 5), 400
    drawn = [random_masks(widths, n_edges=n_edges, generator=seeded(i)) for i in range(40)]

    for masks in drawn:
        assert n_edges - 2 <= n_live(masks) == sum(int(mask.sum()) for mask in masks) <= n_edges
    found = [np.mean([float(masks[k].float().mean()) for masks in drawn]) for k in range(3)]
    assert found == pytest.approx(erdos_renyi(widths, n_edges=n_edges), abs=0.02)


def test_share_falls_along_half_a_cosine():
    rewiring = Rewiring(share=0.3, until=0.75, turns=10)

    assert list(rewiring.steps_of(100)) == [10, 20, 30, 40, 50, 60, 70]
    assert list(rewiring.steps_of(7)) == [5]
    assert list(rewiring.steps_of(1)) == []
    shares = [rewiring.share_at(step, total=400) for step in (0, 150, 300)]
    assert shares == pytest.approx([0.3, 0.15, 0.0])


# A turn


def expected_turn(mask, size, strength, share):
    """Of one layer, with numpy: edges after it, and those that were dropped and grown."""
    n_changed = min(round(share * int(mask.sum())), int((~mask).sum()))
    flat = mask.ravel()
    present, absent = np.flatnonzero(flat), np.flatnonzero(~flat)
    dropped = present[np.argsort(size.ravel()[present])[:n_changed]]
    grown = absent[np.argsort(-strength.ravel()[absent])[:n_changed]]
    after = flat.copy()
    after[dropped], after[grown] = False, True
    return after.reshape(mask.shape), dropped, grown


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("widths", [(9, 7, 5), (6, 6, 6, 4)])
def test_every_layer_drops_its_weakest_edges_and_grows_the_strongest(widths, seed):
    generator = seeded(seed)
    scores = [-torch.rand(a, b, generator=generator) for a, b in itertools.pairwise(widths)]
    n_possible = sum(a * b for a, b in itertools.pairwise(widths))
    masks = strongest_live(*scores, n_edges=int(0.7 * n_possible))
    sizes = [table.abs() * mask for table, mask in zip(tables(widths, 1), masks, strict=True)]
    strength = [table.abs() for table in tables(widths, 2 + seed)]

    n_edges = n_live(masks)
    after = exchanged(masks, sizes=sizes, strength=strength, share=0.3, n_edges=n_edges)

    for mask, size, growth, found in zip(masks, sizes, strength, after, strict=True):
        expected, dropped, grown = expected_turn(
            mask.numpy(), size.numpy(), growth.numpy(), share=0.3
        )
        np.testing.assert_array_equal(found.numpy(), expected)
        assert len(dropped) == len(grown) > 0
        assert not found.flatten()[torch.from_numpy(dropped)].any()


@pytest.mark.parametrize("seed", range(8))
def test_sparse_networks_keep_their_number_of_live_edges_and_regrow_nothing(seed):
    masks = random_masks(DEEP, n_edges=14, generator=seeded(seed))
    n_edges = n_live(masks)
    sizes = [table.abs() * mask for table, mask in zip(tables(DEEP, seed), masks, strict=True)]
    # The edges that are dropped would be the first to be grown again.
    strength = [
        torch.where(mask, 100.0, table.abs())
        for mask, table in zip(masks, tables(DEEP, 50 + seed), strict=True)
    ]

    after = exchanged(masks, sizes=sizes, strength=strength, share=0.4, n_edges=n_edges)

    assert n_edges - 2 <= n_live(after) == sum(int(mask.sum()) for mask in after) <= n_edges
    for mask, size, found in zip(masks, sizes, after, strict=True):
        weakest = size[mask].sort().values[: round(0.4 * int(mask.sum()))]
        assert not found[mask & (size <= weakest.max())].any()


def test_full_layers_and_single_edges_stay_as_they_are():
    full = [torch.ones(a, b, dtype=torch.bool) for a, b in itertools.pairwise((3, 2, 2))]
    path = [mask.clone().fill_(False) for mask in full]
    for mask in path:
        mask[0, 0] = True

    for masks, n_edges in ((full, 10), (path, 2)):
        after = exchanged(
            masks, sizes=tables((3, 2, 2), 0), strength=full, share=0.3, n_edges=n_edges
        )
        for mask, found in zip(masks, after, strict=True):
            assert torch.equal(mask, found)


# Training


def sparse_training(task, networks, *, n_edges=12):
    masks = [
        random_masks(z.widths, n_edges=n_edges, generator=seeded(i)) for i, z in enumerate(networks)
    ]
    batches = task_batches(task, seed=0)
    return SparseTraining(networks, masks, batches=batches, seeds=range(len(networks)))


@pytest.mark.parametrize(("kind", "c"), [("classification", 3), ("regression", 2)])
def test_the_gradient_of_absent_edges_is_autograds(kind, c):
    task = toy_task(kind, n=5, c=c, m=80)
    networks = dense((5, 4, 4, c))
    training = sparse_training(task, networks)
    training.go_on(0, 10, total=20)
    population = training.population()
    X, y = task.rows("train")

    found = training.gradient(10)

    for z, smaller, weights, own in zip(
        networks, population.architectures, population.weights, found, strict=True
    ):
        edge = torch.zeros(z.n_neurons, z.n_neurons)
        edge[smaller.edges[0], smaller.edges[1]] = weights.edge
        start = Weights(edge=edge[z.edges[0], z.edges[1]], bias=weights.bias)
        network = SparseNetwork(z, start, signature=Signature.of(task))
        scores = network(X)
        if kind == "regression":
            (scores - y).square().mean().backward()
        else:
            torch.nn.functional.cross_entropy(scores, y).backward()
        flat = torch.cat([table.flatten() for table in own])
        torch.testing.assert_close(flat, network.edge.grad.abs(), atol=1e-5, rtol=1e-3)
        assert float(flat[start.edge == 0].max()) > 0


def test_grown_edges_begin_at_zero_and_the_others_go_on():
    task = toy_task(n=5, c=2, m=80)
    training = sparse_training(task, dense(DEEP))
    training.go_on(0, 10, total=20)
    before = training.population()

    training.exchange(training.gradient(10), share=0.3, n_edges=[12, 12])

    after = training.population()
    n_grown = 0
    for i in range(2):
        old, new = (
            dict(zip(map(tuple, z.edges.T.tolist()), weights.edge.tolist(), strict=True))
            for z, weights in (
                (population.architectures[i], population.weights[i])
                for population in (before, after)
            )
        )
        grown = new.keys() - old.keys()
        n_grown += len(grown)
        assert all(new[edge] == 0 for edge in grown)
        assert all(new[edge] == old[edge] != 0 for edge in new.keys() - grown)
        assert torch.equal(after.weights[i].bias, before.weights[i].bias)
    assert n_grown >= 4
    training.go_on(11, 20, total=20)
    assert all(bool((weights.edge != 0).all()) for weights in training.population().weights)


def test_without_turns_training_is_that_of_the_starting_edges():
    task = toy_task(n=5, c=2, m=80)
    networks = dense(DEEP)
    still = Rewiring(until=0.0)

    population = rewired(
        networks,
        task,
        n_edges=[12, 12],
        steps=30,
        seeds=[0, 1],
        batch_seed=0,
        by_gradient=True,
        rewiring=still,
    )

    start = population.architectures
    trained = type(population)(start, seed=[0, 1]).fit(*task.rows("train"), steps=30)
    torch.testing.assert_close(population.scores(task.X), trained.scores(task.X))


@pytest.mark.parametrize(("by_gradient", "n_turns"), [(True, 4), (False, 0)])
def test_a_gradient_of_the_dense_networks_takes_the_place_of_a_step(
    by_gradient, n_turns, monkeypatch
):
    steps, gradients = [], []
    go_on, gradient = SparseTraining.go_on, SparseTraining.gradient

    def counted(self, start, stop, *, total):
        steps.extend(range(start, stop))
        go_on(self, start, stop, total=total)

    monkeypatch.setattr(SparseTraining, "go_on", counted)
    monkeypatch.setattr(
        SparseTraining, "gradient", lambda self, t: (gradients.append(t), gradient(self, t))[1]
    )
    task = toy_task(n=5, c=2, m=80)

    rewired(
        dense(DEEP),
        task,
        n_edges=[12, 20],
        steps=30,
        seeds=[0, 1],
        batch_seed=0,
        by_gradient=by_gradient,
    )

    assert len(gradients) == n_turns
    assert sorted(steps + gradients) == list(range(30))


# The searches


@pytest.mark.parametrize("name", ["rigl", "set"])
@pytest.mark.parametrize("widths", [(4, 2), (4, 4, 2), (4, 3, 3, 2)])
def test_densities_come_in_turn_and_edges_are_live(name, widths):
    task = toy_task(n=4, c=2, m=80)
    space = SearchSpace(widths=widths)

    running = search(
        task, space, searcher=name, densities=(0.5, 1.0, 0.7), evaluations=2, steps=20, seed=1
    )
    trials = list(running)

    assert len(trials) == running.ledger.networks == 10
    assert running.ledger.network_steps == 200
    ceilings = [space.n_edges_at(d) for d in (0.5, 1.0, 0.7)]
    for i, trial in enumerate(trials):
        z = trial.architecture
        assert ceilings[i % 3] - (len(widths) - 2) <= z.n_edges == z.n_live_edges
        assert z.n_edges <= ceilings[i % 3]


def test_growth_by_gradient_beats_random_growth_and_fixed_edges(monkeypatch):
    # Regressions on 6 of 20 features, by networks with few edges.
    activations = ("relu", "tanh", "sin", "gaussian", "abs")
    small = SearchSpace(widths=(6, 4, 1), activations=activations, density=0.5)
    space = SearchSpace(widths=(20, 20, 1), density=30 / 420)

    def fixed(dense, task, **settings):
        still = Rewiring(until=0.0)
        return rewired(dense, task, by_gradient=False, rewiring=still, **settings)

    monkeypatch.setitem(
        SEARCHERS, "fixed", lambda setting: SparsifyingSearch(setting, sparsify=fixed)
    )
    mean, best = Counter(), Counter()
    for i in range(3):
        known = draw_known(
            small, generator=seeded(i), n_irrelevant=14, n_rows=600, kind="regression"
        )
        for name in ("rigl", "set", "fixed", "random"):
            objective = Objective(loss="unexplained")
            trials = list(
                search(known.task, space, searcher=name, objective=objective, evaluations=8)
            )
            losses = [min(2.0, trial.objective) for trial in trials]
            assert len(losses) == 8
            mean[name] += sum(losses) / 24
            best[name] += min(losses) / 3

    for figure in (mean, best):
        assert figure["rigl"] < 0.8 * figure["set"]
        assert figure["rigl"] < 0.8 * figure["fixed"]
        assert figure["rigl"] < 0.6 * figure["random"]
