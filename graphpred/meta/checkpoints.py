"""A model and its optimiser as tensors by name, for checkpoints in safetensors."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor, nn

from graphpred.errors import StoreError


def training_tensors(
    model: nn.Module, *, optimiser: torch.optim.Optimizer, parameters: Sequence[Tensor]
) -> dict[str, Tensor]:
    """Parameters, and what the optimiser knows of each."""
    tensors = {f"model.{name}": value for name, value in model.state_dict().items()}
    for i, parameter in enumerate(parameters):
        state = optimiser.state.get(parameter, {})
        tensors |= {f"optimiser.{i}.{name}": value for name, value in state.items()}
    return tensors


def take_training_tensors(
    model: nn.Module,
    tensors: Mapping[str, Tensor],
    *,
    optimiser: torch.optim.Optimizer,
    parameters: Sequence[Tensor],
    path: str | Path,
) -> None:
    """Put back what ``training_tensors`` took from a model like this one.

    Raises:
        StoreError: If the model in the file at ``path`` is not like this one.
    """
    try:
        model.load_state_dict(_within(tensors, "model."))
    except RuntimeError as error:
        raise StoreError(f"{path} must be of a model like this one; it is not.") from error
    for i, parameter in enumerate(parameters):
        if state := _within(tensors, f"optimiser.{i}."):
            optimiser.state[parameter] = state


def _within(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}
