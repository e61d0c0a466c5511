"""A block of networks that train together, in a fixed number of operations a step."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from graphpred.architecture import Architecture
from graphpred.population.batches import Batches
from graphpred.population.layout import block_layout
from graphpred.population.passes import Passes

BETA_1, BETA_2, EPSILON = 0.9, 0.999, 1e-8


@dataclass(frozen=True, kw_only=True)
class Schedule:
    """Steps ``start`` to ``stop`` of a training that takes ``total``, or would.

    The learning rate falls from ``rate`` at step 0 to zero at ``total``, along half a cosine.
    """

    start: int
    stop: int
    total: int
    rate: float

    def rate_at(self, step: int) -> float:
        """Learning rate of a step."""
        return self.rate * 0.5 * (1 + math.cos(math.pi * step / self.total))


class Block:
    """B networks, without their dead parts: forward pass and training.

    A *state* has three rows, weights and Adam's two moments, and a column for every edge of the
    networks, one network after the other, and then for every bias likewise.

    Args:
        networks: Architectures of the same inputs, outputs and number of layers.
        state: Of training so far; or the weights alone, and the moments are zero.
            Float, shape ``(3, n_edges + n_biases)`` or ``(1, …)``.
        bias: Whether neurons have biases.
    """

    def __init__(self, networks: Sequence[Architecture], state: Tensor, *, bias: bool) -> None:
        self.layout = block_layout(networks, bias=bias, device=state.device)
        self._n_columns = state.shape[1]
        compact = state.new_zeros(3, len(self.layout.place))
        compact[: len(state)] = state[:, self.layout.place]
        self._parameters, self._mean, self._square = compact.unbind()
        self._gradient = torch.zeros_like(self._parameters)
        self._passes = Passes(
            self.layout,
            n_outputs=networks[0].widths[-1],
            parameters=self._parameters,
            gradient=self._gradient,
        )

    @property
    def state(self) -> Tensor:
        """The present state; zeros for dead parts."""
        state = self._parameters.new_zeros(3, self._n_columns)
        state[:, self.layout.place] = torch.stack([self._parameters, self._mean, self._square])
        return state

    def scores(self, X: Tensor) -> Tensor:
        """Outputs of all networks before softmax.

        Args:
            X: Float, shape ``(m, n)``.

        Returns:
            Float, shape ``(B, c, m)``; a buffer that the next call overwrites.
        """
        self._passes.read(X)
        return self._passes.forward()

    def gradient(self, batches: Batches, *, step: int) -> Tensor:
        """Gradient of the summed training losses on a batch, one number a parameter."""
        batch = batches[step]
        scores = self.scores(batch.X)
        batch.loss_gradient(scores, out=self._passes.residual)
        self._passes.backward()
        return self._gradient

    @torch.no_grad()
    def train(self, batches: Batches, *, schedule: Schedule) -> None:
        """Adam on cross-entropy or squared error, from the present state."""
        done = self._parameters.new_tensor(float(schedule.start))  # steps, as Adam counts them
        for step in range(schedule.start, schedule.stop):
            gradient = self.gradient(batches, step=step)
            done += 1
            torch._fused_adam_(
                [self._parameters],
                [gradient],
                [self._mean],
                [self._square],
                [],
                [done],
                lr=schedule.rate_at(step),
                beta1=BETA_1,
                beta2=BETA_2,
                weight_decay=0.0,
                eps=EPSILON,
                amsgrad=False,
                maximize=False,
            )
