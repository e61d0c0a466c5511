"""Writing files that are whole or absent, whatever happens meanwhile."""

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
        temporary.chmod(0o644)
        _flush(temporary)
        temporary.replace(path)
        _flush(path.parent)
    except OSError as error:
        raise StoreError(f"{path} could not be written: {error.strerror or error}.") from error
    finally:
        temporary.unlink(missing_ok=True)


def _flush(path: Path) -> None:
    """Ask the operating system to put a file or folder on the disk now."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


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
    try:
        with safe_open(str(path), framework="pt") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            return tensors, file.metadata() or {}
    except FileNotFoundError as error:
        raise StoreError(f"{path} must be {what}; there is no such file.") from error
    except (OSError, SafetensorError) as error:
        raise StoreError(f"{path} must be {what}; it cannot be read: {error}.") from error
