"""One raw column in one of three forms: numbers, dates without a time zone, or text.

Booleans are numbers, ``NaN`` is a missing number and ``None`` a missing text.
"""

import numpy as np
import pandas as pd
from pandas.api import types

from graphpred.errors import DataError

NOMINAL_SUFFIX = "#c"
"""A column whose name ends like this is nominal, whatever its values look like."""

MISSING = ("", "?", "NA", "N/A", "NaN", "nan", "NULL", "null", "None")
"""Text that stands for a missing value."""

NUMERIC_SHARE = 0.9
"""Text of which this share is numbers was meant to be a numeric column."""


def tidy_column(column: pd.Series, *, nominal: bool = False) -> pd.Series:
    """Bring a column to one of the three forms: numbers, dates without a zone, or text.

    Text that is numbers, booleans or ISO dates throughout becomes that, unless it is nominal.

    Args:
        column: Any column of a frame, shape ``(m,)``.
        nominal: Whether the column is nominal; it then becomes text.

    Raises:
        DataError: If the values are none of these.

    >>> tidy_column(pd.Series(["1", " 2.5", "?"])).tolist()
    [1.0, 2.5, nan]
    >>> tidy_column(pd.Series([1.0, 2.0]), nominal=True).tolist()
    ['1', '2']
    """
    dtype = column.dtype
    if nominal or isinstance(dtype, pd.CategoricalDtype):
        return _as_text(column)
    if types.is_complex_dtype(dtype):
        raise _unusable(column, "complex numbers")
    if types.is_numeric_dtype(dtype):  # bool too
        return column if isinstance(dtype, np.dtype) else _plain_numbers(column)
    if isinstance(dtype, pd.DatetimeTZDtype):
        here: pd.Series = column.dt.tz_convert("UTC").dt.tz_localize(None)
        return here
    if types.is_datetime64_dtype(dtype):
        return column
    if types.is_timedelta64_dtype(dtype):
        seconds: pd.Series = column.dt.total_seconds()
        return seconds
    return _tidy_objects(column)


def word(value: object) -> str:
    """The text of one nominal value; whole numbers look the same as integers and as floats.

    >>> word(2.0), word(" red "), word(True)
    ('2', 'red', 'True')
    """
    if isinstance(value, float | np.floating) and float(value).is_integer():
        value = int(value)
    return str(value).strip()


def require_text(column: pd.Series) -> None:
    """Refuse a text column that is numbers but for a few values.

    Args:
        column: A tidy column of text, shape ``(m,)``.

    Raises:
        DataError: If at least 90 % of the values present are numbers, but not all.
    """
    present = column.dropna()
    numbers = pd.to_numeric(present, errors="coerce")
    if len(present) and numbers.notna().mean() >= NUMERIC_SHARE:
        row = int(np.flatnonzero(column.notna())[np.flatnonzero(numbers.isna())[0]])
        raise DataError(
            f"column {column.name!r} must hold numbers alone, as nearly all its values are; "
            f"row {row + 1} has {column.iloc[row]!r}. "
            f"If it is nominal, let its name end in {NOMINAL_SUFFIX}."
        )


def is_nominal(name: str) -> bool:
    """Whether the name declares its column nominal.

    >>> is_nominal("colour#c"), is_nominal("weight")
    (True, False)
    """
    return name.endswith(NOMINAL_SUFFIX)


def _tidy_objects(column: pd.Series) -> pd.Series:
    """Tidy a column of Python objects by what they turn out to be."""
    found = types.infer_dtype(column, skipna=True)
    if found in ("integer", "floating", "mixed-integer-float", "decimal", "boolean", "empty"):
        return _plain_numbers(column)
    if found in ("date", "datetime", "datetime64"):
        return tidy_column(pd.to_datetime(column, utc=True))
    if found == "bytes":
        raise _unusable(column, "bytes")
    return _parsed(_as_text(column))


def _parsed(text: pd.Series) -> pd.Series:
    """Text as numbers, booleans or dates if it is that throughout."""
    present = text.dropna()
    if not len(present):
        return text.astype("float64")
    if present.isin(["True", "False", "true", "false", "TRUE", "FALSE"]).all():
        truth = text.map(lambda value: None if value is None else value.lower() == "true")
        return _plain_numbers(truth)
    if pd.to_numeric(present, errors="coerce").notna().all():
        return pd.to_numeric(text)
    if present.str.match(r"\d{4}-\d{2}-\d{2}").all():
        dates = pd.to_datetime(text, format="ISO8601", errors="coerce", utc=True)
        if dates[present.index].notna().all():
            return tidy_column(dates)
    return text


def _plain_numbers(column: pd.Series) -> pd.Series:
    """Numbers of NumPy's types: booleans without missing values as bool, all else as float."""
    missing = column.isna()
    if not missing.any() and types.infer_dtype(column) == "boolean":
        return column.astype(bool)
    values = column.astype(object).where(~missing, np.nan)
    return values.astype("float64")


def _as_text(column: pd.Series) -> pd.Series:
    try:
        codes, values = pd.factorize(column)
    except TypeError as error:
        raise _unusable(column, "lists or other containers") from error
    words = [word(value) for value in values]
    table = np.array([None if text in MISSING else text for text in words] + [None], dtype=object)
    return pd.Series(table[codes], index=column.index, name=column.name, dtype=object)  # -1: None


def _unusable(column: pd.Series, got: str) -> DataError:
    return DataError(
        f"column {str(column.name)!r} must hold numbers, text, dates or booleans; it has {got}."
    )
