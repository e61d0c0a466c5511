"""The rows that every step of a training sees, and the gradient of its loss.

Notation: m rows in a batch, n inputs, c outputs, B networks.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional

from graphpred.errors import InputError
from graphpred.seeds import generator_for

FULL_BATCH_ROWS = 1024
"""Up to this many rows, every step sees all of them."""
BATCH_ROWS = 512
"""Rows of a mini-batch above that."""


@dataclass(frozen=True, eq=False)
class Batch:
    """Rows of data.

    Attributes:
        X: Float, shape ``(m, n)``.
        y: Classes, int64 ``(m,)``, or targets, float ``(m, c)``.
        weight: Of the rows, about 1 on average; None for 1. Float, shape ``(m,)``.
        n_outputs: c.
    """

    X: Tensor
    y: Tensor
    weight: Tensor | None
    n_outputs: int

    @cached_property
    def _target(self) -> Tensor:
        """Targets as the gradient needs them: ``(c, m)``, or the second class alone, ``(m,)``."""
        if self.y.is_floating_point():
            return self.y.T.contiguous()
        if self.n_outputs == 2:
            return self.y.to(self.X.dtype)
        return functional.one_hot(self.y, self.n_outputs).T.to(self.X.dtype).contiguous()

    @cached_property
    def _scale(self) -> Tensor:
        """What the residual of every row is multiplied by. Float, shape ``()`` or ``(m,)``."""
        per_row = 2 / self.n_outputs if self.y.is_floating_point() else 1.0
        weight = self.X.new_ones(()) if self.weight is None else self.weight
        return weight * (per_row / len(self.X))

    def loss_gradient(self, scores: Tensor, *, out: Tensor) -> None:
        """Gradient of the mean cross-entropy or squared error of every network.

        Args:
            scores: Before softmax. Float, shape ``(B, c, m)``.
            out: Where to write it; of the same shape.
        """
        if self.y.is_floating_point():
            torch.sub(scores, self._target, out=out).mul_(self._scale)
        elif self.n_outputs == 2:  # softmax is a sigmoid of the difference
            second = torch.sub(scores[:, 1], scores[:, 0], out=out[:, 1]).sigmoid_()
            torch.neg(second.sub_(self._target).mul_(self._scale), out=out[:, 0])
        else:
            torch.ops.aten._softmax.out(scores, 1, False, out=out)
            out.sub_(self._target).mul_(self._scale)


class Batches:
    """The batch of every step: all rows up to 1,024 of them, else 512 of a shuffled epoch.

    Args:
        X: Float, shape ``(m, n)``.
        y: Classes, int64 ``(m,)``, or targets, float ``(m, c)``.
        weight: Of the rows, with mean 1, or None. Float, shape ``(m,)``.
        n_outputs: c.
        seed: Of the shuffling.
    """

    def __init__(
        self, X: Tensor, y: Tensor, *, weight: Tensor | None, n_outputs: int, seed: int
    ) -> None:
        self._all = Batch(X, y, weight, n_outputs)
        self._seed = seed
        self._epoch = -1
        self._order = torch.empty(0, dtype=torch.int64)

    @property
    def n_rows(self) -> int:
        """Rows of a batch."""
        n_rows = len(self._all.X)
        return n_rows if n_rows <= FULL_BATCH_ROWS else BATCH_ROWS

    def __getitem__(self, step: int) -> Batch:
        """The batch of a step, whichever was asked for before."""
        data = self._all
        if len(data.X) <= FULL_BATCH_ROWS:
            return data
        epoch, within = divmod(step, len(data.X) // BATCH_ROWS)
        if epoch != self._epoch:
            generator = generator_for(self._seed, "epoch", epoch)
            self._order = torch.randperm(len(data.X), generator=generator).to(data.X.device)
            self._epoch = epoch
        rows = self._order[within * BATCH_ROWS : (within + 1) * BATCH_ROWS]
        weight = None if data.weight is None else data.weight[rows]
        return Batch(data.X[rows], data.y[rows], weight, data.n_outputs)


def row_weights(
    y: Tensor,
    *,
    n_outputs: int,
    sample_weight: Tensor | None = None,
    class_weight: Sequence[float] | Literal["balanced"] | None = None,
) -> Tensor | None:
    """What every row counts for, with mean 1; None if all count the same.

    Args:
        y: Classes, int64 ``(m,)``, or targets, float ``(m, c)``.
        n_outputs: c.
        sample_weight: Of the rows, at least 0. Float, shape ``(m,)``.
        class_weight: Of the classes, c numbers; or ``"balanced"``.

    Raises:
        InputError: If weights are negative, all zero, or do not fit y.

    >>> row_weights(torch.tensor([0, 0, 0, 1]), n_outputs=2, class_weight="balanced")
    tensor([0.6667, 0.6667, 0.6667, 2.0000], dtype=torch.float64)
    """
    if sample_weight is None and class_weight is None:
        return None
    weight = torch.ones(len(y), dtype=torch.float64, device=y.device)
    if sample_weight is not None:
        weight = torch.as_tensor(sample_weight, dtype=torch.float64, device=y.device)
        if weight.shape != (len(y),):
            raise InputError(
                f"sample_weight must hold one number a row, {len(y)}; got {tuple(weight.shape)}."
            )
    if class_weight is not None:
        weight = weight * _class_weights(y, class_weight, n_outputs=n_outputs)[y]
    total = float(weight.sum())
    if not (math.isfinite(total) and total > 0 and bool((weight >= 0).all())):
        raise InputError("weights must be at least 0, and some above; got others.")
    return weight * (len(y) / total)


def _class_weights(
    y: Tensor, class_weight: Sequence[float] | Literal["balanced"], *, n_outputs: int
) -> Tensor:
    """Of every class. Float64, shape ``(c,)``."""
    if y.is_floating_point():
        raise InputError("class_weight needs classes; y holds targets.")
    if isinstance(class_weight, str):
        if class_weight != "balanced":
            raise InputError(f"class_weight must be numbers or 'balanced'; got {class_weight!r}.")
        return 1 / torch.bincount(y, minlength=n_outputs).clamp(min=1).double()
    weights = torch.as_tensor(class_weight, dtype=torch.float64, device=y.device)
    if weights.shape != (n_outputs,):
        raise InputError(
            f"class_weight must hold one number a class, {n_outputs}; got {tuple(weights.shape)}."
        )
    return weights
