"""Which networks go on at a rung, what they become, and what it costs."""

import math

import pytest
import torch
from toys import toy_task

from graphpred.errors import InputError
from graphpred.population import Halving, Population
from graphpred.searchers import search
from graphpred.seeds import generator_for
from graphpred.space import SearchSpace


@pytest.fixture(scope="module")
def data():
    X = torch.randn(120, 4, generator=generator_for("halving"))
    return X, (X[:, 0] * X[:, 1] > 0).long()


def networks(n, *, seed=0):
    space = SearchSpace(widths=(4, 6, 2), activations=("tanh", "relu", "square"))
    generator = generator_for(seed)
    return [space.sample_live(generator=generator, n_edges=4 + i % 20) for i in range(n)]


def halving(data, **settings):
    X, y = data
    return Halving(X=X[80:], y=y[80:], loss="log_loss", **settings)


def test_a_share_goes_on_at_every_rung(data):
    X, y = data
    population = Population(networks(50), seed=1)

    population.fit(X[:80], y[:80], steps=40, promote=halving(data, rungs=(0.25, 0.5), keep=0.2))

    assert population.steps_taken.bincount().tolist()[10::10] == [40, 8, 0, 2]


def test_those_that_go_on_are_the_best_and_train_as_if_alone(data):
    X, y = data
    drawn = networks(20)
    alone = Population(drawn, seed=1, dtype=torch.float64)
    schedule_end = alone.fit(X[:80], y[:80], steps=40).losses(X, y, loss="log_loss")

    halved = Population(drawn, seed=1, dtype=torch.float64)
    halved.fit(X[:80], y[:80], steps=40, promote=halving(data, rungs=(0.5,), keep=0.3))

    went_on = halved.steps_taken == 40
    assert int(went_on.sum()) == 6
    losses = halved.losses(X, y, loss="log_loss")
    torch.testing.assert_close(losses[went_on], schedule_end[went_on])
    assert (losses[~went_on] != schedule_end[~went_on]).all()
    # Where all but one stop at the rung, their losses there can be seen.
    rung = Population(drawn, seed=1, dtype=torch.float64)
    rung.fit(X[:80], y[:80], steps=40, promote=halving(data, rungs=(0.5,), keep=1e-9))
    at_rung = rung.losses(X[80:], y[80:], loss="log_loss")
    at_rung[rung.steps_taken == 40] = -1.0  # the one that went on was the best
    assert at_rung.argsort()[:6].sort().values.tolist() == went_on.nonzero().flatten().tolist()


def test_a_network_that_is_best_at_one_price_goes_on(data):
    X, y = data
    drawn = networks(40)
    n_edges = torch.tensor([[z.n_edges for z in drawn]], dtype=torch.float64)
    costs = torch.cat([0 * n_edges, 100 * n_edges])

    population = Population(drawn, seed=1)
    population.fit(X[:80], y[:80], steps=20, promote=halving(data, costs=costs, keep=0.1))

    finished = [z.n_edges for z, t in zip(drawn, population.steps_taken, strict=True) if t == 20]
    assert min(finished) == int(n_edges.min())
    assert max(finished) > int(n_edges.min())


def test_a_network_that_overflows_is_never_promoted(data):
    X, y = data
    drawn = networks(8)
    start = [*Population(drawn, seed=1).weights]
    start[3] = type(start[3])(edge=start[3].edge * 1e25, bias=start[3].bias)

    population = Population(drawn, start=start)
    population.fit(X[:80], y[:80], steps=20, promote=halving(data, rungs=(0.5,), keep=0.8))

    assert population.losses(X, y)[3] == math.inf
    assert population.steps_taken.tolist() == [20, 20, 20, 10, 20, 20, 20, 20]


def test_mini_batches_go_on_where_they_were(data):
    X, y = data
    X, y = X.repeat(10, 1), y.repeat(10)  # 1,200 rows
    drawn = networks(6)
    whole = Population(drawn, seed=1, dtype=torch.float64).fit(X, y, steps=12)

    halved = Population(drawn, seed=1, dtype=torch.float64)
    halved.fit(X, y, steps=12, promote=halving(data, rungs=(0.3, 0.6), keep=0.99))

    assert halved.steps_taken.tolist() == [12] * 6
    torch.testing.assert_close(halved.scores(X), whole.scores(X))


def test_few_steps_have_fewer_rungs(data):
    X, y = data
    population = Population(networks(4), seed=1)

    population.fit(X[:80], y[:80], steps=1, promote=halving(data))

    assert population.steps_taken.tolist() == [1] * 4


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"rungs": (0.5, 0.2)}, r"ascend in \(0, 1\)"),
        ({"rungs": (0.0,)}, r"ascend in \(0, 1\)"),
        ({"keep": 0.0}, r"keep must be in \(0, 1\)"),
        ({"keep": 1.5}, r"keep must be in \(0, 1\)"),
    ],
)
def test_rungs_and_shares_must_be_possible(data, settings, message):
    with pytest.raises(InputError, match=message):
        halving(data, **settings)


def test_costs_must_be_those_of_the_networks(data):
    X, y = data
    promote = halving(data, costs=torch.zeros(2, 5))

    with pytest.raises(InputError, match=r"shape \(P, 4\); got \(2, 5\)"):
        Population(networks(4)).fit(X, y, promote=promote)


def test_the_searcher_stops_most_candidates_and_tries_more_for_the_same_budget():
    task = toy_task()
    space = SearchSpace(widths=(task.n_features, 6, task.n_outputs))

    running = search(task, space, searcher="halving", evaluations=120, seed=1)
    trials = list(running)

    assert len(trials) > 200
    assert running.ledger.network_steps == sum(trial.steps for trial in trials) <= 12_000
    assert running.ledger.steps_left < 100
    steps = torch.tensor([trial.steps for trial in trials])
    assert set(steps.tolist()) == {25, 55, 100}
    stopped = [t.objective for t in trials if t.steps == 25]
    finished = [t.objective for t in trials if t.steps == 100]
    assert sum(finished) / len(finished) < sum(stopped) / len(stopped)
