"""The canonical order of hidden neurons."""

import itertools

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from strategies import CLASSES, architectures, enumerate_space, orders, shuffled

from graphpred.architecture import Architecture
from graphpred.space import SearchSpace


def orbit(z: Architecture) -> frozenset[Architecture]:
    """Every architecture that differs in the order of hidden neurons only."""
    return frozenset(z.permuted(order) for order in orders(z))


@given(architectures())
def test_order_keeps_layers_inputs_and_outputs_and_gives_the_canonical_form(z):
    canonical, order = z.canonical()

    assert canonical == z.permuted(order)
    assert sorted(order.tolist()) == list(range(z.n_neurons))
    assert torch.equal(z.layer[order], z.layer)
    ends = (z.layer == 0) | (z.layer == z.n_layers)
    assert torch.equal(order[ends], torch.arange(z.n_neurons)[ends])


@given(architectures())
def test_canonical_form_of_a_canonical_form_is_itself(z):
    canonical, _ = z.canonical()

    assert canonical.canonical()[0] == canonical


@given(architectures(hidden_layers=(1, 1)), st.data())
def test_one_hidden_layer_forgets_the_order(z, data):
    renamed = z.permuted(data.draw(shuffled(z)))

    assert renamed.canonical()[0] == z.canonical()[0]


@given(architectures(hidden_layers=(1, 1)), st.data())
def test_one_hidden_layer_equal_forms_iff_some_order_makes_them_equal(z, data):
    other = z.permuted(data.draw(shuffled(z)))
    if other.n_edges and data.draw(st.booleans(), label="drop an edge"):
        kept = torch.arange(other.n_edges) != data.draw(st.integers(0, other.n_edges - 1))
        other = Architecture(
            edges=other.edges[:, kept], activation=other.activation, widths=other.widths
        )
    if data.draw(st.booleans(), label="change a class"):
        activation = other.activation.clone()
        activation[other.starts[1]] = data.draw(st.sampled_from(CLASSES))
        other = Architecture(edges=other.edges, activation=activation, widths=other.widths)

    assert (z.canonical()[0] == other.canonical()[0]) == (other in orbit(z))


@pytest.mark.parametrize(
    ("widths", "activations", "n_orbits"),
    [
        # A hidden neuron is one of 2 * 2 * 2 kinds; three of them form a multiset: C(10, 3).
        ((1, 3, 1), ("relu", "tanh"), 120),
        # The same with two inputs and one class.
        ((2, 3, 1), ("relu",), 120),
    ],
)
def test_one_hidden_layer_has_as_many_forms_as_there_are_multisets(widths, activations, n_orbits):
    space = SearchSpace(widths=widths, activations=activations)

    assert len({z.canonical()[0] for z in enumerate_space(space)}) == n_orbits


def test_two_hidden_layers_of_a_whole_space_never_merge_different_networks():
    space = SearchSpace(widths=(1, 2, 2, 1), activations=("relu",))
    everything = list(enumerate_space(space))

    forms = {z: z.canonical()[0] for z in everything}

    assert all(form in orbit(z) for z, form in forms.items())
    assert len(set(forms.values())) == len({orbit(z) for z in everything})


@pytest.mark.parametrize(("widths", "share"), [((3, 4, 4, 2), 0.99), ((4, 5, 6, 5, 3), 0.99)])
def test_several_hidden_layers_rarely_miss_an_equality(widths, share, generator):
    space = SearchSpace(widths=widths, activations=("relu", "tanh"))
    equal = []
    for n_edges in itertools.islice(itertools.cycle(range(1, space.n_possible_edges)), 150):
        z = space.sample(generator=generator, n_edges=n_edges)
        shuffle = torch.rand(z.n_neurons, generator=generator)
        ends = (z.layer == 0) | (z.layer == z.n_layers)
        shuffle[ends] = torch.linspace(0, 0.5, int(ends.sum()))
        order = (z.layer + 0.9 * shuffle).argsort()
        equal.append(z.permuted(order).canonical()[0] == z.canonical()[0])

    assert sum(equal) / len(equal) >= share


def test_neurons_are_sorted_by_activation_then_inputs_then_outputs():
    z = Architecture.from_masks(
        [[[0, 1, 1], [1, 0, 1]], [[1], [1], [1]]], hidden=["tanh", "tanh", "relu"]
    )

    canonical, order = z.canonical()

    assert order.tolist() == [0, 1, 4, 3, 2, 5]
    assert canonical.activations[0] == ("relu", "tanh", "tanh")
    assert canonical.masks[0].tolist() == [[True, True, False], [True, False, True]]
