"""Turning the raw columns of a table into standardised numbers, with a state that is plain JSON.

Every column gives some *parts*, one number a row each; a part that varies over the training rows
is a feature, standardised by its mean and deviation there:

- numbers and booleans: the value, the median of the training rows where it is missing;
- nominal: one part per level, 0 or 1. Two levels give one part. Above ten levels the nine most
  frequent ones have a part each and all others, also levels never seen, share ``name=other``;
  below, a level never seen is 0 in all parts. Text with more levels than half its rows is an
  identifier and is left out;
- dates: year, month, weekday (0 is Monday), and days since the earliest training date; a missing
  date is the median one;
- all of them: ``name?``, 1 where the value is missing, if it ever is in the training rows.
"""

from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any, ClassVar

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from pandas.api import types

from graphpred.errors import DataError
from graphpred.tables import is_nominal, require_text, tidy_column

Floats = NDArray[np.float64]

MAX_LEVELS = 10
"""Nominal columns with more levels share one part among the rare ones."""

MAX_DEVIATIONS = 30.0
"""Standardised values are cut at this distance from the mean, so that float32 holds them."""

_DAY = 86_400  # seconds


@dataclass(frozen=True)
class NumericColumn:
    """A column of numbers or booleans.

    Attributes:
        name: Of the raw column.
        fill: The number that stands for a missing one.
        has_missing: Whether a part marks the missing values.
    """

    kind: ClassVar[str] = "numeric"
    name: str
    fill: float
    has_missing: bool

    @classmethod
    def fit(cls, training: pd.Series) -> "NumericColumn":
        """Take the median of the training rows, shape ``(m,)``."""
        numbers = _numbers(training)
        missing = np.isnan(numbers)
        middle = np.sort(numbers[~missing])
        low, high = middle[(len(middle) - 1) // 2], middle[len(middle) // 2]
        fill = float(low / 2 + high / 2) if low != high else float(low)
        return cls(name=str(training.name), fill=fill, has_missing=bool(missing.any()))

    @property
    def part_names(self) -> tuple[str, ...]:
        """One name per part."""
        return (self.name, f"{self.name}?") if self.has_missing else (self.name,)

    def parts(self, column: pd.Series) -> Iterator[Floats]:
        """The parts of a tidy column, shape ``(m,)`` each, in the order of ``part_names``."""
        numbers = _numbers(column)
        missing = np.isnan(numbers)
        yield np.where(missing, self.fill, numbers)
        if self.has_missing:
            yield missing.astype(np.float64)


@dataclass(frozen=True)
class NominalColumn:
    """A column of levels.

    Attributes:
        name: Of the raw column.
        levels: The levels that have a part each.
        has_other: Whether all other levels share a part.
        has_missing: Whether a part marks the missing values.
    """

    kind: ClassVar[str] = "nominal"
    name: str
    levels: tuple[str, ...]
    has_other: bool
    has_missing: bool

    @classmethod
    def fit(cls, training: pd.Series) -> "NominalColumn | None":
        """Take the levels of the training rows, shape ``(m,)``; None for an identifier."""
        counts = training.value_counts()
        if len(counts) > max(MAX_LEVELS, counts.sum() / 2):
            return None
        levels = sorted(str(level) for level in counts.index)
        has_other = len(levels) > MAX_LEVELS
        if has_other:
            frequent = sorted(levels, key=lambda level: -int(counts[level]))  # ties by name
            levels = sorted(frequent[: MAX_LEVELS - 1])
        elif len(levels) == 2:
            levels = levels[1:]
        return cls(
            name=str(training.name),
            levels=tuple(levels),
            has_other=has_other,
            has_missing=bool(training.isna().any()),
        )

    @property
    def part_names(self) -> tuple[str, ...]:
        """One name per part."""
        names = [f"{self.name}={level}" for level in self.levels]
        names += [f"{self.name}=other"] * self.has_other
        return (*names, *[f"{self.name}?"] * self.has_missing)

    def parts(self, column: pd.Series) -> Iterator[Floats]:
        """The parts of a tidy column, shape ``(m,)`` each, in the order of ``part_names``."""
        text = tidy_column(column, nominal=True)
        codes = pd.Index(self.levels, dtype=object).get_indexer(pd.Index(text, dtype=object))
        missing = text.isna().to_numpy()
        for code in range(len(self.levels)):
            yield (codes == code).astype(np.float64)
        if self.has_other:
            yield ((codes < 0) & ~missing).astype(np.float64)
        if self.has_missing:
            yield missing.astype(np.float64)


@dataclass(frozen=True)
class DateColumn:
    """A column of dates or times.

    Attributes:
        name: Of the raw column.
        origin: The earliest training date, in seconds since 1970.
        fill: The date that stands for a missing one, in seconds since 1970.
        has_missing: Whether a part marks the missing values.
    """

    kind: ClassVar[str] = "date"
    name: str
    origin: int
    fill: int
    has_missing: bool

    @classmethod
    def fit(cls, training: pd.Series) -> "DateColumn":
        """Take the earliest and the median date of the training rows, shape ``(m,)``."""
        missing = training.isna().to_numpy()
        seconds = np.sort(_seconds(training)[~missing])
        return cls(
            name=str(training.name),
            origin=int(seconds[0]),
            fill=int(seconds[len(seconds) // 2]),
            has_missing=bool(missing.any()),
        )

    @property
    def part_names(self) -> tuple[str, ...]:
        """One name per part."""
        names = tuple(f"{self.name}.{part}" for part in ("year", "month", "weekday", "days"))
        return (*names, f"{self.name}?") if self.has_missing else names

    def parts(self, column: pd.Series) -> Iterator[Floats]:
        """The parts of a tidy column, shape ``(m,)`` each, in the order of ``part_names``."""
        missing = column.isna().to_numpy()
        seconds = np.where(missing, self.fill, _seconds(column))
        dates = seconds.astype("datetime64[s]")
        months = dates.astype("datetime64[M]").astype(np.int64)  # since January 1970
        weekdays = (seconds // _DAY + 3) % 7  # 1 January 1970 was a Thursday
        for part in (1970 + months // 12, 1 + months % 12, weekdays):
            yield part.astype(np.float64)
        yield (seconds - self.origin).astype(np.float64) / _DAY
        if self.has_missing:
            yield missing.astype(np.float64)


Column = NumericColumn | NominalColumn | DateColumn


@dataclass(frozen=True)
class Feature:
    """One column of the encoded matrix: a standardised part.

    Attributes:
        name: Unique among the features.
        column: Index of the column it comes from.
        part: Which of the parts of that column it is.
        mean: Subtracted from the part.
        scale: Divides the difference; 0 for a feature that is always 0.
    """

    name: str
    column: int
    part: int
    mean: float
    scale: float


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
        columns: list[Column] = []
        features: list[Feature] = []
        notices: list[str] = []
        for name in frame.columns:
            declared = name in nominal or is_nominal(name)
            whole = tidy_column(frame[name], nominal=declared)
            training = _checked(whole, nominal=declared).iloc[positions]
            if not training.notna().any():
                notices.append(f"column {name!r} has no value in the training rows: left out.")
                continue
            column = _fit_column(training)
            if column is None:
                notices.append(f"column {name!r} has nearly as many levels as rows: left out.")
                continue
            found = _varying(column, training, index=len(columns))
            if found:
                columns.append(column)
                features += found
            else:
                notices.append(f"column {name!r} is constant in the training rows: left out.")
        if not features:
            raise DataError(
                "a table must have a feature that varies over the training rows; "
                f"none of its {len(frame.columns)} columns does."
            )
        return cls(tuple(columns), _unique_names(features), tuple(notices))

    @classmethod
    def of_numbers(
        cls, names: Sequence[str], *, mean: Sequence[float], scale: Sequence[float]
    ) -> "TableEncoder":
        """The encoder of columns of numbers that scales them and keeps every one.

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
            Feature(name=name, column=j, part=0, mean=shift, scale=factor)
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
                if feature is not None and feature.scale > 0:
                    encoded[:, j] = _standardise(values, mean=feature.mean, scale=feature.scale)
        return encoded

    def rescaled(self, *, mean: Sequence[float], scale: Sequence[float]) -> "TableEncoder":
        """The encoder whose output x becomes ``(x - mean) / scale``, or 0 where scale is 0.

        Args:
            mean: One number per feature, shape ``(n,)``.
            scale: One number per feature, shape ``(n,)``.
        """
        features = [
            Feature(
                name=feature.name,
                column=feature.column,
                part=feature.part,
                mean=feature.mean + feature.scale * float(shift),
                scale=feature.scale * float(factor),
            )
            for feature, shift, factor in zip(self.features, mean, scale, strict=True)
        ]
        return TableEncoder(self.columns, tuple(features), self.notices)

    def to_json(self) -> dict[str, Any]:
        """The whole state as plain JSON types; floats stay exact."""
        return {
            "columns": [{"kind": column.kind, **_plain(column)} for column in self.columns],
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
            columns = tuple(_column_from_json(column) for column in state["columns"])
            features = tuple(Feature(**feature) for feature in state["features"])
            return cls(columns, features, tuple(state["notices"]))
        except (KeyError, TypeError) as error:
            raise DataError(f"the state of a table encoder is damaged: {error!r}.") from error


def _plain(column: Column) -> dict[str, Any]:
    fields = asdict(column)
    return {k: list(v) if isinstance(v, tuple) else v for k, v in fields.items()}


def _column_from_json(state: dict[str, Any]) -> Column:
    kinds: dict[str, Callable[..., Column]] = {
        "numeric": NumericColumn,
        "nominal": NominalColumn,
        "date": DateColumn,
    }
    fields = {k: tuple(v) if isinstance(v, list) else v for k, v in state.items() if k != "kind"}
    return kinds[state["kind"]](**fields)


def _checked(column: pd.Series, *, nominal: bool) -> pd.Series:
    """Refuse what no training row may excuse: infinities, text among numbers."""
    if types.is_numeric_dtype(column.dtype):
        _numbers(column)
    elif not nominal and types.is_object_dtype(column.dtype):
        require_text(column)
    return column


def _fit_column(training: pd.Series) -> Column | None:
    if types.is_datetime64_dtype(training.dtype):
        return DateColumn.fit(training)
    if types.is_numeric_dtype(training.dtype):
        return NumericColumn.fit(training)
    return NominalColumn.fit(training)


def _varying(column: Column, training: pd.Series, *, index: int) -> list[Feature]:
    """The features of a column: its parts that vary over the training rows."""
    features = []
    parts = zip(column.part_names, column.parts(training), strict=True)
    for part, (name, values) in enumerate(parts):
        size = float(np.abs(values).max()) or 1.0
        unit = values / size  # no overflow in the squares
        scale = float(unit.std()) * size
        if values.min() < values.max() and 0 < scale < np.inf:
            features.append(
                Feature(
                    name=name, column=index, part=part, mean=float(unit.mean()) * size, scale=scale
                )
            )
    return features


def _unique_names(features: list[Feature]) -> tuple[Feature, ...]:
    """Mark a name that two columns gave, such as the level ``a=b`` and a column ``a=b``."""
    unique: dict[str, Feature] = {}
    for feature in features:
        name = feature.name
        while name in unique:
            name += "'"
        unique[name] = Feature(**{**asdict(feature), "name": name})
    return tuple(unique.values())


def _numbers(column: pd.Series) -> Floats:
    """The finite numbers of a tidy column, NaN for missing ones, shape ``(m,)``."""
    if not types.is_numeric_dtype(column.dtype):
        parsed = pd.to_numeric(column.astype(object), errors="coerce")
        rows = np.flatnonzero(column.notna() & parsed.isna())
        row = int(rows[0]) if len(rows) else 0
        raise DataError(
            f"column {column.name!r} must hold numbers; row {row + 1} has {column.iloc[row]!r}."
        )
    numbers: Floats = column.to_numpy(dtype=np.float64)
    infinite = np.isinf(numbers)
    if infinite.any():
        row = int(np.flatnonzero(infinite)[0])
        raise DataError(
            f"column {column.name!r} must hold finite numbers; row {row + 1} has {numbers[row]}."
        )
    return numbers


def _seconds(column: pd.Series) -> NDArray[np.int64]:
    """Seconds since 1970 of a tidy column of dates, shape ``(m,)``; any number if missing."""
    if not column.notna().any():
        return np.zeros(len(column), dtype=np.int64)
    if not types.is_datetime64_dtype(column.dtype):
        value = column.dropna().iloc[0]
        raise DataError(f"column {column.name!r} must hold dates; it has {value!r}.")
    return column.to_numpy("datetime64[s]").astype(np.int64)


def _standardise(values: Floats, *, mean: float, scale: float) -> Floats:
    with np.errstate(over="ignore"):
        return np.clip((values - mean) / scale, -MAX_DEVIATIONS, MAX_DEVIATIONS)
