"""The loss that sparse networks are fitted by, and its derivatives by the scores.

Cross-entropy of classes; of standardised quantities half the squared error, linear beyond an error
of 3. Notation: q rows, c outputs.
"""

import torch
from torch import Tensor
from torch.nn import functional

HUBER = 3.0
"""Errors of standardised quantities count linearly from here."""


def data_loss(scores: Tensor, y: Tensor, *, is_regression: bool) -> float:
    """Sum over the rows; scores and y ``(c, q)``."""
    if is_regression:
        return float(functional.huber_loss(scores, y, delta=HUBER, reduction="sum"))
    return float(-(torch.log_softmax(scores, dim=0) * y).sum())


def errors(scores: Tensor, y: Tensor, *, is_regression: bool) -> tuple[Tensor, Tensor]:
    """The loss's gradient by the scores, and what its curvature depends on; ``(c, q)`` each.

    The latter is the share of every class, or how much of an outlier counts.
    """
    if not is_regression:
        share = torch.softmax(scores, dim=0)
        return share - y, share
    error = scores - y
    counted = HUBER / error.abs().clamp(min=HUBER)
    return error * counted, counted


def roots(weight: Tensor, *, is_regression: bool) -> Tensor:
    """Roots of the loss's curvature in every row: d combinations of c outputs. ``(c, d, r)``.

    That of classes is the covariance of a draw, diag(p) − ppᵀ, of which Tanabe and Sagae (1992)
    give Cholesky's factor; its last column is 0.
    """
    if is_regression:
        return torch.diag_embed(weight.sqrt().T).permute(1, 2, 0)
    share = weight.clamp(min=1e-6)
    left = share.flip(0).cumsum(dim=0).flip(0)  # (c, r): of a class and all after it
    own, after = left[:-1], left[1:]  # (c - 1, r)
    below = -share.unsqueeze(1) * (share[:-1] / (own * after)).sqrt()  # (c, c - 1, r)
    factor = below.permute(2, 0, 1).tril(-1).permute(1, 2, 0).contiguous()
    factor[:-1].diagonal().copy_((share[:-1] * after / own).sqrt().T)
    return factor
