"""What the meta-model sees of a data set: sufficient statistics, whose size does not depend on m.

Notation: m training rows, n features x_j standardised, c outputs with R target functions u_kr of
mean 0 and variance 1 each. For a class k the only one is its indicator; for a quantity y they are
y, y² and two soft bins of its tails. φ_b is one of B basis functions, centred and scaled likewise,
so every statistic is a correlation in [-1, 1] or a ridge coefficient, and none grows with m.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from graphpred.errors import InputError
from graphpred.meta.moments import N_BASIS, N_TARGETS, SAMPLE_LIMIT, Moments, Spread
from graphpred.meta.samples import indicators
from graphpred.task import Task

RIDGE_PENALTIES = (0.1, 0.01, 1.0)
RELATION_SIZE = N_BASIS * N_TARGETS + len(RIDGE_PENALTIES) + 1
FEATURE_SIZE = N_BASIS + 3
OUTPUT_SIZE = 9
PAIR_SIZE = 6
_MAX_PAIR_WORK = 1e10  # multiplications for statistics of pairs; wide data are thinned to it
_LEAST_PAIR_ROWS = 64
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
    return statistics_from(Moments.of(task))


def statistics_from(moments: Moments) -> Statistics:
    """Compute the statistics of the rows whose sums were taken, in one part or in many.

    Raises:
        InputError: If there are no rows.
    """
    _check_rows(moments)
    m = moments.n_rows
    targets = moments.target_spread()  # (c, r) twice
    correlation = moments.correlations(targets).flatten(2)  # (n, c, B * R)
    exact, linear = moments.covariance(), moments.linear(targets)  # (n, n), (n, c)
    spectrum, covariance = torch.linalg.eigh(exact), exact.float()
    ridge, explained = _ridge(*spectrum, moments=linear)
    guess, bias, expected = _linear_model(moments, spectrum=spectrum, linear=linear)
    partial = _partial_correlations(*spectrum)
    neighbours, pair = _pairs(moments, targets=targets, covariance=covariance, partial=partial)
    strength = correlation.abs().amax(dim=2)  # (n, c)
    related = (covariance - torch.diag(covariance.diagonal())).abs().amax(dim=1)  # (n,)
    strongest = torch.stack([strength.amax(dim=1), strength.mean(dim=1), related], dim=1)
    return Statistics(
        relation=torch.cat([guess[:, :, None], ridge, correlation], dim=2),
        feature=torch.cat([moments.basis_means(), strongest], dim=1).clamp(-5, 5),
        output=torch.cat([_output_shape(moments), explained, expected[:, None]], dim=1),
        bias=bias,
        neighbours=neighbours,
        pair=pair,
        size=m / (m + 100),
        is_regression=moments.is_regression,
    )


def linear_model(moments: Moments) -> tuple[Tensor, Tensor]:
    """Weights ``(n, c)`` and biases ``(c,)`` of the linear model of ``Statistics``, and no more.

    Raises:
        InputError: If there are no rows.
    """
    _check_rows(moments)
    spectrum = torch.linalg.eigh(moments.covariance())
    linear = moments.linear(moments.target_spread())
    weights, biases, _ = _linear_model(moments, spectrum=spectrum, linear=linear)
    return weights, biases


def _check_rows(moments: Moments) -> None:
    if not moments.n_rows:
        raise InputError("statistics must be of at least one row; got none.")


def _linear_model(
    moments: Moments, *, spectrum: tuple[Tensor, Tensor], linear: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Weights ``(n, c)``, biases ``(c,)`` and the explained share of ``_linear_guess``, ``(c,)``.

    Args:
        moments: Of the rows.
        spectrum: Eigenvalues and eigenvectors of the features' covariance.
        linear: X^T U / m. Float64, shape ``(n, c)``.
    """
    guess, expected = _linear_guess(*spectrum, moments=linear, n_rows=moments.n_rows)
    bias = torch.zeros(moments.n_outputs)
    if not moments.is_regression:
        share, bias = _class_shares(moments.counts())
        guess = guess * _logit_scale(share, expected=expected)
    return guess.clamp(-10, 10), bias, expected


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
    inner, explained, _ = _shrunk(values, vectors.T @ moments, penalties=RIDGE_PENALTIES)
    coefficients = (vectors @ inner.flatten(1)).view_as(inner)  # (n, c, 3)
    return coefficients.float(), explained.float()


def _shrunk(
    values: Tensor, rotated: Tensor, *, penalties: tuple[float, ...]
) -> tuple[Tensor, Tensor, Tensor]:
    """Ridge regression at several penalties λ, in the axes of the covariance.

    Args:
        values: Eigenvalues. Float64, shape ``(n,)``.
        rotated: X^T U / m along the eigenvectors. Float64, shape ``(n, c)``.
        penalties: p of them.

    Returns:
        Coefficients, ``(n, c, p)``; the share of variance they explain, ``(c, p)``; degrees of
        freedom, ``(p,)``. Float64.
    """
    values = values.clamp(min=0)[:, None]  # (n, 1)
    penalised = values + torch.tensor(penalties, dtype=values.dtype)  # (n, p)
    inner = rotated[:, :, None] / penalised[:, None]  # (n, c, p)
    explained = inner * (2 * rotated[:, :, None] - inner * values[:, None])
    return inner, explained.sum(dim=0), (values / penalised).sum(dim=0)


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
    rotated = vectors.T @ moments  # (n, c)
    inner, explained, freedom = _shrunk(values, rotated, penalties=_CANDIDATE_PENALTIES)
    left = (1 - (1 + freedom) / n_rows).clamp(min=0.05)  # (p,)
    errors = (1 - explained).clamp(min=0) / left.square()  # (c, p)
    best = int(errors.mean(dim=0).argmin())
    expected = (1 - errors[:, best]).clamp(min=0)
    return (vectors @ inner[:, :, best]).float(), expected.float()


def _logit_scale(share: Tensor, *, expected: Tensor) -> Tensor:
    """What turns a regression of a class's scaled indicator into its score. ``(c,)``.

    The slope of a logit is that of the probability over p(1 − p); the less is left unexplained,
    the steeper (as in linear discriminants). Of two classes each gets half.
    """
    deviation = (share * (1 - share)).sqrt().clamp(min=0.05)
    steeper = 1 / (1 - expected.clamp(max=_MOST_EXPLAINED))
    return steeper / deviation / (2 if len(share) == 2 else 1)


def _class_shares(counts: Tensor) -> tuple[Tensor, Tensor]:
    """Smoothed shares of the classes and their logarithms, less the mean. ``(c,)`` each."""
    smoothed = counts + 0.5
    share = smoothed / smoothed.sum()
    return share, share.log() - share.log().mean()


def _partial_correlations(values: Tensor, vectors: Tensor) -> Tensor:
    """Of the features, with a ridge of 0.1. Float32, shape ``(n, n)``."""
    precision = (vectors / (values.clamp(min=0) + 0.1)) @ vectors.T
    scale = precision.diagonal().rsqrt()
    return (-precision * scale[:, None] * scale).float()


def _pairs(
    moments: Moments, *, targets: Spread, covariance: Tensor, partial: Tensor
) -> tuple[Tensor, Tensor]:
    """The strongest feature-feature edges, at most a few per feature, with their statistics.

    What is not a function of the covariance comes from a sample of the rows, of ``pair_rows``.
    """
    n, c = moments.n_features, moments.n_outputs
    if n == 1:
        return torch.zeros(2, 0, dtype=torch.int64), torch.zeros(0, PAIR_SIZE)
    rows = moments.rows.lowest(pair_rows(n, c))
    mean, deviation = (part[:, 0].float() for part in targets)
    u = (indicators(rows.y, n_outputs=c) - mean) / deviation  # (q, c)
    x, q = rows.X.clamp(-5, 5), len(u)
    sign = x.sign()
    weighted, weighted_sign = x, sign  # (q, n)
    if (n_rows := int(rows.count.sum())) > q:
        weight = (rows.count * (q / n_rows)).unsqueeze(1)  # (q, 1), 1 on average
        weighted, weighted_sign = x * weight, sign * weight
    thirds = (u[:, :, None] * weighted[:, None]).flatten(1).T @ x / q  # (c * n, n)
    interaction = thirds.view(c, n, n).square().mean(dim=0).sqrt()  # (n, n)
    signs = weighted_sign.T @ sign / q
    squares = (x * x - 1).T @ weighted / q
    strength = covariance.abs() + interaction  # (n, n)
    strength.fill_diagonal_(-1)
    target = strength.topk(min(_NEIGHBOURS, n - 1), dim=1).indices  # (n, k)
    source = torch.arange(n)[:, None].expand_as(target)
    i, j = source.flatten(), target.flatten()
    tables = (covariance, signs, squares, squares.T, interaction, partial)
    pair = torch.stack([table[i, j] for table in tables], dim=1)  # (E, PAIR_SIZE)
    return torch.stack([i, j]), pair.clamp(-5, 5)


def pair_rows(n: int, c: int) -> int:
    """Different rows from which statistics of pairs of n features are taken, with c outputs."""
    return min(SAMPLE_LIMIT, max(_LEAST_PAIR_ROWS, int(_MAX_PAIR_WORK / (n * n * c))))


def _output_shape(moments: Moments) -> Tensor:
    """Frequency and log-odds of a class, or skewness and tails of a quantity. ``(c, 5)``."""
    zero = torch.zeros(moments.n_outputs)
    if moments.is_regression:
        third, fourth, absolute = moments.output_powers().unbind(dim=1)
        return torch.stack([zero, zero, third / 4, fourth / 8 - 0.4, absolute], dim=1)
    share = moments.counts() / moments.n_rows  # (c,)
    odds = (share.clamp(1e-3, 1 - 1e-3)).logit() / 4
    return torch.stack([share, odds, zero, zero, zero], dim=1)
