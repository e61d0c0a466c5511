"""Reading a data set, from a file, a name or memory, into a table of raw columns.

Whatever the source, a column of a ``Table`` holds one of three things: numbers (booleans are
numbers, ``NaN`` is missing), dates without a time zone, or text (``None`` is missing). The digest
of a table depends on its names and values alone, so a CSV file and a Parquet file of the same
contents have the same one.
"""

import difflib
import hashlib
import json
import os
import zipfile
import zlib
from collections.abc import Callable, Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.csv as pa_csv
import pyarrow.parquet as pa_parquet
from pandas.api import types
from sklearn import datasets

from graphpred.delimited import check_fields, check_names, csv_errors, csv_options, first_line
from graphpred.errors import DataError, InputError
from graphpred.tidying import is_nominal, tidy_column

Source = str | Path | pd.DataFrame | tuple[Any, Any]
"""A path, the name of a set that scikit-learn ships, a frame, or features and target ``(X, y)``."""

_SKLEARN: dict[str, Callable[..., Any]] = {
    "breast_cancer": datasets.load_breast_cancer,
    "wine": datasets.load_wine,
    "digits": datasets.load_digits,
    "diabetes": datasets.load_diabetes,
    "iris": datasets.load_iris,
}
_SUFFIXES = (".csv", ".tsv", ".csv.gz", ".tsv.gz", ".parquet", ".npz")


@dataclass(frozen=True, eq=False, kw_only=True)
class Table:
    """Raw columns of m rows, before any encoding.

    Attributes:
        frame: The features, one column each, m rows.
        target: The column to predict, m rows; None if the source has none.
        name: What to call the data set.
        source: The path as given, the name in scikit-learn, ``"frame"`` or ``"arrays"``.
        digest: Hexadecimal hash of the names and values of all columns.
        nominal: The feature columns declared nominal; they hold text.
    """

    frame: pd.DataFrame
    target: pd.Series | None
    name: str
    source: str
    digest: str
    nominal: frozenset[str]


@dataclass(frozen=True, kw_only=True)
class _Raw:
    """What a reader of one format found; the target may still be a column of the frame."""

    frame: pd.DataFrame
    target: pd.Series | None = None
    name: str
    source: str


def read_table(
    source: Source,
    *,
    target: str | None = None,
    with_target: bool = True,
    nominal: Collection[str] = (),
) -> Table:
    """Read features and target from a file, a set that scikit-learn ships, or memory.

    Args:
        source: A ``.csv``, ``.tsv`` (also ``.gz``), ``.parquet`` or ``.npz`` (``X`` and ``y``)
            file; breast_cancer, wine, digits, diabetes or iris; a frame; or ``(X, y)``.
        target: Name of the column to predict; the last column by default. Not for sources that
            keep the target apart.
        with_target: False for rows to be scored: the target may then be absent, and no column is
            taken for it unless ``target`` names one.
        nominal: Columns to take as nominal besides those whose names end in ``#c``.

    Raises:
        DataError: If the source cannot be read or is not a table with rows, features and target.

    >>> table = read_table("iris")
    >>> table.frame.shape, table.target.unique().tolist()
    ((150, 4), ['setosa', 'versicolor', 'virginica'])
    """
    raw = _read(source, with_target=with_target, nominal=nominal)
    frame, found = raw.frame, raw.target
    names = [str(name) for name in frame.columns]
    frame = frame.set_axis(names, axis="columns").reset_index(drop=True)
    check_names(names, origin=raw.source)
    if found is not None and target not in (None, found.name):
        raise DataError(f"{raw.source} keeps its target apart; it has no target {target!r}.")
    if found is None:
        column = target_column(names, target=target, required=with_target, origin=raw.source)
        found = None if column is None else frame[column]
        frame = frame.drop(columns=[] if column is None else [column])
    if not len(frame):
        raise DataError(f"a table must have rows; {raw.source} has none.")
    if not len(frame.columns):
        raise DataError(
            f"a table must have a feature column besides its target; {raw.source} has none."
        )
    return _tidy_table(raw, frame=frame, target=found, nominal=nominal)


def _read(source: Source, *, with_target: bool, nominal: Collection[str]) -> _Raw:
    if isinstance(source, pd.DataFrame):
        return _Raw(frame=source, name="frame", source="frame")
    if isinstance(source, tuple):
        return _from_arrays(source)
    if not isinstance(source, str | Path):
        raise InputError(
            "source must be a path, a name, a DataFrame or a pair (X, y); "
            f"got {type(source).__name__}."
        )
    path = Path(source)
    if str(source) in _SKLEARN:
        return _from_sklearn(str(source))
    if path.suffix == "" and not os.path.exists(path):  # unlike Path.exists, takes any name
        raise DataError(
            f"source must be a file or one of {', '.join(_SKLEARN)}; got {str(source)!r}."
        )
    if not os.path.isfile(path):
        raise DataError(f"source must be a file that exists; there is no file {source}.")
    suffix = next((end for end in _SUFFIXES if path.name.lower().endswith(end)), None)
    if suffix is None:
        raise DataError(f"a table's file must end in {', '.join(_SUFFIXES)}; got {source}.")
    name = path.name[: -len(suffix)] or path.name
    if suffix == ".npz":
        X, y = _read_npz(path, with_target=with_target)
        raw = _from_arrays((X, y))
        return _Raw(frame=raw.frame, target=raw.target, name=name, source=str(source))
    if suffix == ".parquet":
        frame = _read_parquet(path)
    else:
        frame = _read_csv(path, delimiter="\t" if ".tsv" in suffix else ",", nominal=nominal)
    return _Raw(frame=frame, name=name, source=str(source))


def _from_sklearn(name: str) -> _Raw:
    bunch = _SKLEARN[name](as_frame=True)
    target = bunch.target
    if name in ("breast_cancer", "wine", "iris"):
        words = np.asarray(bunch.target_names, dtype=object)
        target = pd.Series(words[target.to_numpy()], name="target")
    return _Raw(frame=bunch.data, target=target, name=name, source=name)


def _from_arrays(source: tuple[Any, ...]) -> _Raw:
    if len(source) != 2:
        raise InputError(f"a tuple as source must be (X, y); got {len(source)} items.")
    X, y = source
    frame = X if isinstance(X, pd.DataFrame) else array_frame(np.asarray(X))
    if y is None:
        return _Raw(frame=frame, name="arrays", source="arrays")
    values = y if isinstance(y, pd.Series) else np.asarray(y)
    if values.ndim == 2 and values.shape[1] == 1:
        values = np.asarray(values)[:, 0]
    if values.shape != (len(frame),):
        raise DataError(
            f"y must have one value per row of X, {len(frame)} of them; got shape {values.shape}."
        )
    target = pd.Series(values).reset_index(drop=True)
    return _Raw(
        frame=frame,
        target=target.rename("target" if target.name is None else str(target.name)),
        name="arrays",
        source="arrays",
    )


def array_frame(X: np.ndarray) -> pd.DataFrame:
    """A frame of an array's columns, named x0, x1, …; ``(m, n)``."""
    if X.ndim != 2:
        raise DataError(f"X must have two axes, rows and features; got shape {X.shape}.")
    return pd.DataFrame(X, columns=[f"x{column}" for column in range(X.shape[1])])


def _read_npz(path: Path, *, with_target: bool) -> tuple[np.ndarray, np.ndarray | None]:
    try:
        with np.load(path, allow_pickle=False) as file:
            for key in ("X", "y") if with_target else ("X",):
                if key not in file.files:
                    held = ", ".join(file.files) or "nothing"
                    raise DataError(f"an .npz table must hold X and y; {path} holds {held}.")
            return file["X"], file["y"] if "y" in file.files else None
    except DataError:
        raise
    except OSError as error:
        raise DataError(f"{path} cannot be read: {first_line(error)}.") from error
    except (TypeError, ValueError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        raise DataError(
            f"{path} must be an .npz file of plain arrays, without Python objects; it is not."
        ) from error


def _read_parquet(path: Path) -> pd.DataFrame:
    try:
        with pa_parquet.ParquetFile(path) as file:
            table = file.read()
    except (pa.ArrowException, OSError, ValueError) as error:
        raise DataError(f"{path} cannot be read as Parquet: {first_line(error)}.") from error
    check_names(table.column_names, origin=str(path))
    frame = _to_pandas(table.replace_schema_metadata(None))
    return frame.drop(columns=[name for name in frame if str(name).startswith("__index_level_")])


def _read_csv(path: Path, *, delimiter: str, nominal: Collection[str]) -> pd.DataFrame:
    ragged: list[Any] = []
    with csv_errors(path, ragged=ragged):
        options = csv_options(path, delimiter=delimiter, nominal=nominal, ragged=ragged)
        table = pa_csv.read_csv(path, **options)
    check_fields(table.schema, path=path)
    frame = _to_pandas(table)
    del table
    pa.default_memory_pool().release_unused()
    return frame


def _to_pandas(table: pa.Table) -> pd.DataFrame:
    """The table as a frame; it gives up its columns one by one, so that they are not held twice."""
    frame: pd.DataFrame = table.to_pandas(
        date_as_object=False, split_blocks=True, self_destruct=True
    )
    return frame


def target_column(
    names: list[str], *, target: str | None, required: bool, origin: str
) -> str | None:
    """The column to predict: the one named, the last one, or none if it is not required."""
    if target in names:
        return target
    if not required:
        return None
    if target is None:
        if not names:
            raise DataError(f"a table must have columns; {origin} has none.")
        return names[-1]
    close = difflib.get_close_matches(target, names, n=3) or names[:8]
    raise DataError(
        f"target must be a column of {origin}; got {target!r}. Did you mean {', '.join(close)}?"
    )


def _tidy_table(
    raw: _Raw, *, frame: pd.DataFrame, target: pd.Series | None, nominal: Collection[str]
) -> Table:
    declared = frozenset(
        name
        for name in frame.columns
        if name in nominal or is_nominal(name) or isinstance(frame[name].dtype, pd.CategoricalDtype)
    )
    frame = frame.copy(deep=False)
    for name in frame.columns:
        column = frame[name]
        tidy = tidy_column(column, nominal=name in declared)
        if tidy is not column:
            frame[name] = tidy
    if target is not None:
        target = tidy_column(target, nominal=is_nominal(str(target.name)))
    return Table(
        frame=frame,
        target=target,
        name=raw.name,
        source=raw.source,
        digest=_digest(frame, target),
        nominal=declared,
    )


def _digest(frame: pd.DataFrame, target: pd.Series | None) -> str:
    state = hashlib.blake2b(digest_size=16)
    columns = [(f"feature {name}", frame[name]) for name in frame.columns]
    if target is not None:
        columns.append((f"target {target.name}", target))
    for label, column in columns:
        if types.is_numeric_dtype(column.dtype):
            values = column.to_numpy().astype("float64") + 0.0  # -0.0 becomes 0.0
            values[np.isnan(values)] = np.nan
            head, content = [label, "numbers"], values.tobytes()
        elif types.is_datetime64_dtype(column.dtype):
            head, content = [label, "dates"], column.to_numpy("datetime64[us]").tobytes()
        else:
            codes, words = pd.factorize(column)
            head, content = [label, "text", *words], codes.astype("int64").tobytes()
        state.update(json.dumps(head).encode())
        state.update(content)
    return state.hexdigest()
