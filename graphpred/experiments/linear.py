"""Rivals without hidden neurons that learn, and boosted trees.

L1 logistic regression and the lasso are fitted for a whole path of penalties at once by FISTA (Beck
and Teboulle, "A fast iterative shrinkage-thresholding algorithm", 2009).
Notation: m rows, n features, c outputs (1 for two classes: their log odds), P penalties.
"""

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from torch import Tensor
from torch.nn import functional

from graphpred.activations import IDENTITY
from graphpred.architecture import Architecture
from graphpred.experiments.outcome import Outcome
from graphpred.searchers.sparsified import masked, strongest_live
from graphpred.task import Task
from graphpred.weights import Weights

N_PENALTIES = 40
SMALLEST_PENALTY = 1e-3
"""Of the path, in units of the least penalty that leaves no coefficient."""
REFIT_PENALTY = 1e-3
"""Half the weight of the squared coefficients when the chosen ones are fitted again."""
ITERATIONS = 300
RIDGE_PENALTIES = (1e-3, 1e-2, 1e-1, 1.0)
LOGISTIC_INVERSE_PENALTIES = (0.01, 0.1, 1.0, 10.0)
LEAVES = (31, 8)
"""Leaves of a tree of boosting; the better number by validation is taken."""


def l1_path(task: Task) -> Outcome:
    """L1 logistic regression or the lasso at P penalties, as fitted and refitted almost freely.

    Returns:
        Of 2P candidates; the nonzero coefficients count as edges, intercepts do not.
    """
    X, Y, link = _problem(task)
    largest = float((X.T @ (Y - Y.mean(dim=0))).abs().max()) / len(X)
    penalties = largest * torch.logspace(0, np.log10(SMALLEST_PENALTY), N_PENALTIES)
    free = torch.ones(N_PENALTIES, X.shape[1], Y.shape[1])
    coefficients, intercepts = _fista(X, Y, link=link, l1=penalties, allowed=free)
    refit, refit_intercepts = _fista(
        X, Y, link=link, l1=0 * penalties, l2=REFIT_PENALTY, allowed=(coefficients != 0).float()
    )
    W, b = torch.cat([coefficients, refit]), torch.cat([intercepts, refit_intercepts])

    def scores(rows: Tensor) -> Tensor:
        return _with_two_classes(torch.einsum("mn,pnc->pcm", rows, W) + b[:, :, None], task)

    n_edges = (W != 0).sum(dim=(1, 2)).tolist()
    return Outcome.measured(task, scores, n_edges=n_edges)


@dataclass(frozen=True, kw_only=True)
class _Link:
    """Of a loss.

    Attributes:
        mean: From linear scores, outputs last, to what Y is compared with.
        curvature: Largest second derivative of the loss in a linear score.
    """

    mean: Callable[[Tensor], Tensor]
    curvature: float


def _problem(task: Task) -> tuple[Tensor, Tensor, _Link]:
    """Training rows, ``(m, n)``, their targets, ``(m, c)``, and the link."""
    X, y = task.rows("train")
    if not task.is_classification:
        return X, y, _Link(mean=lambda scores: scores, curvature=1.0)
    if task.n_outputs == 2:
        return X, y[:, None].float(), _Link(mean=torch.sigmoid, curvature=0.25)
    softmax = _Link(mean=lambda scores: scores.softmax(dim=-1), curvature=0.5)
    return X, functional.one_hot(y, task.n_outputs).float(), softmax


def _fista(
    X: Tensor, Y: Tensor, *, link: _Link, l1: Tensor, allowed: Tensor, l2: float = 0.0
) -> tuple[Tensor, Tensor]:
    """Minimise mean loss + l1·‖W‖₁ + l2/2·‖W‖² for P penalties at once.

    Args:
        X: Float, shape ``(m, n)``.
        Y: Float, shape ``(m, c)``.
        link: Of the loss.
        l1: Float, shape ``(P,)``.
        allowed: 1 where a coefficient may differ from zero. Float, shape ``(P, n, c)``.
        l2: One for all.

    Returns:
        Coefficients ``(P, n, c)`` and intercepts ``(P, c)``.
    """
    m = len(X)
    ones = torch.cat([X, torch.ones(m, 1)], dim=1)  # (m, n + 1)
    step = 1 / (link.curvature * float(torch.linalg.matrix_norm(ones, 2)) ** 2 / m + l2)
    threshold = torch.cat([step * l1[:, None].expand(-1, X.shape[1]), 0 * l1[:, None]], dim=1)
    mask = torch.cat([allowed, torch.ones_like(allowed[:, :1])], dim=1)  # (P, n + 1, c)
    W, ahead, momentum = torch.zeros_like(mask), torch.zeros_like(mask), 1.0
    for _ in range(ITERATIONS):
        scores = torch.einsum("mn,pnc->pmc", ones, ahead)
        gradient = torch.einsum("mn,pmc->pnc", ones, link.mean(scores) - Y) / m
        gradient[:, :-1] += l2 * ahead[:, :-1]
        moved = (ahead - step * gradient) * mask
        new = moved.sign() * (moved.abs() - threshold[:, :, None]).clamp(min=0)
        next_momentum = (1 + (1 + 4 * momentum**2) ** 0.5) / 2
        ahead = new + (momentum - 1) / next_momentum * (new - W)
        W, momentum = new, next_momentum
    return W[:, :-1], W[:, -1]


def _with_two_classes(scores: Tensor, task: Task) -> Tensor:
    """Add the scores of the first of two classes, zeros. ``(P, c, m)``."""
    if not task.is_classification or task.n_outputs != 2:
        return scores
    return torch.cat([torch.zeros_like(scores), scores], dim=1)


def ridge_coefficients(task: Task, penalty: float) -> tuple[Tensor, Tensor]:
    """(XᵀX/m + penalty·I)⁻¹ XᵀY/m on centred training rows, and intercepts.

    Returns:
        Coefficients, ``(n, c)``, and intercepts, ``(c,)``; with all classes of a classification.
    """
    X, y = task.rows("train")
    Y = functional.one_hot(y, task.n_outputs).double() if task.is_classification else y.double()
    mean, shift = X.double().mean(dim=0), Y.mean(dim=0)
    centred = X.double() - mean
    gram = centred.T @ centred / len(X) + penalty * torch.eye(X.shape[1], dtype=torch.float64)
    W = torch.linalg.solve(gram, centred.T @ (Y - shift) / len(X))
    return W.float(), (shift - mean @ W).float()


def ridge_network(task: Task, *, penalty: float, n_edges: int) -> tuple[Architecture, Weights]:
    """The largest ridge coefficients as a network of one identity unit an output.

    Of two classes only the second has a unit: the first one's coefficients are its mirror image.

    Args:
        task: The data set.
        penalty: Of ridge regression.
        n_edges: Largest K*: coefficients, and one edge out of every unit.
    """
    W, intercepts = ridge_coefficients(task, penalty)
    n, c = W.shape
    if task.is_classification and c == 2:
        W, intercepts = torch.stack([0 * W[:, 0], W[:, 1]], dim=1), intercepts.clone()
        intercepts[0] = 0.5
    strength = torch.where(W != 0, W.abs(), -torch.inf)
    outgoing = torch.full((c, c), -torch.inf).fill_diagonal_(1e9)
    masks = strongest_live(strength, outgoing, n_edges=n_edges)
    space = Architecture(
        edges=torch.empty(2, 0, dtype=torch.int64),
        activation=torch.full((n + 2 * c,), IDENTITY),
        widths=(n, c, c),
    )
    z = masked(space, masks)
    edge = torch.cat([W[masks[0]], torch.ones(int(masks[1].sum()))])
    return z, Weights(edge=edge, bias=torch.cat([torch.zeros(c), intercepts]))


def linear_models(task: Task) -> Outcome:
    """Dense logistic or ridge regression at several penalties."""
    if task.is_classification:
        return _logistic(task)
    fitted = [ridge_coefficients(task, penalty) for penalty in RIDGE_PENALTIES]
    W, b = (torch.stack(parts) for parts in zip(*fitted, strict=True))
    return Outcome.measured(
        task,
        lambda rows: torch.einsum("mn,pnc->pcm", rows, W) + b[:, :, None],
        n_edges=[W[0].numel()] * len(W),
    )


def _logistic(task: Task) -> Outcome:
    X, y = (part.numpy() for part in task.rows("train"))
    models = [LogisticRegression(C=C, max_iter=1000) for C in LOGISTIC_INVERSE_PENALTIES]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        for model in models:
            model.fit(X, y)
    return Outcome.measured(
        task, _probabilities(models, task), n_edges=[model.coef_.size for model in models]
    )


def boosted_trees(task: Task, *, seed: int) -> Outcome:
    """Histogram gradient boosting with trees of several sizes; it has no edges."""
    X, y = (part.numpy() for part in task.rows("train"))
    settings = [{"max_leaf_nodes": leaves, "random_state": seed} for leaves in LEAVES]
    nothing = [float("nan")] * len(settings)
    if task.is_classification:
        models = [HistGradientBoostingClassifier(early_stopping=False, **s) for s in settings]
        for model in models:
            model.fit(X, y)
        return Outcome.measured(task, _probabilities(models, task), n_edges=nothing)
    outputs = [
        [HistGradientBoostingRegressor(early_stopping=False, **s).fit(X, column) for column in y.T]
        for s in settings
    ]

    def scores(rows: Tensor) -> Tensor:
        predicted = [[model.predict(rows.numpy()) for model in models] for models in outputs]
        return torch.from_numpy(np.array(predicted))  # (k, c, m)

    return Outcome.measured(task, scores, n_edges=nothing)


def _probabilities(models: Sequence[object], task: Task) -> Callable[[Tensor], Tensor]:
    """Scores of classifiers of scikit-learn; a class without training rows has none."""

    def scores(rows: Tensor) -> Tensor:
        table = torch.zeros(len(models), task.n_outputs, len(rows), dtype=torch.float64)
        for own, model in zip(table, models, strict=True):
            own[model.classes_] = torch.from_numpy(model.predict_proba(rows.numpy()).T).double()  # type: ignore[attr-defined]
        return table

    return scores
