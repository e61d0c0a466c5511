"""A common module, and initial parameters of modules from an explicit generator."""

import math

import torch
from torch import nn


def initialise(module: nn.Module, *, generator: torch.Generator) -> None:
    """Draw all linear layers inside a module anew: uniform in ±1/sqrt(inputs), as torch does.

    ``torch.nn`` draws from the global generator; this makes the result depend on ``generator``.
    """
    for part in module.modules():
        if isinstance(part, nn.Linear):
            bound = 1 / math.sqrt(part.in_features)
            with torch.no_grad():
                nn.init.uniform_(part.weight, -bound, bound, generator=generator)
                if part.bias is not None:
                    nn.init.uniform_(part.bias, -bound, bound, generator=generator)


def mlp(n_in: int, n_out: int, *, n_hidden: int | None = None) -> nn.Sequential:
    """A perceptron with one hidden layer, by default of twice as many neurons as outputs."""
    n_hidden = 2 * n_out if n_hidden is None else n_hidden
    return nn.Sequential(nn.Linear(n_in, n_hidden), nn.SiLU(), nn.Linear(n_hidden, n_out))
