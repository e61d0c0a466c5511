"""What people use without a search: scikit-learn's models, with their cost.

They are fitted to the training part alone, with scikit-learn's own settings.
"""

import time
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.multioutput import MultiOutputRegressor
from sklearn.neural_network import MLPClassifier, MLPRegressor
from torch import Tensor

from graphpred.compare.trajectory import Point
from graphpred.objective import Kind, Objective
from graphpred.task import Part, Task

REFERENCES: dict[str, dict[Kind, Callable[[int], Any]]] = {
    "linear": {
        "classification": lambda seed: LogisticRegression(max_iter=1000),
        "regression": lambda seed: Ridge(),
    },
    "mlp": {
        "classification": lambda seed: MLPClassifier(random_state=seed),
        "regression": lambda seed: MLPRegressor(random_state=seed),
    },
    "boosting": {
        "classification": lambda seed: HistGradientBoostingClassifier(random_state=seed),
        "regression": lambda seed: MultiOutputRegressor(
            HistGradientBoostingRegressor(random_state=seed)
        ),
    },
}
"""Reference lines by name; a key is a line of the table beside the searchers."""


def reference_point(name: str, *, task: Task, objective: Objective, seed: int) -> Point:
    """What one of ``REFERENCES`` reaches. Trees have no edges: K is 0 and costs nothing there."""
    X, y = (part.numpy() for part in task.rows("train"))
    target = y.ravel() if name == "mlp" and y.ndim == 2 and y.shape[1] == 1 else y
    model = REFERENCES[name][task.kind](seed)
    cpu, wall = time.process_time(), time.perf_counter()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        model.fit(X, target)
    cpu, wall = time.process_time() - cpu, time.perf_counter() - wall
    n_edges = _n_edges(model)
    losses = {
        part: _loss(model, task, part, objective=objective) for part in ("validation", "test")
    }
    cost = objective.cost(n_edges)
    return Point(
        evaluations=0.0,
        networks=0.0,
        cpu_seconds=cpu,
        wall_seconds=wall,
        validation_objective=losses["validation"] + cost,
        test_loss=losses["test"],
        test_objective=losses["test"] + cost,
        n_edges=n_edges,
        n_live_edges=n_edges,
    )


def _n_edges(model: Any) -> int:
    if hasattr(model, "coefs_"):
        return sum(weights.size for weights in model.coefs_)
    return int(np.count_nonzero(model.coef_)) if hasattr(model, "coef_") else 0


def _loss(model: Any, task: Task, part: Part, *, objective: Objective) -> float:
    X, y = task.rows(part)
    return float(objective.losses(_scores(model, X.numpy(), task=task)[None], y)[0])


def _scores(model: Any, X: np.ndarray[Any, Any], *, task: Task) -> Tensor:
    """Log-probabilities of all classes, or quantities. Float, shape ``(c, m)``."""
    if not task.is_classification:
        return torch.from_numpy(np.asarray(model.predict(X)).reshape(len(X), -1)).T
    scores = np.full((len(X), task.n_outputs), -50.0)  # for classes without a training row
    scores[:, model.classes_] = np.log(np.maximum(model.predict_proba(X), 1e-12))
    return torch.from_numpy(scores).T
