"""Columns of synthetic data sets, as ``TableEncoder`` would have made them of raw tables.

Normal columns are mixed by common factors and clusters and then bent into heavy tails, skew,
counts, two values, many zeros or an even spread. Blocks of columns become the levels of a nominal
one, exactly one of which is 1. Some columns have missing values: the median of the training rows
stands for them and another column says where they were. (A nominal column with missing values has
the encoding of one with a level more, so blocks need nothing special.) At the end everything is
scaled by the training rows and cut at ``MAX_DEVIATIONS``.

Notation: b data sets of one shape, n columns, m rows of which the first m_train are for training.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from graphpred.columns import MAX_LEVELS
from graphpred.encoding import MAX_DEVIATIONS
from graphpred.seeds import log_uniform
from graphpred.synthetic.draws import coin, root_mean_square, uniform, unit

FACTOR_SHARE = 0.6
CLUSTER_SHARE = 0.25
NOMINAL_SHARE = 0.35
MISSING_SHARE = 0.3
"""Shares of the data sets that have common factors, clusters, nominal and incomplete columns."""

MAX_CLUSTERS = 8
_MAX_BLOCKS = 3


@dataclass(frozen=True, eq=False, kw_only=True)
class Columns:
    """The columns of b data sets.

    Attributes:
        values: Complete columns, scaled by the training rows. Float, shape ``(b, n, m)``.
        hidden: Where values of the first q columns are missing. Bool, shape ``(b, q, m)``.
        cluster: Cluster that every row was drawn from. Int64, shape ``(b, m)``.
        m_train: Training rows; they come first.
    """

    values: Tensor
    hidden: Tensor
    cluster: Tensor
    m_train: int

    def observed(self) -> Tensor:
        """What a learner sees: missing values replaced, scaled anew. Float, ``(b, n, m)``."""
        place = self.hidden.any(dim=2).nonzero(as_tuple=True)  # (k,), (k,)
        if not len(place[0]):
            return self.values
        filled = fill_missing(self.values[place], self.hidden[place], m_train=self.m_train)
        seen = self.values.clone()
        seen[place] = scaled(filled, m_train=self.m_train)
        return seen


def draw_columns(
    shape: tuple[int, int, int],
    *,
    m_train: int,
    clustered: Tensor,
    max_missing: float,
    generator: torch.Generator,
) -> Columns:
    """Draw the columns of b data sets.

    Args:
        shape: ``(b, n, m)``.
        m_train: Training rows.
        clustered: Data sets whose rows must come in clusters; others may. Bool, ``(b,)``.
        max_missing: Highest share of missing values in a column.
        generator: Source of randomness.
    """
    b, n, m = shape
    X = torch.randn(shape, generator=generator)
    _add_factors(X, generator=generator)
    clustered = clustered | coin(CLUSTER_SHARE, b, generator=generator)
    cluster = _add_clusters(X, clustered, generator=generator)
    X = unit(X)
    _bend(X, generator=generator)
    hidden = _draw_hidden(X, max_missing=max_missing, generator=generator)
    q = hidden.shape[1]
    _make_nominal(X[:, q : n - q], generator=generator)
    if q:
        incomplete = hidden.flatten(1).any(dim=1)  # (b,)
        X[incomplete, n - q :] = hidden[incomplete].float()
    values = scaled(X, m_train=m_train)
    constant = values[:, :, :m_train].square().sum(dim=2) == 0  # (b, n)
    if bool(constant.any()):  # an encoder leaves such columns out: put others in their place
        fresh = torch.randn(int(constant.sum()), m, generator=generator)
        values[constant] = scaled(fresh, m_train=m_train)
    return Columns(values=values, hidden=hidden, cluster=cluster, m_train=m_train)


def scaled(X: Tensor, *, m_train: int) -> Tensor:
    """Scale by the training rows and cut, as an encoder does; constant columns become 0.

    Args:
        X: Columns, float, shape ``(…, m)``.
        m_train: Training rows.

    >>> scaled(torch.tensor([[1.0, 3.0, 900.0]]), m_train=2)
    tensor([[-1.,  1., 30.]])
    """
    mean = X[..., :m_train].mean(dim=-1, keepdim=True)
    centred = X - mean
    deviation = root_mean_square(centred[..., :m_train])
    factor = torch.where(deviation > 1e-5 * mean.abs(), 1 / deviation, 0.0)
    return centred.mul_(factor).clamp_(-MAX_DEVIATIONS, MAX_DEVIATIONS)


def fill_missing(X: Tensor, hidden: Tensor, *, m_train: int) -> Tensor:
    """Replace missing values by the median of the training rows that are there.

    Args:
        X: Columns, float, shape ``(…, m)``.
        hidden: Where values are missing. Bool, shape ``(…, m)``.
        m_train: Training rows.

    >>> X, hidden = torch.tensor([[1.0, 2.0, 9.0, 5.0]]), torch.tensor([[False, False, True, True]])
    >>> fill_missing(X, hidden, m_train=3)
    tensor([[1.0000, 2.0000, 1.5000, 1.5000]])
    """
    training = X[..., :m_train].masked_fill(hidden[..., :m_train], torch.inf).sort(dim=-1).values
    n_there = (~hidden[..., :m_train]).sum(dim=-1, keepdim=True)  # (…, 1)
    low = training.gather(-1, ((n_there - 1) // 2).clamp_(min=0))
    high = training.gather(-1, (n_there // 2).clamp_(max=m_train - 1))
    median = torch.where(n_there > 0, low / 2 + high / 2, 0.0)
    return torch.where(hidden, median, X)


def _add_factors(X: Tensor, *, generator: torch.Generator) -> None:
    """Common factors in some data sets; most columns load on all, or on few, of them."""
    b, n, m = X.shape
    rank = log_uniform(1, min(16, max(1, n // 2)), generator=generator)
    factors = torch.randn(b, rank, m, generator=generator)
    loadings = torch.randn(b, n, rank, generator=generator) / math.sqrt(rank)
    density = uniform(0.2, 1.2, b, 1, 1, generator=generator)
    loadings *= torch.rand(b, n, rank, generator=generator) < density
    strength = uniform(0.0, 2.0, b, 1, 1, generator=generator)
    strength *= coin(FACTOR_SHARE, b, 1, 1, generator=generator)
    X.baddbmm_(strength * loadings, factors)


def _add_clusters(X: Tensor, clustered: Tensor, *, generator: torch.Generator) -> Tensor:
    """Move the rows of some data sets to centres; the number of the centre, int64 ``(b, m)``."""
    b, n, m = X.shape
    n_clusters = log_uniform(2, MAX_CLUSTERS, generator=generator)
    cluster = torch.randint(n_clusters, (b, m), generator=generator)
    centres = torch.randn(b, n, n_clusters, generator=generator)
    spread = uniform(0.5, 2.5, b, 1, 1, generator=generator) * clustered[:, None, None]
    members = torch.nn.functional.one_hot(cluster, n_clusters).transpose(1, 2).float()  # (b, K, m)
    X.baddbmm_(spread * centres, members)
    return cluster


def _heavy(x: Tensor, generator: torch.Generator) -> Tensor:
    power = uniform(1.3, 3.0, len(x), 1, generator=generator)
    return x.sign() * x.abs().log_().mul_(power).exp_()  # |x|^power, faster


def _skewed(x: Tensor, generator: torch.Generator) -> Tensor:
    return torch.exp(uniform(0.4, 1.4, len(x), 1, generator=generator) * x)


def _counts(x: Tensor, generator: torch.Generator) -> Tensor:
    return torch.round(uniform(0.6, 3.0, len(x), 1, generator=generator) * x)


def _binary(x: Tensor, generator: torch.Generator) -> Tensor:
    return (x > uniform(-1.5, 1.5, len(x), 1, generator=generator)).float()


def _mostly_zero(x: Tensor, generator: torch.Generator) -> Tensor:
    return torch.relu(x - uniform(-0.5, 1.2, len(x), 1, generator=generator))


def _even(x: Tensor, generator: torch.Generator) -> Tensor:
    return torch.erf(x / math.sqrt(2))


BENDS: dict[str, Callable[[Tensor, torch.Generator], Tensor]] = {
    "heavy tails": _heavy,
    "skewed": _skewed,
    "counts": _counts,
    "binary": _binary,
    "mostly zero": _mostly_zero,
    "even": _even,
}
"""What a column can become: from normal numbers of shape ``(k, m)`` to k columns of that kind."""


def _bend(X: Tensor, *, generator: torch.Generator) -> None:
    """Bend some columns in place; between none and 60 % of a data set's, all kinds alike."""
    b, n, m = X.shape
    share = uniform(0.0, 0.6, b, 1, generator=generator)
    kind = (torch.rand(b, n, generator=generator) / share * len(BENDS)).flatten()  # (b * n,)
    columns = X.view(b * n, m)
    for number, bend in enumerate(BENDS.values()):
        chosen = ((kind >= number) & (kind < number + 1)).nonzero().squeeze(1)
        if len(chosen):
            columns[chosen] = bend(columns[chosen], generator)


def _make_nominal(X: Tensor, *, generator: torch.Generator) -> None:
    """Turn blocks of columns into the levels of nominal ones, in place.

    The level is where the columns of the block, with a random advantage each, are highest; so
    levels have different sizes and go with other columns. Blocks stand at the same places in all
    data sets, and each has some of them or none.
    """
    b, n, _ = X.shape
    has_nominal = coin(NOMINAL_SHARE, b, generator=generator)
    start = 0
    for _ in range(_MAX_BLOCKS):
        size = log_uniform(3, MAX_LEVELS + 1, generator=generator)
        chosen = (has_nominal & coin(0.7, b, generator=generator)).nonzero().squeeze(1)
        if start + size > n:
            return
        if len(chosen):
            block = X[chosen, start : start + size]  # (k, size, m)
            advantage = torch.randn(len(chosen), size, 1, generator=generator)
            level = (block + advantage).max(dim=1, keepdim=True).indices  # (k, 1, m)
            X[chosen, start : start + size] = torch.zeros_like(block).scatter_(1, level, 1.0)
        start += size


def _draw_hidden(X: Tensor, *, max_missing: float, generator: torch.Generator) -> Tensor:
    """Where the first q columns miss values. Bool, shape ``(b, q, m)``.

    In half of the columns the high values are missing more often than the low ones.
    """
    b, n, m = X.shape
    incomplete = coin(MISSING_SHARE, b, 1, 1, generator=generator)
    q = round(float(torch.rand((), generator=generator)) ** 2 * n / 3)
    if not q or max_missing == 0 or not bool(incomplete.any()):
        return torch.zeros(b, 0, m, dtype=torch.bool)
    share = max_missing * torch.rand(b, q, 1, generator=generator) * incomplete
    slope = 2.0 * coin(0.5, b, q, 1, generator=generator)
    chance = share * (1 + torch.tanh(slope * X[:, :q].clamp(-3, 3))).clamp(max=1.6)
    return torch.rand(b, q, m, generator=generator) < chance
