"""Parts of an experiment that are kept as JSON, so that a stopped one goes on."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from graphpred.errors import StoreError
from graphpred.files import make_folder, whole_file


def kept(path: Path, make: Callable[[], Any]) -> Any:
    """What was made before; or made now and kept.

    Args:
        path: A JSON file; its folder is made.
        make: Gives plain JSON types.

    Raises:
        StoreError: If the file is there and damaged, or cannot be written.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        made = make()
    except (OSError, ValueError) as error:
        raise StoreError(f"{path} must be readable JSON, or be deleted: {error}.") from error
    write_json(path, made)
    return made


def write_json(path: Path, value: Any) -> None:
    """Plain JSON types, to a file that is whole or absent."""
    make_folder(path.parent)
    with whole_file(path) as temporary:
        temporary.write_text(json.dumps(value, indent=1) + "\n", encoding="utf-8")
