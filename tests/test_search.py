"""Every searcher runs the conformance suite; the driver, exhaustive search and the tuned price."""

import itertools
import math

import pytest
import torch
from search_conformance import SearcherConformance, fingerprint, tiny_space, tiny_task
from strategies import enumerate_space, orders

from graphpred.architecture import Architecture
from graphpred.errors import InputError
from graphpred.matching import closeness
from graphpred.objective import Objective
from graphpred.population import LEARNING_RATE, TUNING_RATE, Population
from graphpred.searchers import SEARCHERS, Ledger, Proposal, Trial, search, tune_penalty
from graphpred.searchers.base import evaluate
from graphpred.seeds import generator_for
from graphpred.space import SearchSpace
from graphpred.split import Split
from graphpred.task import Task
from graphpred.weights import Weights, initial_weights


class OneByOne:
    """The smallest searcher that runs itself: draws, charges, trains, yields."""

    def __init__(self, setting):
        self.setting = setting

    def run(self):
        setting = self.setting
        while setting.ledger.steps_left >= setting.steps:
            z = setting.space.sample(
                generator=setting.generator,
                n_edges=setting.space.n_edges_at(min(setting.densities)),
            )
            number = setting.ledger.trials
            yield evaluate([Proposal(architecture=z)], setting=setting, first_number=number)


class TestSearchers(SearcherConformance):
    @pytest.fixture(params=[*SEARCHERS, "one_by_one"])
    def searcher(self, request, monkeypatch):
        monkeypatch.setitem(SEARCHERS, "one_by_one", OneByOne)
        return request.param

    def most_edges(self, searcher, space, densities):
        if searcher == "exhaustive":
            return space.n_possible_edges
        return super().most_edges(searcher, space, densities)


class Scripted:
    """Proposes what it is told to and remembers what it hears."""

    def __init__(self, rounds):
        self.rounds = iter(rounds)
        self.asked, self.heard = [], []

    def __call__(self, setting):
        return self

    def ask(self, k):
        self.asked.append(k)
        return next(self.rounds, [])

    def tell(self, trials):
        self.heard.append(list(trials))


def scripted_search(monkeypatch, searcher, **settings):
    monkeypatch.setitem(SEARCHERS, "scripted", searcher)
    task = tiny_task()
    return task, search(task, tiny_space(task), searcher="scripted", **settings)


def some_architectures(n, task):
    generator = generator_for(5)
    return [tiny_space(task).sample(generator=generator) for _ in range(n)]


@pytest.mark.parametrize("searcher", ["random", "random_live", "exhaustive"])
@pytest.mark.parametrize(("evaluations", "steps", "n"), [(7, 30, 23), (1, 100, 1), (1, 3, 33)])
def test_budget_is_spent_to_the_last_affordable_network(searcher, evaluations, steps, n):
    task = tiny_task()

    running = search(
        task, tiny_space(task), searcher=searcher, evaluations=evaluations, steps=steps
    )

    assert len(list(running)) == n
    assert running.ledger.network_steps == n * steps


def test_random_searchers_draw_at_the_densities_in_turn():
    task = tiny_task()
    space = tiny_space(task)  # N = 8

    for searcher in ("random", "random_live"):
        trials = search(
            task, space, searcher=searcher, densities=(0.25, 1.0, 0.5), evaluations=6, steps=100
        )
        n_edges = [trial.architecture.n_edges for trial in trials]
        assert n_edges == [2, 8, 4] * 2


def test_live_random_has_live_edges_only_and_random_not_always():
    task = tiny_task()
    space = SearchSpace(widths=(2, 6, 2), density=0.2)

    dead = {
        searcher: [
            trial.architecture.n_edges - trial.architecture.n_live_edges
            for trial in search(task, space, searcher=searcher, evaluations=1, steps=4)
        ]
        for searcher in ("random", "random_live")
    }

    assert any(dead["random"])
    assert not any(dead["random_live"])


@pytest.mark.parametrize("n_hidden", [1, 4, 5])
def test_live_random_copes_with_one_input_and_one_output(n_hidden):
    # Every live hidden neuron then has two edges, so odd numbers are impossible.
    X = torch.randn(20, 1, generator=generator_for(0))
    task = Task.from_arrays(X, X[:, 0].abs(), generator=generator_for(1))
    space = SearchSpace(widths=(1, n_hidden, 1))

    trials = list(
        search(task, space, searcher="random_live", densities=(0.4, 0.7), evaluations=1, steps=25)
    )

    assert len(trials) == 4
    assert all(t.architecture.n_edges == t.architecture.n_live_edges for t in trials)


def test_search_is_lazy_and_the_ledger_can_be_watched():
    task = tiny_task()

    running = search(task, tiny_space(task), evaluations=300)

    assert running.ledger.network_steps == 0
    next(running)
    assert 0 < running.ledger.network_steps < 30_000


def test_default_objective_is_error_or_unexplained():
    for kind, loss in (("two-classes", "error"), ("regression", "unexplained")):
        task = tiny_task(kind)
        (trial,) = search(task, tiny_space(task), evaluations=1)
        population = Population([trial.architecture], start=[trial.weights])
        expected = population.losses(*task.rows("validation"), loss=loss).item()
        assert trial.objective == trial.loss == pytest.approx(expected, abs=1e-9)


def test_proposals_may_have_their_own_start_and_steps(monkeypatch):
    task = tiny_task()
    architectures = some_architectures(5, task)
    starts = [initial_weights(z, seed=i) for i, z in enumerate(architectures)]
    proposals = [
        Proposal(architecture=architectures[0]),
        Proposal(architecture=architectures[1], start=starts[1], steps=30),
        Proposal(architecture=architectures[2], steps=30),
        Proposal(architecture=architectures[3], start=starts[3], steps=0),
        Proposal(architecture=architectures[4]),
    ]
    searcher = Scripted([proposals])

    _, running = scripted_search(monkeypatch, searcher, evaluations=4, steps=50)
    trials = list(running)

    assert [trial.architecture for trial in trials] == architectures
    assert [trial.steps for trial in trials] == [50, 30, 30, 0, 50]
    assert running.ledger.network_steps == 160
    assert searcher.heard == [trials]
    assert torch.equal(trials[3].weights.edge, starts[3].edge)
    for i, start, rate in (
        (0, initial_weights_of(trials[0]), LEARNING_RATE),
        (1, starts[1], TUNING_RATE),
    ):
        population = Population([architectures[i]], start=[start])
        population.fit(*task.rows("train"), steps=trials[i].steps, learning_rate=rate)
        torch.testing.assert_close(
            trials[i].weights.edge, population.weights[0].edge, atol=1e-4, rtol=1e-4
        )


def initial_weights_of(trial):
    return Population([trial.architecture], seed=[trial.seed]).weights[0]


def test_driver_asks_within_the_budget_and_cuts_what_is_too_much(monkeypatch):
    task = tiny_task()
    greedy = [Proposal(architecture=z) for z in some_architectures(9, task)]
    searcher = Scripted([greedy[:2], greedy, greedy])

    _, running = scripted_search(monkeypatch, searcher, evaluations=1, steps=20)

    assert len(list(running)) == 5
    assert searcher.asked == [5, 3]
    assert [len(trials) for trials in searcher.heard] == [2, 3]
    assert [t.number for trials in searcher.heard for t in trials] == [0, 1, 2, 3, 4]


def test_a_proposal_beyond_the_budget_ends_the_search(monkeypatch):
    (z,) = some_architectures(1, tiny_task())
    searcher = Scripted([[Proposal(architecture=z, steps=500)]] * 2)

    _, running = scripted_search(monkeypatch, searcher, evaluations=1)

    assert list(running) == []
    assert running.ledger.network_steps == 0


def test_an_empty_answer_ends_the_search(monkeypatch):
    (z,) = some_architectures(1, tiny_task())
    searcher = Scripted([[Proposal(architecture=z)], [], [Proposal(architecture=z)]])

    _, running = scripted_search(monkeypatch, searcher, evaluations=50)

    assert len(list(running)) == 1
    assert running.ledger.networks == 1


def test_a_trial_does_not_depend_on_its_neighbours(monkeypatch):
    first, second = some_architectures(2, tiny_task())
    rounds = [[Proposal(architecture=first), Proposal(architecture=second)]]
    split = [[proposal] for proposal in rounds[0]]

    together, apart = (
        list(scripted_search(monkeypatch, Scripted(script), evaluations=9)[1])
        for script in (rounds, split)
    )

    assert [trial.seed for trial in together] == [trial.seed for trial in apart]
    for one, other in zip(together, apart, strict=True):
        torch.testing.assert_close(one.weights.edge, other.weights.edge, atol=1e-5, rtol=1e-5)


def test_a_state_counts_what_was_spent_and_fits_one_search_only():
    task = tiny_task()
    running = search(task, tiny_space(task), evaluations=3)
    next(running)
    before = running.state
    list(running)
    state = running.state

    assert (before.ledger.trials, state.ledger.trials) == (0, 3)
    assert (before.ledger.networks, state.ledger.networks) == (0, 3)
    assert 0 < state.ledger.cpu_seconds <= running.ledger.cpu_seconds
    for changed, message in (
        ({"seed": 1}, "with seed 0; got 1"),
        ({"searcher": "random_live"}, "with searcher 'random'; got 'random_live'"),
        ({"steps": 50}, "with steps 100; got 50"),
    ):
        with pytest.raises(InputError, match=message):
            search(task, tiny_space(task), evaluations=3, after=state, **changed)


def test_a_resumed_search_may_have_a_larger_budget():
    task = tiny_task()
    short = search(task, tiny_space(task), evaluations=3, seed=1)
    first = list(short)

    trials = list(search(task, tiny_space(task), evaluations=5, seed=1, after=short.state))

    whole = list(search(task, tiny_space(task), evaluations=5, seed=1))
    assert [(t.number, t.architecture, t.seed) for t in first + trials] == [
        (t.number, t.architecture, t.seed) for t in whole
    ]


def test_ledger_refuses_what_the_budget_does_not_hold():
    ledger = Ledger(evaluations=2)
    ledger.charge(networks=1, network_steps=150)

    with pytest.raises(InputError, match="50 network-steps are left; 51 were charged"):
        ledger.charge(networks=1, network_steps=51)

    assert (ledger.networks, ledger.network_steps, ledger.steps_left) == (1, 150, 50)
    ledger.charge(networks=1, network_steps=50)
    assert ledger.steps_left == 0


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"searcher": "oracle"}, "must be one of random, .*; got 'oracle'"),
        ({"objective": Objective(loss="mse")}, "loss must be for classification; got 'mse'"),
        ({"evaluations": 0}, "evaluations and steps must be at least 1; got 0, 100"),
        ({"steps": 0}, "evaluations and steps must be at least 1; got 100, 0"),
    ],
)
def test_arguments_must_fit(settings, message):
    task = tiny_task()

    with pytest.raises(InputError, match=message):
        search(task, tiny_space(task), **settings)


@pytest.mark.parametrize("widths", [(3, 2, 2), (2, 2, 3)])
def test_space_must_fit_the_task(widths):
    with pytest.raises(InputError, match=r"from 2 features to 2 outputs; got widths \("):
        search(tiny_task(), SearchSpace(widths=widths))


# Exhaustive search


def convex_task():
    """Three features, two classes that overlap: without hidden neurons, training is convex."""
    generator = generator_for("convex")
    X = torch.randn(90, 3, generator=generator)
    y = (X[:, 0] + 0.6 * X[:, 1] + torch.randn(90, generator=generator) > 0).long()
    parts = [torch.arange(start, stop) for start, stop in itertools.pairwise((0, 60, 90))]
    return Task.from_arrays(X, y, split=Split(*parts, test=torch.empty(0, dtype=torch.int64)))


@pytest.fixture(scope="module")
def convex():
    """A task, its whole space searched, and 𝔏 of every architecture of it by brute force."""
    task = convex_task()
    space = SearchSpace(widths=(3, 2), density=0.5)
    objective = Objective(loss="log_loss", penalty=0.02)
    trials = list(
        search(
            task, space, searcher="exhaustive", objective=objective, evaluations=64 * 10, steps=1000
        )
    )
    everything = list(enumerate_space(space))
    population = Population(everything, seed=99).fit(*task.rows("train"), steps=1000)
    losses = population.losses(*task.rows("validation"), loss="log_loss").tolist()
    values = [loss + 0.02 * z.n_edges for loss, z in zip(losses, everything, strict=True)]
    return task, space, objective, trials, dict(zip(everything, values, strict=True))


def test_exhaustive_search_finds_the_minimum_of_brute_force(convex):
    *_, trials, values = convex

    best = min(trials, key=lambda trial: trial.objective)

    assert len(trials) == len(values) == 64
    for trial in trials:
        assert trial.objective == pytest.approx(values[trial.architecture], abs=5e-3)
    assert best.objective == pytest.approx(min(values.values()), abs=1e-3)
    assert values[best.architecture] == pytest.approx(min(values.values()), abs=1e-3)
    assert 0 < best.architecture.n_edges < 6  # the price matters, and so do the data


@pytest.mark.parametrize("searcher", ["random", "random_live"])
def test_no_random_architecture_is_closer_than_the_best(convex, searcher):
    task, space, objective, trials, _ = convex
    best = min(trials, key=lambda trial: trial.objective)

    others = list(
        search(
            task,
            space,
            searcher=searcher,
            objective=objective,
            densities=(0.2, 0.5, 0.8),
            evaluations=300,
            steps=1000,
        )
    )

    values = []
    for trial in others:
        gap = trial.objective - best.objective
        assert gap > -2e-3
        values.append(
            closeness(best.architecture, trial.architecture, alpha=0.02, beta=0.01, quality_gap=gap)
        )
    assert len(values) == 30
    assert max(values) > min(values) > -2e-3
    own = closeness(best.architecture, best.architecture, alpha=2.0, beta=1.0)
    assert own == 0.0


def function_form(z):
    """What is left of an architecture once hidden order and dead neurons are forgotten."""
    if not z.n_live_edges:
        return z.widths[-1], tuple(z.activation[z.starts[-2] :].tolist())
    smaller, _ = z.without_dead_neurons()
    return min(
        (permuted.widths, permuted.edges.tolist(), permuted.activation.tolist())
        for permuted in map(smaller.permuted, orders(smaller))
    )


@pytest.mark.parametrize(
    "space",
    [
        SearchSpace(widths=(2, 2, 1), activations=("tanh", "relu")),
        SearchSpace(
            widths=(1, 2, 1), activations=("sin", "abs"), output_activations=("identity", "tanh")
        ),
        SearchSpace(widths=(1, 2, 1, 1), activations=("tanh",)),
    ],
    ids=["two-hidden", "outputs", "two-layers"],
)
def test_exhaustive_search_sees_every_function_once(space, monkeypatch):
    task = Task.from_arrays(
        torch.randn(20, space.widths[0], generator=generator_for(0)),
        torch.randn(20, generator=generator_for(1)),
        generator=generator_for(2),
    )
    wanted = {str(function_form(z)) for z in enumerate_space(space)}

    trials = list(search(task, space, searcher="exhaustive", evaluations=20, steps=1))

    found = [
        str(function_form(trial.architecture)) for trial in trials if trial.architecture.n_edges
    ]
    assert len(found) == len(set(found))
    assert wanted == {str(function_form(trial.architecture)) for trial in trials}
    assert all(trial.architecture.n_live_edges == trial.architecture.n_edges for trial in trials)


def test_exhaustive_search_refuses_large_spaces():
    task = tiny_task()
    large = SearchSpace(widths=(2, 5, 2))

    with pytest.raises(InputError, match=r"at most 65536 architectures; got 2\^32\.9"):
        search(task, large, searcher="exhaustive")


# The tuned price


def made_up_trial(number, *, n_edges, train_loss, loss):
    z = Architecture.from_edges(
        [list(range(n_edges)), [20] * n_edges], activation=[0] * 21, widths=(20, 1)
    )
    return Trial(
        number=number,
        architecture=z,
        weights=Weights(edge=torch.zeros(n_edges), bias=torch.zeros(1)),
        train_loss=train_loss,
        loss=loss,
        objective=loss,
        steps=1,
        seed=0,
    )


class MadeUp:
    """Few edges are right, many overfit."""

    def __init__(self, setting):
        pass

    def run(self):
        first = made_up_trial(0, n_edges=20, train_loss=0.0, loss=0.5)
        yield [first, made_up_trial(1, n_edges=10, train_loss=0.1, loss=0.2)]
        yield [made_up_trial(2, n_edges=1, train_loss=0.3, loss=0.3)]


def test_price_is_chosen_by_validation_among_the_best_by_training(monkeypatch):
    monkeypatch.setitem(SEARCHERS, "made_up", MadeUp)
    task = tiny_task()

    tuned = tune_penalty(
        task, tiny_space(task), penalties=[0.1, 0.0, 0.015, 0.02], searcher="made_up"
    )

    assert [(c, trial.number) for c, trial in tuned.best] == [
        (0.0, 0),
        (0.015, 1),
        (0.02, 1),
        (0.1, 2),
    ]
    assert tuned.penalty == 0.02  # 0.015 gives the same; the larger price wins


@pytest.mark.parametrize("kind", ["two-classes", "regression"])
def test_tuned_price_of_a_real_search(kind):
    task = tiny_task(kind)
    loss = "log_loss" if kind == "two-classes" else "mse"
    penalties = (0.0, 0.01, 0.1, 10.0)

    tuned, again = (
        tune_penalty(
            task,
            tiny_space(task),
            penalties=penalties,
            loss=loss,
            densities=(0.25, 0.5, 1.0),
            evaluations=12,
            seed=3,
        )
        for _ in range(2)
    )

    assert tuned.penalty == again.penalty
    assert fingerprint(trial for _, trial in tuned.best) == fingerprint(
        trial for _, trial in again.best
    )
    n_edges = [trial.architecture.n_edges for _, trial in tuned.best]
    assert n_edges == sorted(n_edges, reverse=True)
    assert n_edges[-1] == 2
    least = min(trial.loss for _, trial in tuned.best)
    assert dict(tuned.best)[tuned.penalty].loss == least


@pytest.mark.parametrize("penalties", [[], [0.1, -0.1]])
def test_prices_must_be_numbers_of_at_least_zero(penalties):
    task = tiny_task()

    with pytest.raises(InputError, match="penalties must be numbers of at least 0; got"):
        tune_penalty(task, tiny_space(task), penalties=penalties)


def test_tuned_loss_must_fit_the_task():
    task = tiny_task()

    with pytest.raises(InputError, match="loss must be for classification"):
        tune_penalty(task, tiny_space(task), penalties=[0.1], loss="mse")


def test_a_network_that_overflows_is_counted_and_spoils_no_other(monkeypatch):
    task = tiny_task()
    z = tiny_space(task).sample(generator=generator_for(0), n_edges=4)
    start = initial_weights(z, seed=0)
    huge = Weights(edge=torch.full((4,), 1e30), bias=torch.full_like(start.bias, 1e30))

    class Explosive:
        def __init__(self, setting):
            starts = [start, huge, start]
            self.left = [Proposal(architecture=z, start=own) for own in starts]

        def ask(self, k):
            asked, self.left = self.left[:k], self.left[k:]
            return asked

        def tell(self, trials):
            pass

    monkeypatch.setitem(SEARCHERS, "explosive", Explosive)
    running = search(task, tiny_space(task), searcher="explosive", evaluations=3)

    trials = list(running)

    assert [math.isinf(trial.objective) for trial in trials] == [False, True, False]
    assert trials[0].objective == trials[2].objective
    assert (running.ledger.trials, running.ledger.diverged) == (3, 1)
