"""The convex step of AdaNet: the mixture weights w that minimise F, by proximal gradient.

F(w, b) = Φ(Σ_j w_j h_j + b) + Σ_j Γ_j |w_j|, where the outputs h_j are given, b is a free bias and
Φ is the mean cross-entropy or squared error, the loss that networks are trained with.
After a gradient step of length s, every w_j is drawn towards zero by s·Γ_j and stops there (soft
threshold). The outputs are centred and scaled first, which changes nothing but the speed: the bias
takes up the means, and all of a constant; Γ_j shrinks as w_j grows.
Momentum as in FISTA (Beck and Teboulle, "A fast iterative shrinkage-thresholding algorithm for
linear inverse problems", 2009), given up when it points uphill (O'Donoghue and Candès, "Adaptive
restart for accelerated gradient schemes", 2015).

Notation: m rows, p mixed outputs, c classes or targets. A *vector* of weights mixes units, each of
which leads to every score with a weight of its own; *scalars* mix subnetworks that have scores.
"""

import math
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor
from torch.nn import functional

TOLERANCE = 1e-9
"""Change of the scaled weights below which nothing is left to gain."""
ROUNDING = 1e-7
"""Deviation of an output, in units of its largest value, below which it is a constant."""


@dataclass(frozen=True, eq=False, kw_only=True)
class Mixture:
    """F on given outputs.

    Attributes:
        outputs: Of units, float64 ``(m, p)``, with weights ``(p, c)``; or scores of subnetworks,
            float64 ``(m, p, c)``, with weights ``(p,)``.
        y: Classes, int64 ``(m,)``, or targets, float ``(m, c)``.
        gamma: Γ, of the shape of the weights; ∞ for weights that must stay zero.
    """

    outputs: Tensor
    y: Tensor
    gamma: Tensor

    def scores(self, weight: Tensor, bias: Tensor) -> Tensor:
        """Float64, shape ``(m, c)``."""
        return self._mixed(self.outputs, weight) + bias

    def value(self, weight: Tensor, bias: Tensor) -> float:
        """F."""
        scores = self.scores(weight, bias)
        if self.y.is_floating_point():
            loss = functional.mse_loss(scores, self.y.double())
        else:
            loss = functional.cross_entropy(scores, self.y)
        used = weight != 0
        return float(loss + (self.gamma[used] * weight[used].abs()).sum())

    def minimised(self, weight: Tensor, bias: Tensor, *, steps: int) -> tuple[Tensor, Tensor]:
        """Weights and bias after some steps from given ones; those themselves if F did not fall."""
        scale = self._scale.reshape(-1, *[1] * (weight.dim() - 1))  # of every weight
        threshold = self._step * torch.where(self.gamma < math.inf, self.gamma / scale, math.inf)
        w = torch.where(scale < math.inf, weight * scale, 0.0)  # of scaled outputs, as is b
        b = bias + self._mixed(self._centre, weight)
        ahead_w, ahead_b, momentum = w, b, 1.0
        for _ in range(steps):
            residual = self._residual(self._mixed(self._scaled, ahead_w) + ahead_b)  # (m, c)
            pushed = ahead_w - self._step * self._gathered(residual)
            new_w = pushed.sign() * (pushed.abs() - threshold).clamp(min=0)
            new_b = ahead_b - self._step * residual.sum(dim=0)
            uphill = ((ahead_w - new_w) * (new_w - w)).sum() + (
                (ahead_b - new_b) * (new_b - b)
            ).sum()
            if uphill > 0:
                momentum = 1.0
            following = (1 + math.sqrt(1 + 4 * momentum**2)) / 2
            pull, momentum = (momentum - 1) / following, following
            moved = max(_largest(new_w - ahead_w), _largest(new_b - ahead_b))
            ahead_w, ahead_b = new_w + pull * (new_w - w), new_b + pull * (new_b - b)
            w, b = new_w, new_b
            if moved < TOLERANCE:
                break
        found = w / scale
        free = b - self._mixed(self._centre, found)
        improved = self.value(found, free) < self.value(weight, bias)
        return (found, free) if improved else (weight, bias)

    def _mixed(self, outputs: Tensor, weight: Tensor) -> Tensor:
        terms = "...p,pc->...c" if weight.dim() == 2 else "...pc,p->...c"
        return torch.einsum(terms, outputs, weight)

    def _gathered(self, residual: Tensor) -> Tensor:
        """Gradient of the weights of scaled outputs, given that of the scores, ``(m, c)``."""
        terms = "mp,mc->pc" if self.outputs.dim() == 2 else "mpc,mc->p"
        return torch.einsum(terms, self._scaled, residual)

    def _residual(self, scores: Tensor) -> Tensor:
        """Gradient of Φ. Float64, shape ``(m, c)``."""
        if self.y.is_floating_point():
            return (scores - self.y) * (2 / scores.numel())
        wanted = functional.one_hot(self.y, scores.shape[1])
        return (scores.softmax(dim=1) - wanted) / len(scores)

    @cached_property
    def _centre(self) -> Tensor:
        return self.outputs.mean(dim=0)

    @cached_property
    def _scale(self) -> Tensor:
        """Deviation of every mixed output; ∞ for a constant. Float64, shape ``(p,)``."""
        rows = 0 if self.outputs.dim() == 2 else (0, 2)
        deviation = (self.outputs - self._centre).square().mean(dim=rows).sqrt()
        largest = self.outputs.abs().amax(dim=rows)
        return torch.where(deviation > ROUNDING * largest, deviation, math.inf)

    @cached_property
    def _scaled(self) -> Tensor:
        scale = self._scale.unsqueeze(-1) if self.outputs.dim() == 3 else self._scale
        return (self.outputs - self._centre) / scale

    @cached_property
    def _step(self) -> float:
        """One over a bound of the curvature of Φ: of softmax at most 1/2, of the square 2/c."""
        curvature = 2 / self.y.shape[1] if self.y.is_floating_point() else 0.5
        flat = self._scaled.movedim(1, -1).flatten(end_dim=-2)  # (m or m·c, p)
        largest = float(torch.linalg.matrix_norm(flat, ord=2)) if flat.numel() else 0.0
        return 1 / (curvature * max(1.0, largest**2 / len(self.y)))


def _largest(change: Tensor) -> float:
    return float(change.abs().max()) if change.numel() else 0.0
