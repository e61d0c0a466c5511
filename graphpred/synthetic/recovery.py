"""How much of a true structure was found: edges, and which feature reaches which output.

Hidden neurons have no names, so edges are compared after matching them; paths from features to
outputs need no matching. Only live edges count. With h edges found that are true, f false ones and
u missed ones, precision is h / (h + f), recall h / (h + u), and

    F = h / (h + α f + β u)

is the index of Tversky, "Features of similarity" (1977): α and β are the paper's costs of false and
missed edges. α = β = 1/2 is F1, α = β = 1 the Jaccard index; where α + β = 1 it is the F-measure
whose parameter is (β / α)^½. Where nothing is true and nothing found, all are 1.
"""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from sklearn.metrics import average_precision_score
from torch import Tensor

from graphpred.architecture import Architecture
from graphpred.errors import InputError
from graphpred.matching import edge_differences, matching_order


@dataclass(frozen=True, kw_only=True)
class Overlap:
    """True and found things, counted.

    Attributes:
        hits: Found and true.
        false: Found and not true.
        missed: True and not found.
        alpha: Cost of a false one in ``f_score``.
        beta: Cost of a missed one.
    """

    hits: int
    false: int
    missed: int
    alpha: float
    beta: float

    @property
    def precision(self) -> float:
        """Share of the found that is true."""
        return self._share(self.false)

    @property
    def recall(self) -> float:
        """Share of the true that is found."""
        return self._share(self.missed)

    @property
    def f_score(self) -> float:
        """Tversky's index with ``alpha`` and ``beta``, in [0, 1]."""
        return self._share(self.alpha * self.false + self.beta * self.missed)

    @property
    def cost(self) -> float:
        """α · false + β · missed: the paper's closeness without its difference of quality."""
        return self.alpha * self.false + self.beta * self.missed

    def _share(self, wrong: float) -> float:
        if self.hits:
            return self.hits / (self.hits + wrong)
        return float(self.false + self.missed == 0)


@dataclass(frozen=True, kw_only=True)
class Recovery:
    """How much of a structure was found.

    Attributes:
        edges: Live edges, hidden neurons matched.
        paths: Pairs of a feature and an output that it reaches.
    """

    edges: Overlap
    paths: Overlap


def recovery(
    true: Architecture, found: Architecture, *, alpha: float = 0.5, beta: float = 0.5
) -> Recovery:
    """Score a structure against the true one.

    Args:
        true: The structure that is to be found.
        found: Likewise from the same features to the same outputs with as many layers; it may have
            more hidden neurons, or fewer.
        alpha: Cost of a false edge, positive.
        beta: Cost of a missed edge, positive.

    Raises:
        InputError: If features, outputs or layers differ in number, or a cost is not positive.

    >>> true = Architecture.from_masks([[[1, 0], [1, 1]], [[1], [1]]], hidden=["relu", "relu"])
    >>> found = Architecture.from_masks([[[1, 0], [0, 1]], [[1], [1]]], hidden=["relu", "relu"])
    >>> score = recovery(true, found, alpha=2.0, beta=1.0)
    >>> score.edges.precision, score.edges.recall, score.edges.f_score, score.paths.recall
    (1.0, 0.8, 0.8, 1.0)
    """
    if not (0 < alpha < torch.inf and 0 < beta < torch.inf):
        raise InputError(f"alpha and beta must be positive; got {alpha} and {beta}.")
    ends = [(z.widths[0], z.widths[-1], z.n_layers) for z in (true, found)]
    if ends[0] != ends[1]:
        raise InputError(
            "both structures must have the same features, outputs and layers; "
            f"got widths {true.widths} and {found.widths}."
        )
    widths = tuple(map(max, true.widths, found.widths))
    target, guess = (_widened(z.without_dead_edges(), widths) for z in (true, found))
    guess = guess.permuted(matching_order(target, guess, alpha=alpha, beta=beta))
    false, missed = edge_differences(target, guess)
    wanted, got = (reachable(z) for z in (true, found))  # (n, c)
    return Recovery(
        edges=Overlap(
            hits=target.n_edges - missed, false=false, missed=missed, alpha=alpha, beta=beta
        ),
        paths=Overlap(
            hits=int((wanted & got).sum()),
            false=int((got & ~wanted).sum()),
            missed=int((wanted & ~got).sum()),
            alpha=alpha,
            beta=beta,
        ),
    )


def reachable(z: Architecture) -> Tensor:
    """Which feature reaches which output. Bool, shape ``(n, c)``.

    >>> masks = [[[1, 0], [0, 1]], [[1, 0], [0, 0]]]
    >>> reachable(Architecture.from_masks(masks, hidden=["relu", "relu"]))
    tensor([[ True, False],
            [False, False]])
    """
    n = z.widths[0]
    reached = torch.zeros(n, z.n_neurons, dtype=torch.bool)
    reached[:, :n] = torch.eye(n, dtype=torch.bool)
    for source, target in z.edges[:, z.edges[1].argsort(stable=True)].T.tolist():
        reached[:, target] |= reached[:, source]
    return reached[:, z.starts[-2] :]


@dataclass(frozen=True, kw_only=True)
class PathScores:
    """How well probabilities tell true paths from others.

    Attributes:
        average_precision: Area under precision over recall; ``share`` if they tell nothing.
        calibration_error: Mean distance of probability from frequency over ten bins of equal
            width, weighted by their numbers.
        share: Of the pairs of feature and output that are true paths.
    """

    average_precision: float
    calibration_error: float
    share: float


def path_scores(true: Architecture, probabilities: Sequence[ArrayLike | Tensor]) -> PathScores:
    """Score edge probabilities by the paths that they make likely; hidden neurons need no match.

    Args:
        true: The structure that is to be found; a feature must reach an output.
        probabilities: Of the edges between consecutive layers, shape ``(n_{k-1}, n_k)`` each;
            hidden widths are free.

    Raises:
        InputError: If shapes do not fit or a probability is outside [0, 1].

    >>> true = Architecture.from_masks([[[1], [0]], [[1]]], hidden=["relu"])
    >>> path_scores(true, [[[0.9], [0.2]], [[1.0]]]).average_precision
    1.0
    """
    likely = path_probabilities(probabilities).numpy()  # (n, c)
    wanted = reachable(true).numpy()
    if likely.shape != wanted.shape or not wanted.any():
        raise InputError(
            f"probabilities must lead from {wanted.shape[0]} features to {wanted.shape[1]} outputs "
            f"of a structure with a path; got {likely.shape} and {int(wanted.sum())} paths."
        )
    return PathScores(
        average_precision=float(average_precision_score(wanted.ravel(), likely.ravel())),
        calibration_error=calibration_error(likely, wanted),
        share=float(wanted.mean()),
    )


def calibration_error(likely: NDArray[np.float64], true: NDArray[np.bool_]) -> float:
    """Mean distance of probability from frequency over ten bins of equal width.

    Bins count by their numbers. Few events make it large for any probabilities but 0 and 1, so
    those of many data sets should be judged together.

    Args:
        likely: Probabilities, any shape.
        true: What happened, of the same shape.

    >>> calibration_error(np.array([0.5, 0.5, 1.0, 1.0]), np.array([True, False, True, False]))
    0.25
    """
    bins = np.minimum((10 * likely).astype(np.int64), 9).ravel()
    surplus = np.bincount(bins, weights=(likely - true).ravel(), minlength=10)
    return float(np.abs(surplus).sum() / likely.size)


def path_probabilities(probabilities: Sequence[ArrayLike | Tensor]) -> Tensor:
    """Probability that a feature reaches an output, edges being independent.

    Exact with one hidden layer. With more it is too high by what paths share.

    Args:
        probabilities: Shape ``(n_{k-1}, n_k)`` each.

    Returns:
        Float64, shape ``(n, c)``.

    >>> path_probabilities([[[0.5, 0.5]], [[1.0], [1.0]]])
    tensor([[0.7500]], dtype=torch.float64)
    """
    layers = [torch.as_tensor(layer, dtype=torch.float64) for layer in probabilities]
    chained = all(a.shape[-1] == b.shape[0] for a, b in itertools.pairwise(layers))
    if not layers or any(layer.ndim != 2 for layer in layers) or not chained:
        shapes = [tuple(layer.shape) for layer in layers]
        raise InputError(f"probabilities must be matrices that chain; got shapes {shapes}.")
    if any(bool(((layer < 0) | (layer > 1) | layer.isnan()).any()) for layer in layers):
        raise InputError("probabilities must be in [0, 1]; some are not.")
    reach = layers[0]
    for layer in layers[1:]:
        reach = 1 - (1 - reach[:, :, None] * layer).prod(dim=1)  # (n, n_k)
    return reach


def _widened(z: Architecture, widths: tuple[int, ...]) -> Architecture:
    """The same network with unconnected neurons at the end of narrower hidden layers."""
    if z.widths == widths:
        return z
    offset = torch.tensor([sum(widths[:k]) - z.starts[k] for k in range(len(widths))])
    number = torch.arange(z.n_neurons) + offset[z.layer]  # (n_neurons,)
    activation = torch.zeros(sum(widths), dtype=torch.int64)
    activation[number] = z.activation
    return Architecture.from_edges(number[z.edges], activation=activation, widths=widths)
