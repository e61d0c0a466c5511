"""A file too large for memory as a task of bounded size, in two passes.

The first pass learns how columns become numbers and what the target is; the second sums up all
training rows and keeps a sample of the rows of every part. A row's part is a function of a hash of
its contents: equal rows are in the same part, in whatever order the rows come, a quarter of them on
average for testing. Memory does not depend on m.
"""

import hashlib
import json
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray

from graphpred.columns import Column
from graphpred.encoding import Spread, TableEncoder
from graphpred.errors import DataError
from graphpred.meta.moments import Moments
from graphpred.seeds import derived_seed
from graphpred.split import TEST_SHARE, VALIDATION_SHARE, Split
from graphpred.streaming.batches import (
    Batch,
    Dates,
    Numbers,
    RawColumn,
    TableFile,
    can_stream,
    count_values,
    row_keys,
    scattered,
)
from graphpred.streaming.columns import ColumnSums
from graphpred.streaming.lowest import Keys, LowestKeys
from graphpred.streaming.targets import TargetCode, TargetSums
from graphpred.task import MIN_ROWS, Task
from graphpred.tidying import tidy_column

STREAM_VALUES = 20_000_000
"""A file with more values, rows times columns, target included, is read in batches."""

SAMPLE_ROWS = 65_536
"""Rows of every part that are kept, and training rows of which medians are taken."""

_SAMPLE_VALUES = 2**24  # of very wide data

_PARTS = ("train", "validation", "test")


@dataclass(frozen=True, eq=False, kw_only=True)
class Streamed:
    """A large file as ``fit_predicted`` takes it.

    Attributes:
        task: A sample of the rows of every part.
        moments: Sums over all training rows.
        n_rows: Rows of the file.
    """

    task: Task
    moments: Moments
    n_rows: int


def is_large(source: str | Path, *, limit: int = STREAM_VALUES) -> bool:
    """Whether a source is a file with more than so many values, rows times columns.

    A Parquet file says how many it has; of CSV and TSV files, compressed ones too, eight bytes are
    taken for a value.

    Raises:
        DataError: If the file is broken.
    """
    return can_stream(source) and count_values(source) > limit


def stream_task(
    source: str | Path,
    *,
    target: str | None = None,
    seed: int = 0,
    sample_rows: int = SAMPLE_ROWS,
    batch_rows: int | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Streamed:
    """Read a Parquet, CSV or TSV file twice.

    Args:
        source: Path of the file.
        target: Name of the column to predict; the last one by default.
        seed: Which rows are for training and which for validation; never which are for testing.
        sample_rows: Rows of every part to keep; fewer of very wide data.
        batch_rows: Rows to read at a time; as many as fit by default.
        progress: Called with the rows read so far, in both passes, and how many there will be;
            never for a text file, which does not say.

    Raises:
        DataError: If the file cannot be read, encoded or split.
    """
    file = TableFile.open(source, target=target)
    sums = TableSums(file.features, target=file.target, nominal=file.nominal)
    digest, keyed = _Digest(file), _Reading(file, batch_rows=batch_rows, progress=progress)
    for batch, keys in keyed:
        digest.update(keys)
        (train,) = np.nonzero(_parts(keys, seed=seed) == 0)
        sums.update(batch, keys=keys, train=train)
    if sums.n_rows < MIN_ROWS:
        raise DataError(
            f"a data set must have at least {MIN_ROWS} rows; {source} has {sums.n_rows}."
        )
    rows = EncodedRows(sums.encoder(), sums.target.code(), file=file, limit=sample_rows)
    for batch, keys in keyed:
        rows.update(batch, keys=keys, parts=_parts(keys, seed=seed))
    return rows.streamed(digest=str(digest), n_rows=sums.n_rows)


class TableSums:
    """The sums over all columns of a table.

    Args:
        names: Of the feature columns.
        target: Name of the target column.
        nominal: Columns that are declared nominal.
    """

    def __init__(self, names: Sequence[str], *, target: str, nominal: Collection[str] = ()) -> None:
        self.n_rows = 0
        self.columns = {name: ColumnSums(name, nominal=name in nominal) for name in names}
        self.target = TargetSums(target, nominal=target in nominal)
        self._sample = LowestKeys(limit=_fitting(SAMPLE_ROWS, n_columns=2 * len(names)))

    def update(self, batch: Batch, *, keys: Keys, train: NDArray[np.int64]) -> None:
        """Add a batch.

        Args:
            batch: Its columns.
            keys: Hashes of its rows, shape ``(m,)``.
            train: Positions of its rows for training.

        Raises:
            DataError: If a number is infinite; the sums are of no use then.
        """
        for name, column in batch.items():
            self._require_finite(name, column)
        self.target.update(batch[self.target.name], train=train)
        values = [sums.update(batch[name], train=train) for name, sums in self.columns.items()]
        wanted = self._sample.wanted(keys[train])
        rows = np.stack([column[wanted] for column in values], axis=1)  # (·, columns)
        self._sample.update(keys[train][wanted], rows)
        self.n_rows += len(keys)

    def merge(self, other: "TableSums") -> None:
        """Add the rows of another part of the same table."""
        for name, sums in self.columns.items():
            sums.merge(other.columns[name])
        self.target.merge(other.target)
        self._sample.merge(other._sample)
        self.n_rows += other.n_rows

    def encoder(self) -> TableEncoder:
        """The encoder of the training rows.

        Raises:
            DataError: If a column cannot be encoded, or none varies over the training rows.
        """
        return TableEncoder.of_columns(self._fitted(), n_columns=len(self.columns))

    def _fitted(self) -> Iterator[tuple[Column, list[Spread]] | str]:
        rows, counts = self._sample.entries()
        for j, sums in enumerate(self.columns.values()):
            yield sums.fitted(rows[:, j], counts)

    def _require_finite(self, name: str, column: RawColumn) -> None:
        if isinstance(column, Numbers) and np.isinf(column.values).any():
            row = int(np.flatnonzero(np.isinf(column.values))[0])
            raise DataError(
                f"column {name!r} must hold finite numbers; "
                f"row {self.n_rows + row + 1} has {column.values[row]}."
            )


class EncodedRows:
    """What the second pass keeps of the rows; parts of a file merge.

    Args:
        encoder: Of the features.
        target: Of the target.
        file: The rows' file.
        limit: Rows of every part to keep.
    """

    def __init__(
        self, encoder: TableEncoder, target: TargetCode, *, file: TableFile, limit: int
    ) -> None:
        self.encoder, self.target, self.file = encoder, target, file
        state = json.dumps([encoder.to_json(), target.mean, target.scale, target.class_names])
        self.moments = Moments(
            n_features=len(encoder.feature_names),
            n_outputs=len(target.class_names),
            kind=target.kind,
            scale=hashlib.blake2b(state.encode(), digest_size=16).hexdigest(),
        )
        limit = _fitting(limit, n_columns=self.moments.n_features)
        self.samples = [LowestKeys(limit=limit) for _ in _PARTS]

    def update(self, batch: Batch, *, keys: Keys, parts: NDArray[np.int64]) -> None:
        """Add a batch.

        Args:
            batch: Its raw columns.
            keys: Hashes of its rows, shape ``(m,)``.
            parts: 0 for a row to train on, 1 for validation, 2 for testing. Shape ``(m,)``.
        """
        needed = parts == 0
        for part, sample in enumerate(self.samples[1:], start=1):
            needed |= (parts == part) & sample.wanted(keys)
        (rows,) = np.nonzero(needed)
        keys, parts = keys[rows], parts[rows]
        X = torch.from_numpy(self.encoder.transform(self._frame(batch, rows)))  # (·, n)
        y = self.target.encode(batch[self.file.target].take(rows))
        train = torch.from_numpy(parts == 0)
        self.moments.update(X[train], y[train])
        both = np.concatenate([X.numpy(), y.view(len(y), -1).numpy()], axis=1, dtype=np.float32)
        for part, sample in enumerate(self.samples):
            kept = (parts == part) & sample.wanted(keys)
            sample.update(keys[kept], both[kept])

    def merge(self, other: "EncodedRows") -> None:
        """Add the rows of another, which must have the same encoder and target."""
        self.moments.merge(other.moments)
        for ours, theirs in zip(self.samples, other.samples, strict=True):
            ours.merge(theirs)

    def streamed(self, *, digest: str, n_rows: int) -> Streamed:
        """The task and the sums.

        Raises:
            DataError: If no row is for training or none for validation.
        """
        parts = [sample.repeated() for sample in self.samples]
        for name, rows in zip(_PARTS[:2], parts, strict=False):
            if not len(rows):
                raise DataError(
                    f"a file that is read in batches must have rows for {name}; the hashes of "
                    f"the {n_rows:,} rows of {self.file.source} give none: are nearly all equal?"
                )
        n, sizes = len(self.encoder.feature_names), [len(part) for part in parts]
        kept = torch.from_numpy(np.concatenate([part for part in parts if len(part)]))
        is_classes = self.target.kind == "classification"
        index = torch.arange(len(kept)).split(sizes)
        task = Task(
            X=kept[:, :n].contiguous(),
            y=kept[:, n].long() if is_classes else kept[:, n:].contiguous(),
            kind=self.target.kind,
            split=Split(*index),
            feature_names=self.encoder.feature_names,
            class_names=self.target.class_names,
            name=self.file.name,
            source=self.file.source,
            digest=digest,
            encoder=self.encoder,
            target_mean=self.target.mean,
            target_scale=self.target.scale,
            origin=torch.arange(len(kept)),
            notices=(
                f"the file was read in batches: {n_rows:,} rows, of which "
                f"{self.moments.n_rows:,} gave the statistics and a sample of {sizes[0]:,} "
                "trained the network.",
                *self.encoder.notices,
                *self.target.notices,
            ),
        )
        return Streamed(task=task, moments=self.moments, n_rows=n_rows)

    def _frame(self, batch: Batch, rows: NDArray[np.int64]) -> pd.DataFrame:
        columns = {
            column.name: _tidy(column.name, batch[column.name].take(rows), is_levels=is_levels)
            for column in self.encoder.columns
            for is_levels in [column.name in self.encoder.nominal]
        }
        return pd.DataFrame(columns, copy=False)


def _tidy(name: str, column: RawColumn, *, is_levels: bool) -> pd.Series:
    """A column as the encoder takes it, shape ``(m,)``."""
    if isinstance(column, Numbers):
        return pd.Series(column.values, name=name)
    if isinstance(column, Dates):
        return column.values.reset_index(drop=True)
    if is_levels:
        return pd.Series(pd.Categorical.from_codes(column.codes, pd.Index(column.words)), name=name)
    words = tidy_column(pd.Series([*column.words, None], name=name, dtype=object))
    return words.iloc[column.codes].reset_index(drop=True)  # the last one is missing


def _fitting(n_rows: int, *, n_columns: int) -> int:
    """So many rows, or as many as ``_SAMPLE_VALUES`` allow."""
    return min(n_rows, max(1, _SAMPLE_VALUES // n_columns))


class _Reading:
    """All batches of a file with the keys of their rows, as often as they are asked for."""

    def __init__(
        self,
        file: TableFile,
        *,
        batch_rows: int | None,
        progress: Callable[[int, int], None] | None,
    ) -> None:
        self.file, self.batch_rows, self.progress = file, batch_rows, progress
        self._n_read = 0

    def __iter__(self) -> Iterator[tuple[Batch, Keys]]:
        for batch in self.file.batches(n_rows=self.batch_rows):
            keys = row_keys(batch)
            yield batch, keys
            self._n_read += len(keys)
            if self.progress is not None and self.file.n_rows is not None:
                self.progress(self._n_read, 2 * self.file.n_rows)


def _parts(keys: Keys, *, seed: int) -> NDArray[np.int64]:
    """The part of every row, an index of ``_PARTS``; shape ``(m,)``."""
    drawn = scattered(keys ^ np.uint64(derived_seed(seed, "validation rows")))
    parts = np.where(drawn < np.uint64(VALIDATION_SHARE * 2**64), 1, 0)
    is_test = scattered(~keys) < np.uint64(TEST_SHARE * 2**64)
    return np.where(is_test, 2, parts)


class _Digest:
    """A hash of a file's columns and rows, whatever the order of the rows."""

    def __init__(self, file: TableFile) -> None:
        columns = [[field.name, str(field.type)] for field in file.schema]
        self._head = json.dumps([columns, file.target])
        self._sum = np.zeros(2, dtype=np.uint64)

    def update(self, keys: Keys) -> None:
        with np.errstate(over="ignore"):
            self._sum += [keys.sum(), scattered(keys).sum()]

    def __str__(self) -> str:
        state = hashlib.blake2b(self._head.encode() + self._sum.tobytes(), digest_size=16)
        return state.hexdigest()
