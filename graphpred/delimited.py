"""How pyarrow reads CSV and TSV files here, and what is wrong with one that it cannot read."""

import codecs
import gzip
import zlib
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.csv as pa_csv

from graphpred.errors import DataError
from graphpred.tidying import MISSING, is_nominal

_CHECKED_BYTES = 65_536
"""So much of a text file is looked at before it is parsed."""


@contextmanager
def csv_errors(path: Path, *, ragged: list[Any]) -> Iterator[None]:
    """Turn what pyarrow says of a text file into a ``DataError``; see ``csv_options``."""
    try:
        yield
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        raise _csv_error(path, error, ragged=ragged) from error


def csv_options(
    path: Path, *, delimiter: str, nominal: Collection[str], ragged: list[Any]
) -> dict[str, Any]:
    """How pyarrow should read a text file, after a look at its head.

    Args:
        path: The file.
        delimiter: Between fields.
        nominal: Columns that are text besides those whose names end in ``#c``.
        ragged: Receives rows with too many or too few fields.

    Raises:
        DataError: If the file is no text or its header cannot be used.
    """
    _check_text(path)

    def keep_ragged(row: Any) -> str:
        ragged.append(row)
        return "error"

    reading = pa_csv.ReadOptions(use_threads=False)  # rows are numbered in one thread alone
    parsing = pa_csv.ParseOptions(
        delimiter=delimiter, newlines_in_values=True, invalid_row_handler=keep_ragged
    )
    with pa_csv.open_csv(path, read_options=reading, parse_options=parsing) as head:
        schema = head.schema
    names = schema.names
    if len(names) == 1 and any(other in names[0] for other in ",;|\t"):
        raise _one_field(path)
    check_names(names, origin=str(path))
    text = {
        field.name: pa.string()
        for field in schema
        # Times of day are levels: as they are written, for scoring reads them as text.
        if is_nominal(field.name) or field.name in nominal or pa.types.is_time(field.type)
    }
    converting = pa_csv.ConvertOptions(
        null_values=list(MISSING), strings_can_be_null=True, column_types=text
    )
    return {
        "read_options": reading,
        "parse_options": parsing,
        "convert_options": converting,
    }


def check_fields(schema: Any, *, path: Path) -> None:
    """Refuse columns of a text file that are no text."""
    for field in schema:
        if pa.types.is_binary(field.type):
            raise DataError(f"{path} must be UTF-8 text; column {field.name!r} is not.")


def check_names(names: list[str], *, origin: str) -> None:
    """Refuse names that occur twice."""
    seen: set[str] = set()
    for name in names:
        if name in seen:
            raise DataError(f"column names must be unique; {origin} has {name!r} twice.")
        seen.add(name)


def first_line(error: Exception) -> str:
    """What an error says first, without a full stop."""
    return (str(error).splitlines() or [type(error).__name__])[0].rstrip(".")


def _check_text(path: Path) -> None:
    """Refuse a file that does not start as text; pyarrow would quote its bytes."""
    decoder = codecs.getincrementaldecoder("utf-8")()
    try:
        with gzip.open(path) if path.suffix.lower() == ".gz" else path.open("rb") as file:
            text = decoder.decode(file.read(_CHECKED_BYTES))
    except UnicodeDecodeError as error:
        raise DataError(f"{path} must be UTF-8 text; it is not.") from error
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"{path} cannot be read: {first_line(error)}.") from error
    if "\0" in text:
        raise DataError(f"{path} must be UTF-8 text; it is not.")


def _csv_error(path: Path, error: Exception, *, ragged: list[Any]) -> DataError:
    if ragged:
        row = ragged[0]
        if row.expected_columns == 1:
            return _one_field(path)
        line = "a line" if row.number is None else f"line {row.number}"
        return DataError(
            f"every line of {path} must have {row.expected_columns} fields; "
            f"{line} has {row.actual_columns}."
        )
    message = first_line(error)
    if "Empty CSV" in message:
        return DataError(f"a table must have a header and rows; {path} is empty.")
    if isinstance(error, UnicodeDecodeError) or "UTF8" in message.replace("-", "").upper():
        return DataError(f"{path} must be UTF-8 text: {message}.")
    return DataError(f"{path} cannot be read: {message}.")


def _one_field(path: Path) -> DataError:
    return DataError(
        "fields must be separated by commas, or by tabs in a .tsv; "
        f"the first line of {path} has 1 field."
    )
