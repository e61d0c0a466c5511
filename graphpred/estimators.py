"""scikit-learn estimators: predict a sparse network for the data, train it, use it."""

from collections.abc import Sequence
from numbers import Integral, Real
from pathlib import Path
from typing import Any, Self

import numpy as np
import pandas as pd
import torch
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator, ClassifierMixin, RegressorMixin
from sklearn.utils import check_random_state
from sklearn.utils.validation import check_is_fitted

from graphpred.architecture import Architecture
from graphpred.errors import InputError
from graphpred.fitting import FitConfig, fit_predicted
from graphpred.meta.model import MetaModel
from graphpred.network import SparseNetwork
from graphpred.objective import Kind
from graphpred.tables import array_frame
from graphpred.task import Task

SELECTION_SHARE = 0.2
"""Share of the rows that candidates or numbers of edges are chosen on."""
_INTEGERS = ("steps", "candidates")
_NUMBERS = ("density", "penalty", *_INTEGERS)
_MAY_BE_NONE = ("density", "penalty")


class _GraphPredEstimator(BaseEstimator):  # type: ignore[misc]
    """What both estimators share; their own docstrings say what parameters mean."""

    _kind: Kind
    architecture_: Architecture
    network_: SparseNetwork
    edge_probabilities_: tuple[NDArray[np.float32], ...]
    activation_probabilities_: NDArray[np.float32]
    n_edges_: int
    n_features_in_: int
    feature_names_in_: NDArray[Any]

    def __init__(
        self,
        density: float | None = None,
        penalty: float | None = None,
        n_hidden: int | Sequence[int] | None = None,
        steps: int = 300,
        candidates: int = 1,
        meta_model: MetaModel | str | Path | None = None,
        random_state: int | np.random.RandomState | None = None,
    ) -> None:
        self.density = density
        self.penalty = penalty
        self.n_hidden = n_hidden
        self.steps = steps
        self.candidates = candidates
        self.meta_model = meta_model
        self.random_state = random_state

    def fit(self, X: ArrayLike | pd.DataFrame, y: ArrayLike) -> Self:
        """Predict a network for the data and train it.

        Args:
            X: Raw rows, shape ``(m, n_columns)``: numbers, or a frame with nominal, boolean, date
                and missing values.
            y: Classes or one quantity, shape ``(m,)``.

        Raises:
            GraphPredError: If the data or a parameter cannot be used.
        """
        if hasattr(self, "feature_names_in_"):
            del self.feature_names_in_
        seed = _seed(self.random_state)
        numbers = {name: _number(name, getattr(self, name)) for name in _NUMBERS}
        n_hidden = _hidden(self.n_hidden)
        config = FitConfig(**numbers, n_hidden=n_hidden, train_on="fit", seed=seed)
        rows, target = _frame(X), _array(y, name="y")
        if target.ndim != 1:
            raise InputError(f"y must have shape (m,); got {target.shape}.")
        task = Task.from_source(
            (rows, target),
            kind=self._kind,
            seed=seed,
            hold_out_test=False,
            validation_share=SELECTION_SHARE if config.needs_validation else 0.0,
        )
        self._remember(target, task)
        fitted = fit_predicted(task, self._model(), config=config)
        self.n_features_in_ = rows.shape[1]
        self._column_names, self._has_names = list(rows.columns), isinstance(X, pd.DataFrame)
        if isinstance(X, pd.DataFrame) and all(isinstance(name, str) for name in X.columns):
            self.feature_names_in_ = np.asarray(X.columns, dtype=object)
        self.network_ = fitted.network
        self.architecture_ = fitted.network.architecture
        self.edge_probabilities_ = tuple(p.numpy() for p in fitted.prediction.probabilities)
        self.activation_probabilities_ = fitted.prediction.activation_probabilities.numpy()
        self.n_edges_ = self.architecture_.n_live_edges
        return self

    def _model(self) -> MetaModel:
        if isinstance(self.meta_model, MetaModel):
            return self.meta_model
        if self.meta_model is not None and not isinstance(self.meta_model, str | Path):
            raise InputError(
                f"meta_model must be a MetaModel or a path; got {type(self.meta_model).__name__}."
            )
        return MetaModel.load(self.meta_model)

    def _remember(self, target: NDArray[Any], task: Task) -> None:
        """Keep what predictions need of the target."""

    def _rows(self, X: ArrayLike | pd.DataFrame) -> pd.DataFrame:
        """X with the names of the fit; by position, unless both X and the fit have names."""
        check_is_fitted(self, "network_")
        rows = _frame(X)
        if rows.shape[1] != self.n_features_in_:
            raise InputError(
                f"X must have the {self.n_features_in_} columns of the fit; got {rows.shape[1]}."
            )
        if self._has_names and isinstance(X, pd.DataFrame):
            return rows
        return rows.set_axis(self._column_names, axis="columns")


class GraphPredClassifier(ClassifierMixin, _GraphPredEstimator):  # type: ignore[misc]
    """Predict a sparse network for classes, train it, use it.

    All rows given to ``fit`` are for training and validation.

    Args:
        density: At most floor(density · N) live edges.
        penalty: C, the price of an edge in units of the loss, instead of a density. With neither,
            the number of edges is chosen on an internal validation split along ten prices.
        n_hidden: Hidden neurons, or those of every hidden layer, such as ``(13, 8)``; by default
            one layer of as many as features.
        steps: Optimiser steps from the predicted weights; 0 leaves them untouched.
        candidates: Structures drawn; the best on an internal validation split is kept.
        meta_model: A ``MetaModel``, the path of one, or None for the packaged one.
        random_state: Seed of latents, the internal split and batches.

    Attributes:
        classes_: The classes, sorted, shape ``(c,)``.
        architecture_: The ``Architecture``, with ``masks`` and ``activations``.
        network_: The trained ``SparseNetwork``, a torch module.
        edge_probabilities_: Of every possible edge, one array a layer of weights:
            ``(n_{k-1}, n_k)``, the widths of the layers from features to outputs.
        activation_probabilities_: Of every activation class in every hidden neuron, ``(h, a)``,
            layer after layer.
        n_edges_: Live edges.
        n_features_in_: Columns of X.
        feature_names_in_: Their names, if X is a frame whose names are all text.
    """

    _kind = "classification"

    def predict(self, X: ArrayLike | pd.DataFrame) -> NDArray[Any]:
        """Classes of raw rows, shape ``(m,)``."""
        likeliest = self.predict_proba(X).argmax(axis=1)
        chosen: NDArray[Any] = self.classes_[likeliest]
        return chosen

    def predict_proba(self, X: ArrayLike | pd.DataFrame) -> NDArray[np.float64]:
        """Probabilities in the order of ``classes_``, shape ``(m, c)``."""
        rows = self._rows(X)
        return self.network_.predict_proba(rows)[:, self._columns]

    def _remember(self, target: NDArray[Any], task: Task) -> None:
        """``classes_``, and where the network has them: it sorts "9" before "10"."""
        try:
            self.classes_, first = np.unique(target, return_index=True)
        except TypeError as error:
            raise InputError("y must hold classes of one type; it has text and others.") from error
        self._columns = task.y[torch.from_numpy(first)].numpy()
        names, counts = np.unique(self._columns, return_counts=True)
        if len(names) < len(self.classes_):
            alike = self.classes_[self._columns == names[counts.argmax()]]
            raise InputError(
                "classes must differ by more than how a number is written or blanks around it; "
                f"y has {', '.join(map(repr, alike.tolist()))}."
            )


class GraphPredRegressor(RegressorMixin, _GraphPredEstimator):  # type: ignore[misc]
    """Predict a sparse network for one quantity, train it, use it.

    All rows given to ``fit`` are for training and validation.

    Args:
        density: At most floor(density · N) live edges.
        penalty: C, the price of an edge in units of the loss, instead of a density. With neither,
            the number of edges is chosen on an internal validation split along ten prices.
        n_hidden: Hidden neurons, or those of every hidden layer, such as ``(13, 8)``; by default
            one layer of as many as features.
        steps: Optimiser steps from the predicted weights; 0 leaves them untouched.
        candidates: Structures drawn; the best on an internal validation split is kept.
        meta_model: A ``MetaModel``, the path of one, or None for the packaged one.
        random_state: Seed of latents, the internal split and batches.

    Attributes:
        architecture_: The ``Architecture``, with ``masks`` and ``activations``.
        network_: The trained ``SparseNetwork``, a torch module.
        edge_probabilities_: Of every possible edge, one array a layer of weights:
            ``(n_{k-1}, n_k)``, the widths of the layers from features to outputs.
        activation_probabilities_: Of every activation class in every hidden neuron, ``(h, a)``,
            layer after layer.
        n_edges_: Live edges.
        n_features_in_: Columns of X.
        feature_names_in_: Their names, if X is a frame whose names are all text.
    """

    _kind = "regression"

    def predict(self, X: ArrayLike | pd.DataFrame) -> NDArray[np.float64]:
        """The quantity for raw rows, in its own unit, shape ``(m,)``."""
        rows = self._rows(X)
        return self.network_.predict(rows)[:, 0]


def _number(name: str, value: Any) -> Any:
    """A parameter as a plain number or None; ``FitConfig`` says which numbers it may be."""
    if value is None and name in _MAY_BE_NONE:
        return None
    if _is_integer(value):
        return int(value)
    if type(value) is not bool and isinstance(value, Real) and name not in _INTEGERS:
        return float(value)
    what = "an integer" if name in _INTEGERS else "a number"
    or_none = " or None" if name in _MAY_BE_NONE else ""
    raise InputError(f"{name} must be {what}{or_none}; got {value!r}.")


def _hidden(value: Any) -> int | tuple[int, ...] | None:
    """Hidden neurons as plain numbers; ``MetaModel`` says which numbers they may be."""
    if value is None or _is_integer(value):
        return None if value is None else int(value)
    several = isinstance(value, Sequence | np.ndarray) and not isinstance(value, str)
    if several and all(_is_integer(h) for h in value):
        return tuple(int(h) for h in value)
    raise InputError(
        "n_hidden must be an integer, a sequence of integers (one for every hidden layer) or None; "
        f"got {value!r}."
    )


def _is_integer(value: Any) -> bool:
    return type(value) is not bool and isinstance(value, Integral)


def _seed(random_state: int | np.random.RandomState | None) -> int:
    """A seed from what scikit-learn takes as ``random_state``."""
    try:
        return int(check_random_state(random_state).randint(2**31 - 1))
    except ValueError as error:
        raise InputError(
            f"random_state must be an integer from 0 to 2**32 - 1; got {random_state!r}."
        ) from error


def _frame(X: ArrayLike | pd.DataFrame) -> pd.DataFrame:
    """A frame with its names as text, or an array's columns named by position."""
    if isinstance(X, pd.DataFrame):
        return X.set_axis([str(name) for name in X.columns], axis="columns")
    return array_frame(_array(X, name="X"))


def _array(values: ArrayLike, *, name: str) -> NDArray[Any]:
    try:
        return np.asarray(values)
    except ValueError as error:
        raise InputError(f"the rows of {name} must be equally long; they are not.") from error
