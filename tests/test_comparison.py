"""One predicted network beside its rivals."""

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression, Ridge
from test_pairs import some_pair
from toys import seeded, toy_task

from graphpred.architecture import Architecture
from graphpred.errors import InputError
from graphpred.experiments.comparison import (
    _best_of,
    compare_at,
    frequent_architecture,
    linear_model,
)
from graphpred.objective import default_loss
from graphpred.population import Population
from graphpred.space import SearchSpace

WIDTHS = (5, 5, 3)
KINDS = {"classification": 3, "regression": 1}


@pytest.fixture(scope="module", params=KINDS)
def task(request):
    return toy_task(request.param, n=5, c=KINDS[request.param], m=100, m_test=30)


def some_pairs(task, n_pairs=3, n_edges=8):
    space = SearchSpace(widths=(task.n_features, task.n_features, task.n_outputs))
    return [
        some_pair(s, z=space.sample_live(generator=seeded(s), n_edges=n_edges))
        for s in range(n_pairs)
    ]


@pytest.fixture(scope="module")
def rows(task, meta_model):
    return compare_at(
        task, meta_model, n_edges=10, steps=10, seed=0, live=20, pairs=some_pairs(task)
    )


def test_every_rival_has_a_row(rows, task):
    dense = "logistic" if task.is_classification else "ridge"

    assert [row.method for row in rows] == [
        "predicted, no step",
        "predicted",
        "predicted structure, fresh weights",
        "live random, best of 1",
        "live random, best of 10",
        "edge frequencies alone",
        f"{dense} regression (dense)",
    ]


def test_unconditional_decoder_needs_pairs(task, meta_model):
    rows = compare_at(task, meta_model, n_edges=10, steps=1, seed=0, live=1)

    assert "edge frequencies alone" not in {row.method for row in rows}


def test_budgets_are_equal(rows):
    sparse = {row.method: row.n_edges for row in rows if "dense" not in row.method}
    predicted = [n for method, n in sparse.items() if method.startswith("predicted")]
    live = [n for method, n in sparse.items() if method.startswith("live")]

    assert max(sparse.values()) <= 10
    assert len(set(predicted)) == 1
    assert predicted[0] >= 7
    assert set(live) == {10}


def test_networks_trained_are_counted(rows):
    networks = {row.method: row.networks for row in rows}

    assert networks["predicted"] == 1
    assert networks["live random, best of 10"] == 10
    assert networks["edge frequencies alone"] == 1


def test_losses_are_finite_and_of_the_test_part(rows, task, meta_model):
    assert all(np.isfinite(row.test_loss) for row in rows)
    proposal = meta_model.predict(task, seed=0).proposal(n_edges=10)
    population = Population([proposal.architecture], start=[proposal.start])
    loss = population.losses(*task.rows("test"), loss=default_loss(task.kind))
    assert rows[0].test_loss == pytest.approx(float(loss[0]))


def test_same_seed_gives_the_same_rows(rows, task, meta_model):
    before = torch.get_rng_state()

    again = compare_at(
        task, meta_model, n_edges=10, steps=10, seed=0, live=20, pairs=some_pairs(task)
    )

    assert rows == again
    assert torch.equal(before, torch.get_rng_state())


def test_best_is_chosen_by_validation_and_reported_on_test(task):
    space = SearchSpace(widths=(5, 5, task.n_outputs))
    drawn = [space.sample_live(generator=seeded(i), n_edges=8) for i in range(25)]
    population = Population(drawn, seed=3)
    population.fit(*task.rows("train"), steps=20, batch_seed=3)
    loss = default_loss(task.kind)
    validation, test = (
        population.losses(*task.rows(part), loss=loss).tolist() for part in ("validation", "test")
    )

    ones, tens = _best_of(drawn, task=task, steps=20, seed=3)

    winners = [min(range(k, k + 10), key=validation.__getitem__) for k in (0, 10)]
    assert ones.test_loss == pytest.approx(np.mean(test))
    assert tens.test_loss == pytest.approx(np.mean([test[i] for i in winners]))
    assert (ones.networks, tens.networks) == (1, 10)


# The unconditional decoder

BASE = Architecture.from_masks(
    [
        [[1, 0, 0], [1, 1, 0], [0, 1, 0], [0, 0, 1]],
        [[1, 0], [0, 1], [1, 1]],
    ],
    hidden=["relu", "tanh", "sin"],
)


def with_extra_edge(z, mask, place):
    masks = [table.copy() for table in z.masks]
    masks[mask][place] = True
    return Architecture.from_masks(masks, hidden=[z.activations[0]])


def pairs_of(*architectures):
    return [some_pair(s, z=z) for s, z in enumerate(architectures)]


def shuffled(z, *hidden):
    n, h, c = z.widths
    return z.permuted(torch.tensor([*range(n), *(n + i for i in hidden), *range(n + h, n + h + c)]))


def test_frequent_architecture_is_the_common_part_of_permuted_pairs():
    pairs = pairs_of(
        BASE,
        shuffled(BASE, 2, 0, 1),
        shuffled(with_extra_edge(BASE, 0, (3, 0)), 1, 2, 0),
        shuffled(with_extra_edge(BASE, 1, (0, 1)), 0, 2, 1),
    )

    found = frequent_architecture(pairs, n_edges=BASE.n_edges)

    assert found.canonical()[0] == BASE.canonical()[0]


def test_frequent_architecture_takes_the_majority_of_activations():
    other = Architecture.from_masks(BASE.masks, hidden=["abs", "tanh", "sin"])

    found = frequent_architecture(pairs_of(other, BASE, BASE), n_edges=BASE.n_edges)

    assert found.activations[0] == ("relu", "tanh", "sin")


def test_frequent_architecture_does_not_depend_on_the_order_of_hidden_neurons():
    first = frequent_architecture(pairs_of(BASE, BASE, BASE), n_edges=6)
    second = frequent_architecture(
        pairs_of(BASE, shuffled(BASE, 2, 1, 0), shuffled(BASE, 1, 2, 0)), n_edges=6
    )

    assert first == second


@pytest.mark.parametrize("n_edges", [2, 4, 6, 8, 100])
def test_frequent_architecture_keeps_to_its_edges_and_has_no_dead_ones(n_edges):
    space = SearchSpace(widths=(4, 3, 2))
    pairs = pairs_of(*(space.sample_live(generator=seeded(s), n_edges=9) for s in range(6)))

    z = frequent_architecture(pairs, n_edges=n_edges)

    assert z.n_live_edges == z.n_edges <= n_edges
    assert z.n_edges > 0 or n_edges < 6


def test_frequent_architecture_of_different_widths_is_refused():
    space = SearchSpace(widths=(4, 2, 2))
    other = space.sample_live(generator=seeded(), n_edges=5)

    with pytest.raises(InputError, match="same widths"):
        frequent_architecture(pairs_of(BASE, other), n_edges=6)


def test_linear_model_is_scikit_learns(task):
    (X, y), (new_X, new_y) = ([t.numpy() for t in task.rows(part)] for part in ("train", "test"))
    row = linear_model(task)

    if task.is_classification:
        expected = 1 - LogisticRegression(max_iter=1000).fit(X, y).score(new_X, new_y)
    else:
        expected = 1 - Ridge().fit(X, y).score(new_X, new_y)
    assert row.test_loss == pytest.approx(expected)
    assert row.n_edges == task.n_features * (task.n_outputs if task.n_outputs > 2 else 1)
    assert row.networks == 0
