"""A first prior over data sets: linear, sparse networks, trees and products of few features.

Every draw derives from one generator. Notation: m rows, n features, c outputs; scores f(x) of
shape (m, c), of which a class is the noisy arg max, and a quantity the noisy value.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from graphpred.activations import ACTIVATIONS, activation_indices
from graphpred.errors import InputError
from graphpred.seeds import log_uniform
from graphpred.space import DEFAULT_ACTIVATIONS
from graphpred.split import Split
from graphpred.task import Task, standardise


@dataclass(frozen=True, kw_only=True)
class PriorConfig:
    """Ranges of the prior; every range includes its ends.

    Attributes:
        features: n, drawn log-uniformly.
        classes: c of a classification, small numbers more often.
        train_rows: Training rows, drawn log-uniformly.
        validation_rows: Rows beside them.
        regression_share: Share of data sets whose target is a quantity.

    Raises:
        InputError: If a range is empty or too low.
    """

    features: tuple[int, int] = (2, 40)
    classes: tuple[int, int] = (2, 10)
    train_rows: tuple[int, int] = (60, 1000)
    validation_rows: int = 128
    regression_share: float = 0.25

    def __post_init__(self) -> None:
        for name, least in (("features", 1), ("classes", 2), ("train_rows", 20)):
            low, high = getattr(self, name)
            if not least <= low <= high:
                raise InputError(f"{name} must be a range from {least} up; got {(low, high)}.")
        if self.validation_rows < 1:
            raise InputError(f"validation_rows must be at least 1; got {self.validation_rows}.")
        if not 0 <= self.regression_share <= 1:
            raise InputError(f"regression_share must be in [0, 1]; got {self.regression_share}.")


def draw_task(*, generator: torch.Generator, config: PriorConfig | None = None) -> Task:
    """Draw one data set: training and validation rows, no test rows.

    Args:
        generator: Source of randomness.
        config: Ranges.

    >>> config = PriorConfig(regression_share=0.0)
    >>> task = draw_task(generator=torch.Generator().manual_seed(0), config=config)
    >>> task.kind, task.X.shape == (task.n_rows, task.n_features)
    ('classification', True)
    """
    config = config or PriorConfig()
    while True:
        task = _try_to_draw(generator, config=config)
        if task is not None:
            return task


def _try_to_draw(generator: torch.Generator, *, config: PriorConfig) -> Task | None:
    """A data set, or None if it came out without two classes to tell apart."""
    n = log_uniform(*config.features, generator=generator)
    m_train = log_uniform(*config.train_rows, generator=generator)
    m = m_train + config.validation_rows
    is_regression = _uniform(generator) < config.regression_share
    c = 1 if is_regression else _n_classes(config.classes, generator=generator)
    X = _draw_features(m, n, generator=generator)
    scores = _draw_scores(X, c, generator=generator)
    y = _quantity(scores, generator=generator) if is_regression else _classes(scores, generator)
    train = torch.arange(m_train)
    if is_regression:
        y = standardise(y, train)[0]
    elif int((torch.bincount(y[train], minlength=c) >= 2).sum()) < 2:
        return None
    return Task(
        X=standardise(X, train)[0].clamp(-30, 30),
        y=y,
        kind="regression" if is_regression else "classification",
        split=Split(train=train, validation=torch.arange(m_train, m), test=train[:0]),
        feature_names=tuple(f"x{j}" for j in range(n)),
        class_names=tuple(str(k) for k in range(c)),
        name="synthetic",
        source="synthetic",
        digest="",
        encoder=None,
        target_mean=(0.0,) * c if is_regression else (),
        target_scale=(1.0,) * c if is_regression else (),
        origin=torch.arange(m),
    )


def _draw_features(m: int, n: int, *, generator: torch.Generator) -> Tensor:
    """Correlated, heavy-tailed, skewed, discrete and binary columns. Float, ``(m, n)``."""
    X = torch.randn(m, n, generator=generator)
    if _uniform(generator) < 0.6:
        rank = log_uniform(1, max(1, n // 2), generator=generator)
        factors = torch.randn(m, rank, generator=generator)
        loadings = torch.randn(rank, n, generator=generator) / math.sqrt(rank)
        X = X + 2 * _uniform(generator) * factors @ loadings
    if _uniform(generator) < 0.3:  # clusters
        centres = 2 * torch.randn(log_uniform(2, 6, generator=generator), n, generator=generator)
        X = X + centres[torch.randint(len(centres), (m,), generator=generator)]
    X = standardise(X, torch.arange(m))[0]
    kinds = torch.rand(n, generator=generator)
    plain = 0.4 + 0.6 * _uniform(generator)
    level = (kinds - plain) / (1 - plain + 1e-6)  # below 0: left as it is
    X = torch.where((level >= 0) & (level < 0.25), X.sign() * X.abs() ** 1.8, X)
    X = torch.where((level >= 0.25) & (level < 0.5), torch.exp(X), X)
    X = torch.where((level >= 0.5) & (level < 0.75), torch.round(1.5 * X), X)
    return torch.where(level >= 0.75, (X > 0.5).float(), X)


def _draw_scores(X: Tensor, c: int, *, generator: torch.Generator) -> Tensor:
    """Scores of one to three random functions of some features. Float, shape ``(m, c)``."""
    n = X.shape[1]
    n_relevant = log_uniform(1, n, generator=generator)
    relevant = X[:, torch.randperm(n, generator=generator)[:n_relevant]]
    relevant = standardise(relevant, torch.arange(len(X)))[0].clamp(-4, 4)
    total = torch.zeros(len(X), c)
    for _ in range(log_uniform(1, 3, generator=generator)):
        family = _FAMILIES[int(torch.randint(len(_FAMILIES), (), generator=generator))]
        part = family(relevant, c, generator)
        total = total + (0.3 + _uniform(generator)) * _scaled(part)
    return _scaled(total)


def _linear(X: Tensor, c: int, generator: torch.Generator) -> Tensor:
    weights = torch.randn(X.shape[1], c, generator=generator)
    return X @ (weights * torch.rand(weights.shape, generator=generator))


def _network(X: Tensor, c: int, generator: torch.Generator) -> Tensor:
    """A sparse network with one hidden layer and mixed activations."""
    n, h = X.shape[1], log_uniform(2, 16, generator=generator)
    fan_in = log_uniform(1, min(n, 5), generator=generator)
    chosen = torch.rand(n, h, generator=generator).argsort(dim=0) < fan_in
    z = X @ (torch.randn(n, h, generator=generator) * chosen) + torch.randn(h, generator=generator)
    hidden = torch.empty_like(z)
    classes = activation_indices(DEFAULT_ACTIVATIONS)
    for i in range(h):
        index = classes[int(torch.randint(len(classes), (), generator=generator))]
        hidden[:, i] = ACTIVATIONS[index].function(z[:, i])
    return _scaled(hidden) @ torch.randn(h, c, generator=generator)


def _trees(X: Tensor, c: int, generator: torch.Generator) -> Tensor:
    """A few trees, each with one split per level. Leaves hold random scores."""
    scores = torch.zeros(len(X), c)
    for _ in range(log_uniform(1, 4, generator=generator)):
        depth = log_uniform(1, 4, generator=generator)
        features = torch.randint(X.shape[1], (depth,), generator=generator)
        thresholds = 0.8 * torch.randn(depth, generator=generator)
        bits = (X[:, features] > thresholds).long()  # (m, depth)
        leaf = (bits * 2 ** torch.arange(depth)).sum(dim=1)
        scores = scores + torch.randn(2**depth, c, generator=generator)[leaf]
    return scores


def _products(X: Tensor, c: int, generator: torch.Generator) -> Tensor:
    """Products of two or three features, or of their signs: XOR and parity."""
    scores = torch.zeros(len(X), c)
    for k in range(c):
        order = min(X.shape[1], 2 + int(_uniform(generator) < 0.2))
        chosen = X[:, torch.randperm(X.shape[1], generator=generator)[:order]]
        scores[:, k] = (chosen.sign() if _uniform(generator) < 0.5 else chosen).prod(dim=1)
    return scores


_Family = Callable[[Tensor, int, torch.Generator], Tensor]
_FAMILIES: tuple[_Family, ...] = (_linear, _linear, _network, _network, _trees, _products)


def _classes(scores: Tensor, generator: torch.Generator) -> Tensor:
    """Noisy arg max with random class sizes; or bins of the first score. Int64, ``(m,)``."""
    m, c = scores.shape
    noise = 0.5 * _uniform(generator) ** 2
    if _uniform(generator) < 0.25:
        latent = scores[:, 0] + noise * torch.randn(m, generator=generator)
        cuts = torch.rand(c - 1, generator=generator) * 0.8 + 0.1
        return torch.bucketize(latent, torch.quantile(latent, cuts.sort().values))
    tilt = 0.7 * _uniform(generator) * torch.randn(c, generator=generator)
    gumbel = -torch.log(-torch.log(torch.rand(m, c, generator=generator).clamp(1e-9, 1 - 1e-7)))
    return (scores + tilt + noise * gumbel).argmax(dim=1)


def _quantity(scores: Tensor, *, generator: torch.Generator) -> Tensor:
    """A value with normal or heavy-tailed noise. Float, shape ``(m, c)``."""
    noise = torch.randn(scores.shape, generator=generator)
    if _uniform(generator) < 0.2:
        noise = noise * torch.exp(0.7 * torch.randn(scores.shape, generator=generator))
    return scores + _uniform(generator) ** 2 * noise


def _scaled(values: Tensor) -> Tensor:
    return standardise(values, torch.arange(len(values)))[0]


def _n_classes(bounds: tuple[int, int], *, generator: torch.Generator) -> int:
    low, high = bounds
    return low + int((high - low + 1) * _uniform(generator) ** 2.5)


def _uniform(generator: torch.Generator) -> float:
    return float(torch.rand((), generator=generator))
