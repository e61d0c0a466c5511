"""Reading a table's file in batches of rows, none of which outlives its turn.

A column of a batch comes in one of three forms, by the type that the file declares: numbers
(booleans are numbers), dates, or levels, which are texts and what was declared nominal. What texts
are, numbers perhaps, shows only when all were seen. Notation: m rows of a batch.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.csv as pa_csv
import pyarrow.parquet as pa_parquet
from numpy.typing import NDArray
from pandas.api import types

from graphpred.delimited import check_fields, check_names, csv_errors, csv_options, first_line
from graphpred.errors import DataError
from graphpred.streaming.lowest import Keys
from graphpred.tables import target_column
from graphpred.tidying import MISSING, is_nominal, tidy_column, word

_BATCH_ROWS = 32_768
_BATCH_VALUES = 2**22  # of a batch of very wide data
_CSV_BLOCK = 2**24  # bytes
_VALUE_BYTES = 8  # of a text file stand for a value, when its size is judged
_SUFFIXES = (".parquet", ".csv", ".tsv", ".csv.gz", ".tsv.gz")
_MULTIPLIER = np.uint64(0x9E3779B97F4A7C15)
_MIXERS = ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB))  # of the function splitmix64
_MISSING_BITS = np.uint64(0xFFF8DEADBEEF0001)


@dataclass(frozen=True, eq=False)
class Numbers:
    """A column of numbers.

    Attributes:
        values: Float64, shape ``(m,)``; NaN is missing.
    """

    values: NDArray[np.float64]

    def bits(self) -> Keys:
        """A number for every value, shape ``(m,)``; −0 is 0."""
        bits = (self.values + 0.0).view(np.uint64)
        missing = np.isnan(self.values)
        if missing.any():
            bits[missing] = _MISSING_BITS
        return bits

    def take(self, rows: NDArray[Any]) -> "Numbers":
        """Some of the rows, by mask or position."""
        return Numbers(self.values[rows])


@dataclass(frozen=True, eq=False)
class Dates:
    """A column of dates without a time zone.

    Attributes:
        values: Datetimes, shape ``(m,)``; NaT is missing.
    """

    values: pd.Series

    def bits(self) -> Keys:
        """A number for every value, shape ``(m,)``."""
        return self.values.to_numpy("datetime64[us]").view(np.uint64)

    def take(self, rows: NDArray[Any]) -> "Dates":
        """Some of the rows, by mask or position."""
        return Dates(self.values.iloc[rows])


@dataclass(frozen=True, eq=False)
class Levels:
    """A column of text.

    Attributes:
        codes: Index of every row's word, −1 if it is missing. Int64, shape ``(m,)``.
        words: Different words, of dtype object; some may have no row.
        hashes: Of the words.
    """

    codes: NDArray[np.int64]
    words: NDArray[Any]
    hashes: Keys

    @classmethod
    def of(cls, codes: NDArray[np.int64], values: NDArray[Any]) -> "Levels":
        """Levels of raw values, which are stripped; words for what is missing are missing."""
        texts = [None if value is None else word(value) for value in values]
        texts = [None if text in MISSING else text for text in texts]
        places, words = pd.factorize(np.array(texts, dtype=object))  # −1 of None
        table = np.append(places.astype(np.int64), -1)
        words = np.asarray(words, dtype=object)
        hashes = pd.util.hash_array(words, categorize=False)
        return cls(table[codes], words, hashes)

    def bits(self) -> Keys:
        """A number for every value, shape ``(m,)``."""
        return np.append(self.hashes, _MISSING_BITS)[self.codes]

    def take(self, rows: NDArray[Any]) -> "Levels":
        """Some of the rows, by mask or position."""
        return Levels(self.codes[rows], self.words, self.hashes)

    def looked_up(self, table: Callable[[Any], Any], *, missing: Any) -> NDArray[Any]:
        """What a function says of every row's word, shape ``(m,)``.

        Args:
            table: Of the words, gives an array as long.
            missing: What it would say of a missing one.
        """
        return np.append(np.asarray(table(self.words)), missing)[self.codes]


RawColumn = Numbers | Dates | Levels
Batch = dict[str, RawColumn]


@dataclass(frozen=True, eq=False, kw_only=True)
class TableFile:
    """A Parquet, CSV or TSV file that is read in batches.

    Attributes:
        path: The file.
        source: The path as it was given.
        schema: Names and types of its columns; the index that pandas stored is left out.
        target: The column to predict.
        n_rows: Of a Parquet file; None for a text file.
    """

    path: Path
    source: str
    schema: Any
    target: str
    n_rows: int | None

    @classmethod
    def open(cls, source: str | Path, *, target: str | None = None) -> "TableFile":
        """Look at a file's head.

        Args:
            source: Path of the file.
            target: Name of the column to predict; the last one by default.

        Raises:
            DataError: If the file cannot be read, or has no such column or no other.
        """
        path = Path(source)
        if not can_stream(source):
            raise DataError(
                f"a file that is read in batches must exist and end in {', '.join(_SUFFIXES)}; "
                f"got {source}."
            )
        n_rows, schema = _parquet_head(path) if _is_parquet(path) else (None, _csv_schema(path))
        check_names(schema.names, origin=str(source))
        names = [name for name in schema.names if not name.startswith("__index_level_")]
        column = target_column(names, target=target, required=True, origin=str(source))
        if len(names) < 2 or column is None:
            raise DataError(
                f"a table must have a feature column besides its target; {source} has none."
            )
        schema = pa.schema([schema.field(name) for name in names])
        return cls(path=path, source=str(source), schema=schema, target=column, n_rows=n_rows)

    @property
    def name(self) -> str:
        """What to call the data set: the file's name without its ending."""
        suffix = next(end for end in _SUFFIXES if self.path.name.lower().endswith(end))
        return self.path.name[: -len(suffix)] or self.path.name

    @property
    def features(self) -> list[str]:
        """Names of the columns besides the target."""
        return [name for name in self.schema.names if name != self.target]

    @property
    def nominal(self) -> frozenset[str]:
        """Names of the columns that are declared nominal, by name or by type."""
        return frozenset(
            field.name
            for field in self.schema
            if is_nominal(field.name) or pa.types.is_dictionary(field.type)
        )

    def batches(self, *, n_rows: int | None = None) -> Iterator[Batch]:
        """Read all rows once.

        Args:
            n_rows: Of a batch of a Parquet file, at most.

        Raises:
            DataError: If the file is broken, or has values that are no numbers, text or dates.
        """
        batches = _parquet_batches if _is_parquet(self.path) else _csv_batches
        fitting = min(_BATCH_ROWS, max(1, _BATCH_VALUES // len(self.schema)))
        for batch in batches(self, n_rows or fitting):
            if batch.num_rows:
                yield {field.name: self._column(batch, field) for field in self.schema}

    def _column(self, batch: Any, field: Any) -> RawColumn:
        array, kind = batch.column(field.name), field.type
        is_target = field.name == self.target
        if pa.types.is_string(kind) or pa.types.is_large_string(kind):
            array = array.dictionary_encode()
        if pa.types.is_dictionary(array.type):
            codes = array.indices.cast(pa.int64()).fill_null(-1)
            return Levels.of(codes.to_numpy(), array.dictionary.to_pandas().to_numpy(object))
        if pa.types.is_decimal(kind) or pa.types.is_float16(kind):
            array = array.cast(pa.float64())
        column = pd.Series(array.to_pandas(date_as_object=False), name=field.name)
        nominal = is_nominal(field.name) or (is_target and pa.types.is_boolean(kind))
        column = tidy_column(column, nominal=nominal)
        if is_target and types.is_datetime64_dtype(column.dtype):
            column = tidy_column(column, nominal=True)
        if types.is_datetime64_dtype(column.dtype):
            return Dates(column)
        if types.is_numeric_dtype(column.dtype):
            return Numbers(column.to_numpy(dtype=np.float64))
        return Levels.of(*pd.factorize(column.to_numpy(object)))


def can_stream(source: str | Path) -> bool:
    """Whether this is the path of a file that can be read in batches."""
    path = Path(source)
    return path.name.lower().endswith(_SUFFIXES) and path.is_file()


def count_values(path: str | Path) -> int:
    """Rows times columns of a file; of a text file a guess, its size over eight bytes.

    Raises:
        DataError: If it is a broken Parquet file.
    """
    path = Path(path)
    if not _is_parquet(path):
        return path.stat().st_size // _VALUE_BYTES
    n_rows, schema = _parquet_head(path)
    return n_rows * len(schema.names)


def row_keys(batch: Batch) -> Keys:
    """A hash of every row's contents, its target included; as if uniform, shape ``(m,)``."""
    keys = np.zeros((), dtype=np.uint64)
    with np.errstate(over="ignore"):
        for column in batch.values():
            keys = (keys + column.bits()) * _MULTIPLIER
            keys ^= keys >> np.uint64(32)
    return scattered(keys)


def scattered(keys: Keys) -> Keys:
    """A bijection of the 64-bit integers that scatters them (Steele, Lea and Flood, 2014)."""
    keys = keys + _MULTIPLIER
    for shift, multiplier in _MIXERS:
        keys = (keys ^ (keys >> np.uint64(shift))) * np.uint64(multiplier)
    return keys ^ (keys >> np.uint64(31))


def _is_parquet(path: Path) -> bool:
    return path.suffix.lower() == ".parquet"


def _parquet_head(path: Path) -> tuple[int, Any]:
    """Number of rows, and schema."""
    try:
        with pa_parquet.ParquetFile(path) as file:
            return file.metadata.num_rows, file.schema_arrow
    except (pa.ArrowException, OSError, ValueError) as error:
        raise DataError(f"{path} cannot be read as Parquet: {first_line(error)}.") from error


def _parquet_batches(file: TableFile, n_rows: int) -> Iterator[Any]:
    try:
        with pa_parquet.ParquetFile(file.path, pre_buffer=False, buffer_size=2**20) as opened:
            yield from opened.iter_batches(
                batch_size=n_rows, columns=file.schema.names, use_threads=False
            )
    except (pa.ArrowException, OSError, ValueError) as error:
        raise DataError(f"{file.path} cannot be read as Parquet: {first_line(error)}.") from error


def _csv_schema(path: Path) -> Any:
    ragged: list[Any] = []
    with csv_errors(path, ragged=ragged), pa_csv.open_csv(path, **_csv(path, ragged)) as head:
        schema = head.schema
    check_fields(schema, path=path)
    return schema


def _csv_batches(file: TableFile, _: int) -> Iterator[Any]:
    """Types are those of the first block; its whole numbers may turn out to be fractions."""
    ragged: list[Any] = []
    with csv_errors(file.path, ragged=ragged):
        options = _csv(file.path, ragged)
        options["convert_options"].column_types = {
            field.name: _wide(field.type) for field in file.schema
        }
        with pa_csv.open_csv(file.path, **options) as opened:
            yield from opened


def _csv(path: Path, ragged: list[Any]) -> dict[str, Any]:
    delimiter = "\t" if ".tsv" in path.name.lower() else ","
    options = csv_options(path, delimiter=delimiter, nominal=(), ragged=ragged)
    options["read_options"].block_size = _CSV_BLOCK
    return options


def _wide(kind: Any) -> Any:
    """The type that takes all that a column may hold whose first block is of this type."""
    if pa.types.is_integer(kind):
        return pa.float64()
    return pa.string() if pa.types.is_null(kind) else kind
