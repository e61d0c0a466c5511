"""Mutations keep what they must; tournaments and ageing are those of a simulation."""

import math
import statistics
from collections import deque

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from proposing import ask_and_tell, family_tasks, log_ratios, made_up, setting_for

from graphpred.activations import ACTIVATIONS
from graphpred.errors import InputError
from graphpred.searchers.evolution import Evolution, EvolutionSearch
from graphpred.searchers.mutations import Mutator, sizes_of
from graphpred.seeds import generator_for
from graphpred.space import SearchSpace

WAYS = ("rewired", "retyped", "moved", "split", "joined")


def some_space(widths=(5, 6, 3), **settings):
    return SearchSpace(widths=widths, activations=("tanh", "relu", "sin"), **settings)


def drawn(space, *, n_edges, seed=0):
    return space.sample_live(generator=generator_for("drawn", seed), n_edges=n_edges)


def mutator(space, *, sizes=(), seed=0):
    return Mutator(space=space, sizes=sizes, generator=generator_for("mutator", seed))


def active(z):
    """Hidden neurons on a path, found by walking along every path."""
    following = {}
    for source, target in z.edges.T.tolist():
        following.setdefault(source, []).append(target)
    paths = [[i] for i in range(z.widths[0])]
    for _ in range(z.n_layers):
        paths = [[*path, j] for path in paths for j in following.get(path[-1], [])]
    return {neuron for path in paths for neuron in path[1:-1]}


@given(
    widths=st.lists(st.integers(1, 5), min_size=2, max_size=5),
    share=st.floats(0, 1),
    seed=st.integers(0, 10**6),
)
def test_every_mutation_keeps_the_number_of_edges_all_live_and_inside_the_space(
    widths, share, seed
):
    space = SearchSpace(
        widths=tuple(widths), activations=("tanh", "relu"), output_activations=("identity", "sin")
    )
    most = space.n_possible_edges
    n_edges = space.n_layers + int(share * (most - space.n_layers))
    try:
        z = drawn(space, n_edges=n_edges, seed=seed)
    except InputError:  # one input and one output
        z = drawn(space, n_edges=n_edges - 1, seed=seed)
    before = z.edges.clone(), z.activation.clone()
    own = mutator(space, seed=seed)

    for changed in [*(getattr(own, way)(z) for way in WAYS), own.mutated(z)]:
        assert changed.n_edges == changed.n_live_edges == z.n_edges
        assert changed.widths == z.widths
        assert not changed.has_skip_edges
        names = [ACTIVATIONS[i].name for i in changed.activation.tolist()]
        assert set(names[z.starts[1] : z.starts[-2]]) <= {"tanh", "relu"}
        assert set(names[z.starts[-2] :]) <= {"identity", "sin"}
    assert torch.equal(z.edges, before[0])
    assert torch.equal(z.activation, before[1])


def test_retype_changes_one_active_neuron_only():
    space = some_space()

    for seed in range(30):
        z = drawn(space, n_edges=9, seed=seed)
        changed = mutator(space, seed=seed).retyped(z)
        places = (changed.activation != z.activation).nonzero()[:, 0].tolist()
        assert torch.equal(changed.edges, z.edges)
        assert len(places) == 1
        assert set(places) <= active(z)


def test_split_adds_a_neuron_of_the_same_activation_and_join_removes_one():
    space = some_space((6, 8, 4))
    n_split = n_joined = 0

    for seed in range(60):
        z = drawn(space, n_edges=24, seed=seed)
        own = mutator(space, seed=seed)
        split, joined = own.split(z), own.joined(z)
        if split != z:
            added, lost = active(split) - active(z), active(z) - active(split)
            assert len(added) <= 1
            assert len(lost) <= 1
            n_split += len(added) == 1 and not lost
            classes = z.activation[list(active(z))].tolist()
            assert all(int(split.activation[i]) in classes for i in added)
        if 10 * (len(active(z)) - 1) >= 24:  # there is room without the neuron
            assert active(joined) < active(z)
            n_joined += 1

    assert n_split > 30
    assert n_joined > 30


def test_move_changes_the_edges_of_one_neuron_when_nothing_dies():
    space = some_space((6, 3, 6), density=0.6)
    found = 0

    for seed in range(80):
        z = drawn(space, n_edges=24, seed=seed)
        changed = mutator(space, seed=seed).moved(z)
        gone = set(map(tuple, z.edges.T.tolist())) - set(map(tuple, changed.edges.T.tolist()))
        come = set(map(tuple, changed.edges.T.tolist())) - set(map(tuple, z.edges.T.tolist()))
        if gone and active(changed) == active(z):
            assert len(gone) == len(come)
            pairs = gone | come
            assert any(len({pair[end] for pair in pairs}) == 1 for end in (0, 1))
            found += 1

    assert found > 10


def test_rewire_moves_at_most_a_quarter_of_the_edges_when_nothing_dies():
    space = some_space((6, 3, 6))
    moved = []

    for seed in range(60):
        z = drawn(space, n_edges=24, seed=seed)
        changed = mutator(space, seed=seed).rewired(z)
        old, new = (set(map(tuple, own.edges.T.tolist())) for own in (z, changed))
        assert torch.equal(z.activation, changed.activation)
        if active(changed) == active(z):
            moved.append(len(old - new))

    assert min(moved) == 1
    assert 3 < max(moved) <= 6


def test_resize_reaches_the_other_densities_and_only_those():
    space = some_space((6, 8, 4))
    z = drawn(space, n_edges=20)
    own = mutator(space, sizes=(20, 8, 40, 80))

    reached = {own.resized(z).n_edges for _ in range(40)}

    assert reached == {8, 40, 80}
    assert {own.mutated(z).n_edges for _ in range(100)} == {8, 20, 40, 80}
    assert mutator(space, sizes=(20,)).resized(z) == z


def test_resize_takes_one_edge_less_where_a_number_is_impossible():
    space = SearchSpace(widths=(1, 6, 1))

    assert mutator(space, sizes=(4, 7)).resized(drawn(space, n_edges=4)).n_edges == 6


def test_all_architectures_of_a_space_can_be_reached():
    space = SearchSpace(widths=(2, 2, 1), activations=("tanh",))
    z = drawn(space, n_edges=4)
    own, seen = mutator(space), {z}

    for _ in range(200):
        z = own.mutated(z)
        seen.add(z)

    # Both neurons have an output; each reads one input of two.
    assert len(seen) == 4


def test_sizes_are_those_of_the_densities_and_hold_a_path():
    space = SearchSpace(widths=(4, 4, 2))  # N = 24

    assert sizes_of(setting_for(space, densities=(0.5, 0.01, 1.0))) == [12, 2, 24]


# Evolution


def simulated_parents(objectives, *, population, tournament, n_children, draw):
    """Algorithm 1 of the paper on numbers: the parents of the children, and who lives at the end.

    ``n_children`` of each generation are told together; ``objectives`` of all networks, in order.
    """
    alive = deque(range(population))
    parents = []
    born = population
    for n in n_children:
        parents += [min(draw(list(alive)), key=objectives.__getitem__) for _ in range(n)]
        for _ in range(n):
            alive.append(born)
            alive.popleft()
            born += 1
    return parents, list(alive)


def test_tournament_and_ageing_are_those_of_a_simulation():
    space = some_space()
    population, tournament, n_children = 7, 3, [3, 3, 3, 3, 3, 3]
    objectives = torch.rand(7 + 18, generator=generator_for("objectives")).tolist()
    objectives[5] = -1.0  # far the best, yet it must die
    setting = setting_for(space)
    evolution = Evolution(population=population, tournament=tournament, unchanged=0.0)
    searcher = EvolutionSearch(setting, evolution=evolution)
    first = [drawn(space, n_edges=12, seed=i) for i in range(25)]  # stand for their numbers
    number = {z: i for i, z in enumerate(first)}
    parents = []

    class Recorder:
        def mutated(self, z):
            parents.append(number[z])
            return z

    searcher._mutator = Recorder()
    searcher.tell([made_up(z, objectives[i]) for i, z in enumerate(first[:population])])
    draws = torch.Generator()
    draws.set_state(setting.generator.get_state())

    def draw(alive):
        chosen = torch.randint(len(alive), (tournament,), generator=draws).tolist()
        torch.rand((), generator=draws)  # whether the child is unchanged
        return [alive[i] for i in chosen]

    born = population
    for n in n_children:
        assert len(searcher.ask(100)) == n
        searcher.tell([made_up(first[i], objectives[i]) for i in range(born, born + n)])
        born += n

    expected, alive = simulated_parents(
        objectives,
        population=population,
        tournament=tournament,
        n_children=n_children,
        draw=draw,
    )
    assert parents == expected
    assert 5 in parents[:6]
    assert 5 not in parents[6:]
    assert [number[z] for _, z in searcher.state()["alive"]] == alive


def test_the_best_of_an_endless_tournament_is_the_parent_and_some_children_are_its_copies():
    space = some_space()
    evolution = Evolution(population=10, tournament=200, unchanged=0.5)
    searcher = EvolutionSearch(setting_for(space), evolution=evolution)
    trials = [
        made_up(drawn(space, n_edges=12, seed=i), math.inf if i % 2 else float(i != 4))
        for i in range(10)
    ]
    searcher.tell(trials)

    children = [proposal.architecture for proposal in searcher.ask(100)]

    best = trials[4].architecture
    copies = sum(z == best for z in children)
    assert len(children) == 100
    assert 30 < copies < 70
    others = [z for z in children if z != best]
    shared = [
        len(set(map(tuple, z.edges.T.tolist())) & set(map(tuple, best.edges.T.tolist())))
        for z in others
    ]
    assert statistics.mean(shared) > 7  # of 12; random networks share some three


def test_networks_without_a_finite_objective_do_no_harm():
    trials = ask_and_tell(EvolutionSearch(setting_for(some_space())), lambda z: math.inf, n=60)

    assert len(trials) == 60


@pytest.mark.parametrize(
    ("n", "population", "tournament"), [(1, 4, 2), (40, 10, 5), (150, 37, 18), (5000, 100, 25)]
)
def test_population_is_scaled_to_the_budget(n, population, tournament):
    assert Evolution.within(n) == Evolution(population=population, tournament=tournament)


def test_evolution_beats_live_random_search_on_parity():
    ratios = log_ratios("evolution", family_tasks("parity", 8, seed=11), evaluations=150)

    assert statistics.mean(ratios) < -0.05
    assert sum(ratio < 0 for ratio in ratios) >= 6
