"""A block of networks that train together in a handful of dense operations."""

import math
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from graphpred.activations import ACTIVATIONS
from graphpred.architecture import Architecture
from graphpred.population.layout import Layer, block_layout
from graphpred.weights import Weights

BETA_1, BETA_2, EPSILON = 0.9, 0.999, 1e-8


class Block:
    """B networks without dead neurons: forward pass and training.

    Args:
        networks: Architectures of the same inputs, outputs and number of layers.
        weights: Starting weights, one a network.
        device: Where to compute.
        dtype: Floating type of weights and arithmetic.
    """

    def __init__(
        self,
        networks: Sequence[Architecture],
        weights: Sequence[Weights],
        *,
        device: torch.device,
        dtype: torch.dtype,
    ) -> None:
        self.layout = block_layout(networks, device=device)
        # Training moves this compact vector; `_flat` holds the same numbers in their dense places.
        self._parameters = torch.cat([*(w.edge for w in weights), *(w.bias for w in weights)]).to(
            device=device, dtype=dtype
        )
        self._flat = torch.zeros(self.layout.size, device=device, dtype=dtype)
        self._gradient = torch.zeros_like(self._flat)
        self._flat[self.layout.position] = self._parameters
        self._links = [self._leaf(link.offset, link.shape) for link in self.layout.links]
        self._biases = [
            self._leaf(layer.bias_offset, (layer.n_rows, 1)) for layer in self.layout.layers
        ]

    def _leaf(self, offset: int, shape: tuple[int, ...]) -> Tensor:
        """A view of the flat buffer whose gradient is a view of the flat gradient."""
        stop = offset + math.prod(shape)
        leaf = self._flat[offset:stop].view(shape).requires_grad_()
        leaf.grad = self._gradient[offset:stop].view(shape)
        return leaf

    def scores(self, inputs: Tensor) -> Tensor:
        """Outputs of all networks before softmax.

        Args:
            inputs: X^T. Float, shape ``(n, m)``.

        Returns:
            Float, shape ``(B, c, m)``.
        """
        by_network: list[Tensor] = []  # per layer (B, H_k, m)
        n_links = 0
        for k, layer in enumerate(self.layout.layers, start=1):
            z = self._biases[k - 1].expand(-1, inputs.shape[1])  # (R_k, m)
            for link in self.layout.links[n_links:]:
                if link.target != k:
                    break
                weight = self._links[n_links]
                if link.source == 0:
                    z = torch.addmm(z, weight, inputs)
                else:
                    product = torch.bmm(weight, by_network[link.source - 1])  # (B, H_k, m)
                    z = z + _rows(product, layer)
                n_links += 1
            by_network.append(_by_network(_activate(z, layer), layer))
        return by_network[-1]

    def train(
        self, batches: Iterator[tuple[Tensor, Tensor]], *, steps: int, learning_rate: float
    ) -> None:
        """Adam with cosine decay on cross-entropy or squared error.

        Args:
            batches: X^T ``(n, m)`` with classes, int64 ``(m,)``, or targets, float ``(m, c)``.
            steps: Number of steps.
            learning_rate: Of the first step; it decays to zero along half a cosine.
        """
        position, parameters = self.layout.position, self._parameters
        mean, square = torch.zeros_like(parameters), torch.zeros_like(parameters)
        for step in range(steps):
            inputs, y = next(batches)
            self._gradient.zero_()
            training_loss(self.scores(inputs), y).sum().backward()
            gradient = self._gradient[position]
            mean.lerp_(gradient, 1 - BETA_1)
            square.mul_(BETA_2).addcmul_(gradient, gradient, value=1 - BETA_2)
            rate = learning_rate * 0.5 * (1 + math.cos(math.pi * step / steps))
            scale = math.sqrt(1 - BETA_2 ** (step + 1))
            parameters.addcdiv_(
                mean,
                square.sqrt().div_(scale).add_(EPSILON),
                value=-rate / (1 - BETA_1 ** (step + 1)),
            )
            self._flat[position] = parameters

    def weights(self) -> list[Weights]:
        """Present weights of every network, on the CPU, float32 or as trained in float64."""
        n_edges, n_biases = self.layout.edge_counts, self.layout.bias_counts
        parts = self._parameters.cpu().split([*n_edges, *n_biases])
        edges, biases = parts[: len(n_edges)], parts[len(n_edges) :]
        return [
            Weights(edge=edge.clone(), bias=bias.clone())
            for edge, bias in zip(edges, biases, strict=True)
        ]


def training_loss(scores: Tensor, y: Tensor) -> Tensor:
    """Mean cross-entropy (nats) or squared error per network. Float, shape ``(B,)``."""
    if y.is_floating_point():
        return (scores - y.T).square().mean(dim=(1, 2))
    target = y.expand(len(scores), -1)
    return functional.cross_entropy(scores, target, reduction="none").mean(dim=1)


def _activate(z: Tensor, layer: Layer) -> Tensor:
    """Every activation class once, on its own rows. Float, shape ``(R_k, m)``."""
    if len(layer.segments) == 1:
        return ACTIVATIONS[layer.segments[0][0]].function(z)
    pieces = z.split([n_rows for _, n_rows in layer.segments])
    return torch.cat(
        [
            ACTIVATIONS[index].function(piece)
            for (index, _), piece in zip(layer.segments, pieces, strict=True)
        ]
    )


def _by_network(rows: Tensor, layer: Layer) -> Tensor:
    """From rows by activation class, ``(R_k, m)``, to rows by network, ``(B, H_k, m)``."""
    if not layer.in_order:
        rows = _move(rows, index=layer.padded, inverse=layer.place)
    return rows.view(-1, layer.width, rows.shape[1])


def _rows(by_network: Tensor, layer: Layer) -> Tensor:
    """The way back: ``(B, H_k, m)`` to ``(R_k, m)``."""
    flat = by_network.flatten(0, 1)  # (B * H_k, m)
    return flat if layer.in_order else _move(flat, index=layer.place, inverse=layer.padded)


def _move(rows: Tensor, *, index: Tensor, inverse: Tensor) -> Tensor:
    moved: Tensor = _Move.apply(rows, index, inverse)  # type: ignore[no-untyped-call]
    return moved


class _Move(torch.autograd.Function):
    """Gather rows by one index; gather their gradients by the inverse index.

    Padded places repeat a row, but their weights are zero, so their gradient is zero going one way
    and their weights are never moved by it going the other: the inverse may pass over them.
    """

    @staticmethod
    def forward(ctx: Any, rows: Tensor, index: Tensor, inverse: Tensor) -> Tensor:
        ctx.save_for_backward(inverse)
        return rows.index_select(0, index)

    @staticmethod
    def backward(ctx: Any, *gradient: Tensor) -> tuple[Tensor, None, None]:
        return gradient[0].index_select(0, ctx.saved_tensors[0]), None, None
