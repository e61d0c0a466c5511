"""Every architecture of a tiny space: gives the true Z_opt that other searchers are judged by."""

import itertools
from collections.abc import Iterator, Sequence
from typing import Any

import torch

from graphpred.activations import IDENTITY, activation_indices
from graphpred.architecture import Architecture
from graphpred.errors import InputError
from graphpred.searchers.base import Proposal, Setting, Trial
from graphpred.space import SearchSpace

MAX_SIZE = 2**16
"""Largest number of architectures that may be enumerated."""


class ExhaustiveSearch:
    """Proposes every architecture once, up to the order of hidden neurons and dead edges.

    Two architectures that differ only there compute the same functions, so one of each kind is
    enough for the least 𝔏. Only a search that ends by itself has seen them all: a budget below
    their number ends it early.

    Raises:
        InputError: If the space holds more than ``MAX_SIZE`` architectures.
    """

    def __init__(self, setting: Setting) -> None:
        if setting.space.size > MAX_SIZE:
            raise InputError(
                f"an exhaustive search needs a space of at most {MAX_SIZE} architectures; "
                f"got 2^{setting.space.log2_size:.1f}. Use fewer neurons or activations."
            )
        self._architectures = distinct_architectures(setting.space)
        self._n_given = 0

    def ask(self, k: int) -> list[Proposal]:
        """The next k architectures."""
        given = [Proposal(architecture=z) for z in itertools.islice(self._architectures, k)]
        self._n_given += len(given)
        return given

    def tell(self, trials: Sequence[Trial]) -> None:
        """Pass: the order is fixed."""

    def state(self) -> dict[str, Any]:
        """How many were given."""
        return {"n_given": self._n_given}

    def restore(self, state: dict[str, Any]) -> None:
        """Pass over those."""
        self.ask(state["n_given"])


def distinct_architectures(space: SearchSpace) -> Iterator[Architecture]:
    """All architectures with live edges only, one for every order of hidden neurons."""
    seen = set()
    for z in all_architectures(space):
        if z.n_live_edges < z.n_edges:
            continue
        form, _ = z.without_dead_neurons()[0].canonical()
        if form not in seen:
            seen.add(form)
            yield z


def all_architectures(space: SearchSpace) -> Iterator[Architecture]:
    """All |Z| architectures of a space, the empty one first."""
    layers = list(itertools.pairwise(space.widths))
    starts = itertools.accumulate(space.widths, initial=0)
    possible = [
        (start + i, start + a + j)
        for start, (a, b) in zip(starts, layers, strict=False)
        for i, j in itertools.product(range(a), range(b))
    ]
    n_hidden, n_outputs = sum(space.widths[1:-1]), space.widths[-1]
    choices = [activation_indices(space.activations)] * n_hidden
    choices += [activation_indices(space.output_activations)] * n_outputs
    for present in itertools.product((False, True), repeat=len(possible)):
        chosen = list(itertools.compress(possible, present))
        edges = torch.tensor(chosen, dtype=torch.int64).reshape(-1, 2).T
        for classes in itertools.product(*choices):
            activation = torch.tensor([IDENTITY] * space.widths[0] + list(classes))
            yield Architecture(edges=edges, activation=activation, widths=space.widths)
