"""Walks end in valid networks; the table is updated as by hand; the policy gets better."""

import math
import statistics
from collections import Counter, defaultdict

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from proposing import ask_and_tell, made_up, setting_for

from graphpred.activations import ACTIVATIONS, activation_index
from graphpred.objective import Objective
from graphpred.searchers import search
from graphpred.searchers.construction import Action, Construction, bucket, n_fan_ins
from graphpred.searchers.q_learning import (
    PUBLISHED_NETWORKS,
    SCHEDULE,
    QLearning,
    QLearningSearch,
    QTable,
    Transition,
    epsilon_at,
)
from graphpred.searchers.standardisation import standardised
from graphpred.seeds import generator_for
from graphpred.space import SearchSpace
from graphpred.synthetic.known import draw_known

# Walks


def walked(space, n_edges, *, seed=0, fan_in=None):
    """A network from random actions, or from those that prefer a fan-in class."""
    generator = generator_for("walk", seed)
    walk = Construction(space=space, left=n_edges, generator=generator)
    while not walk.is_complete:
        possible = walk.fan_ins()
        drawn = possible[int(torch.randint(len(possible), (), generator=generator))]
        activation = int(torch.randint(walk.n_activations, (), generator=generator))
        chosen = drawn if fan_in is None else fan_in(walk, possible)
        walk.take(Action(activation=activation, fan_in=chosen))
    return walk.architecture()


@given(
    n_inputs=st.integers(2, 6),
    widths=st.lists(st.integers(1, 6), min_size=1, max_size=4),
    share=st.floats(0, 1),
    seed=st.integers(0, 10**6),
)
def test_walks_end_with_exactly_so_many_edges_all_live(n_inputs, widths, share, seed):
    space = SearchSpace(
        widths=(n_inputs, *widths),
        activations=("tanh", "relu"),
        output_activations=("identity", "sin"),
    )
    n_edges = space.n_layers + int(share * (space.n_possible_edges - space.n_layers))

    z = walked(space, n_edges, seed=seed)

    assert z.n_edges == z.n_live_edges
    # Only a layer of one neuron after one of one neuron leaves an edge over, which no network has.
    assert n_edges - (1 in widths) <= z.n_edges <= n_edges
    names = [ACTIVATIONS[i].name for i in z.activation.tolist()]
    assert set(names[z.starts[1] : z.starts[-2]]) <= {"tanh", "relu"}
    assert set(names[z.starts[-2] :]) <= {"identity", "sin"}


@pytest.mark.parametrize("n_hidden", [1, 4, 5])
def test_one_input_and_one_output_have_an_even_number_of_edges(n_hidden):
    space = SearchSpace(widths=(1, n_hidden, 1))

    for n_edges in range(2, 2 * n_hidden + 1):
        assert walked(space, n_edges).n_edges == n_edges - n_edges % 2


def test_walks_reach_all_architectures_up_to_the_order_of_hidden_neurons():
    space = SearchSpace(widths=(2, 2, 2), activations=("tanh",))

    found = {walked(space, 4, seed=seed).canonical()[0] for seed in range(400)}
    drawn = {
        space.sample_live(generator=generator_for("all", seed), n_edges=4).canonical()[0]
        for seed in range(400)
    }

    assert found == drawn


@pytest.mark.parametrize(("pattern", "half"), [(0, range(4)), (1, range(4, 8))])
def test_a_pattern_of_inputs_is_one_half_of_them(pattern, half):
    space = SearchSpace(widths=(8, 2), activations=("tanh",))

    def two_or_three(walk, possible):
        own = (fan_in for fan_in in possible if fan_in % 2 == pattern)
        return min(own, key=lambda fan_in: abs(fan_in // 2 - bucket(3)))

    for seed in range(20):
        z = walked(space, 6, seed=seed, fan_in=two_or_three)
        assert z.n_edges == 6
        assert set(z.edges[0].tolist()) <= set(half)


def test_fresh_sources_open_more_hidden_neurons_than_shared_ones():
    space = SearchSpace(widths=(8, 6, 4), activations=("tanh",))

    def n_hidden(pattern):
        def choose(walk, possible):
            own = [fan_in for fan_in in possible if fan_in % 2 == pattern] or possible
            return min(own, key=lambda fan_in: abs(fan_in // 2 - bucket(3)))

        networks = [walked(space, 24, seed=seed, fan_in=choose) for seed in range(20)]
        return statistics.mean(len(z.edges[1][z.edges[1] < 14].unique()) for z in networks)

    assert n_hidden(0) > n_hidden(1) + 0.5


def test_the_state_tells_what_was_chosen():
    space = SearchSpace(widths=(8, 6, 2), activations=("tanh", "relu"))
    walk = Construction(space=space, left=20, generator=generator_for(0))
    assert walk.state == (2, 1, 0, 0, bucket(20))

    walk.take(Action(activation=0, fan_in=2 * bucket(4)))
    walk.take(Action(activation=0, fan_in=2 * bucket(1)))
    left = walk.left
    layer, after, commonest, before, remaining = walk.state
    assert (layer, commonest, before, remaining) == (1, 0, 1, bucket(left))
    assert left < 20 - 4

    walk.take(Action(activation=1, fan_in=walk.fan_ins()[0]))
    assert walk.state[1:3] == (after - 1, 2)


# The table


def transition(name, *, action, fan_ins, n_activations=2):
    activation, fan_in = action
    return Transition(
        state=(name, 0, 0, 0, 0),
        action=Action(activation=activation, fan_in=fan_in),
        fan_ins=fan_ins,
        n_activations=n_activations,
    )


def test_update_by_hand():
    table = QTable(n_activations=2, n_fan_ins=5)
    first = transition(1, action=(0, 2), fan_ins=(2, 3))
    last = transition(2, action=(1, 4), fan_ins=(4,))

    table.replay([first, last], reward=1.0, rate=0.5)
    assert table.row(last.state)[4] == [0.0, 0.5]  # ½ · 0 + ½ · 1
    assert table.row(first.state)[2] == [0.25, 0.0]  # ½ · 0 + ½ · max(0, ½): last came first

    table.replay([first, last], reward=-1.0, rate=0.5)
    assert table.row(last.state)[4] == [0.0, -0.25]  # ½ · ½ − ½ · 1
    assert table.row(first.state)[2] == [0.125, 0.0]  # ½ · ¼ + ½ · max(0, −¼)

    only = transition(2, action=(0, 4), fan_ins=(4,), n_activations=1)
    table.replay([first, only], reward=-1.0, rate=1.0)
    assert table.row(last.state)[4] == [-1.0, -0.25]
    assert table.row(first.state)[2] == [-1.0, 0.0]  # −¼ was not possible there


def test_updates_are_those_of_the_formula():
    generator = generator_for("formula")
    table, expected = QTable(n_activations=3, n_fan_ins=4), defaultdict(float)

    for _ in range(200):
        numbers = torch.randint(3, (4, 3), generator=generator).tolist()
        steps = [
            transition(10 * i + s, action=(a, f), fan_ins=(0, 1, 2), n_activations=3)
            for i, (s, a, f) in enumerate(numbers)
        ]
        reward = float(torch.randn((), generator=generator))
        table.replay(steps, reward=reward, rate=0.1)
        for i in (3, 2, 1, 0):
            key = steps[i].state, steps[i].action.fan_in, steps[i].action.activation
            future = 0.0
            if i < 3:
                future = max(expected[steps[i + 1].state, f, a] for f in range(3) for a in range(3))
            immediate = reward if i == 3 else 0.0
            expected[key] = 0.9 * expected[key] + 0.1 * (immediate + 1.0 * future)

    for (state, fan_in, activation), value in expected.items():
        assert table.row(state)[fan_in][activation] == pytest.approx(value, abs=1e-12)


def test_the_best_actions_are_possible_ones_of_the_greatest_value():
    table = QTable(n_activations=2, n_fan_ins=3)
    table.row((0,) * 5)[:] = [[9.0, 1.0], [2.0, 9.0], [2.0, 0.0]]

    best = table.best((0,) * 5, fan_ins=(1, 2), n_activations=1)

    assert best == [Action(activation=0, fan_in=1), Action(activation=0, fan_in=2)]


# The search


def test_exploration_follows_the_published_shares():
    assert sum(n for _, n in SCHEDULE) == PUBLISHED_NETWORKS

    counted = Counter(epsilon_at(i / 270) for i in range(270))

    assert counted == {1.0: 150, 0.9: 10, 0.8: 10, 0.7: 10} | {e / 10: 15 for e in range(1, 7)}
    assert epsilon_at(1.0) == 0.1


def test_the_sum_of_learning_rates_stays():
    assert QLearning.within(PUBLISHED_NETWORKS).rate == 0.01
    assert 300 * QLearning.within(300).rate == pytest.approx(0.01 * PUBLISHED_NETWORKS)
    assert QLearning.within(1).rate == 0.5


def test_a_seen_architecture_is_not_trained_again_but_replayed():
    space = SearchSpace(widths=(2, 2, 1), activations=("tanh", "relu"), density=0.5)
    searcher = QLearningSearch(setting_for(space, evaluations=50))

    trials = ask_and_tell(searcher, lambda z: float(z.activation[2]), n=50)

    assert len(trials) < 50  # three edges allow few networks
    assert len({trial.architecture for trial in trials}) == len(trials)
    table = {state: [list(own) for own in row] for state, row in searcher.table.rows.items()}
    assert searcher.ask(10) == []
    assert searcher.table.rows != table


def test_only_what_was_trained_is_remembered():
    space = SearchSpace(widths=(4, 5, 2), density=0.5)
    searcher = QLearningSearch(setting_for(space))
    proposals = searcher.ask(10)

    searcher.tell([made_up(p.architecture, 1.0) for p in proposals[:4]])

    assert len(searcher.state()["lengths"]) == 4
    again = QLearningSearch(setting_for(space))
    again.restore(searcher.state())
    assert again.table.rows == searcher.table.rows
    assert torch.equal(again.state()["transitions"], searcher.state()["transitions"])


def test_rewards_bear_what_is_not_finite():
    assert standardised([math.inf, math.nan]) == [0.0, 0.0]
    assert standardised([0.3, 0.3, 0.3]) == [0.0, 0.0, 0.0]
    values = standardised([0.0, 1.0, math.inf, 100.0, math.nan, *[0.5] * 15])
    assert statistics.mean(values) == pytest.approx(0, abs=1e-12)
    assert statistics.pstdev(values) == pytest.approx(1)
    assert values[2] == values[3] == values[4] == max(values)
    trials = ask_and_tell(
        QLearningSearch(setting_for(SearchSpace(widths=(4, 5, 2)))), lambda z: math.inf, n=30
    )
    assert len(trials) == 30


def late_gain(objectives):
    """By how much the last tenth is better than the random first half, in deviations of it."""
    early, late = objectives[: len(objectives) // 2], objectives[-len(objectives) // 10 :]
    return (statistics.mean(early) - statistics.mean(late)) / statistics.pstdev(early)


def test_late_networks_have_what_is_rewarded():
    space = SearchSpace(widths=(8, 10, 2), density=0.25)
    good = torch.tensor([activation_index(name) for name in ("tanh", "gaussian")])

    gains = []
    for seed in range(2):
        noise = generator_for("noise", seed)

        def value(z, noise=noise):
            hidden = z.edges[1][z.edges[1] < 18].unique()
            share = float(torch.isin(z.activation[hidden], good).double().mean())
            width = abs(len(hidden) - 4)
            return 0.15 * width - share + 0.3 * float(torch.randn((), generator=noise))

        searcher = QLearningSearch(setting_for(space, evaluations=300, seed=seed))
        trials = ask_and_tell(searcher, value, n=300)
        gains.append(late_gain([trial.objective for trial in trials]))

    assert statistics.mean(gains) > 0.5


@pytest.mark.parametrize("true", ["square", "sin"])
def test_late_networks_are_better_than_the_random_ones_where_the_network_is_known(true):
    known_space = SearchSpace(widths=(4, 4, 1), activations=(true,), density=0.5)
    space = SearchSpace(
        widths=(4, 8, 1), activations=("relu", "tanh", "square", "sin"), density=0.4
    )

    gains = []
    for seed in range(3):
        known = draw_known(
            known_space, generator=generator_for("k", seed), n_rows=400, kind="regression"
        )
        trials = search(
            known.task,
            space,
            searcher="q_learning",
            objective=Objective(loss="mse"),
            evaluations=300,
            seed=seed,
        )
        gains.append(late_gain([min(trial.objective, 3.0) for trial in trials]))

    assert statistics.mean(gains) > 0.2


def test_fan_in_classes_fit_the_widest_layer():
    assert n_fan_ins(SearchSpace(widths=(8, 3, 2))) == 2 * 5  # none, 1, 2 to 3, 4 to 7, 8
