"""Networks with several hidden layers."""

from dataclasses import replace

import pytest
import torch
from toys import seeded, toy_task

from graphpred.errors import InputError
from graphpred.meta.deeper import _stacked, _values, predict_deep
from graphpred.population import Population
from graphpred.split import Split
from graphpred.task import Task

TASKS = {
    "three classes": lambda: toy_task(n=6),
    "two quantities": lambda: toy_task("regression", n=5, c=2),
}


@pytest.fixture(params=TASKS)
def task(request):
    return TASKS[request.param]()


@pytest.mark.parametrize("hidden", [(5,), (6, 4), (5, 4, 3)])
def test_layers_are_those_asked_for_and_edges_no_more(meta_model, task, hidden):
    proposal = predict_deep(meta_model, task, hidden=hidden, n_edges=25)

    z = proposal.architecture
    proposal.start.check(z)
    assert z.widths == (task.n_features, *hidden, task.n_outputs)
    assert 0 < z.n_edges == z.n_live_edges <= 25
    assert bool((z.layer[z.edges[1]] - z.layer[z.edges[0]] == 1).all())


def test_layers_on_each_other_say_what_the_last_network_says(meta_model, task):
    """Scaling the hidden neurons, and leaving out what is dead, changes nothing."""
    first = meta_model.predict(task, n_hidden=6).fitted(30).chosen(30)
    values, live = _values(first, task.X)
    mean, deviation = values.mean(dim=0), values.std(dim=0) + 0.1
    names = tuple(f"h{i}" for i in live.tolist())
    above = replace(task, X=(values - mean) / deviation, feature_names=names, encoder=None)
    rest = meta_model.predict(above, n_hidden=4).fitted(12).chosen(12)

    stacked = _stacked(first, rest, live=live, mean=mean, deviation=deviation)

    assert stacked.architecture.widths == (task.n_features, 6, 4, task.n_outputs)
    scores = [
        Population([one.architecture], start=[one.start]).predict(X)
        for one, X in ((stacked, task.X), (rest, above.X))
    ]
    torch.testing.assert_close(*scores, atol=1e-4, rtol=1e-4)


def test_two_layers_learn_a_product_of_sines_better_than_its_mean(meta_model):
    X = 2 * torch.rand(600, 3, generator=seeded()) - 1
    y = torch.sin(3 * X[:, 0] * X[:, 1]) + X[:, 2]
    rows = torch.arange(600)
    split = Split(train=rows[:400], validation=rows[400:500], test=rows[500:])
    task = Task.from_arrays(X, y, kind="regression", split=split)

    proposal = predict_deep(meta_model, task, hidden=(10, 8), n_edges=60)

    population = Population([proposal.architecture], start=[proposal.start])
    assert float(population.losses(*task.rows("test"), loss="unexplained")[0]) < 0.3


def test_same_seed_same_network(meta_model, task):
    first, second, other = (
        predict_deep(meta_model, task, hidden=(5, 4), n_edges=20, seed=seed) for seed in (1, 1, 2)
    )

    assert first.architecture == second.architecture
    assert torch.equal(first.start.edge, second.start.edge)
    assert first.architecture != other.architecture


@pytest.mark.parametrize(
    ("hidden", "n_edges", "message"),
    [((), 20, "hidden must be"), ((4, 0), 20, "hidden must be"), ((4, 3), 2, "3 … 800; got 2")],
)
def test_what_cannot_be_is_refused(meta_model, hidden, n_edges, message):
    with pytest.raises(InputError, match=message):
        predict_deep(meta_model, toy_task(), hidden=hidden, n_edges=n_edges)
