"""Closed-form weights to the outputs, when the hidden neurons and all edges are given.

Notation: q rows, n features, h hidden neurons, c outputs.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from graphpred.meta.feedback import Hidden, Rows, errors, lower_factor
from graphpred.meta.samples import RowSample

_STEPS = 8
_RIDGE = (0.5, 0.02)  # per edge and row, and always


@dataclass(frozen=True, eq=False, kw_only=True)
class Readout:
    """The last layer of a network.

    Attributes:
        weight: Float, shape ``(h, c)``.
        bias: Float, shape ``(c,)``.
        loss: Of the network on the sample: squared error, or cross-entropy over log c.
    """

    weight: Tensor
    bias: Tensor
    loss: float


@torch.no_grad()
def fitted_readout(
    sample: RowSample,
    *,
    into: Tensor,
    hidden_bias: Tensor,
    classes: Tensor,
    mask: Tensor,
    out: Tensor,
    output_bias: Tensor,
) -> Readout:
    """Ridge or logistic regression of the outputs on the hidden neurons that reach them.

    Newton's steps with the fixed curvature of Böhning (1992); for quantities the first is exact.

    Args:
        sample: Rows.
        into: Weights from features. Float, shape ``(n, h)``.
        hidden_bias: Float, shape ``(h,)``.
        classes: Registry indices of the activations. Int64, shape ``(h,)``.
        mask: Edges to outputs. Bool, shape ``(h, c)``.
        out: Their weights to begin with. Float, shape ``(h, c)``.
        output_bias: Float, shape ``(c,)``.
    """
    rows = Rows.of([sample], device=into.device)
    hidden = Hidden.of(rows, weight=into[None], bias=hidden_bias[None], classes=classes[None])
    value = (hidden.value / hidden.deviation.unsqueeze(2))[0]  # (h, q)
    deviation, mean = hidden.deviation[0].unsqueeze(1), hidden.mean[0]  # (h, 1), (h,)
    y, curvature, q = rows.y[0], rows.curvature[0], value.shape[1]
    edge = mask.to(value)  # (h, c)
    v, bias = out * edge * deviation, output_bias + mean @ (out * edge)
    ridge = _RIDGE[0] * edge.sum(dim=0) / q + _RIDGE[1]  # (c,)
    covariance = hidden.covariance[0] / (deviation * deviation.T)
    inverse = _inverses(covariance, edge=edge, ridge=ridge)  # (c, h, h)
    length = 1.0 if sample.is_regression else (0.5 if len(y) == 2 else 0.7)
    for _ in range(_STEPS):
        error, _ = errors(rows, (v.T @ value + bias.unsqueeze(1))[None])  # (1, c, q)
        gradient = (value @ error[0].T / q / curvature + ridge * v) * edge
        v = v - length * torch.einsum("kij,jk->ik", inverse, gradient) * edge
        bias = bias - length * error[0].mean(dim=1) / curvature
    _, loss = errors(rows, (v.T @ value + bias.unsqueeze(1))[None])
    v = v / deviation
    return Readout(weight=v, bias=bias - mean @ v, loss=float(loss))


def _inverses(covariance: Tensor, *, edge: Tensor, ridge: Tensor) -> Tensor:
    """Of the covariance of those neurons that reach an output, for every output. ``(c, h, h)``."""
    reach = edge.T  # (c, h)
    own = covariance * reach.unsqueeze(2) * reach.unsqueeze(1)
    return torch.cholesky_inverse(
        lower_factor(own + torch.diag_embed(1 - reach + ridge.unsqueeze(1)))
    )
