"""Shared settings and fixtures."""

from collections.abc import Iterator

import pytest
import torch
from hypothesis import settings

from graphpred.activations import ACTIVATIONS

settings.register_profile("stable", derandomize=True, deadline=None, max_examples=60)
settings.load_profile("stable")


@pytest.fixture
def registry() -> Iterator[None]:
    """Takes activations that the test registers out of the registry again."""
    known = len(ACTIVATIONS)
    yield
    del ACTIVATIONS[known:]


@pytest.fixture
def generator() -> torch.Generator:
    return torch.Generator().manual_seed(0)
