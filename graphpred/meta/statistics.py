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
RELATION_SIZE = N_BASIS * N_TARGETS + len(RIDGE_PENALTIES)
FEATURE_SIZE = N_BASIS + 3
OUTPUT_SIZE = 8
PAIR_SIZE = 6
_MAX_PAIR_WORK = 1e10  # multiplications for the second moments; beyond it rows are thinned
_NEIGHBOURS = 8


@dataclass(frozen=True, eq=False, kw_only=True)
class Statistics:
    """Statistics of the training rows of a task.

    Attributes:
        relation: For feature j and output k: ridge coefficients at three penalties, then the
            correlations of φ_b(x_j) with u_kr. Float32, shape ``(n, c, RELATION_SIZE)``.
        feature: Means of φ_b(x_j), and how strongly x_j is related to the outputs at best, on
            average, and to other features. Float32, shape ``(n, FEATURE_SIZE)``.
        output: Frequency of class k, or shape of the quantity; share of variance that ridge
            explains. Float32, shape ``(c, OUTPUT_SIZE)``.
        neighbours: Directed edges between the most strongly related features. Int64,
            shape ``(2, E)``.
        pair: Statistics of every such edge. Float32, shape ``(E, PAIR_SIZE)``.
        size: m / (m + 100): how far the statistics can be trusted, in [0, 1).
        is_regression: Whether the outputs are quantities.
    """

    relation: Tensor
    feature: Tensor
    output: Tensor
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
    ridge, explained, partial = _ridge(covariance, X=X, targets=targets[:, :, 0])
    neighbours, pair = _pairs(X, targets[:, :, 0], covariance=covariance, partial=partial)
    strength = correlation.abs().amax(dim=2)  # (n, c)
    related = (covariance - torch.diag(covariance.diagonal())).abs().amax(dim=1)  # (n,)
    feature = torch.cat(
        [means, torch.stack([strength.amax(dim=1), strength.mean(dim=1), related], dim=1)], dim=1
    )
    return Statistics(
        relation=torch.cat([ridge, correlation], dim=2),
        feature=feature.clamp(-5, 5),
        output=torch.cat([_output_shape(y, task=task), explained], dim=1),
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


def _ridge(covariance: Tensor, *, X: Tensor, targets: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Closed-form ridge regression of the first target function on the features.

    Returns:
        Coefficients (X^T X / m + λI)^{-1} X^T U / m at three λ, ``(n, c, 3)``; the share of
        variance they explain, ``(c, 3)``; partial correlations at λ = 0.1, ``(n, n)``.
    """
    m = len(X)
    values, vectors = torch.linalg.eigh(covariance.double())  # (n,), (n, n)
    moments = (X.T @ targets / m).double()  # (n, c)
    rotated = vectors.T @ moments  # (n, c)
    coefficients, explained = [], []
    for penalty in RIDGE_PENALTIES:
        inverse = 1 / (values.clamp(min=0) + penalty)  # (n,)
        beta = vectors @ (inverse[:, None] * rotated)  # (n, c)
        quadratic = (beta * (covariance.double() @ beta)).sum(dim=0)  # (c,)
        residual = 1 - 2 * (beta * moments).sum(dim=0) + quadratic
        coefficients.append(beta)
        explained.append(1 - residual)
    precision = (vectors / (values.clamp(min=0) + 0.1)) @ vectors.T  # (n, n)
    scale = precision.diagonal().rsqrt()
    partial = -precision * scale[:, None] * scale
    return (
        torch.stack(coefficients, dim=2).float(),
        torch.stack(explained, dim=1).float(),
        partial.float(),
    )


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
