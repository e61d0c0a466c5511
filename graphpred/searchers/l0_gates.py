"""L0 gates: dense networks whose edges learn, by gradient, whether to be there.

Every edge j has weight θ_j z_j with a hard-concrete gate z_j, which is 0 or 1 with a probability
above 0 and has a gradient between. With u uniform in (0, 1),

    s = σ((ln u − ln(1 − u) + ln α) / τ),   z = min(1, max(0, s (ζ − γ) + γ)),
    P(z ≠ 0) = σ(ln α − τ ln(−γ/ζ)),

τ = 2/3, γ = −0.1, ζ = 1.1. Minimised is L + λ/N Σ_j P(z_j ≠ 0), the expected number of open gates
being known in closed form. Without noise, z = min(1, max(0, σ(ln α)(ζ − γ) + γ)).

λ is steered: it rises in proportion to the excess while more gates are expected to be open than a
ceiling allows, and starts anew at 0 when that holds. The ceiling comes down from the dense network
to K along a cubic. In the end, at most K of the open gates are fixed as they are, those with the
largest α, the others are cut, and the network is trained on.

Sources: Louizos, Welling and Kingma, "Learning sparse neural networks through L0 regularization",
arXiv:1712.01312 (gates, τ, γ, ζ); Gallego-Posada et al., "Controlled sparsity via constrained
optimization", arXiv:2208.04425 (λ as the multiplier of a constraint, and that it starts anew).
Notation: N possible edges, B networks, c outputs, m rows of a batch, widths n_0 … n_t.

Ours, not theirs: a gate an edge and a free bias a neuron; drawn activations; the descent of the
ceiling; a gate's learning rate that lets it open and close in a training of a few dozen steps. One
network-step is one step of one network, with gates or without.
"""

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from graphpred.activations import ACTIVATIONS
from graphpred.architecture import Architecture
from graphpred.population import LEARNING_RATE, Population
from graphpred.population.batches import Batch
from graphpred.searchers.base import Setting
from graphpred.searchers.pruning import SparsifyingSearch
from graphpred.searchers.sparsified import strongest_subnetwork, task_batches
from graphpred.seeds import generator_for
from graphpred.task import Task
from graphpred.weights import Weights, initial_weights

TEMPERATURE, LOW, HIGH = 2 / 3, -0.1, 1.1
"""τ, γ and ζ."""


@dataclass(frozen=True, kw_only=True)
class Gating:
    """How gates are trained.

    Attributes:
        share: Of the steps, those with gates.
        log_alpha: Of every gate in the beginning, up to a little noise: nearly all are open.
        travel: How far ln α can move in that time, which gives its learning rate.
        steering: How much λ would rise in that time if twice the ceiling were open throughout.
        descent: Share of that time in which the ceiling comes down.
    """

    share: float = 0.5
    log_alpha: float = 2.0
    travel: float = 10.0
    steering: float = 20.0
    descent: float = 0.8

    def ceiling(self, progress: float, *, first: Tensor, last: Tensor) -> Tensor:
        """Gates that may be open when a share ``progress`` of the training with gates is over."""
        return last + (first - last) * (1 - min(1.0, progress / self.descent)) ** 3


def l0_gates_search(setting: Setting) -> SparsifyingSearch:
    """Dense networks that close the gates of their edges while they train."""
    return SparsifyingSearch(setting, sparsify=gated)


def gated(
    dense: Sequence[Architecture],
    task: Task,
    *,
    n_edges: Sequence[int],
    steps: int,
    seeds: Sequence[int],
    batch_seed: int,
    gating: Gating | None = None,
) -> Population:
    """Train dense networks with gates, and what the gates leave without; see ``Sparsify``."""
    gating = gating or Gating()
    n_gated = int(gating.share * steps)
    networks = GatedNetworks(dense, seeds=seeds, gating=gating)
    networks.train(task, ceilings=n_edges, steps=n_gated, batch_seed=batch_seed)
    kept = networks.cut(n_edges)
    population = Population([z for z, _ in kept], start=[weights for _, weights in kept])
    X, y = task.rows("train")
    return population.fit(X, y, steps=steps - n_gated, batch_seed=batch_seed)


def gates(log_alpha: Tensor, noise: Tensor) -> Tensor:
    """The gates z, given u in (0, 1) of the same shape."""
    logit = noise.log() - (-noise).log1p()
    return _stretched((logit + log_alpha) / TEMPERATURE)


def settled_gates(log_alpha: Tensor) -> Tensor:
    """What the gates z are without noise."""
    return _stretched(log_alpha)


def open_probability(log_alpha: Tensor) -> Tensor:
    """P(z ≠ 0)."""
    return torch.sigmoid(log_alpha - TEMPERATURE * math.log(-LOW / HIGH))


def _stretched(logit: Tensor) -> Tensor:
    return (torch.sigmoid(logit) * (HIGH - LOW) + LOW).clamp(0, 1)


class GatedNetworks:
    """B dense networks of the same widths with a gate an edge.

    Args:
        dense: The networks.
        seeds: Of starting weights and noise, one a network.
        gating: How they are trained.

    Attributes:
        edge: θ. Float, shape ``(B, N)``.
        bias: Of the neurons that are no inputs. Float, shape ``(B, n_1 + … + n_t)``.
        log_alpha: ln α. Float, shape ``(B, N)``.
    """

    def __init__(
        self, dense: Sequence[Architecture], *, seeds: Sequence[int], gating: Gating
    ) -> None:
        self._dense, self._gating = dense, gating
        self._generators = [generator_for(seed, "gates") for seed in seeds]
        fresh = [initial_weights(z, seed=own) for z, own in zip(dense, seeds, strict=True)]
        self.edge = torch.stack([weights.edge for weights in fresh])
        self.bias = torch.stack([weights.bias for weights in fresh])
        shape = self.edge.shape[1:]
        noise = torch.stack([torch.randn(shape, generator=g) for g in self._generators])
        self.log_alpha = gating.log_alpha + 0.01 * noise
        self._fire = [_Firing(dense, layer=k) for k in range(1, dense[0].n_layers + 1)]

    def train(self, task: Task, *, ceilings: Sequence[int], steps: int, batch_seed: int) -> None:
        """Adam on weights and gates; ``ceilings``: gates that may be open in the end."""
        rate = self._gating.travel / max(1, steps)
        groups: list[dict[str, Any]] = [
            {"params": [self.edge, self.bias]},
            {"params": [self.log_alpha], "lr": rate},
        ]
        for parameter in (self.edge, self.bias, self.log_alpha):
            parameter.requires_grad_()
        optimiser = torch.optim.Adam(groups)
        last = torch.tensor(ceilings, dtype=torch.float32)  # (B,)
        first = self.expected_open().detach()
        price = torch.zeros_like(last)  # λ
        batches = task_batches(task, seed=batch_seed)
        for step in range(steps):
            optimiser.param_groups[0]["lr"] = _cosine(step, total=steps)
            optimiser.zero_grad()
            penalty = price * self.expected_open() / self.edge.shape[1]  # (B,)
            (self.losses(batches[step]) + penalty).sum().backward()
            optimiser.step()
            ceiling = self._gating.ceiling((step + 1) / steps, first=first, last=last)
            excess = self.expected_open().detach() / ceiling - 1
            price = torch.where(excess > 0, price + self._gating.steering / steps * excess, 0.0)
        for parameter in (self.edge, self.bias, self.log_alpha):
            parameter.requires_grad_(False)

    def expected_open(self) -> Tensor:
        """Expected number of open gates. Float, shape ``(B,)``."""
        return open_probability(self.log_alpha).sum(dim=1)

    def losses(self, batch: Batch) -> Tensor:
        """Mean cross-entropy or squared error with gates drawn anew. Float, shape ``(B,)``."""
        shape = self.edge.shape[1:]
        noise = torch.stack([torch.rand(shape, generator=g) for g in self._generators])
        inside = noise.clamp(1e-6, 1 - 1e-6)  # (B, N)
        scores = self.scores(batch.X, self.edge * gates(self.log_alpha, inside))  # (B, c, m)
        if batch.y.is_floating_point():
            return (scores - batch.y.T).square().mean(dim=(1, 2))
        target = batch.y.expand(len(scores), -1)
        return functional.cross_entropy(scores, target, reduction="none").mean(dim=1)

    def scores(self, X: Tensor, edge: Tensor) -> Tensor:
        """Outputs before softmax.

        Args:
            X: Float, shape ``(m, n)``.
            edge: Weights of all edges, gates included. Float, shape ``(B, N)``.

        Returns:
            Float, shape ``(B, c, m)``.
        """
        shapes = list(itertools.pairwise(self._dense[0].widths))
        edges = edge.split([a * b for a, b in shapes], dim=1)
        biases = self.bias.split([b for _, b in shapes], dim=1)
        values = X.T.expand(len(edge), -1, -1)  # (B, n, m)
        for (a, b), into, bias, fire in zip(shapes, edges, biases, self._fire, strict=True):
            weight = into.view(-1, a, b).transpose(1, 2)  # (B, n_k, n_{k-1})
            values = fire(torch.baddbmm(bias.unsqueeze(2), weight, values))  # (B, n_k, m)
        return values

    def cut(self, ceilings: Sequence[int]) -> list[tuple[Architecture, Weights]]:
        """The live edges with the largest α, as many as are open, within a ceiling a network.

        One path at least is left, whether open or not.
        """
        kept = []
        settled = settled_gates(self.log_alpha)
        n_open = (settled > 0).sum(dim=1).tolist()
        for i, (z, ceiling) in enumerate(zip(self._dense, ceilings, strict=True)):
            n_edges = max(z.n_layers, min(ceiling, n_open[i]))
            smaller, positions = strongest_subnetwork(z, self.log_alpha[i], n_edges=n_edges)
            edge = (self.edge[i] * settled[i])[positions]
            kept.append((smaller, Weights(edge=edge, bias=self.bias[i])))
        return kept


class _Firing:
    """Applies the activation of every neuron of one layer of all networks."""

    def __init__(self, networks: Sequence[Architecture], *, layer: int) -> None:
        classes = torch.cat([z.activation[z.layer == layer] for z in networks])  # (B * n_k,)
        self._order = classes.argsort(stable=True)
        self._back = self._order.argsort()
        values, counts = classes.unique(return_counts=True)
        self._functions = [ACTIVATIONS[index].function for index in values.tolist()]
        self._sizes = counts.tolist()

    def __call__(self, sums: Tensor) -> Tensor:
        """Float, shape ``(B, n_k, m)``, both before and after."""
        parts = sums.flatten(0, 1)[self._order].split(self._sizes)
        fired = [f(part) for f, part in zip(self._functions, parts, strict=True)]
        return torch.cat(fired)[self._back].view(sums.shape)


def _cosine(step: int, *, total: int) -> float:
    """The weights' learning rate at a step."""
    return LEARNING_RATE / 2 * (1 + math.cos(math.pi * step / total))
