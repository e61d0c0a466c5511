"""What a target column is: classes or a quantity, and its values as a tensor.

Notation: m rows, c classes or outputs.
"""

from typing import Any

import numpy as np
import pandas as pd
import torch
from pandas.api import types
from torch import Tensor

from graphpred.errors import DataError, InputError
from graphpred.objective import Kind
from graphpred.tidying import require_text, tidy_column, word

MAX_INTEGER_CLASSES = 10
"""A target of whole numbers with more distinct values is a quantity, unless they are labels."""

MAX_INTEGER_LABELS = 20
"""Whole numbers without a gap from 0 or 1 are labels up to this many."""


def guess_kind(target: pd.Series) -> Kind:
    """Whether a target column is classes or a quantity.

    Text and booleans are classes, fractions a quantity. Whole numbers are classes if there are at
    most 10 of them, or at most 20 without a gap from 0 or 1; and three rows for each on average.

    >>> guess_kind(pd.Series([0, 1, 1, 0])), guess_kind(pd.Series([0.5, 1.0, 1.5]))
    ('classification', 'regression')
    """
    column = tidy_column(target)
    if not types.is_numeric_dtype(column.dtype) or types.is_bool_dtype(column.dtype):
        return "classification"
    values = np.unique(column.dropna())
    if len(values) <= 2 and bool((values == np.round(values)).all()):
        return "classification"
    if not np.isfinite(values).all() or bool((values != np.round(values)).any()):
        return "regression"
    gapless = values[0] in (0, 1) and values[-1] - values[0] == len(values) - 1
    few = len(values) <= (MAX_INTEGER_LABELS if gapless else MAX_INTEGER_CLASSES)
    return "classification" if few and 3 * len(values) <= len(column) else "regression"


def target_labels(target: pd.Series, *, kind: Kind) -> tuple[Tensor, tuple[str, ...]]:
    """Class indices, int64 ``(m,)``, or outputs, float64 ``(m, 1)``, and the names of c."""
    name = repr(target.name)
    require_values(str(target.name), n_missing=int(target.isna().sum()))
    if kind == "regression":
        return _outputs(target), (str(target.name),)
    if kind != "classification":
        raise InputError(f"kind must be classification or regression; got {kind!r}.")
    codes, values = pd.factorize(target, sort=True)
    if types.is_object_dtype(target.dtype) and len(values) > MAX_INTEGER_LABELS:
        require_text(target)
    words = tuple(word(value) for value in values)
    if len(words) < 2:
        raise DataError(f"target {name} must have two classes or more; all rows are {words[0]!r}.")
    if len(words) > max(2, len(codes) // 2):
        raise DataError(
            f"target {name} must have at least two rows per class; "
            f"got {len(words)} classes in {len(codes)} rows."
        )
    return torch.from_numpy(codes.astype(np.int64)), words


def require_values(name: str, *, n_missing: int) -> None:
    """Refuse a target that lacks values."""
    if n_missing:
        verb = "is" if n_missing == 1 else "are"
        raise DataError(
            f"target {name!r} must have a value in every row; {n_missing} {verb} missing."
        )


def rare_classes(labels: Tensor, class_names: tuple[str, ...]) -> list[str]:
    """A notice for every class that has too few rows for all three parts."""
    if labels.is_floating_point():
        return []
    counts = torch.bincount(labels).tolist()
    return [
        f"class {name!r} has only {count} row{'s' * (count > 1)}: some part of the split lacks it."
        for name, count in zip(class_names, counts, strict=True)
        if count < 3
    ]


def _outputs(target: pd.Series) -> Tensor:
    """Finite numbers that vary, float64 ``(m, 1)``."""
    name = repr(target.name)
    if not types.is_numeric_dtype(target.dtype):
        if not types.is_datetime64_any_dtype(target.dtype):
            require_text(target)
        raise DataError(
            f"the target of a regression must be numbers; {name} has {target.iloc[0]!r}."
        )
    values = target.to_numpy(dtype=np.float64)
    infinite = np.flatnonzero(np.isinf(values))
    if len(infinite):
        raise DataError(
            f"target {name} must be finite; row {infinite[0] + 1} has {values[infinite[0]]}."
        )
    if values.min() == values.max():
        raise DataError(
            f"the target of a regression must vary; {name} is {values[0]:g} in all rows."
        )
    return torch.from_numpy(values[:, None].copy())


def array_labels(
    y: np.ndarray[Any, Any], *, kind: Kind | None, class_names: tuple[str, ...] | None
) -> tuple[Tensor, tuple[str, ...]]:
    """Like ``target_labels`` for arrays: several outputs too, or classes without rows."""
    if kind not in (None, "classification", "regression"):
        raise InputError(f"kind must be classification or regression; got {kind!r}.")
    if y.ndim == 2 and y.shape[1] > 1:
        if kind == "classification":
            raise DataError(f"the classes of every row must be one number; y has shape {y.shape}.")
        outputs = [tidy_column(pd.Series(values, name=f"y{j}")) for j, values in enumerate(y.T)]
        columns = [target_labels(output, kind="regression")[0] for output in outputs]
        return torch.cat(columns, dim=1), class_names or tuple(str(out.name) for out in outputs)
    column = tidy_column(pd.Series(y.reshape(-1), name="y"))
    if class_names is None or kind == "regression":
        labels, names = target_labels(column, kind=kind or guess_kind(column))
        return labels, class_names or names
    codes = column.to_numpy()
    strange = ~np.isin(codes, np.arange(len(class_names)))
    if strange.any():
        raise DataError(
            f"y must index the {len(class_names)} class names; got {codes[strange][0]}."
        )
    return torch.from_numpy(codes.astype(np.int64)), class_names
