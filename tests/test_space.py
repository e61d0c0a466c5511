"""``SearchSpace``: its sizes, and the distributions of what it draws."""

import itertools
import math
from collections import Counter

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import chisquare
from strategies import enumerate_space

from graphpred.activations import activation_indices
from graphpred.errors import GraphPredError, InputError
from graphpred.space import SearchSpace


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def active_numbers(widths: tuple[int, ...], n_edges: int) -> list[tuple[int, ...]]:
    """Numbers of active hidden neurons per layer that ``n_edges`` live edges allow.

    Fewest edges: a layer pair needs as many as its wider side, the open ends as the hidden one.
    """
    feasible = []
    for hidden in itertools.product(*(range(1, width + 1) for width in widths[1:-1])):
        fewest = sum(max(a, b) for a, b in itertools.pairwise((1, *hidden, 1)))
        dense = (widths[0], *hidden, widths[-1])
        if fewest <= n_edges <= sum(a * b for a, b in itertools.pairwise(dense)):
            feasible.append(hidden)
    return feasible


# Sizes


@pytest.mark.parametrize(
    ("widths", "activations", "output_activations"),
    [
        ((2, 2), ("relu",), ("identity",)),
        ((1, 2, 1), ("relu", "tanh", "sin"), ("identity",)),
        ((2, 1, 2), ("relu", "tanh"), ("identity", "tanh", "sigmoid")),
        ((1, 2, 1, 1), ("relu", "tanh"), ("identity", "tanh")),
    ],
)
def test_size_is_the_number_of_architectures(widths, activations, output_activations):
    space = SearchSpace(
        widths=widths, activations=activations, output_activations=output_activations
    )

    assert space.size == len(set(enumerate_space(space)))
    assert space.log2_size == pytest.approx(math.log2(space.size))


@given(
    st.lists(st.integers(1, 40), min_size=2, max_size=5),
    st.integers(1, 4),
    st.integers(1, 3),
    st.floats(1e-3, 1),
)
def test_sizes_agree_with_the_dense_network(widths, n_hidden, n_output, density):
    names = ("relu", "tanh", "sin", "abs")
    space = SearchSpace(
        widths=widths,
        activations=names[:n_hidden],
        output_activations=names[:n_output],
        density=density,
    )
    dense = torch.nn.Sequential(*itertools.starmap(torch.nn.Linear, itertools.pairwise(widths)))

    assert space.dim == sum(parameter.numel() for parameter in dense.parameters())
    assert space.n_possible_edges == sum(layer.weight.numel() for layer in dense)
    assert space.log2_size == pytest.approx(math.log2(space.size))
    assert space.n_layers == len(widths) - 1
    assert 1 <= space.n_edges <= space.n_possible_edges
    assert space.n_edges / space.n_possible_edges <= density + 1e-9 or space.n_edges == 1
    assert (space.n_edges + 1) / space.n_possible_edges > density


@pytest.mark.parametrize(
    ("density", "n_edges"), [(1, 100), (0.29, 29), (0.07, 7), (0.075, 7), (0.001, 1)]
)
def test_density_is_rounded_down_but_not_by_the_error_of_floats(density, n_edges):
    assert SearchSpace(widths=(10, 10), density=density).n_edges == n_edges


# Uniform draws


@given(st.lists(st.integers(1, 5), min_size=2, max_size=5), st.floats(0, 1), st.integers(0, 9))
def test_sample_has_the_asked_number_of_edges_and_the_classes_of_the_space(widths, share, seed):
    space = SearchSpace(
        widths=widths, activations=("tanh", "sin"), output_activations=("abs", "relu")
    )
    n_edges = round(share * space.n_possible_edges)

    z = space.sample(generator=seeded(seed), n_edges=n_edges)

    assert (z.n_edges, z.widths, z.has_skip_edges) == (n_edges, tuple(widths), False)
    assert {name for layer in z.activations[:-1] for name in layer} <= {"tanh", "sin"}
    assert set(z.activations[-1]) <= {"abs", "relu"}


def test_sample_is_uniform_over_edges_and_activations():
    space = SearchSpace(
        widths=(2, 2, 1), activations=("relu", "tanh"), output_activations=("identity", "abs")
    )
    cells = [z for z in enumerate_space(space) if z.n_edges == 3]
    generator = seeded()

    drawn = Counter(space.sample(generator=generator, n_edges=3) for _ in range(2400))

    assert len(cells) == math.comb(6, 3) * 2**3
    assert drawn.keys() <= set(cells)
    assert chisquare([drawn[z] for z in cells]).pvalue > 1e-3


# Live draws


@pytest.mark.parametrize(
    "widths",
    [(3, 2), (1, 1), (1, 4, 1), (3, 4, 2), (4, 1, 3), (3, 3, 4, 2), (1, 2, 3, 1), (2, 3, 2, 3, 2)],
)
def test_sample_live_has_exactly_the_asked_live_edges_for_every_possible_number(widths):
    space = SearchSpace(widths=widths, activations=("tanh", "sin"))
    generator = seeded()
    for n_edges in range(space.n_layers, space.n_possible_edges + 1):
        if active_numbers(widths, n_edges):
            z = space.sample_live(generator=generator, n_edges=n_edges)
            assert (z.n_edges, z.n_live_edges) == (n_edges, n_edges)
            assert {name for layer in z.activations[:-1] for name in layer} <= {"tanh", "sin"}
        else:
            assert active_numbers(widths, n_edges - 1)
            with pytest.raises(InputError, match=f"got {n_edges}, but {n_edges - 1} is possible"):
                space.sample_live(generator=generator, n_edges=n_edges)


@pytest.mark.parametrize("widths", [(2, 2), (2, 2, 1), (1, 2, 2, 1)])
def test_sample_live_reaches_every_live_architecture(widths):
    space = SearchSpace(widths=widths, activations=("relu",))
    live = {z for z in enumerate_space(space) if z.n_edges and z.live.all()}
    generator = seeded()

    drawn = {
        space.sample_live(generator=generator, n_edges=n_edges)
        for n_edges in {z.n_edges for z in live}
        for _ in range(150)
    }

    assert drawn == live


@pytest.mark.parametrize(("widths", "n_edges"), [((5, 8, 3), 16), ((4, 6, 5, 2), 15)])
def test_sample_live_draws_active_neurons_log_uniformly_among_the_possible(widths, n_edges):
    space = SearchSpace(widths=widths, activations=("relu",))
    possible = active_numbers(widths, n_edges)
    generator = seeded()
    drawn = Counter()
    for _ in range(1000):
        z, _ = space.sample_live(generator=generator, n_edges=n_edges).without_dead_neurons()
        drawn[z.widths[1:-1]] += 1

    weight = {hidden: math.prod(math.log((u + 1) / u) for u in hidden) for hidden in possible}
    total = sum(weight.values())
    expected = {hidden: 1000 * w / total for hidden, w in weight.items()}
    assert len(possible) > 5
    assert drawn.keys() <= set(possible)
    assert chisquare([drawn[h] for h in possible], [expected[h] for h in possible]).pvalue > 1e-3


def test_sample_live_draws_classes_uniformly():
    space = SearchSpace(widths=(3, 4, 2), activations=("relu", "tanh", "sin"))
    generator = seeded()

    drawn = Counter(
        name
        for _ in range(300)
        for name in space.sample_live(generator=generator, n_edges=9).activations[0]
    )

    assert chisquare([drawn[name] for name in space.activations]).pvalue > 1e-3


# Randomness


@pytest.mark.parametrize("method", ["sample", "sample_live"])
def test_same_seed_gives_the_same_draws_and_leaves_the_global_generator_alone(method):
    space = SearchSpace(widths=(4, 5, 3, 2), density=0.4)
    before = torch.get_rng_state()
    draws = []
    for seed in (7, 7, 8):
        generator = seeded(seed)
        draws.append([getattr(space, method)(generator=generator) for _ in range(5)])

    first, second, other = draws
    assert first == second != other
    assert len(set(first)) == 5
    assert torch.equal(before, torch.get_rng_state())


@pytest.mark.parametrize("method", ["sample", "sample_live"])
def test_density_of_the_space_is_the_default_number_of_edges(method):
    space = SearchSpace(widths=(5, 5, 2), density=0.3)

    assert getattr(space, method)(generator=seeded()).n_edges == 10 == space.n_edges


# Errors


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"widths": ()}, r"two or more positive numbers, inputs first; got \(\)"),
        ({"widths": (3,)}, r"two or more positive numbers, inputs first; got \(3,\)"),
        ({"widths": (3, 0, 1)}, r"positive numbers, inputs first; got \(3, 0, 1\)"),
        ({"widths": (3, -2)}, r"positive numbers, inputs first; got \(3, -2\)"),
        ({"density": 0}, r"density must be in \(0, 1\]; got 0"),
        ({"density": 1.01}, r"density must be in \(0, 1\]; got 1.01"),
        ({"density": math.nan}, r"density must be in \(0, 1\]; got nan"),
        ({"activations": ()}, r"distinct names, at least one; got \(\)"),
        ({"activations": ("relu", "relu")}, "distinct names, at least one"),
        ({"activations": ("relu", "rellu")}, "must be one of identity, .* got 'rellu'"),
        ({"output_activations": ()}, r"distinct names, at least one; got \(\)"),
        ({"output_activations": ("softmax",)}, "must be one of identity, .* got 'softmax'"),
    ],
)
def test_bad_field_is_refused_with_the_reason(fields, message):
    with pytest.raises(GraphPredError, match=message) as caught:
        SearchSpace(**{"widths": (2, 2, 1)} | fields)

    assert isinstance(caught.value, InputError)


@pytest.mark.parametrize(
    ("method", "n_edges", "message"),
    [
        ("sample", -1, "n_edges must be between 0 and 9; got -1"),
        ("sample", 10, "n_edges must be between 0 and 9; got 10"),
        ("sample_live", 1, r"n_edges must be between 2 \(one path\) and 9; got 1"),
        ("sample_live", 10, r"n_edges must be between 2 \(one path\) and 9; got 10"),
    ],
)
def test_impossible_number_of_edges_is_refused(method, n_edges, message):
    space = SearchSpace(widths=(2, 3, 1))

    with pytest.raises(InputError, match=message):
        getattr(space, method)(generator=seeded(), n_edges=n_edges)


def test_lists_become_tuples_so_that_a_space_can_be_hashed():
    space = SearchSpace(widths=[2, 1], activations=["relu"], output_activations=["identity"])

    assert space == SearchSpace(widths=(2, 1), activations=("relu",))
    assert len({space, SearchSpace(widths=(2, 1), activations=("relu",))}) == 1
    assert activation_indices(space.activations) == activation_indices(["relu"])
