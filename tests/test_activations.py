"""The registry of activation classes."""

import pytest
import torch

from graphpred.activations import (
    ACTIVATIONS,
    IDENTITY,
    activation_function,
    activation_index,
    activation_indices,
    register_activation,
)
from graphpred.errors import GraphPredError, InputError
from graphpred.space import SearchSpace

FORMULAS = {
    "identity": lambda x: x,
    "relu": lambda x: x * (x > 0),
    "leaky_relu": lambda x: torch.where(x > 0, x, 0.01 * x),
    "tanh": lambda x: (x.exp() - (-x).exp()) / (x.exp() + (-x).exp()),
    "sigmoid": lambda x: 1 / (1 + (-x).exp()),
    "sin": lambda x: torch.cos(x - torch.pi / 2),
    "gaussian": lambda x: 1 / (x**2).exp(),
    "softplus": lambda x: (1 + x.exp()).log(),
    "abs": lambda x: (x**2).sqrt(),
    "square": lambda x: x**2,
}


@pytest.mark.parametrize("name", FORMULAS)
def test_built_in_function_is_its_formula(name):
    x = torch.tensor([-3.0, -0.5, 0.0, 0.25, 2.0], dtype=torch.float64)

    torch.testing.assert_close(activation_function(name)(x), FORMULAS[name](x))


def test_built_in_names_come_first_in_a_fixed_order_that_files_and_models_rely_on():
    assert [known.name for known in ACTIVATIONS[:10]] == list(FORMULAS)
    assert ACTIVATIONS[IDENTITY].name == "identity"


def test_indices_follow_the_order_of_the_names():
    names = ("tanh", "relu", "tanh")

    assert [ACTIVATIONS[i].name for i in activation_indices(names)] == list(names)


@pytest.mark.usefixtures("registry")
def test_registered_activation_is_used_by_a_space_and_saved_by_name(generator, tmp_path):
    register_activation("test_cosine", torch.cos)

    z = SearchSpace(widths=(2, 3, 1), activations=("test_cosine",)).sample(generator=generator)

    assert z.activations == (("test_cosine",) * 3, ("identity",))
    assert activation_function("test_cosine")(torch.tensor(0.0)) == 1
    z.save(tmp_path / "z.safetensors")
    assert type(z).load(tmp_path / "z.safetensors") == z


@pytest.mark.usefixtures("registry")
@pytest.mark.parametrize(
    ("name", "function", "message"),
    [
        ("relu", torch.relu, "name must be new; 'relu' is registered already"),
        ("test_sum", torch.sum, r"keep the shape of its input; \(2, 3\) became \(\)"),
        ("test_row", lambda x: x[0], r"keep the shape of its input; \(2, 3\) became \(3,\)"),
        ("test_softmax", lambda x: x.softmax(dim=1), "must be elementwise"),
        ("test_flip", lambda x: x.flip(0), "must be elementwise"),
    ],
)
def test_bad_registration_is_refused_and_leaves_the_registry_alone(name, function, message):
    before = list(ACTIVATIONS)

    with pytest.raises(InputError, match=message):
        register_activation(name, function)

    assert before == ACTIVATIONS


def test_unknown_name_is_refused_with_the_known_ones():
    with pytest.raises(GraphPredError, match=r"one of identity, relu, .* got 'rellu'") as caught:
        activation_index("rellu")

    assert isinstance(caught.value, ValueError)
