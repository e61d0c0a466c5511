"""Writing files that are whole or absent, whatever happens meanwhile."""

import json
import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from graphpred.errors import StoreError

TEMPORARY_PREFIX = ".unfinished-"


@contextmanager
def whole_file(path: str | Path) -> Iterator[Path]:
    """Write to a temporary name; flush it to disk and rename it to ``path`` at the end.

    Yields:
        The temporary path, in the same folder.

    Raises:
        StoreError: If the folder is missing or cannot be written, or the disk is full. Then
            nothing is left behind, and what was at ``path`` before still is.
    """
    path = Path(path)
    try:
        handle, name = tempfile.mkstemp(prefix=TEMPORARY_PREFIX, dir=path.parent)
        os.close(handle)
    except OSError as error:
        raise StoreError(f"{path} must be writable: {error.strerror}.") from error
    temporary = Path(name)
    try:
        yield temporary
        temporary.chmod(0o666 & ~_umask())
        _flush(temporary)
        temporary.replace(path)
        _flush(path.parent)
    except OSError as error:
        raise StoreError(f"{path} could not be written: {error.strerror or error}.") from error
    finally:
        temporary.unlink(missing_ok=True)


def _umask() -> int:
    """What the user takes away from new files; ``mkstemp`` passes over it."""
    mask = os.umask(0o022)
    os.umask(mask)
    return mask


def _flush(path: Path) -> None:
    """Ask the operating system to put a file or folder on the disk now."""
    if os.name == "nt" and path.is_dir():
        return  # Windows has no such thing
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def make_folder(path: str | Path) -> None:
    """Make a folder, with those above it; a ``StoreError`` if it cannot be."""
    try:
        Path(path).mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StoreError(f"{path} must be a folder: {error.strerror}.") from error


def save_tensors(path: str | Path, tensors: dict[str, Tensor], *, metadata: dict[str, str]) -> None:
    """Write a safetensors file, whole or not at all."""

    def write(temporary: Path) -> None:
        contiguous = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
        save_file(contiguous, str(temporary), metadata=metadata)

    _written(path, write)


def _written(path: str | Path, write: Callable[[Path], None]) -> None:
    with whole_file(path) as temporary:
        try:
            write(temporary)
        except SafetensorError as error:
            raise OSError(str(error)) from error


def load_tensors(path: str | Path, *, what: str) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Tensors and metadata of a safetensors file.

    Args:
        path: The file.
        what: What it should be, for the message of the error.

    Raises:
        StoreError: If the file is missing or is no safetensors file.
    """
    if Path(path).is_dir():
        raise StoreError(f"{path} must be {what}; it is a folder.")
    try:
        with safe_open(str(path), framework="pt") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            return tensors, file.metadata() or {}
    except FileNotFoundError as error:
        raise StoreError(f"{path} must be {what}; there is no such file.") from error
    except (OSError, SafetensorError) as error:
        raise StoreError(f"{path} must be {what}; it cannot be read: {error}.") from error


def read_metadata(
    metadata: dict[str, Any], key: str, *, path: str | Path, what: str
) -> dict[str, Any]:
    """JSON that graphpred put into a file's metadata.

    Args:
        metadata: Of the file.
        key: Where the JSON is.
        path: The file, for the message of an error.
        what: What the file should be, likewise.

    Raises:
        StoreError: If the key is absent (the file is of another kind) or the JSON is damaged.
    """
    if key not in metadata:
        raise StoreError(f"{path} must be {what}; it is not.")
    try:
        described = json.loads(metadata[key])
    except ValueError as error:
        raise StoreError(f"{path} must be {what}; its JSON is damaged.") from error
    if not isinstance(described, dict):
        raise StoreError(f"{path} must be {what}; its JSON is damaged.")
    return described
