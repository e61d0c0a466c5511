"""Turning the raw columns of a table into standardised numbers, with a state that is plain JSON.

Every column gives some parts (see ``graphpred.columns``); a part that varies over the training rows
is a feature, standardised by its mean and deviation there.
"""

import sys
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from pandas.api import types

from graphpred.columns import (
    Column,
    Floats,
    NominalColumn,
    NumericColumn,
    column_from_json,
    column_to_json,
    finite_numbers,
    fit_column,
)
from graphpred.errors import DataError
from graphpred.tidying import is_nominal, require_text, tidy_column

Spread = tuple[float, float]
"""Mean and deviation of a part over the training rows; the latter is 0 if the part is constant."""

MAX_DEVIATIONS = 30.0
"""Parts are cut at this distance from the mean they are fitted with, so that float32 holds them."""


@dataclass(frozen=True)
class Feature:
    """One column of the encoded matrix: a standardised part.

    Attributes:
        name: Unique among the features.
        column: Index of the column it comes from.
        part: Which of the parts of that column it is.
        mean: Subtracted from the part.
        scale: Divides the difference; 0 for a feature that is always 0.
        low: Parts under it count as it, whatever mean and scale become; see ``rescaled``.
        high: Likewise for parts over it.
    """

    name: str
    column: int
    part: int
    mean: float
    scale: float
    low: float
    high: float

    @classmethod
    def fit(cls, name: str, *, column: int, part: int, mean: float, scale: float) -> "Feature":
        """The feature that cuts its part at ``MAX_DEVIATIONS`` from the mean."""
        reach = MAX_DEVIATIONS * scale
        low, high = max(mean - reach, -sys.float_info.max), min(mean + reach, sys.float_info.max)
        return cls(name, column, part, mean=mean, scale=scale, low=low, high=high)

    def standardise(self, values: Floats) -> Floats:
        """The column of the encoded matrix from the part, shape ``(m,)`` each."""
        if not self.scale > 0:
            return np.zeros_like(values)
        half = 0.5 if self.scale > 1 else 1.0  # exact; the difference of huge numbers overflows
        cut = np.clip(values, self.low, self.high)
        return (cut * half - self.mean * half) / (self.scale * half)

    def rescaled(self, *, mean: float, scale: float) -> "Feature":
        """The feature whose value x becomes ``(x - mean) / scale``; it cuts where it did."""
        return replace(self, mean=self.mean + self.scale * mean, scale=self.scale * scale)


@dataclass(frozen=True)
class TableEncoder:
    """From the raw columns of a table to standardised numbers.

    Attributes:
        columns: The raw columns that are used.
        features: The columns of the encoded matrix, in order.
        notices: One sentence for every column that was left out.

    >>> frame = pd.DataFrame({"size": [1.0, 2.0, 3.0], "colour": ["red", "blue", "red"]})
    >>> encoder = TableEncoder.fit(frame)
    >>> encoder.feature_names
    ('size', 'colour=red')
    >>> encoder.transform(frame.head(1)).round(2)
    array([[-1.22,  0.71]], dtype=float32)
    """

    columns: tuple[Column, ...]
    features: tuple[Feature, ...]
    notices: tuple[str, ...]

    @classmethod
    def fit(
        cls,
        frame: pd.DataFrame,
        *,
        rows: Sequence[int] | NDArray[np.integer[Any]] | None = None,
        nominal: Collection[str] = frozenset(),
    ) -> "TableEncoder":
        """Learn the encoding from the training rows.

        Args:
            frame: Raw features, m rows.
            rows: Positions of the training rows; all by default. Int, shape ``(m_train,)``.
            nominal: Columns to take as nominal besides text and names that end in ``#c``.

        Raises:
            DataError: If a column cannot be encoded, or none varies over the training rows.
        """
        positions = np.arange(len(frame)) if rows is None else np.asarray(rows, dtype=np.int64)
        fitted = _fitted_columns(frame, positions=positions, nominal=nominal)
        return cls.of_columns(fitted, n_columns=len(frame.columns))

    @classmethod
    def of_columns(
        cls, fitted: Iterable[tuple[Column, Sequence[Spread]] | str], *, n_columns: int
    ) -> "TableEncoder":
        """The encoder of fitted columns, without those of which no part varies.

        Args:
            fitted: For every raw column what it became, with the spread of each of its parts; or
                a sentence on why it is left out.
            n_columns: How many there are, for the message of the error.

        Raises:
            DataError: If no part varies.
        """
        columns: list[Column] = []
        features: list[Feature] = []
        notices: list[str] = []
        for found in fitted:
            if isinstance(found, str):
                notices.append(found)
                continue
            column, spreads = found
            parts = _varying(column, spreads, index=len(columns))
            if parts:
                columns.append(column)
                features += parts
            else:
                notices.append(
                    f"column {column.name!r} is constant in the training rows: left out."
                )
        if not features:
            raise DataError(
                "a table must have a feature that varies over the training rows; "
                f"none of its {n_columns} columns does."
            )
        return cls(tuple(columns), _unique_names(features), tuple(notices))

    @classmethod
    def of_numbers(
        cls, names: Sequence[str], *, mean: Sequence[float], scale: Sequence[float]
    ) -> "TableEncoder":
        """The encoder of columns of numbers that scales them, cuts them and keeps every one.

        Args:
            names: Of the n columns.
            mean: Subtracted; it also stands for a missing number. Shape ``(n,)``.
            scale: Divides the difference; 0 for a column that becomes 0. Shape ``(n,)``.
        """
        columns = tuple(
            NumericColumn(name=name, fill=fill, has_missing=False)
            for name, fill in zip(names, mean, strict=True)
        )
        features = tuple(
            Feature.fit(name, column=j, part=0, mean=shift, scale=factor)
            for j, (name, shift, factor) in enumerate(zip(names, mean, scale, strict=True))
        )
        return cls(columns, features, ())

    @property
    def feature_names(self) -> tuple[str, ...]:
        """Names of the columns of the encoded matrix."""
        return tuple(feature.name for feature in self.features)

    @property
    def nominal(self) -> frozenset[str]:
        """Names of the raw columns that are read as text; see ``read_table``."""
        return frozenset(c.name for c in self.columns if isinstance(c, NominalColumn))

    def transform(self, frame: pd.DataFrame) -> NDArray[np.float32]:
        """Encode raw rows.

        Args:
            frame: The columns that were fitted, in any order, m rows; others are ignored.

        Returns:
            The encoded matrix, shape ``(m, n)``.

        Raises:
            DataError: If a column is absent or holds something else than at the fit.
        """
        absent = [column.name for column in self.columns if column.name not in frame.columns]
        if absent:
            names = ", ".join(repr(name) for name in absent)
            raise DataError(f"the table must have every fitted column; it lacks {names}.")
        place = {(f.column, f.part): (j, f) for j, f in enumerate(self.features)}
        encoded = np.zeros((len(frame), len(self.features)), dtype=np.float32)  # (m, n)
        for index, column in enumerate(self.columns):
            nominal = isinstance(column, NominalColumn)
            raw = tidy_column(frame[column.name], nominal=nominal)
            for part, values in enumerate(column.parts(raw)):
                j, feature = place.get((index, part), (0, None))
                if feature is not None:
                    encoded[:, j] = feature.standardise(values)
        return encoded

    def rescaled(self, *, mean: Sequence[float], scale: Sequence[float]) -> "TableEncoder":
        """The encoder whose output x becomes ``(x - mean) / scale``, or 0 where scale is 0.

        Args:
            mean: One number per feature, shape ``(n,)``.
            scale: One number per feature, shape ``(n,)``.
        """
        features = tuple(
            feature.rescaled(mean=float(shift), scale=float(factor))
            for feature, shift, factor in zip(self.features, mean, scale, strict=True)
        )
        return replace(self, features=features)

    def to_json(self) -> dict[str, Any]:
        """The whole state as plain JSON types; floats stay exact."""
        return {
            "columns": [{"kind": column.kind, **column_to_json(column)} for column in self.columns],
            "features": [asdict(feature) for feature in self.features],
            "notices": list(self.notices),
        }

    @classmethod
    def from_json(cls, state: dict[str, Any]) -> "TableEncoder":
        """The encoder that gave ``to_json``.

        Raises:
            DataError: If the state is not one of an encoder.
        """
        try:
            columns = tuple(column_from_json(column) for column in state["columns"])
            features = tuple(Feature(**feature) for feature in state["features"])
            return cls(columns, features, tuple(state["notices"]))
        except (KeyError, TypeError) as error:
            raise DataError(f"the state of a table encoder is damaged: {error!r}.") from error


def _checked(column: pd.Series, *, nominal: bool) -> pd.Series:
    """Refuse what no training row may excuse: infinities, text among numbers."""
    if types.is_numeric_dtype(column.dtype):
        finite_numbers(column)
    elif not nominal and types.is_object_dtype(column.dtype):
        require_text(column)
    return column


def _fitted_columns(
    frame: pd.DataFrame, *, positions: NDArray[np.int64], nominal: Collection[str]
) -> Iterator[tuple[Column, list[Spread]] | str]:
    """See ``TableEncoder.of_columns``; ``positions`` are those of the training rows."""
    for name in frame.columns:
        declared = name in nominal or is_nominal(name)
        whole = tidy_column(frame[name], nominal=declared)
        training = _checked(whole, nominal=declared).iloc[positions]
        column = fit_column(training) if training.notna().any() else None
        if column is not None:
            yield column, [_spread(values) for values in column.parts(training)]
        elif training.notna().any():
            yield identifies(name)
        else:
            yield has_no_value(name)


def has_no_value(name: str) -> str:
    """Why an empty column is left out."""
    return f"column {name!r} has no value in the training rows: left out."


def identifies(name: str) -> str:
    """Why a column of text that only identifies rows is left out."""
    return f"column {name!r} has nearly as many levels as rows: left out."


def _spread(values: Floats) -> Spread:
    """Of one part, shape ``(m,)``."""
    size = float(np.abs(values).max()) or 1.0
    unit = values / size  # no overflow in the squares
    varies = values.min() < values.max()
    return float(unit.mean()) * size, float(unit.std()) * size if varies else 0.0


def _varying(column: Column, spreads: Sequence[Spread], *, index: int) -> list[Feature]:
    """The features of a column: its parts that vary over the training rows."""
    return [
        Feature.fit(name, column=index, part=part, mean=mean, scale=scale)
        for part, (name, (mean, scale)) in enumerate(zip(column.part_names, spreads, strict=True))
        if 0 < scale < np.inf
    ]


def _unique_names(features: list[Feature]) -> tuple[Feature, ...]:
    """Mark a name that two columns gave, such as the level ``a=b`` and a column ``a=b``."""
    unique: dict[str, Feature] = {}
    for feature in features:
        name = feature.name
        while name in unique:
            name += "'"
        unique[name] = replace(feature, name=name)
    return tuple(unique.values())
