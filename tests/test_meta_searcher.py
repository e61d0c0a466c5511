"""The meta-model as a searcher: predictions first, then children of the best."""

import itertools

import pytest
import torch

from graphpred.activations import ACTIVATIONS
from graphpred.errors import InputError
from graphpred.meta import searcher as module
from graphpred.meta.model import MetaModel
from graphpred.meta.refinement import PRICE_FACTOR
from graphpred.objective import Objective
from graphpred.searchers import search
from graphpred.seeds import generator_for
from graphpred.space import SearchSpace
from graphpred.split import Split
from graphpred.task import Task


@pytest.fixture(scope="module")
def task():
    """Two classes, told apart by a product and a square of two of eight features."""
    generator = generator_for("meta searcher")
    X = torch.randn(400, 8, generator=generator)
    score = X[:, 0] * X[:, 1] + X[:, 2].square() - 1
    y = (score + 0.2 * torch.randn(400, generator=generator) > 0).long()
    parts = [torch.arange(a, b) for a, b in itertools.pairwise((0, 200, 300, 400))]
    return Task.from_arrays(X, y, kind="classification", split=Split(*parts))


def space(*widths, **settings):
    return SearchSpace(widths=widths or (8, 8, 2), density=0.25, **settings)


@pytest.fixture(scope="module")
def trials(task):
    return list(search(task, space(), searcher="meta_model", evaluations=60, seed=3))


def hidden_activations(z):
    used = z.edges[1][z.edges[1] < z.starts[-2]].unique()
    return {ACTIVATIONS[index].name for index in z.activation[used].tolist()}


def test_first_trial_is_the_prediction_trained_on(task, trials):
    prediction = MetaModel.load().predict(task, activations=space().activations, seed=3)

    assert trials[0].architecture == prediction.architecture(n_edges=space().n_edges)
    start = prediction.proposal(n_edges=space().n_edges).start
    assert 0 < (trials[0].weights.edge - start.edge).abs().max() < 1


def test_draws_are_diverse_and_children_keep_most_of_a_parent(trials):
    draws = [trial.architecture for trial in trials[: module.N_DRAWS]]
    assert len(set(draws)) > module.N_DRAWS // 2

    known = [set(map(tuple, trial.architecture.edges.T.tolist())) for trial in trials]
    for i in range(module.N_DRAWS, len(trials)):
        shared = max(len(known[i] & other) / len(known[i]) for other in known[:i])
        assert shared > 0.5


def test_it_beats_live_random_search_from_the_first_trial_on(task, trials):
    live = [
        trial.objective
        for trial in search(task, space(), searcher="random_live", evaluations=60, seed=3)
    ]
    own = [trial.objective for trial in trials]

    assert own[0] < min(live[:10])
    assert min(own[: module.N_DRAWS]) < min(live)
    assert min(own[module.N_DRAWS :]) < min(live)


def test_only_activations_of_the_space_are_used(task):
    trials = search(
        task, space(activations=("tanh", "abs")), searcher="meta_model", evaluations=40, seed=0
    )

    used = set().union(*(hidden_activations(trial.architecture) for trial in trials))

    assert used == {"tanh", "abs"}


@pytest.mark.parametrize(("loss", "factor"), [("error", 1), ("log_loss", PRICE_FACTOR)])
def test_an_edge_costs_what_it_does_beside_the_loss(task, loss, factor):
    objective = Objective(loss=loss, penalty=0.002)
    prediction = MetaModel.load().predict(task, activations=space().activations, seed=3)
    priced = prediction.at(0.002 * prediction.n_possible_edges / factor)

    running = search(
        task, space(), searcher="meta_model", objective=objective, evaluations=1, seed=3
    )

    limit = min(space().n_edges, priced.n_live_edges)
    assert next(iter(running)).architecture == priced.architecture(n_edges=limit)


def test_a_price_gives_fewer_edges(task):
    def best(penalty):
        objective = Objective(loss="log_loss", penalty=penalty)
        found = search(
            task, space(), searcher="meta_model", objective=objective, evaluations=50, seed=0
        )
        return min(found, key=lambda trial: trial.objective).architecture.n_edges

    assert best(0.05) < best(1e-4) <= space().n_edges


def test_several_hidden_layers(task):
    deep = space(8, 5, 4, 2)

    trials = list(search(task, deep, searcher="meta_model", evaluations=36, seed=0))

    assert all(trial.architecture.widths == (8, 5, 4, 2) for trial in trials)
    assert min(trial.loss for trial in trials) < 0.3
    assert all(trial.architecture.n_edges <= deep.n_edges for trial in trials)


@pytest.mark.parametrize(
    ("own", "message"),
    [
        (space(8, 2), "with hidden layers and linear outputs; got widths"),
        (space(output_activations=("tanh",)), "linear outputs; got .* outputs tanh"),
        (space(activations=("softplus",)), "activations of the model's, .*; got softplus"),
    ],
)
def test_spaces_that_the_model_does_not_know(task, own, message):
    with pytest.raises(InputError, match=message):
        search(task, own, searcher="meta_model")


def test_activations_of_a_prediction_may_be_restricted(task):
    model = MetaModel.load()

    prediction = model.predict(task, activations=("relu",))

    names = prediction.activations
    assert hidden_activations(prediction.architecture(n_edges=16)) == {"relu"}
    torch.testing.assert_close(
        prediction.activation_probabilities,
        torch.tensor([name == "relu" for name in names]).float().expand(8, -1),
    )
    with pytest.raises(InputError, match=r"activations must be some of .*; got softplus"):
        model.predict(task, activations=("softplus",))
