"""Small vectorised draws, and scaling along the rows, that all parts of the prior share.

Notation: b data sets of one shape, n features, m rows, c outputs. Columns lie row after row of
memory, so that everything is ``(b, n, m)`` or ``(b, c, m)`` until a ``Task`` is made.
"""

import math

import torch
from torch import Tensor


def uniform(low: float, high: float, *shape: int, generator: torch.Generator) -> Tensor:
    """Uniform numbers on [low, high). Float, of that shape."""
    return torch.rand(shape, generator=generator).mul_(high - low).add_(low)


def coin(probability: float, *shape: int, generator: torch.Generator) -> Tensor:
    """True with that probability. Bool, of that shape."""
    return torch.rand(shape, generator=generator) < probability


def log_uniform_counts(low: int, high: int, *shape: int, generator: torch.Generator) -> Tensor:
    """Integers between two positive bounds, both included, log-uniform. Int64, of that shape."""
    drawn = uniform(math.log(low), math.log(high + 1), *shape, generator=generator)
    return drawn.exp_().long().clamp_(low, high)


def unit(values: Tensor) -> Tensor:
    """Mean 0 and deviation 1 along the last axis; what is constant becomes 0."""
    centred = values - values.mean(dim=-1, keepdim=True)
    deviation = root_mean_square(centred)
    return centred.mul_(torch.where(deviation > 1e-5, 1 / deviation, 0.0))


def root_mean_square(values: Tensor) -> Tensor:
    """Along the last axis, which becomes 1."""
    norm: Tensor = torch.linalg.vector_norm(values, dim=-1, keepdim=True)
    return norm / math.sqrt(values.shape[-1])
