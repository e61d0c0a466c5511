"""The paper's closeness F, and the matching of hidden neurons."""

import itertools

import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st
from strategies import CLASSES, architectures, orders, shuffled

from graphpred.architecture import Architecture
from graphpred.errors import InputError
from graphpred.matching import closeness, edge_differences, matching_order

COSTS = st.sampled_from([0.0, 1e-8, 0.3, 1.0, 2.0, 1e5])


@st.composite
def pairs_of_architectures(draw, **options) -> tuple[Architecture, Architecture]:
    """Two architectures of the same widths."""
    z_opt = draw(architectures(**options))
    keep = st.lists(st.booleans(), min_size=z_opt.n_edges, max_size=z_opt.n_edges)
    kept = torch.tensor(draw(keep), dtype=torch.bool)
    activation = z_opt.activation.clone()
    for neuron in range(z_opt.widths[0], z_opt.n_neurons):
        activation[neuron] = draw(st.sampled_from(CLASSES))
    z = Architecture(edges=z_opt.edges[:, kept], activation=activation, widths=z_opt.widths)
    # Shuffling moves the edges that were kept, so that each has some that the other has not.
    return z_opt, z.permuted(draw(shuffled(z)))


def brute_force(z_opt: Architecture, z: Architecture, *, alpha: float, beta: float) -> float:
    """F counted on dense matrices, without a difference of quality."""
    wanted, found = torch.zeros(2, z.n_neurons, z.n_neurons, dtype=torch.bool)
    wanted[tuple(z_opt.edges)] = True
    found[tuple(z.edges)] = True
    return alpha * int((found & ~wanted).sum()) + beta * int((wanted & ~found).sum())


@given(pairs_of_architectures(), COSTS, COSTS, st.floats(-1, 1))
def test_closeness_counts_the_edges_that_differ(pair, alpha, beta, quality_gap):
    z_opt, z = pair

    value = closeness(z_opt, z, alpha=alpha, beta=beta, quality_gap=quality_gap)

    assert value == pytest.approx(quality_gap + brute_force(z_opt, z, alpha=alpha, beta=beta))
    assert edge_differences(z_opt, z) == edge_differences(z, z_opt)[::-1]


@given(architectures(), COSTS, COSTS, st.booleans())
def test_closeness_of_an_architecture_to_itself_is_zero(z, alpha, beta, align):
    assert closeness(z, z, alpha=alpha, beta=beta, align=align) == 0


def test_alpha_prices_extra_edges_and_beta_missing_ones():
    z_opt = Architecture.from_masks([[[1, 1, 1, 0]]])
    z = Architecture.from_masks([[[1, 0, 0, 1]]])

    assert edge_differences(z_opt, z) == (1, 2)
    assert closeness(z_opt, z, alpha=10, beta=1, quality_gap=0.5) == 12.5
    assert closeness(z, z_opt, alpha=10, beta=1, quality_gap=-0.5) == 20.5


@given(pairs_of_architectures(hidden_layers=(1, 1)), COSTS, COSTS)
def test_align_finds_the_exact_minimum_with_one_hidden_layer(pair, alpha, beta):
    z_opt, z = pair
    lowest = min(
        brute_force(z_opt, z.permuted(order), alpha=alpha, beta=beta) for order in orders(z)
    )

    assert closeness(z_opt, z, alpha=alpha, beta=beta, align=True) == pytest.approx(lowest)


@given(pairs_of_architectures(hidden_layers=(2, 3)), COSTS, COSTS)
def test_align_never_makes_it_worse_nor_better_than_the_minimum(pair, alpha, beta):
    z_opt, z = pair
    assume(len(list(itertools.islice(orders(z), 200))) < 200)

    aligned = closeness(z_opt, z, alpha=alpha, beta=beta, align=True)

    values = [brute_force(z_opt, z.permuted(order), alpha=alpha, beta=beta) for order in orders(z)]
    slack = 1e-6 * max(alpha, beta)
    assert min(values) - slack <= aligned <= closeness(z_opt, z, alpha=alpha, beta=beta) + slack


@given(architectures(hidden_layers=(1, 1)), st.data())
def test_matching_order_undoes_a_renaming_activations_too(z, data):
    renamed = z.permuted(data.draw(shuffled(z)))

    assert renamed.permuted(matching_order(z, renamed)) == z


def test_activations_decide_between_neurons_with_equal_edges():
    z_opt = Architecture.from_masks([[[1, 1]], [[1], [1]]], hidden=["relu", "tanh"])
    z = Architecture.from_masks([[[1, 1]], [[1], [1]]], hidden=["tanh", "relu"])

    assert matching_order(z_opt, z, alpha=1e-8, beta=1e-8).tolist() == [0, 2, 1, 3]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"alpha": -1, "beta": 1}, "alpha and beta must be at least 0; got -1 and 1"),
        ({"alpha": 1, "beta": -0.5}, "alpha and beta must be at least 0; got 1 and -0.5"),
    ],
)
def test_negative_cost_is_refused(options, message):
    z = Architecture.from_masks([[[1]]])

    with pytest.raises(InputError, match=message):
        closeness(z, z, **options)


@pytest.mark.parametrize("align", [False, True])
def test_different_widths_are_refused(align):
    z_opt, z = Architecture.from_masks([[[1]]]), Architecture.from_masks([[[1, 0]]])

    with pytest.raises(InputError, match=r"same widths; got \(1, 1\) and \(1, 2\)"):
        closeness(z_opt, z, alpha=1, beta=1, align=align)
    with pytest.raises(InputError, match="same widths"):
        matching_order(z_opt, z)
