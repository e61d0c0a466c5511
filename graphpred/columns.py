"""The parts of a raw column: one number a row each, with a fitted state that is plain JSON.

- numbers and booleans: the value, the median of the training rows where it is missing;
- nominal: one part per level, 0 or 1. Two levels give one part. Above ten levels the nine most
  frequent ones have a part each and all others, also levels never seen, share ``name=other``;
  below, a level never seen is 0 in all parts. Text with more levels than half its rows is an
  identifier and has no parts;
- dates: year, month, weekday (0 is Monday), and days since the earliest training date; a missing
  date is the median one;
- all of them: ``name?``, 1 where the value is missing, if it ever is in the training rows.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any, ClassVar

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from pandas.api import types

from graphpred.errors import DataError
from graphpred.tidying import tidy_column

Floats = NDArray[np.float64]

MAX_LEVELS = 10
"""Nominal columns with more levels share one part among the rare ones."""

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
        numbers = finite_numbers(training)
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
        numbers = finite_numbers(column)
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
        counts = {str(level): int(count) for level, count in training.value_counts().items()}
        return cls.of_counts(
            str(training.name), counts=counts, has_missing=bool(training.isna().any())
        )

    @classmethod
    def of_counts(
        cls, name: str, *, counts: Mapping[str, int], has_missing: bool
    ) -> "NominalColumn | None":
        """The column with these levels, each in so many training rows; None for an identifier."""
        if len(counts) > max(MAX_LEVELS, sum(counts.values()) / 2):
            return None
        levels = sorted(counts)
        has_other = len(levels) > MAX_LEVELS
        if has_other:
            frequent = sorted(levels, key=lambda level: -counts[level])  # ties by name
            levels = sorted(frequent[: MAX_LEVELS - 1])
        elif len(levels) == 2:
            levels = levels[1:]
        return cls(name=name, levels=tuple(levels), has_other=has_other, has_missing=has_missing)

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


def column_to_json(column: Column) -> dict[str, Any]:
    """A fitted column as plain JSON types, without its kind."""
    fields = asdict(column)
    return {k: list(v) if isinstance(v, tuple) else v for k, v in fields.items()}


def column_from_json(state: dict[str, Any]) -> Column:
    """The inverse of ``column_to_json``, with the kind."""
    kinds: dict[str, Callable[..., Column]] = {
        "numeric": NumericColumn,
        "nominal": NominalColumn,
        "date": DateColumn,
    }
    fields = {k: tuple(v) if isinstance(v, list) else v for k, v in state.items() if k != "kind"}
    return kinds[state["kind"]](**fields)


def fit_column(training: pd.Series) -> Column | None:
    """Fit a tidy column by its type, shape ``(m,)``; None for text that only identifies rows."""
    if types.is_datetime64_dtype(training.dtype):
        return DateColumn.fit(training)
    if types.is_numeric_dtype(training.dtype):
        return NumericColumn.fit(training)
    return NominalColumn.fit(training)


def finite_numbers(column: pd.Series) -> Floats:
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
