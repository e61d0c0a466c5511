"""The objective 𝔏(Z) = L(y, f_Z(X)) + g(K), and the paper's closeness of architectures.

Notation: L a loss to minimise, g an increasing function of the number of edges K, by default
C·K; λ = C·N the price, C without the size of the space (Kalugin, Bakhteev and Strijov, 2018;
their accuracy becomes an error, so that 𝔏 is minimised throughout).
Losses are computed for B networks at once; scores are what a network puts out before softmax.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional

from graphpred.errors import InputError

Kind = Literal["classification", "regression"]
Weight = Tensor | None
Loss = Callable[[Tensor, Tensor, Weight], Tensor]
"""From scores ``(B, c, m)``, y, int64 ``(m,)`` or float ``(m, c)``, and what every row counts for,
float64 ``(m,)`` or None, to losses ``(B,)``."""


def _mean(values: Tensor, weight: Weight) -> Tensor:
    """Mean over the rows, which are last; exact ties stay ties without weights."""
    return values.mean(dim=-1) if weight is None else values @ weight / weight.sum()


def error(scores: Tensor, y: Tensor, weight: Weight = None) -> Tensor:
    """1 − accuracy."""
    return _mean((scores.argmax(dim=1) != y).double(), weight)


def balanced_error(scores: Tensor, y: Tensor, weight: Weight = None) -> Tensor:
    """1 − mean recall over the classes that occur in ``y``."""
    wrong = (scores.argmax(dim=1) != y).double()  # (B, m)
    if weight is not None:
        wrong = wrong * weight
    totals = torch.bincount(y, weights=weight).double()  # (c,)
    per_class = torch.zeros(len(scores), len(totals), dtype=torch.float64, device=scores.device)
    per_class.index_add_(1, y, wrong)
    present = totals > 0
    return (per_class[:, present] / totals[present]).mean(dim=1)


def auc_error(scores: Tensor, y: Tensor, weight: Weight = None) -> Tensor:
    """1 − area under the ROC curve; with several classes the mean of one-versus-rest areas."""
    if weight is None:
        weight = torch.ones(len(y), dtype=torch.float64, device=y.device)
    probability = scores.double().softmax(dim=1)  # (B, c, m)
    n_classes = scores.shape[1]
    errors = []
    for k in range(1, 2) if n_classes == 2 else range(n_classes):
        positive, negative = weight * (y == k), weight * (y != k)  # (m,)
        if positive.sum() > 0 and negative.sum() > 0:
            below = _weight_below(probability[:, k], negative)  # (B, m)
            errors.append(1 - below @ positive / (positive.sum() * negative.sum()))
    if not errors:
        raise InputError("1 - ROC AUC needs rows of two classes or more; got rows of one.")
    return torch.stack(errors).mean(dim=0)


def _weight_below(values: Tensor, weight: Tensor) -> Tensor:
    """Weight of the rows with lesser values, and half of that with equal ones. ``(B, m)``."""
    ordered, order = values.sort(dim=-1)
    before = functional.pad(weight[order].cumsum(dim=-1), (1, 0))  # (B, m + 1)
    first = torch.searchsorted(ordered, ordered, side="left")
    last = torch.searchsorted(ordered, ordered, side="right")
    middle = (before.gather(-1, first) + before.gather(-1, last)) / 2
    return torch.empty_like(values).scatter_(-1, order, middle)


def log_loss(scores: Tensor, y: Tensor, weight: Weight = None) -> Tensor:
    """Mean cross-entropy, in nats."""
    target = y.expand(len(scores), -1)
    return _mean(functional.cross_entropy(scores.double(), target, reduction="none"), weight)


def mse(scores: Tensor, y: Tensor, weight: Weight = None) -> Tensor:
    """Mean squared error, in squared units of ``y``."""
    return _mean((scores.double() - y.T.double()).square(), weight).mean(dim=1)


def mae(scores: Tensor, y: Tensor, weight: Weight = None) -> Tensor:
    """Mean absolute error, in units of ``y``."""
    return _mean((scores.double() - y.T.double()).abs(), weight).mean(dim=1)


def unexplained(scores: Tensor, y: Tensor, weight: Weight = None) -> Tensor:
    """1 − R², averaged over the outputs; a constant output in ``y`` counts with variance 1."""
    y = y.T.double()  # (c, m)
    residual = _mean((scores.double() - y).square(), weight)  # (B, c)
    deviation = (y - _mean(y, weight)[:, None]).square()
    variance = _mean(deviation, weight)  # (c,), for a constant perhaps a rounding error
    constant = (y == y[:, :1]).all(dim=1)  # (c,)
    return (residual / torch.where(constant, torch.ones_like(variance), variance)).mean(dim=1)


LOSSES: dict[str, tuple[Loss, Kind]] = {
    "error": (error, "classification"),
    "balanced_error": (balanced_error, "classification"),
    "auc_error": (auc_error, "classification"),
    "log_loss": (log_loss, "classification"),
    "mse": (mse, "regression"),
    "mae": (mae, "regression"),
    "unexplained": (unexplained, "regression"),
}
"""Every loss L by name, with the kind of task it is for; ``unexplained`` is 1 − R²."""


def default_loss(kind: Kind) -> str:
    """The loss used when none is named: ``error``, or ``unexplained`` (1 − R²)."""
    return "error" if kind == "classification" else "unexplained"


@dataclass(frozen=True, kw_only=True)
class Objective:
    """𝔏 = L + g(K), to be minimised.

    Attributes:
        loss: Name of L, a key of ``LOSSES``.
        penalty: C, the price of one edge in units of L, for g(K) = C·K; or g itself, any
            function of the number of edges that never decreases.

    Raises:
        InputError: If the loss is unknown, C is negative or g decreases somewhere.

    >>> objective = Objective(loss="error", penalty=0.01)
    >>> scores = torch.tensor([[[2.0, 0.0], [1.0, 3.0]]])  # one network, two classes, two rows
    >>> objective.value(scores, torch.tensor([0, 0]), n_edges=[4])
    tensor([0.5400], dtype=torch.float64)
    """

    loss: str = "error"
    penalty: float | Callable[[int], float] = 0.0

    def __post_init__(self) -> None:
        if self.loss not in LOSSES:
            raise InputError(f"loss must be one of {', '.join(LOSSES)}; got {self.loss!r}.")
        if callable(self.penalty):
            _check_increasing(self.penalty)
        elif not (math.isfinite(self.penalty) and self.penalty >= 0):
            raise InputError(f"penalty must be a number of at least 0; got {self.penalty}.")

    @property
    def kind(self) -> Kind:
        """The kind of task that the loss is for."""
        return LOSSES[self.loss][1]

    def losses(self, scores: Tensor, y: Tensor, *, weight: Weight = None) -> Tensor:
        """L of B networks; a network with scores that are not finite has loss ∞.

        Args:
            scores: Outputs before softmax. Float, shape ``(B, c, m)``.
            y: Classes, int64 of shape ``(m,)``, or targets, float of shape ``(m, c)``.
            weight: What every row counts for, at least 0; by default all the same.
                Float, shape ``(m,)``.

        Returns:
            Float64, shape ``(B,)``.
        """
        weight = _checked_weight(weight, n_rows=len(y), device=scores.device)
        finite = scores.isfinite().all(dim=2).all(dim=1)  # (B,)
        safe = torch.where(finite[:, None, None], scores, torch.zeros_like(scores))
        values = LOSSES[self.loss][0](safe, y, weight)
        return torch.where(finite, values, torch.full_like(values, math.inf))

    def cost(self, n_edges: int) -> float:
        """g(K); ∞ if it is too large for a float."""
        if not callable(self.penalty):
            return float(self.penalty * n_edges)
        try:
            return float(self.penalty(n_edges))
        except OverflowError:
            return math.inf

    def value(self, scores: Tensor, y: Tensor, *, n_edges: list[int]) -> Tensor:
        """𝔏 of B networks with the given numbers of edges. Float64, shape ``(B,)``."""
        costs = torch.tensor([self.cost(k) for k in n_edges], dtype=torch.float64)
        return self.losses(scores, y) + costs.to(scores.device)


def _checked_weight(weight: Weight, *, n_rows: int, device: torch.device) -> Weight:
    if weight is None:
        return None
    weight = weight.to(device, torch.float64)
    total = float(weight.sum())
    if weight.shape != (n_rows,) or not (bool((weight >= 0).all()) and 0 < total < math.inf):
        raise InputError(
            f"weights must be {n_rows} numbers of at least 0, some above; "
            f"got shape {tuple(weight.shape)} with sum {total}."
        )
    return weight


def _check_increasing(g: Callable[[int], float]) -> None:
    points = sorted({*range(65), *(2**power for power in range(6, 25))})
    before, least = 0, -math.inf
    for k in points:
        try:
            value = float(g(k))
        except OverflowError:  # it grows beyond what a float holds
            return
        except (TypeError, ValueError) as error:
            raise InputError(f"penalty must give a number for {k} edges: {error}.") from error
        endless = math.isinf(value) and k <= 64  # larger numbers may be too large for a float
        if not value >= least or endless:
            raise InputError(
                "penalty must not decrease with the number of edges; "
                f"g({before}) = {least}, g({k}) = {value}."
            )
        before, least = k, value
