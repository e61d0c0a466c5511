"""The activation classes a neuron can have, and the registry to add more.

An activation class is known by its name everywhere outside memory (JSON, Parquet, terminal), and
by its index in the registry inside tensors. The registry only grows, so an index stays valid as
long as the process lives.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from graphpred.errors import InputError

Function = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Activation:
    """A named elementwise function.

    Attributes:
        name: What users and files call it.
        function: Elementwise and differentiable; a tensor of any shape to one of the same shape.
    """

    name: str
    function: Function


ACTIVATIONS: list[Activation] = []
"""All activation classes; a neuron's class is an index into this list."""


def register_activation(name: str, function: Function) -> None:
    """Add an activation class under a new name.

    Args:
        name: A name that no other class has.
        function: Elementwise and differentiable by autograd.

    Raises:
        InputError: If the name is taken or the function is not elementwise.

    >>> register_activation("cube", lambda x: x**3)
    >>> activation_function("cube")(torch.tensor(2.0))
    tensor(8.)
    """
    if any(known.name == name for known in ACTIVATIONS):
        raise InputError(f"an activation's name must be new; {name!r} is registered already.")
    probe = torch.linspace(-1, 1, 6).reshape(2, 3)
    shape = tuple(function(probe).shape)
    if shape != (2, 3):
        raise InputError(
            f"activation {name!r} must keep the shape of its input; (2, 3) became {shape}."
        )
    alone = torch.cat([function(x.reshape(1, 1)) for x in probe.flatten()]).reshape(2, 3)
    if not torch.allclose(function(probe), alone, equal_nan=True):
        raise InputError(
            f"activation {name!r} must be elementwise; got values that depend on other elements."
        )
    ACTIVATIONS.append(Activation(name, function))


def activation_index(name: str) -> int:
    """Index of an activation class in ``ACTIVATIONS``; an ``InputError`` if there is none.

    >>> activation_index("identity")
    0
    """
    for index, known in enumerate(ACTIVATIONS):
        if known.name == name:
            return index
    names = ", ".join(known.name for known in ACTIVATIONS)
    raise InputError(f"an activation must be one of {names}; got {name!r}.")


def activation_indices(names: Iterable[str]) -> tuple[int, ...]:
    """Index of every named class, in the order of the names."""
    return tuple(activation_index(name) for name in names)


def activation_names(indices: Tensor) -> list[str]:
    """Name of every class, in the order of the indices."""
    return [ACTIVATIONS[index].name for index in indices.tolist()]


def activation_function(name: str) -> Function:
    """The function of a named activation class."""
    return ACTIVATIONS[activation_index(name)].function


def _identity(x: Tensor) -> Tensor:
    return x


def _gaussian(x: Tensor) -> Tensor:
    return torch.exp(-x * x)


for _name, _function in (
    ("identity", _identity),
    ("relu", torch.relu),
    ("leaky_relu", functional.leaky_relu),
    ("tanh", torch.tanh),
    ("sigmoid", torch.sigmoid),
    ("sin", torch.sin),
    ("gaussian", _gaussian),
    ("softplus", functional.softplus),
    ("abs", torch.abs),
    ("square", torch.square),
):
    register_activation(_name, _function)

IDENTITY = activation_index("identity")
