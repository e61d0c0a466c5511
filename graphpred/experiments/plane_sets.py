"""Problems of two classes in the plane: moons, circles, exclusive or, spirals.

Notation: m rows of two features.
"""

import math
from collections.abc import Callable

import torch
from torch import Tensor

from graphpred.seeds import generator_for
from graphpred.split import Split
from graphpred.task import Task

Draw = Callable[[int, torch.Generator], tuple[Tensor, Tensor]]
"""Rows, float ``(m, 2)``, and their classes, int64 ``(m,)``, a random half of either."""


def _moons(m: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Two half circles that reach into each other."""
    y, angle = _coins(m, generator), math.pi * torch.rand(m, generator=generator)
    upper = torch.stack([angle.cos(), angle.sin()], dim=1)
    lower = torch.stack([1 - angle.cos(), 0.5 - angle.sin()], dim=1)
    return _noisy(torch.where(y[:, None] == 0, upper, lower), 0.2, generator), y


def _circles(m: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """One circle inside another."""
    y, angle = _coins(m, generator), 2 * math.pi * torch.rand(m, generator=generator)
    radius = torch.where(y == 0, 1.0, 0.5)
    X = radius[:, None] * torch.stack([angle.cos(), angle.sin()], dim=1)
    return _noisy(X, 0.1, generator), y


def _xor(m: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """The sign of a product; noise comes to the features afterwards."""
    X = 2 * torch.rand(m, 2, generator=generator) - 1
    return _noisy(X, 0.05, generator), (X[:, 0] * X[:, 1] > 0).long()


def _spirals(m: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Two arms of one and a half turns."""
    y = _coins(m, generator)
    turn = 3 * math.pi * (0.03 + 0.97 * torch.rand(m, generator=generator)).sqrt()
    sign = 2.0 * y - 1.0
    X = torch.stack([sign * turn * turn.cos(), sign * turn * turn.sin()], dim=1) / 8
    return _noisy(X, 0.05, generator), y


PLANE_SETS: dict[str, Draw] = {
    "moons": _moons,
    "circles": _circles,
    "xor": _xor,
    "spirals": _spirals,
}
"""By name."""


def plane_task(name: str, *, n_rows: int, seed: int) -> Task:
    """A set of ``PLANE_SETS``: half of the rows to train on, a quarter each to choose and to test.

    >>> task = plane_task("xor", n_rows=80, seed=0)
    >>> task.n_features, len(task.split.train), len(task.split.test)
    (2, 40, 20)
    """
    generator = generator_for(seed, "plane", name)
    X, y = PLANE_SETS[name](n_rows, generator)
    order = torch.randperm(n_rows, generator=generator)
    sizes = [n_rows - 2 * (n_rows // 4), n_rows // 4, n_rows // 4]
    split = Split(*(rows.sort().values for rows in order.split(sizes)))
    return Task.from_arrays(X, y, split=split, class_names=("0", "1"), name=name)


def _coins(m: int, generator: torch.Generator) -> Tensor:
    return torch.randint(2, (m,), generator=generator)


def _noisy(X: Tensor, deviation: float, generator: torch.Generator) -> Tensor:
    return X + deviation * torch.randn(X.shape, generator=generator)
