"""Families of score functions: what the target of a synthetic data set depends on.

Every family draws one function per data set and evaluates it: from columns, ``(b, n, m)``, of
which some are relevant, to scores, ``(b, c, m)``. A data set's scores are the sum of one to three
of them.

Notation: b data sets of one shape, n columns, m rows, c outputs, h units of a function.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from graphpred.activations import ACTIVATIONS, activation_indices
from graphpred.seeds import log_uniform
from graphpred.synthetic.draws import coin, log_uniform_counts, uniform, unit
from graphpred.synthetic.features import MAX_CLUSTERS

MAX_PARTS = 3
"""Functions that a data set's scores are the sum of, at most."""

_MONOTONE = ("identity", "relu", "tanh", "softplus")
_BENT = ("sin", "gaussian", "abs")
_REACH = 4.0  # functions see columns cut here, so that a heavy tail is not all there is


@dataclass(frozen=True, eq=False, kw_only=True)
class Inputs:
    """What functions are functions of.

    Attributes:
        X: Columns of all data sets, scaled and cut. Float, shape ``(B, n, m)``.
        data_sets: Which of them to draw functions for, repeats allowed. Int64, shape ``(b,)``.
        relevant: Columns that may matter, at least one for each. Bool, shape ``(b, n)``.
        cluster: Cluster of every row. Int64, shape ``(b, m)``.
    """

    X: Tensor
    data_sets: Tensor
    relevant: Tensor
    cluster: Tensor

    def __len__(self) -> int:
        return len(self.data_sets)

    def all_columns(self) -> Tensor:
        """Every column. Float, shape ``(b, n, m)``."""
        return self.X[self.data_sets]

    def columns(self, number: Tensor) -> Tensor:
        """Columns by number, int64 ``(b, k)``. Float, shape ``(b, k, m)``."""
        return self.X[self.data_sets[:, None], number]


class Family(Protocol):
    """A family of score functions."""

    def __call__(self, inputs: Inputs, c: int, *, generator: torch.Generator) -> Tensor:
        """Scores of one function per data set. Float, shape ``(b, c, m)``."""
        ...


def linear(inputs: Inputs, c: int, *, generator: torch.Generator) -> Tensor:
    """Weighted sums of the relevant columns, a few of them with most of the weight."""
    b, n = inputs.relevant.shape
    weights = torch.randn(b, c, n, generator=generator) * torch.rand(b, c, n, generator=generator)
    return (weights * inputs.relevant[:, None]) @ inputs.all_columns()


def network(inputs: Inputs, c: int, *, generator: torch.Generator) -> Tensor:
    """Sparse networks of one to three hidden layers, most of whose units are monotone."""
    depth = log_uniform(1, 3, generator=generator)
    values, relevant = inputs.all_columns(), inputs.relevant
    for _ in range(depth):
        h = log_uniform(2, 24, generator=generator)
        values = unit(_hidden_layer(values, relevant, h=h, generator=generator))
        relevant = torch.ones(len(values), h, dtype=torch.bool)
    readout = torch.randn(len(values), c, values.shape[1], generator=generator)
    return readout @ values


def trees(inputs: Inputs, c: int, *, generator: torch.Generator) -> Tensor:
    """One to four complete trees; every node asks for another column and threshold."""
    b, m = inputs.cluster.shape
    n_trees, depth = (log_uniform(1, 4, generator=generator) for _ in range(2))
    n_nodes = 2**depth - 1
    drawn = inputs.relevant.float().multinomial(
        n_trees * n_nodes, replacement=True, generator=generator
    )
    asked = inputs.columns(drawn)  # (b, n_trees * n_nodes, m)
    goes_right = asked > _thresholds(asked, generator=generator)[..., None]
    goes_right = goes_right.view(b * n_trees, n_nodes, m)
    node = torch.zeros(b * n_trees, 1, m, dtype=torch.int64)
    for _ in range(depth):
        node = 2 * node + 1 + goes_right.gather(1, node)
    leaf = (node - n_nodes).expand(-1, c, -1)  # (b * n_trees, c, m)
    values = torch.randn(b * n_trees, c, 2**depth, generator=generator)
    return values.gather(2, leaf).view(b, n_trees, c, m).sum(dim=1)


def rules(inputs: Inputs, c: int, *, generator: torch.Generator) -> Tensor:
    """Scores for rows that obey rules: conjunctions of one to four thresholds."""
    b, n_rules = len(inputs), max(2, log_uniform(2, 12, generator=generator), c)
    size = log_uniform(1, 4, generator=generator)
    column, drawn = _pick(inputs.relevant, (n_rules, size), generator=generator)
    holds = _literals(inputs, column, n_pairs=1, generator=generator)
    negated = coin(0.5, b, n_rules, size, 1, generator=generator)
    obeyed = ((holds ^ negated) | ~drawn[..., None]).all(dim=2)  # (b, n_rules, m)
    return torch.randn(b, c, n_rules, generator=generator) @ obeyed.float()


def parity(inputs: Inputs, c: int, *, generator: torch.Generator) -> Tensor:
    """Exclusive or of two or three thresholds; enough of them to tell c outputs apart."""
    b, n_bits = len(inputs), max(1, math.ceil(math.log2(c)))
    size = 2 + int(float(torch.rand((), generator=generator)) < 0.25)
    relevant = _at_least_two(inputs.relevant)
    column, drawn = _pick(relevant, (n_bits, size), generator=generator)
    holds = _literals(inputs, column, n_pairs=16, generator=generator)
    odd = (holds & drawn[..., None]).sum(dim=2) % 2  # (b, n_bits, m)
    code = (torch.arange(c)[:, None] >> torch.arange(n_bits)) % 2  # (c, n_bits)
    weight = uniform(0.7, 1.3, b, 1, n_bits, generator=generator)
    return ((2.0 * code - 1) * weight) @ (2.0 * odd - 1)


def products(inputs: Inputs, c: int, *, generator: torch.Generator) -> Tensor:
    """Sums of products of two or three columns."""
    b, n_products = len(inputs), log_uniform(1, 6, generator=generator)
    size = 2 + int(float(torch.rand((), generator=generator)) < 0.25)
    relevant = _at_least_two(inputs.relevant)
    column, drawn = _pick(relevant, (n_products, size), generator=generator)
    factors = inputs.columns(column.flatten(1)).view(*column.shape, -1)
    product = factors.masked_fill(~drawn[..., None], 1.0).prod(dim=2)  # (b, n_products, m)
    return torch.randn(b, c, n_products, generator=generator) @ product


def cells(inputs: Inputs, c: int, *, generator: torch.Generator) -> Tensor:
    """Scores of the nearest of some prototypes, with soft borders."""
    b, n = inputs.relevant.shape
    n_cells = max(c, log_uniform(3, 16, generator=generator))
    prototypes = torch.randn(b, n_cells, n, generator=generator) * inputs.relevant[:, None]
    distance = prototypes.square().sum(dim=2, keepdim=True) - 2 * prototypes @ inputs.all_columns()
    hardness = uniform(0.5, 4.0, b, 1, 1, generator=generator)
    nearest = torch.softmax(-hardness * distance, dim=1)  # (b, n_cells, m)
    return torch.randn(b, c, n_cells, generator=generator) @ nearest


def clusters(inputs: Inputs, c: int, *, generator: torch.Generator) -> Tensor:
    """Scores of the cluster that a row was drawn from, which its columns may tell or not."""
    scores = torch.randn(len(inputs), c, MAX_CLUSTERS, generator=generator)
    return scores.gather(2, inputs.cluster[:, None].expand(-1, c, -1))


FAMILIES: dict[str, Family] = {
    "linear": linear,
    "network": network,
    "trees": trees,
    "rules": rules,
    "parity": parity,
    "products": products,
    "cells": cells,
    "clusters": clusters,
}
FAMILY_WEIGHTS: dict[str, float] = {
    "linear": 6.0,
    "network": 5.0,
    "trees": 1.0,
    "rules": 0.4,
    "parity": 0.15,
    "products": 0.3,
    "cells": 0.3,
    "clusters": 0.6,
}
"""How often each family is drawn, relative to the others that are allowed.

Chosen so that linear models find about as much of what boosted trees find as on real tables."""
BENT_SHARE = 0.15
"""Share of a network's units whose activation is not monotone."""


def draw_parts(b: int, *, families: Sequence[str], generator: torch.Generator) -> Tensor:
    """Families of every data set's parts, as positions in ``FAMILIES``; -1 for no part.

    Returns:
        Int64, shape ``(b, MAX_PARTS)``; the first part is always there.
    """
    weights = torch.tensor([FAMILY_WEIGHTS[f] * (f in families) for f in FAMILIES])
    drawn = weights.multinomial(b * MAX_PARTS, replacement=True, generator=generator)
    n_parts = log_uniform_counts(1, MAX_PARTS, b, 1, generator=generator)
    return drawn.view(b, MAX_PARTS).masked_fill(torch.arange(MAX_PARTS) >= n_parts, -1)


def draw_relevant(b: int, n: int, *, generator: torch.Generator) -> Tensor:
    """Which columns matter: one to all of them, the number log-uniform. Bool, ``(b, n)``."""
    n_relevant = log_uniform_counts(1, n, b, 1, generator=generator)
    return torch.rand(b, n, generator=generator).argsort(dim=1).argsort(dim=1) < n_relevant


def draw_scores(
    X: Tensor, c: int, *, parts: Tensor, cluster: Tensor, generator: torch.Generator
) -> Tensor:
    """Scores of b data sets: weighted sums of their parts, scaled.

    Args:
        X: Complete columns, scaled. Float, shape ``(b, n, m)``.
        c: Outputs.
        parts: See ``draw_parts``.
        cluster: Cluster of every row. Int64, shape ``(b, m)``.
        generator: Source of randomness.

    Returns:
        Float, shape ``(b, c, m)``; mean 0 and deviation 1 over the rows.
    """
    b, n, m = X.shape
    X = X.clamp(-_REACH, _REACH)
    relevant = draw_relevant(b, n, generator=generator)
    total = torch.zeros(b, c, m)
    for number, family in enumerate(FAMILIES.values()):
        data_sets = (parts == number).nonzero()[:, 0]  # (k,), repeats if a family comes twice
        if len(data_sets):
            inputs = Inputs(
                X=X, data_sets=data_sets, relevant=relevant[data_sets], cluster=cluster[data_sets]
            )
            scores = unit(family(inputs, c, generator=generator))
            weight = uniform(0.3, 1.3, len(data_sets), 1, 1, generator=generator)
            total.index_add_(0, data_sets, weight * scores)
    return unit(total)


def _hidden_layer(
    values: Tensor, relevant: Tensor, *, h: int, generator: torch.Generator
) -> Tensor:
    """A layer whose units see at most five inputs each. Float, shape ``(b, h, m)``.

    Units with the same number have the same activation in all b data sets, and units of one
    activation stand together, so that each is one operation.
    """
    b, n, _ = values.shape
    fan_in = log_uniform(1, min(n, 5), generator=generator)
    column, drawn = _pick(relevant, (h, fan_in), generator=generator)
    slope = uniform(0.3, 1.2, b, h, 1, generator=generator) / math.sqrt(fan_in)
    weight = slope * torch.randn(b, h, fan_in, generator=generator) * drawn
    dense = torch.zeros(b, h, n).scatter_(2, column, weight)
    summed = torch.baddbmm(torch.randn(b, h, 1, generator=generator), dense, values)
    classes = activation_indices((*_MONOTONE, *_BENT))
    share = torch.full((len(classes),), (1 - BENT_SHARE) / len(_MONOTONE))
    share[len(_MONOTONE) :] = BENT_SHARE / len(_BENT)
    drawn_classes = share.multinomial(h, replacement=True, generator=generator)
    counts = drawn_classes.bincount(minlength=len(classes))
    fired = [
        ACTIVATIONS[index].function(part)
        for index, part in zip(classes, summed.split(counts.tolist(), dim=1), strict=True)
    ]
    return torch.cat(fired, dim=1)


def _pick(
    relevant: Tensor, shape: tuple[int, int], *, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """Draw k sets of different relevant columns per data set.

    Args:
        relevant: Bool, shape ``(b, n)``.
        shape: ``(k, size)``.
        generator: Source of randomness.

    Returns:
        Columns, int64, shape ``(b, k, size)``; and whether they are drawn, bool, the same shape:
        where fewer than ``size`` are relevant, the rest of the set is to be ignored.
    """
    (b, n), (k, size) = relevant.shape, shape
    rank = torch.rand(b, k, n, generator=generator).masked_fill_(~relevant[:, None], -1.0)
    top = rank.topk(min(size, n), dim=2)
    column, drawn = top.indices, top.values >= 0
    if size > n:
        padding = (0, size - n)
        column = torch.nn.functional.pad(column, padding)
        drawn = torch.nn.functional.pad(drawn, padding)
    return column, drawn


def _at_least_two(relevant: Tensor) -> Tensor:
    """All columns instead, where only one is relevant: an interaction needs two."""
    return relevant | (relevant.sum(dim=1, keepdim=True) < 2)


def _literals(
    inputs: Inputs, column: Tensor, *, n_pairs: int, generator: torch.Generator
) -> Tensor:
    """Whether rows are above thresholds on some columns.

    Args:
        inputs: The columns.
        column: Which of them, int64, shape ``(b, k, size)``.
        n_pairs: See ``_thresholds``.
        generator: Source of randomness.

    Returns:
        Bool, shape ``(b, k, size, m)``.
    """
    chosen = inputs.columns(column.flatten(1))  # (b, k * size, m)
    threshold = _thresholds(chosen, n_pairs=n_pairs, generator=generator)
    return (chosen > threshold[..., None]).view(*column.shape, -1)


def _thresholds(columns: Tensor, *, n_pairs: int = 1, generator: torch.Generator) -> Tensor:
    """A threshold per column: the mean of some pairs of its different values.

    A column of two values is so cut between them, and others near where their values are.

    Args:
        columns: Float, shape ``(b, k, m)``.
        n_pairs: How many; more give thresholds nearer the middle.
        generator: Source of randomness.

    Returns:
        Float, shape ``(b, k)``.
    """
    b, k, m = columns.shape
    n_tries = 5 + n_pairs
    rows = torch.randint(m, (b, k, 2 * n_tries), generator=generator)
    low, high = columns.gather(2, rows).view(b, k, n_tries, 2).unbind(dim=3)  # (b, k, n_tries)
    differs = low != high
    used = differs & (differs.cumsum(dim=2) <= n_pairs)
    return ((low + high) / 2 * used).sum(dim=2) / used.sum(dim=2).clamp(min=1)
