"""``Population``: many sparse networks trained at the same time on one data set.

Networks stand in blocks. A block's size is a fixed function of the shapes, so results do not depend
on the machine; every network has its own seed, so it does not matter which others stand beside it.
Notation: B networks, m rows, n inputs, c outputs; P prices.
"""

import itertools
from collections.abc import Iterator, Sequence
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from graphpred.architecture import Architecture
from graphpred.errors import InputError
from graphpred.network import Signature, SparseNetwork
from graphpred.objective import LOSSES, Objective, default_loss
from graphpred.population.batches import FULL_BATCH_ROWS, Batches, row_weights
from graphpred.population.block import Block, Schedule
from graphpred.population.halving import Halving
from graphpred.population.layout import live_neurons
from graphpred.seeds import derived_seed
from graphpred.weights import Weights, initial_weights

LEARNING_RATE = 0.03
"""Adam's first step for fresh weights."""
TUNING_RATE = 0.003
"""Adam's first step for weights that were predicted or trained before."""
FITTED_RATE = 0.00001
"""Adam's first step for weights that were fitted to the rows: larger ones only over-fit them."""
_BLOCK_FLOATS = 2**19  # neurons × rows of one block: they stay in a core's cache
_BLOCK_NETWORKS = 8, 256  # in one block, at least and at most
_SCORE_ROWS = 8192


class Population:
    """B architectures of the same inputs, outputs and number of layers, trained together.

    Args:
        architectures: The networks; dead neurons cost nothing.
        seed: Network i draws its starting weights from (seed, i); or one seed a network.
        start: Starting weights of every network, instead of fresh ones.
        bias: Whether neurons have biases; those without stay zero.
        device: Where to compute.
        dtype: ``torch.float32`` or ``torch.float64``.

    Attributes:
        architectures: As given.
        steps_taken: Steps of every network in the last ``fit``. Int64, shape ``(B,)``.

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
        bias: bool = True,
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
        self._bias = bias
        live = torch.cat([z.live for z in self.architectures])
        biases = torch.cat([weights.bias for weights in start])
        self._numbers = torch.cat(
            [torch.cat([weights.edge for weights in start]) * live, biases if bias else 0 * biases]
        ).to(self._device, self._dtype)  # of all edges, then of all biases
        self._sizes = np.array(
            [[z.n_edges for z in self.architectures], [len(weights.bias) for weights in start]]
        )  # (2, B)
        self._regression = False
        self.steps_taken = torch.zeros(len(self), dtype=torch.int64)

    def __len__(self) -> int:
        return len(self.architectures)

    @property
    def weights(self) -> tuple[Weights, ...]:
        """Present weights of every network, on the CPU; those of dead edges are zero."""
        parts = self._numbers.cpu().split(self._sizes.flatten().tolist())
        pairs = zip(parts[: len(self)], parts[len(self) :], strict=True)
        return tuple(Weights(edge=edge.clone(), bias=bias.clone()) for edge, bias in pairs)

    def fit(
        self,
        X: Tensor,
        y: Tensor,
        *,
        steps: int = 100,
        learning_rate: float = LEARNING_RATE,
        batch_seed: int = 0,
        sample_weight: Tensor | None = None,
        class_weight: Sequence[float] | Literal["balanced"] | None = None,
        promote: Halving | None = None,
    ) -> "Population":
        """Train every network from its present weights: Adam with cosine decay.

        Args:
            X: Inputs. Float, shape ``(m, n)``.
            y: Classes, int64 of shape ``(m,)``, or targets, float of shape ``(m,)`` or ``(m, c)``.
            steps: Optimiser steps; 0 leaves the weights untouched. Each sees all rows up to 1,024
                of them, else a batch of 512.
            learning_rate: Of the first step.
            batch_seed: Seed of the order of the batches, the same for every network.
            sample_weight: What every row counts for, at least 0. Float, shape ``(m,)``.
            class_weight: What the rows of every class count for, c numbers of at least 0; or
                ``"balanced"``, inversely to the number of rows.
            promote: Stops hopeless networks before their last step; they keep the weights they had
                then. By default all train to the end.

        Raises:
            InputError: If an argument does not fit the networks or the data.
        """
        if steps < 0:
            raise InputError(f"steps must be at least 0; got {steps}.")
        X, y = self._checked(X, y)
        self._regression = y.is_floating_point()
        n_outputs = self.architectures[0].widths[-1]
        weight = row_weights(
            y, n_outputs=n_outputs, sample_weight=sample_weight, class_weight=class_weight
        )
        weight = None if weight is None else weight.to(X)
        batches = Batches(X, y, weight=weight, n_outputs=n_outputs, seed=batch_seed)
        if promote is not None:
            promote = promote.on(*self._checked(promote.X, promote.y), n_networks=len(self))
        self.steps_taken = torch.zeros(len(self), dtype=torch.int64)
        if steps:
            self._train(batches, steps=steps, learning_rate=learning_rate, promote=promote)
        return self

    def _train(
        self, batches: Batches, *, steps: int, learning_rate: float, promote: Halving | None
    ) -> None:
        """Train in turns; after each but the last, the promising networks are promoted."""
        turns = [0, *(promote.rungs_of(steps) if promote else ()), steps]
        state = torch.stack([self._numbers, *torch.zeros(2, len(self._numbers)).to(self._numbers)])
        members = list(range(len(self)))
        for start, stop in itertools.pairwise(turns):
            schedule = Schedule(start=start, stop=stop, total=steps, rate=learning_rate)
            losses = torch.zeros(len(self), dtype=torch.float64)
            for chosen in self._blocks(members, n_rows=batches.n_rows):
                columns = self._columns(chosen)
                block = self._block(chosen, state[:, columns])
                block.train(batches, schedule=schedule)
                state[:, columns] = block.state
                if promote and stop < steps:
                    losses[chosen] = promote.losses(block)
            self.steps_taken[members] = stop
            if promote and stop < steps:
                members = promote.promoted(losses, members=members)
        self._numbers = state[0]

    def scores(self, X: Tensor) -> Tensor:
        """Outputs before softmax. Float, shape ``(B, c, m)``, on the device of the population."""
        X = self._checked_inputs(X)
        shape = (len(self), self.architectures[0].widths[-1], len(X))
        scores = torch.empty(shape, device=self._device, dtype=self._dtype)
        for members, of_block in self._scores(X):
            scores[members] = of_block
        return scores

    def _scores(self, X: Tensor) -> Iterator[tuple[list[int], Tensor]]:
        """Members and outputs of one block after the other."""
        everybody = list(range(len(self)))
        for members in self._blocks(everybody, n_rows=min(len(X), FULL_BATCH_ROWS)):
            block = self._block(members, self._numbers[None, self._columns(members)])
            n_outputs = self.architectures[0].widths[-1]
            scores = X.new_empty(len(members), n_outputs, len(X))
            for start in range(0, len(X), _SCORE_ROWS):
                rows = slice(start, start + _SCORE_ROWS)
                scores[:, :, rows] = block.scores(X[rows])
            yield members, scores

    def predict(self, X: Tensor) -> Tensor:
        """Predicted classes, int64 ``(B, m)``, or targets, float ``(B, m, c)``.

        Targets if the population was last fitted to targets, else classes.
        """
        scores = self.scores(X)
        return scores.transpose(1, 2) if self._regression else scores.argmax(dim=1)

    def losses(
        self,
        X: Tensor,
        y: Tensor,
        *,
        loss: str | None = None,
        sample_weight: Tensor | None = None,
    ) -> Tensor:
        """L of every network; ∞ for one whose outputs are not finite.

        Args:
            X: Inputs. Float, shape ``(m, n)``.
            y: Classes, int64 ``(m,)``, or targets, float ``(m,)`` or ``(m, c)``.
            loss: A key of ``LOSSES``; by default ``error``, or ``unexplained`` for targets.
            sample_weight: What every row counts for. Float, shape ``(m,)``.

        Returns:
            Float64, shape ``(B,)``.
        """
        X, y = self._checked(X, y)
        kind = "regression" if y.is_floating_point() else "classification"
        objective = Objective(loss=loss or default_loss(kind))  # type: ignore[arg-type]
        if objective.kind != kind:
            names = ", ".join(name for name, (_, for_kind) in LOSSES.items() if for_kind == kind)
            raise InputError(f"the loss for {kind} must be one of {names}; got {loss!r}.")
        losses = torch.empty(len(self), dtype=torch.float64, device=self._device)
        for members, scores in self._scores(X):
            losses[members] = objective.losses(scores, y, weight=sample_weight)
        return losses

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
            for z, weights in zip(self.architectures, self.weights, strict=True)
        ]

    def _blocks(self, members: list[int], *, n_rows: int) -> Iterator[list[int]]:
        """Members of every block: networks of like size together, sizes fixed by the shapes."""
        n_neurons = live_neurons([self.architectures[i] for i in members])
        block: list[int] = []
        n_floats, (least, most) = 0, _BLOCK_NETWORKS
        for i in np.argsort(n_neurons, kind="stable").tolist():
            n_floats += int(n_neurons[i]) * max(1, n_rows)
            if len(block) >= most or (len(block) >= least and n_floats > _BLOCK_FLOATS):
                yield block
                block, n_floats = [], int(n_neurons[i]) * max(1, n_rows)
            block.append(members[i])
        if block:
            yield block

    def _block(self, members: list[int], state: Tensor) -> Block:
        return Block([self.architectures[i] for i in members], state, bias=self._bias)

    def _columns(self, members: list[int]) -> Tensor:
        """Where the edges of some networks stand among all numbers, and then their biases."""
        n_edges, n_biases = self._sizes
        first_edge = np.cumsum(n_edges) - n_edges
        first_bias = n_edges.sum() + np.cumsum(n_biases) - n_biases
        return torch.from_numpy(
            np.concatenate(
                [
                    _ranges(first_edge[members], n_edges[members]),
                    _ranges(first_bias[members], n_biases[members]),
                ]
            )
        ).to(self._device)

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


def _ranges(first: NDArray[np.int64], length: NDArray[np.int64]) -> NDArray[np.int64]:
    """The integers of several ranges, one after the other."""
    before = np.cumsum(length) - length
    numbers: NDArray[np.int64] = np.arange(length.sum()) + np.repeat(first - before, length)
    return numbers
