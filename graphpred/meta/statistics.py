"""What the meta-model sees of a data set: sufficient statistics, whose size does not depend on m.

Notation: m training rows, n features x_j standardised, c outputs with R target functions u_kr of
mean 0 and variance 1 each. For a class k the only one is its indicator; for a quantity y they are
y, y² and two soft bins of its tails. φ_b is one of B basis functions, centred and scaled likewise,
so every statistic is a correlation in [-1, 1] or a ridge coefficient, and none grows with m.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from graphpred.task import Task

N_BASIS = 8
N_TARGETS = 4
RIDGE_PENALTIES = (0.1, 0.01, 1.0)
RELATION_SIZE = N_BASIS * N_TARGETS + len(RIDGE_PENALTIES) + 1
FEATURE_SIZE = N_BASIS + 3
OUTPUT_SIZE = 9
PAIR_SIZE = 6
_MAX_PAIR_WORK = 1e10  # multiplications for the second moments; beyond it rows are thinned
_NEIGHBOURS = 8
_CANDIDATE_PENALTIES = tuple(0.001 * 4**i for i in range(9))  # of the linear guess
_MOST_EXPLAINED = 0.8  # share of variance up to which a class's scores are made larger for it


@dataclass(frozen=True, eq=False, kw_only=True)
class Statistics:
    """Statistics of the training rows of a task.

    Attributes:
        relation: For feature j and output k: the weight of a linear model, then ridge coefficients
            at three penalties, then the correlations of φ_b(x_j) with u_kr. Float32, shape
            ``(n, c, RELATION_SIZE)``.
        feature: Means of φ_b(x_j), and how strongly x_j is related to the outputs at best, on
            average, and to other features. Float32, shape ``(n, FEATURE_SIZE)``.
        output: Frequency of class k, or shape of the quantity; share of variance that ridge
            explains, and that the linear model would explain of other rows. Float32, shape
            ``(c, OUTPUT_SIZE)``.
        bias: Output of the linear model where all features are 0. Float32, shape ``(c,)``.
        neighbours: Directed edges between the most strongly related features. Int64,
            shape ``(2, E)``.
        pair: Statistics of every such edge. Float32, shape ``(E, PAIR_SIZE)``.
        size: m / (m + 100): how far the statistics can be trusted, in [0, 1).
        is_regression: Whether the outputs are quantities.
    """

    relation: Tensor
    feature: Tensor
    output: Tensor
    bias: Tensor
    neighbours: Tensor
    pair: Tensor
    size: float
    is_regression: bool


def statistics_of(task: Task) -> Statistics:
    """Compute the statistics of a task's training rows."""
    X, y = task.rows("train")
    m = len(X)
    targets = _target_basis(y, task=task)  # (m, c, R)
    basis = _function_basis(X)  # (m, n, B)
    means = basis.mean(dim=0)  # (n, B)
    correlation = _correlations(_unit(basis), targets)  # (n, c, B * R)
    covariance = X.T @ X / m  # (n, n)
    moments = (X.T @ targets[:, :, 0] / m).double()  # (n, c)
    spectrum = torch.linalg.eigh(covariance.double())
    ridge, explained = _ridge(*spectrum, moments=moments)
    guess, expected = _linear_guess(*spectrum, moments=moments, n_rows=m)
    if task.is_classification:
        share, bias = _class_shares(y, task=task)
        guess = guess * _logit_scale(share, expected=expected)
    else:
        bias = torch.zeros(task.n_outputs)
    partial = _partial_correlations(*spectrum)
    neighbours, pair = _pairs(X, targets[:, :, 0], covariance=covariance, partial=partial)
    strength = correlation.abs().amax(dim=2)  # (n, c)
    related = (covariance - torch.diag(covariance.diagonal())).abs().amax(dim=1)  # (n,)
    feature = torch.cat(
        [means, torch.stack([strength.amax(dim=1), strength.mean(dim=1), related], dim=1)], dim=1
    )
    return Statistics(
        relation=torch.cat([guess[:, :, None].clamp(-10, 10), ridge, correlation], dim=2),
        feature=feature.clamp(-5, 5),
        output=torch.cat([_output_shape(y, task=task), explained, expected[:, None]], dim=1),
        bias=bias,
        neighbours=neighbours,
        pair=pair,
        size=m / (m + 100),
        is_regression=not task.is_classification,
    )


def _target_basis(y: Tensor, *, task: Task) -> Tensor:
    """The functions u_kr. Float32, shape ``(m, c, R)``; zeros where a class has but one."""
    if task.is_classification:
        indicator = torch.nn.functional.one_hot(y, task.n_outputs).float()  # (m, c)
        basis = indicator.new_zeros(len(y), task.n_outputs, N_TARGETS)
        basis[:, :, 0] = _unit(indicator)
        return basis
    tails = torch.sigmoid(torch.stack([-y - 0.67, y - 0.67], dim=2) / 0.3)  # (m, c, 2)
    return _unit(torch.cat([torch.stack([y, y * y], dim=2), tails], dim=2))


def _function_basis(X: Tensor) -> Tensor:
    """The functions φ_b of every feature. Float32, shape ``(m, n, B)``."""
    x = X.clamp(-5, 5)
    doubled = 2 * x
    functions = (
        x,
        x * x - 1,
        x.abs(),
        doubled.tanh(),
        x.sign(),
        doubled.cos(),
        doubled.sin(),
        torch.exp(-x * x),
    )
    return torch.stack(functions, dim=2)


def _unit(values: Tensor) -> Tensor:
    """Centre over the rows and scale to variance 1; what is constant becomes 0."""
    centred = values - values.mean(dim=0)
    deviation = centred.square().mean(dim=0).sqrt()
    return centred / torch.where(deviation > 1e-6, deviation, torch.inf)


def _correlations(basis: Tensor, targets: Tensor) -> Tensor:
    """Correlation of every φ_b(x_j) with every u_kr. Float32, shape ``(n, c, B * R)``."""
    m, n, _ = basis.shape
    c = targets.shape[1]
    product = basis.flatten(1).T @ targets.flatten(1) / m  # (n * B, c * R)
    return product.view(n, N_BASIS, c, N_TARGETS).transpose(1, 2).flatten(2)


def _ridge(values: Tensor, vectors: Tensor, *, moments: Tensor) -> tuple[Tensor, Tensor]:
    """Closed-form ridge regression of the first target function on the features.

    Args:
        values: Eigenvalues of the covariance. Float64, shape ``(n,)``.
        vectors: Its eigenvectors. Float64, shape ``(n, n)``.
        moments: X^T U / m. Float64, shape ``(n, c)``.

    Returns:
        Coefficients (X^T X / m + λI)^{-1} X^T U / m at three λ, ``(n, c, 3)``; the share of
        variance they explain, ``(c, 3)``.
    """
    values, rotated = values.clamp(min=0)[:, None], vectors.T @ moments  # (n, 1), (n, c)
    coefficients, explained = [], []
    for penalty in RIDGE_PENALTIES:
        inner = rotated / (values + penalty)  # (n, c)
        coefficients.append(vectors @ inner)
        explained.append((2 * inner * rotated - inner.square() * values).sum(dim=0))
    return torch.stack(coefficients, dim=2).float(), torch.stack(explained, dim=1).float()


def _linear_guess(
    values: Tensor, vectors: Tensor, *, moments: Tensor, n_rows: int
) -> tuple[Tensor, Tensor]:
    """Ridge regression at the penalty with the least generalised cross-validation error.

    The error on other rows is estimated from the same statistics: residual / (1 − d/m)², with d
    degrees of freedom (Golub, Heath and Wahba, 1979). All outputs share a penalty.

    Returns:
        Coefficients, float32, ``(n, c)``; the share of variance of other rows that they should
        explain, at least 0, float32, ``(c,)``.
    """
    values, rotated = values.clamp(min=0)[:, None], vectors.T @ moments  # (n, 1), (n, c)
    errors, fits = [], []
    for penalty in _CANDIDATE_PENALTIES:
        inner = rotated / (values + penalty)  # (n, c)
        residual = 1 - (2 * inner * rotated - inner.square() * values).sum(dim=0)  # (c,)
        freedom = 1 + float((values / (values + penalty)).sum())
        errors.append(residual.clamp(min=0) / max(1 - freedom / n_rows, 0.05) ** 2)
        fits.append(inner)
    best = int(torch.stack(errors).mean(dim=1).argmin())
    expected = (1 - errors[best]).clamp(min=0)
    return (vectors @ fits[best]).float(), expected.float()


def _logit_scale(share: Tensor, *, expected: Tensor) -> Tensor:
    """What turns a regression of a class's scaled indicator into its score. ``(c,)``.

    The slope of a logit is that of the probability over p(1 − p); the less is left unexplained,
    the steeper (as in linear discriminants). Of two classes each gets half.
    """
    deviation = (share * (1 - share)).sqrt().clamp(min=0.05)
    steeper = 1 / (1 - expected.clamp(max=_MOST_EXPLAINED))
    return steeper / deviation / (2 if len(share) == 2 else 1)


def _class_shares(y: Tensor, *, task: Task) -> tuple[Tensor, Tensor]:
    """Smoothed shares of the classes and their logarithms, less the mean. ``(c,)`` each."""
    counts = torch.bincount(y, minlength=task.n_outputs).float() + 0.5
    share = counts / counts.sum()
    return share, share.log() - share.log().mean()


def _partial_correlations(values: Tensor, vectors: Tensor) -> Tensor:
    """Of the features, with a ridge of 0.1. Float32, shape ``(n, n)``."""
    precision = (vectors / (values.clamp(min=0) + 0.1)) @ vectors.T
    scale = precision.diagonal().rsqrt()
    return (-precision * scale[:, None] * scale).float()


def _pairs(
    X: Tensor, targets: Tensor, *, covariance: Tensor, partial: Tensor
) -> tuple[Tensor, Tensor]:
    """The strongest feature-feature edges, at most a few per feature, with their statistics."""
    n, c = X.shape[1], targets.shape[1]
    if n == 1:
        return torch.zeros(2, 0, dtype=torch.int64), torch.zeros(0, PAIR_SIZE)
    stride = max(1, round(len(X) * n * n * c / _MAX_PAIR_WORK))
    x, u = X[::stride].clamp(-5, 5), targets[::stride]
    m = len(x)
    products = torch.stack([(x * u[:, [k]]).T @ x / m for k in range(c)])  # (c, n, n)
    interaction = products.square().mean(dim=0).sqrt()  # (n, n)
    signs = x.sign().T @ x.sign() / m
    squares = (x * x - 1).T @ x / m
    strength = covariance.abs() + interaction  # (n, n)
    strength.fill_diagonal_(-1)
    target = strength.topk(min(_NEIGHBOURS, n - 1), dim=1).indices  # (n, k)
    source = torch.arange(n)[:, None].expand_as(target)
    i, j = source.flatten(), target.flatten()
    tables = (covariance, signs, squares, squares.T, interaction, partial)
    pair = torch.stack([table[i, j] for table in tables], dim=1)  # (E, PAIR_SIZE)
    return torch.stack([i, j]), pair.clamp(-5, 5)


def _output_shape(y: Tensor, *, task: Task) -> Tensor:
    """Frequency and log-odds of a class, or skewness and tails of a quantity. ``(c, 5)``."""
    if task.is_classification:
        share = torch.bincount(y, minlength=task.n_outputs).float() / max(1, len(y))  # (c,)
        odds = (share.clamp(1e-3, 1 - 1e-3)).logit() / 4
        zero = torch.zeros_like(share)
        return torch.stack([share, odds, zero, zero, zero], dim=1)
    z = y.clamp(-5, 5)
    zero = torch.zeros(y.shape[1])
    return torch.stack(
        [zero, zero, (z**3).mean(0) / 4, (z**4).mean(0) / 8 - 0.4, z.abs().mean(0)], dim=1
    )
