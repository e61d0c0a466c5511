"""Shared settings and fixtures."""

from collections.abc import Iterator

import pytest
import torch
from hypothesis import settings
from toys import toy_model, toy_trainer

from graphpred.activations import ACTIVATIONS
from graphpred.meta.model import MetaModel

torch.set_num_threads(1)  # tests run beside each other
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


@pytest.fixture(scope="session")
def meta_model() -> MetaModel:
    """A small meta-model after a few steps of training; tests must not change it."""
    model = toy_model()
    for _ in toy_trainer(model, steps=80, batch=6).run():
        pass
    return model.requires_grad_(False)
