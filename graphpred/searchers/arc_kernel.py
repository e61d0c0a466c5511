"""The Arc kernel: architectures as points, so that what a network lacks does not count.

Source: Swersky, Duvenaud, Snoek, Hutter and Osborne, "Raiders of the Lost Architecture: kernels for
Bayesian optimization in conditional parameter spaces", 2014, arXiv:1409.4011. A parameter that a
network has lies on an arc of radius ω and of length ρ half turns, or for categories at a corner of
a simplex at distance ω from the centre; a parameter that it does not have lies at the centre. One
Matérn-5/2 kernel on all these points together is the kernel of the source.

Notation: n networks, d parameters of a kind, m categories, ω radius, ρ angle.

Ours is what the parameters are. A neuron on a path from an input to an output has an activation,
a fan-in and a fan-out, as far as there is something to choose; any other neuron has none. Hidden
neurons are exchangeable: in every layer those with parameters come first, by activation, then by
fan-in and fan-out, larger ones first. Which neuron reads which is not said.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from graphpred.activations import activation_indices
from graphpred.architecture import Architecture
from graphpred.errors import InputError
from graphpred.space import SearchSpace


def arc_embedding(
    x: Tensor, active: Tensor, *, radius: float | Tensor = 1.0, angle: float | Tensor = 0.5
) -> Tensor:
    """Place every active parameter on an arc and every absent one at its centre.

    Two absent parameters are then at distance 0, an absent and a present one at distance
    ``radius``, whatever the value of the present one.

    Args:
        x: Parameter values scaled to [0, 1]. Float, shape ``(n, d)``.
        active: Whether network i has parameter j. Bool, shape ``(n, d)``.
        radius: ω, distance from present to absent, in units of the length scale.
        angle: ρ, length of the arc in half turns, in (0, 1].

    Returns:
        Points, float, shape ``(n, 2 * d)``.

    Raises:
        InputError: If the shapes differ or ``angle`` is outside (0, 1].

    >>> arc_embedding(torch.tensor([[0.0]]), torch.tensor([[True]]))
    tensor([[0., 1.]])
    """
    if x.shape != active.shape:
        raise InputError(
            f"x and active must have one shape; got {tuple(x.shape)} and {tuple(active.shape)}."
        )
    _check_angle(angle)
    theta = math.pi * angle * x  # (n, d), radians
    points = radius * torch.cat([theta.sin(), theta.cos()], dim=-1)  # (n, 2d)
    return points * torch.cat([active, active], dim=-1)


def simplex_embedding(
    one_hot: Tensor, *, radius: float | Tensor = 1.0, angle: float | Tensor = 0.5
) -> Tensor:
    """Place every category at distance ``radius`` from the centre, and absent ones there.

    Category j is at ω (e_j + (1 − ρ) Σ_{l≠j} e_l) / √(1 + (m − 1)(1 − ρ)²).

    Args:
        one_hot: 1 for the category, and 0 alone for an absent one. Float, shape ``(n, d, m)``.
        radius: ω, distance from present to absent, in units of the length scale.
        angle: ρ, in (0, 1]: near 0 categories are alike, at 1 they are at right angles.

    Returns:
        Points, float, shape ``(n, d * m)``.

    Raises:
        InputError: If ``angle`` is outside (0, 1].

    >>> simplex_embedding(torch.tensor([[[1.0, 0.0]], [[0.0, 0.0]]]), angle=1.0)
    tensor([[1., 0.],
            [0., 0.]])
    """
    _check_angle(angle)
    m = one_hot.shape[-1]
    alike = 1 - angle
    corner = angle * one_hot + alike * one_hot.sum(dim=-1, keepdim=True)
    return (radius * corner / (1 + (m - 1) * alike**2) ** 0.5).flatten(-2)


def _check_angle(angle: float | Tensor) -> None:
    if not 0 < angle <= 1:
        raise InputError(f"angle must be in (0, 1]; got {float(angle)}.")


@dataclass(frozen=True, kw_only=True)
class Group:
    """Parameters of one kind, one per neuron, which share radius and angle.

    Attributes:
        quantity: What they are.
        start: First neuron that has one.
        stop: The neuron after the last.
        classes: Activation classes to choose from, if that is what they are.
    """

    quantity: Literal["activation", "fan_in", "fan_out"]
    start: int
    stop: int
    classes: tuple[int, ...] = ()

    @property
    def size(self) -> int:
        """d, their number."""
        return self.stop - self.start

    @property
    def n_columns(self) -> int:
        """Columns that describe them: one-hot, or numbers and then whether they are there."""
        return self.size * (len(self.classes) or 2)

    def embedding(self, columns: Tensor, *, radius: Tensor, angle: Tensor) -> Tensor:
        """Points of n networks from their columns. Float, shape ``(n, n_columns)``."""
        if self.classes:
            one_hot = columns.unflatten(-1, (self.size, len(self.classes)))  # (n, d, m)
            return simplex_embedding(one_hot, radius=radius, angle=angle)
        x, active = columns.split(self.size, dim=-1)  # (n, d) each
        return arc_embedding(x, active.bool(), radius=radius, angle=angle)


def parameter_groups(space: SearchSpace) -> tuple[Group, ...]:
    """The kinds of parameters that networks of a space have."""
    hidden, output, end = space.widths[0], sum(space.widths[:-1]), sum(space.widths)
    groups = [
        Group(quantity="fan_out", start=0, stop=hidden),
        Group(quantity="fan_in", start=hidden, stop=output),
        Group(quantity="fan_out", start=hidden, stop=output),
        Group(quantity="fan_in", start=output, stop=end),
    ]
    for names, start, stop in (
        (space.activations, hidden, output),
        (space.output_activations, output, end),
    ):
        if len(names) > 1:
            classes = activation_indices(names)
            groups.append(Group(quantity="activation", start=start, stop=stop, classes=classes))
    return tuple(group for group in groups if group.size)


def described(z: Architecture, *, groups: Sequence[Group]) -> Tensor:
    """The parameters of a network, group after group.

    Args:
        z: Of the widths of the space.
        groups: Of the space.

    Returns:
        Float64, shape ``(sum of n_columns,)``.
    """
    fan_out, fan_in = (
        np.bincount(ends, minlength=z.n_neurons) for ends in z.edges[:, z.live].numpy()
    )
    activation = z.activation.numpy()
    has = fan_in + fan_out > 0
    last = np.arange(z.n_neurons) * (z.layer.numpy() % z.n_layers == 0)  # keeps inputs and outputs
    order = np.lexsort((-fan_out, -fan_in, activation, ~has, last, z.layer.numpy()))
    widths = np.array([1, *z.widths, 1])
    quantities = {
        "activation": activation[order],
        "fan_in": _relative(fan_in[order], np.repeat(widths[:-2], z.widths)),
        "fan_out": _relative(fan_out[order], np.repeat(widths[2:], z.widths)),
    }
    columns = []
    for group in groups:
        part = slice(group.start, group.stop)
        own, values = has[order][part], quantities[group.quantity][part]
        if group.classes:
            columns.append(((values[:, None] == group.classes) & own[:, None]).ravel())
        else:
            columns += [values * own, own]
    return torch.from_numpy(np.concatenate(columns).astype(np.float64))


def _relative(count: NDArray[np.int64], most: NDArray[np.int64]) -> NDArray[np.float64]:
    """Logarithms, 0 for none and 1 for as many as there can be."""
    relative: NDArray[np.float64] = np.log1p(count) / np.log1p(most)
    return relative
