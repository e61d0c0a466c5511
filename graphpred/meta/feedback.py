"""What the rows say of networks: how they err, and which way every weight should go.

Notation: G data sets of one shape and kind; q rows, n features, h hidden neurons, c outputs. All
curvatures are those of Gauss and Newton with the output's own taken as fixed: p(1 − p) for a class
of share p, as in Böhning's bound of the logistic loss (1992), and 1 for a quantity.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from graphpred.activations import ACTIVATIONS
from graphpred.meta.samples import RowSample

_LEAST_CURVATURE = 0.02  # of an output
_LEAST_VARIANCE = 1e-4  # of a hidden neuron
_ERROR_LIMIT = 3.0  # of a quantity; larger errors count like it
_FEATURE_RIDGE = 0.1
_HIDDEN_RIDGE = 0.05


@dataclass(frozen=True, eq=False, kw_only=True)
class Rows:
    """Samples of the rows of data sets, side by side.

    Attributes:
        X: Float, shape ``(G, n, q)``; 0 in rows that are no rows.
        y: Indicators of classes, or targets. Float, shape ``(G, c, q)``.
        weight: 1 / q in rows, 0 in what pads a shorter sample. Float, shape ``(G, 1, q)``.
        n_rows: q of every data set. Float, shape ``(G, 1)``.
        curvature: Of every output. Float, shape ``(G, c)``.
        is_regression: Whether the outputs are quantities.
        is_one: Whether all are the same sample, of one data set.
    """

    X: Tensor
    y: Tensor
    weight: Tensor
    n_rows: Tensor
    curvature: Tensor
    is_regression: bool
    is_one: bool

    @cached_property
    def inverse(self) -> Tensor:
        """Of the covariance of the features, with a ridge. Float, ``(G, n, n)``, or one for all."""
        n_different = 1 if self.is_one else len(self.X)
        X, weight = self.X[:n_different], self.weight[:n_different]
        ridge = _FEATURE_RIDGE * torch.eye(X.shape[1], dtype=X.dtype, device=X.device)
        return torch.cholesky_inverse(lower_factor((X * weight) @ X.mT + ridge))

    @classmethod
    def of(cls, samples: Sequence[RowSample], *, device: torch.device) -> "Rows":
        """Samples of data sets of one shape and kind."""
        q = max(len(sample.X) for sample in samples)
        X, y = (_stacked([getattr(s, name) for s in samples], q=q, device=device) for name in "Xy")
        ones = [s.X.new_ones(len(s.X), 1) for s in samples]
        weight = _stacked(ones, q=q, device=device)  # (G, 1, q)
        n_rows = weight.sum(dim=2)
        weight = weight / n_rows.unsqueeze(2)
        share = (y * weight).sum(dim=2)
        is_regression = samples[0].is_regression
        curvature = torch.ones_like(share) if is_regression else share * (1 - share)
        return cls(
            X=X,
            y=y,
            weight=weight,
            n_rows=n_rows,
            curvature=curvature.clamp(min=_LEAST_CURVATURE),
            is_regression=is_regression,
            is_one=all(sample is samples[0] for sample in samples),
        )


def lower_factor(A: Tensor) -> Tensor:
    """Cholesky's factor of positive definite matrices, ``(…, k, k)``; others give what they may.

    Batches of wide matrices make MKL's general solver fail with several threads.
    """
    factor: Tensor = torch.linalg.cholesky_ex(A).L
    return factor


def _stacked(tables: list[Tensor], *, q: int, device: torch.device) -> Tensor:
    """Tables ``(q_g, k)``, turned and padded. Float, shape ``(G, k, q)``."""
    padded = [torch.nn.functional.pad(table.T, (0, q - len(table))) for table in tables]
    return torch.stack(padded).to(device)


@dataclass(frozen=True, eq=False, kw_only=True)
class Hidden:
    """What the hidden neurons say of the rows.

    Attributes:
        value: Less its mean. Float, shape ``(G, h, q)``.
        slope: Of the activation. Float, shape ``(G, h, q)``.
        mean: Float, shape ``(G, h)``.
        deviation: Float, shape ``(G, h)``.
        covariance: Float, shape ``(G, h, h)``.
    """

    value: Tensor
    slope: Tensor
    mean: Tensor
    deviation: Tensor
    covariance: Tensor

    @classmethod
    def of(cls, rows: Rows, *, weight: Tensor, bias: Tensor, classes: Tensor) -> "Hidden":
        """Hidden neurons with weights ``(G, n, h)``, biases and activation classes ``(G, h)``."""
        z = weight.mT @ rows.X + bias.unsqueeze(2)  # (G, h, q)
        value, slope = activated(z, classes)
        mean = value @ rows.weight.mT  # (G, h, 1)
        value = value - mean
        covariance = (value * rows.weight) @ value.mT
        return cls(
            value=value,
            slope=slope,
            mean=mean.squeeze(2),
            deviation=(covariance.diagonal(dim1=1, dim2=2) + _LEAST_VARIANCE).sqrt(),
            covariance=covariance,
        )


@dataclass(frozen=True, eq=False, kw_only=True)
class Feedback:
    """The errors of networks, as gradients divided by curvatures.

    Attributes:
        loss: Cross-entropy over log c, or squared error: 1 for a constant. Float, ``(G,)``.
        hidden: Newton's step for every edge from a feature, alone. Float, ``(G, n, h)``.
        hidden_joint: For all edges into a neuron together. Float, ``(G, n, h)``.
        hidden_gradient: Float, ``(G, n, h)``.
        hidden_curvature: Of every neuron's edges. Float, ``(G, h)``.
        hidden_bias: Newton's step for every bias. Float, ``(G, h)``.
        output: The gradient for every edge to an output, over the curvature. Float, ``(G, h, c)``.
        covariance: Of the hidden neurons, scaled to deviations, with a ridge. ``(G, h, h)``.
        output_bias: Newton's step. Float, ``(G, c)``.
    """

    loss: Tensor
    hidden: Tensor
    hidden_joint: Tensor
    hidden_gradient: Tensor
    hidden_curvature: Tensor
    hidden_bias: Tensor
    output: Tensor
    covariance: Tensor
    output_bias: Tensor

    @classmethod
    def of(
        cls, rows: Rows, hidden: Hidden, *, gain: Tensor, out: Tensor, bias: Tensor
    ) -> "Feedback":
        """Of networks with weights ``out``, ``(G, h, c)``, from centred neurons to outputs.

        Steps into hidden neurons are of v: weights over ``gain``, ``(G, h)``.
        """
        scores = out.mT @ hidden.value + bias.unsqueeze(2)  # (G, c, q)
        error, loss = errors(rows, scores)
        error = error * rows.weight
        back = (out @ error) * hidden.slope  # (G, h, q)
        gradient = (rows.X @ back.mT) * gain.unsqueeze(1)  # (G, n, h)
        slope = (hidden.slope.square() @ rows.weight.mT).squeeze(2)  # (G, h)
        plain = slope * (out.square() * rows.curvature.unsqueeze(1)).sum(dim=2)  # (G, h)
        curvature = _floored(plain * gain.square())
        scaled = hidden.covariance / (hidden.deviation.unsqueeze(2) * hidden.deviation.unsqueeze(1))
        scaled.diagonal(dim1=1, dim2=2).add_(_HIDDEN_RIDGE)
        output = (hidden.value @ error.mT) / hidden.deviation.unsqueeze(2)  # (G, h, c)
        return cls(
            loss=loss,
            hidden=(gradient / curvature.unsqueeze(1)).clamp(-3, 3),
            hidden_joint=(rows.inverse @ gradient / curvature.unsqueeze(1)).clamp(-3, 3),
            hidden_gradient=gradient,
            hidden_curvature=curvature,
            hidden_bias=(back.sum(dim=2) / _floored(plain)).clamp(-3, 3),
            output=output / rows.curvature.unsqueeze(1),
            covariance=scaled,
            output_bias=(error.sum(dim=2) / rows.curvature).clamp(-3, 3),
        )


def errors(rows: Rows, scores: Tensor) -> tuple[Tensor, Tensor]:
    """Gradient of every row's loss by its scores, ``(G, c, q)``, and the mean loss, ``(G,)``.

    The loss is squared error, or cross-entropy over log c; the gradient of squared error is halved
    and limited, that of cross-entropy is of nats.
    """
    if rows.is_regression:
        error = scores - rows.y
        loss = (error.square() * rows.weight).sum(dim=(1, 2)) / rows.y.shape[1]
        return error.clamp(-_ERROR_LIMIT, _ERROR_LIMIT), loss
    probability = torch.softmax(scores, dim=1)
    log_loss = -(probability.clamp(min=1e-6).log() * rows.y * rows.weight).sum(dim=(1, 2))
    n_classes = torch.tensor(float(max(2, rows.y.shape[1])))
    return probability - rows.y, log_loss / n_classes.log()


def _floored(curvature: Tensor) -> Tensor:
    """A curvature of neurons, none near 0: a hundredth of the mean is added. ``(G, h)``."""
    return curvature + 0.01 * curvature.mean(dim=1, keepdim=True) + 1e-6


def activated(z: Tensor, classes: Tensor) -> tuple[Tensor, Tensor]:
    """Every hidden neuron's activation and its slope; each class is computed once.

    Args:
        z: Float, shape ``(G, h, q)``.
        classes: Registry indices. Int64, shape ``(G, h)``.
    """
    n_sets, h, q = z.shape
    flat = classes.flatten()
    order = flat.argsort(stable=True)
    counts = torch.bincount(flat, minlength=len(ACTIVATIONS)).tolist()
    groups = z.reshape(n_sets * h, q).index_select(0, order).split(counts)
    pairs = [with_slope(index, part) for index, part in enumerate(groups) if len(part)]
    back = order.argsort()
    value, slope = (
        torch.cat(parts).index_select(0, back).view(n_sets, h, q)
        for parts in zip(*pairs, strict=True)
    )
    return value, slope


_SLOPES: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "identity": lambda z, value: torch.ones_like(z),
    "relu": lambda z, value: (z > 0).to(z.dtype),
    "tanh": lambda z, value: 1 - value.square(),
    "sin": lambda z, value: z.cos(),
    "gaussian": lambda z, value: -2 * z * value,
    "abs": lambda z, value: z.sign(),
}
"""Derivatives from the argument and the value; those of other classes are derived."""


def with_slope(index: int, z: Tensor) -> tuple[Tensor, Tensor]:
    """The activation of an index in the registry, and its slope."""
    activation = ACTIVATIONS[index]
    if activation.name in _SLOPES:
        value = activation.function(z)
        return value, _SLOPES[activation.name](z, value)
    derived: tuple[Tensor, Tensor] = torch.func.jvp(  # type: ignore[assignment]
        activation.function, (z,), (torch.ones_like(z),)
    )
    return derived
