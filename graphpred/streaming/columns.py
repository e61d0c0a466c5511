"""What the encoder of a table needs to know of its columns, in sums that merge.

Means, deviations, levels and missing values are exact, whatever parts the rows come in. Medians are
those of a sample of the training rows, the ones with the lowest hashes; exact where it holds them
all, and means where it holds no value. Text with more than ``LEVEL_LIMIT`` levels is left out.
Notation: m rows of a batch.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from pandas.api import types

from graphpred.columns import Column, DateColumn, Floats, NominalColumn, NumericColumn
from graphpred.encoding import Spread, has_no_value, identifies
from graphpred.errors import DataError
from graphpred.streaming.batches import Dates, Levels, RawColumn
from graphpred.streaming.lowest import Counts, LowestKeys
from graphpred.tidying import NOMINAL_SUFFIX, NUMERIC_SHARE, tidy_column

LEVEL_LIMIT = 32_768
_DAY = 86_400  # seconds


@dataclass
class NumberSums:
    """Mean, sum of squares about it and range of numbers (Chan, Golub and LeVeque, 1979)."""

    n: int = 0
    mean: float = 0.0
    squares: float = 0.0
    low: float = np.inf
    high: float = -np.inf

    @classmethod
    def of(cls, values: Floats, counts: Counts | None = None) -> "NumberSums":
        """Of values that are not missing, shape ``(m,)``, each so many times."""
        if not len(values):
            return cls()
        with np.errstate(over="ignore", invalid="ignore"):
            n = len(values) if counts is None else int(counts.sum())
            mean = float(values.mean() if counts is None else values @ (counts / n))
            centred = values - mean
            squares = float(centred @ (centred if counts is None else centred * counts))
        return cls(n, mean, squares, float(values.min()), float(values.max()))

    def merged(self, other: "NumberSums") -> "NumberSums":
        """Of the numbers of both."""
        n = self.n + other.n
        if not self.n or not other.n:
            return self if self.n else other
        apart = other.mean - self.mean
        return NumberSums(
            n=n,
            mean=self.mean + apart * (other.n / n),
            squares=self.squares + other.squares + apart * apart * (self.n * (other.n / n)),
            low=min(self.low, other.low),
            high=max(self.high, other.high),
        )

    def with_fill(self, fill: float, n_missing: int) -> "NumberSums":
        """With a number for every missing one."""
        return self.merged(NumberSums(n=n_missing, mean=fill, low=fill, high=fill))

    @property
    def spread(self) -> Spread:
        """Mean and deviation; see ``TableEncoder.of_columns``."""
        varies = self.low < self.high
        return self.mean, float(np.sqrt(self.squares / self.n)) if varies else 0.0


class ColumnSums:
    """What one feature column needs to be encoded.

    Args:
        name: Of the column.
        nominal: Whether it is declared nominal.

    Attributes:
        n_missing: Of the training rows.
        numbers: Of the numbers, or of a date's year, month, weekday and days since 1970.
        first: The earliest date, in seconds since 1970.
        levels: Different words, counted in all rows and in the training rows; key: their hash.
    """

    def __init__(self, name: str, *, nominal: bool = False) -> None:
        self.name, self.nominal = name, nominal
        self.n_train = self.n_missing = 0
        self.numbers: list[NumberSums] = []
        self.first = np.inf
        self.levels = LowestKeys(limit=LEVEL_LIMIT)

    def update(self, column: RawColumn, *, train: NDArray[np.int64]) -> Floats:
        """Add a batch of which some rows, by position, are for training.

        Returns:
            The numbers of the training rows, dates in seconds, NaN for words. Shape ``(m_train,)``.
        """
        self.n_train += len(train)
        if isinstance(column, Levels):
            self.n_missing += add_levels(self.levels, column, train=train)
            return np.full(len(train), np.nan)
        if isinstance(column, Dates):
            values = _seconds(column.values.iloc[train])
            present = values[~np.isnan(values)]
            self._add_dates(present)
        else:
            values = column.values[train]
            present = values[~np.isnan(values)]
            self._add([present])
        self.n_missing += len(values) - len(present)
        return values

    def merge(self, other: "ColumnSums") -> None:
        """Add the rows of another, of the same column."""
        self.n_train += other.n_train
        self.n_missing += other.n_missing
        self._merge_numbers(other.numbers)
        self.first = min(self.first, other.first)
        self.levels.merge(other.levels)

    def fitted(self, sample: Floats, counts: Counts) -> tuple[Column, list[Spread]] | str:
        """See ``TableEncoder.of_columns``.

        Args:
            sample: Numbers of some training rows, as ``update`` gave them. Shape ``(q,)``.
            counts: How often each of those rows came. Shape ``(q,)``.

        Raises:
            DataError: If words are numbers but for a few, or more than can be kept.
        """
        if self.n_missing == self.n_train:
            return has_no_value(self.name)
        words, (in_all, in_train) = counted_words(self.levels)
        if not len(words):
            present = ~np.isnan(sample)
            if present.any():
                return self._of_numbers(sample[present], counts[present])
            return self._of_numbers(np.array([self._mean()]), np.array([1]))
        values = tidy_column(pd.Series(words, name=self.name), nominal=self.nominal)
        if types.is_object_dtype(values.dtype):
            if not self.nominal:
                self._require_text(values, in_all)
            return self._nominal(words, in_train)
        if not self.levels.is_complete:
            raise DataError(
                f"column {self.name!r} must not hold numbers or dates as text, since the file is "
                f"read in batches and they are more than {LEVEL_LIMIT:,} different ones."
            )
        return self._of_text(values[in_train > 0], in_train[in_train > 0])

    def _of_text(self, values: pd.Series, counts: Counts) -> tuple[Column, list[Spread]]:
        """Of words that are numbers or dates."""
        told = ColumnSums(self.name)
        told.n_missing, told.n_train = self.n_missing, self.n_train
        if types.is_datetime64_dtype(values.dtype):
            numbers = _seconds(values)
            told._add_dates(numbers, counts)
        else:
            numbers = values.to_numpy(dtype=np.float64)
            told._add([numbers], counts)
        return told._of_numbers(numbers, counts)

    def _of_numbers(self, sample: Floats, counts: Counts) -> tuple[Column, list[Spread]]:
        has_missing = self.n_missing > 0
        low, high = weighted_median(sample, counts)
        if len(self.numbers) == 1:
            fill = low / 2 + high / 2 if low != high else low
            column: Column = NumericColumn(name=self.name, fill=fill, has_missing=has_missing)
            fills, shift = [fill], [0.0]
        else:
            origin, date = int(self.first), int(high)
            column = DateColumn(self.name, origin=origin, fill=date, has_missing=has_missing)
            fills = [float(part[0]) for part in _date_parts(np.array([high]))]
            shift = [0.0, 0.0, 0.0, origin / _DAY]
        spreads = []
        for sums, fill, less in zip(self.numbers, fills, shift, strict=True):
            mean, deviation = sums.with_fill(fill, self.n_missing).spread
            spreads.append((mean - less, deviation))
        return column, [*spreads, *[self._share(self.n_missing)] * has_missing]

    def _nominal(self, words: NDArray[Any], counts: Counts) -> tuple[Column, list[Spread]] | str:
        if not self.levels.is_complete:
            return f"column {self.name!r} has more than {LEVEL_LIMIT:,} levels: left out."
        by_word = {str(word): int(n) for word, n in zip(words, counts, strict=True) if n}
        has_missing = self.n_missing > 0
        column = NominalColumn.of_counts(self.name, counts=by_word, has_missing=has_missing)
        if column is None:
            return identifies(self.name)
        shares = [self._share(by_word[level]) for level in column.levels]
        if column.has_other:
            listed = sum(by_word[level] for level in column.levels)
            shares.append(self._share(sum(by_word.values()) - listed))
        return column, [*shares, *[self._share(self.n_missing)] * has_missing]

    def _mean(self) -> float:
        """Of the numbers, or of the dates in seconds."""
        last = self.numbers[-1].mean
        return last if len(self.numbers) == 1 else round(last * _DAY)

    def _share(self, n: int) -> Spread:
        """Of a part that is 1 in n training rows and else 0."""
        share = n / self.n_train
        return share, float(np.sqrt(share * (1 - share)))

    def _require_text(self, values: pd.Series, counts: Counts) -> None:
        numeric = pd.to_numeric(values, errors="coerce").notna().to_numpy()
        if counts[numeric].sum() >= NUMERIC_SHARE * counts.sum():
            raise DataError(
                f"column {self.name!r} must hold numbers alone, as nearly all its values are; "
                f"a row has {min(values[~numeric])!r}. "
                f"If it is nominal, let its name end in {NOMINAL_SUFFIX}."
            )

    def _add_dates(self, seconds: Floats, counts: Counts | None = None) -> None:
        self.first = min(self.first, float(seconds.min(initial=np.inf)))
        self._add(_date_parts(seconds), counts)

    def _add(self, parts: Sequence[Floats], counts: Counts | None = None) -> None:
        self._merge_numbers([NumberSums.of(values, counts) for values in parts])

    def _merge_numbers(self, parts: list[NumberSums]) -> None:
        if self.numbers and parts:
            pairs = zip(self.numbers, parts, strict=True)
            self.numbers = [ours.merged(theirs) for ours, theirs in pairs]
        else:
            self.numbers = self.numbers or parts


def weighted_median(values: Floats, counts: Counts) -> tuple[float, float]:
    """The two middle values, which may be one, of values that come so many times.

    >>> weighted_median(np.array([3.0, 1.0]), np.array([2, 2]))
    (1.0, 3.0)
    """
    order = np.argsort(values)
    ends, n = np.cumsum(counts[order]), int(counts.sum())
    low, high = (
        values[order[np.searchsorted(ends, place, side="right")]]
        for place in ((n - 1) // 2, n // 2)
    )
    return float(low), float(high)


def add_levels(levels: LowestKeys, column: Levels, *, train: NDArray[np.int64]) -> int:
    """Count words; the training rows that have none are returned."""
    size = len(column.words) + 1
    in_all = np.bincount(column.codes + 1, minlength=size)  # (words + 1,), missing ones first
    in_train = np.bincount(column.codes[train] + 1, minlength=size)
    seen = in_all[1:] > 0
    counts = np.stack([in_all, in_train], axis=1)[1:][seen]
    levels.update(column.hashes[seen], column.words[seen], counts=counts)
    return int(in_train[0])


def counted_words(levels: LowestKeys) -> tuple[NDArray[Any], tuple[Counts, Counts]]:
    """All words, and how often each is in all and in the training rows."""
    words, counts = levels.entries()
    if not len(words):
        return words, (counts, counts)
    return words, (counts[:, 0], counts[:, 1])


def _seconds(dates: pd.Series) -> Floats:
    """Seconds since 1970, NaN if missing. Float64, shape ``(m,)``."""
    seconds = dates.to_numpy("datetime64[s]")
    return np.where(np.isnat(seconds), np.nan, seconds.astype(np.int64))


def _date_parts(seconds: Floats) -> list[Floats]:
    """Year, month, weekday and days since 1970, shape ``(m,)`` each."""
    dates = pd.Series(seconds.astype("int64").astype("datetime64[s]"))
    return list(DateColumn("", origin=0, fill=0, has_missing=False).parts(dates))
