"""``Population``: many sparse networks trained at the same time on one data set.

Networks stand in blocks. A block's size is a fixed function of the shapes, so results do not depend
on the machine; every network has its own seed, so it does not matter which others stand beside it.
"""

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from torch import Tensor

from graphpred.architecture import Architecture
from graphpred.errors import InputError
from graphpred.network import Signature, SparseNetwork
from graphpred.objective import LOSSES, Objective, default_loss
from graphpred.population.block import Block
from graphpred.seeds import derived_seed, generator_for
from graphpred.weights import Weights, initial_weights

FULL_BATCH_ROWS = 1024
"""Up to this many rows, every step sees all of them."""
BATCH_ROWS = 512
"""Rows of a mini-batch above that."""
LEARNING_RATE = 0.03
"""Adam's first step for fresh weights."""
TUNING_RATE = 0.01
"""Adam's first step for weights that were predicted or trained before."""
_BLOCK_FLOATS = 2**18  # hidden activations of one block: they stay in a core's cache
_SCORE_ROWS = 8192


class Population:
    """B architectures of the same inputs, outputs and number of layers, trained together.

    Args:
        architectures: The networks; dead neurons cost nothing.
        seed: Network i draws its starting weights from (seed, i); or one seed a network.
        start: Starting weights of every network, instead of fresh ones.
        device: Where to compute.
        dtype: ``torch.float32`` or ``torch.float64``.

    Raises:
        InputError: If the architectures do not fit together or a seed is missing.

    >>> z = Architecture.from_masks([[[1], [1]], [[1, 1]]], hidden=["tanh"])
    >>> X = torch.tensor([[0.0, 1.0], [1.0, 0.0]] * 20)
    >>> y = torch.tensor([0, 1] * 20)
    >>> population = Population([z, z], seed=0).fit(torch.stack([y - 0.5] * 2, dim=1), y)
    >>> population.losses(torch.stack([y - 0.5] * 2, dim=1), y)
    tensor([0., 0.], dtype=torch.float64)
    """

    def __init__(
        self,
        architectures: Sequence[Architecture],
        *,
        seed: int | Sequence[int] = 0,
        start: Sequence[Weights] | None = None,
        device: str | torch.device = "cpu",
        dtype: torch.dtype = torch.float32,
    ) -> None:
        self.architectures = tuple(architectures)
        self._device, self._dtype = torch.device(device), dtype
        _check_alike(self.architectures)
        if start is None:
            start = _fresh_weights(self.architectures, seed=seed)
        if len(start) != len(self.architectures):
            raise InputError(
                f"start must hold weights for {len(self.architectures)} networks; got {len(start)}."
            )
        for architecture, weights in zip(self.architectures, start, strict=True):
            weights.check(architecture)
        self._weights = [
            Weights(edge=weights.edge * z.live, bias=weights.bias)
            for z, weights in zip(self.architectures, start, strict=True)
        ]
        self._regression = False

    def __len__(self) -> int:
        return len(self.architectures)

    @property
    def weights(self) -> tuple[Weights, ...]:
        """Present weights of every network; those of dead edges are zero."""
        return tuple(self._weights)

    def fit(
        self,
        X: Tensor,
        y: Tensor,
        *,
        steps: int = 100,
        learning_rate: float = LEARNING_RATE,
        batch_seed: int = 0,
    ) -> "Population":
        """Train every network from its present weights: Adam with cosine decay.

        Args:
            X: Inputs. Float, shape ``(m, n)``.
            y: Classes, int64 of shape ``(m,)``, or targets, float of shape ``(m,)`` or ``(m, c)``.
            steps: Optimiser steps; 0 leaves the weights untouched. Each sees all rows up to 1,024
                of them, else a batch of 512.
            learning_rate: Of the first step.
            batch_seed: Seed of the order of the batches, the same for every network.

        Raises:
            InputError: If X or y does not fit the networks.
        """
        if steps < 0:
            raise InputError(f"steps must be at least 0; got {steps}.")
        X, y = self._checked(X, y)
        self._regression = y.is_floating_point()
        if steps == 0:
            return self
        for members in self._blocks(n_rows=min(len(X), FULL_BATCH_ROWS)):
            block, kept = self._block(members)
            batches = _batches(X, y, seed=batch_seed)
            block.train(batches, steps=steps, learning_rate=learning_rate)
            for i, weights, (edges, biases) in zip(members, block.weights(), kept, strict=True):
                self._weights[i] = _spread(weights, edges=edges, biases=biases)
        return self

    def scores(self, X: Tensor) -> Tensor:
        """Outputs before softmax. Float, shape ``(B, c, m)``, on the device of the population."""
        X = self._checked_inputs(X)
        n_outputs = self.architectures[0].widths[-1]
        shape = (len(self), n_outputs, len(X))
        scores = torch.empty(shape, device=self._device, dtype=self._dtype)
        for members in self._blocks(n_rows=min(len(X), FULL_BATCH_ROWS)):
            block, _ = self._block(members)
            with torch.no_grad():
                for start in range(0, len(X), _SCORE_ROWS):
                    rows = slice(start, start + _SCORE_ROWS)
                    scores[members, :, rows] = block.scores(X[rows].T)
        return scores

    def predict(self, X: Tensor) -> Tensor:
        """Predicted classes, int64 ``(B, m)``, or targets, float ``(B, m, c)``.

        Targets if the population was last fitted to targets, else classes.
        """
        scores = self.scores(X)
        return scores.transpose(1, 2) if self._regression else scores.argmax(dim=1)

    def losses(self, X: Tensor, y: Tensor, *, loss: str | None = None) -> Tensor:
        """L of every network; ∞ for one whose outputs are not finite.

        Args:
            X: Inputs. Float, shape ``(m, n)``.
            y: Classes, int64 ``(m,)``, or targets, float ``(m,)`` or ``(m, c)``.
            loss: A key of ``LOSSES``; by default ``error``, or ``unexplained`` for targets.

        Returns:
            Float64, shape ``(B,)``.
        """
        X, y = self._checked(X, y)
        kind = "regression" if y.is_floating_point() else "classification"
        objective = Objective(loss=loss or default_loss(kind))  # type: ignore[arg-type]
        if objective.kind != kind:
            names = ", ".join(name for name, (_, for_kind) in LOSSES.items() if for_kind == kind)
            raise InputError(f"the loss for {kind} must be one of {names}; got {loss!r}.")
        return objective.losses(self.scores(X), y)

    def networks(self, *, signature: Signature | None = None) -> list[SparseNetwork]:
        """Every network as a module of its own.

        Args:
            signature: What goes in and out; by default numbers, named by their positions.
        """
        if signature is None:
            widths = self.architectures[0].widths
            signature = Signature(
                kind="regression" if self._regression else "classification",
                feature_names=tuple(f"x{j}" for j in range(widths[0])),
                class_names=tuple(str(k) for k in range(widths[-1])),
                target_mean=(0.0,) * widths[-1] if self._regression else (),
                target_scale=(1.0,) * widths[-1] if self._regression else (),
            )
        return [
            SparseNetwork(z, weights, signature=signature)
            for z, weights in zip(self.architectures, self._weights, strict=True)
        ]

    def _blocks(self, *, n_rows: int) -> list[list[int]]:
        """Members of every block: networks of like size together, sizes fixed by the shapes."""
        widest = max((max(z.widths[1:-1], default=1) for z in self.architectures), default=1)
        size = max(8, min(64, _BLOCK_FLOATS // (widest * max(1, n_rows))))
        by_size = sorted(range(len(self)), key=lambda i: self.architectures[i].n_edges)
        return [by_size[start : start + size] for start in range(0, len(self), size)]

    def _block(self, members: list[int]) -> tuple[Block, list[tuple[Tensor, Tensor]]]:
        """A block of the members' live parts, and which edges and biases those are."""
        networks, weights, kept = [], [], []
        for i in members:
            z = self.architectures[i]
            smaller, neurons = z.without_dead_neurons()
            edges = z.live.nonzero().flatten()
            biases = neurons[z.widths[0] :] - z.widths[0]
            present = self._weights[i]
            networks.append(smaller)
            weights.append(Weights(edge=present.edge[edges], bias=present.bias[biases]))
            kept.append((_where(edges, z.n_edges), _where(biases, len(present.bias))))
        return Block(networks, weights, device=self._device, dtype=self._dtype), kept

    def _checked_inputs(self, X: Tensor) -> Tensor:
        n = self.architectures[0].widths[0]
        if X.dim() != 2 or X.shape[1] != n:
            raise InputError(f"X must have shape (m, {n}); got {tuple(X.shape)}.")
        return X.to(device=self._device, dtype=self._dtype)

    def _checked(self, X: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        X = self._checked_inputs(X)
        if not len(X) == len(y) > 0:
            raise InputError(
                f"X and y must have the same rows, at least one; got {len(X)} and {len(y)}."
            )
        n_outputs = self.architectures[0].widths[-1]
        if y.is_floating_point():
            y = y.to(self._dtype).reshape(len(y), -1)
            if y.shape != (len(X), n_outputs):
                raise InputError(
                    f"y must have shape ({len(X)}, {n_outputs}); got {tuple(y.shape)}."
                )
        elif y.shape != (len(X),) or int(y.min()) < 0 or int(y.max()) >= n_outputs:
            raise InputError(
                f"y must hold {len(X)} classes from 0 to {n_outputs - 1}; got shape "
                f"{tuple(y.shape)} with classes {int(y.min())} to {int(y.max())}."
            )
        return X, y.to(self._device)


def _check_alike(architectures: Sequence[Architecture]) -> None:
    if not architectures:
        raise InputError("a population must have at least one architecture; got none.")
    shapes = {(z.widths[0], z.widths[-1], z.n_layers) for z in architectures}
    if len(shapes) > 1:
        raise InputError(
            "the architectures of a population must agree in inputs, outputs and layers; "
            f"got (inputs, outputs, layers) {sorted(shapes)}."
        )


def _fresh_weights(
    architectures: Sequence[Architecture], *, seed: int | Sequence[int]
) -> list[Weights]:
    if isinstance(seed, int | np.integer):
        seeds = [derived_seed(int(seed), i) for i in range(len(architectures))]
    else:
        seeds = [int(own) for own in seed]
    if len(seeds) != len(architectures):
        raise InputError(
            f"seed must be one number, or one per network, {len(architectures)}; got {len(seeds)}."
        )
    return [initial_weights(z, seed=own) for z, own in zip(architectures, seeds, strict=True)]


def _where(chosen: Tensor, n: int) -> Tensor:
    """A mask of n places with True at the chosen ones."""
    mask = torch.zeros(n, dtype=torch.bool)
    mask[chosen] = True
    return mask


def _spread(weights: Weights, *, edges: Tensor, biases: Tensor) -> Weights:
    """Put the weights of live parts in their places, zeros elsewhere."""
    edge = torch.zeros(len(edges), dtype=weights.edge.dtype)
    edge[edges] = weights.edge
    bias = torch.zeros(len(biases), dtype=weights.bias.dtype)
    bias[biases] = weights.bias
    return Weights(edge=edge, bias=bias)


def _batches(X: Tensor, y: Tensor, *, seed: int) -> Iterator[tuple[Tensor, Tensor]]:
    """All rows again and again, or shuffled batches; X comes transposed, ``(n, m)``."""
    if len(X) <= FULL_BATCH_ROWS:
        inputs = X.T.contiguous()
        while True:
            yield inputs, y
    generator = generator_for(seed)
    while True:
        order = torch.randperm(len(X), generator=generator).to(X.device)
        for start in range(0, len(X) - BATCH_ROWS + 1, BATCH_ROWS):
            rows = order[start : start + BATCH_ROWS]
            yield X[rows].T.contiguous(), y[rows]
