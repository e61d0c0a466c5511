"""``PairStore``: a folder of immutable Parquet shards that any number of processes fill at once.

A shard holds all pairs of a range of searches and is named after it. It appears whole or not at
all, and two processes that make the same searches write the same shard, so nothing is lost or
doubled whoever stops when. ``run.json`` says what the searches were asked to do.
"""

import contextlib
import json
import os
import re
import time
import uuid
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pa_parquet

from graphpred.errors import StoreError
from graphpred.files import TEMPORARY_PREFIX, make_folder, whole_file
from graphpred.pairs.pair import SCHEMA, Pair

RUN_FILE = "run.json"
_SHARD = re.compile(r"pairs-(\d+)-(\d+)\.parquet")


class PairStore:
    """Pairs on disk.

    Args:
        folder: Where the shards are; it need not exist before something is written.
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)

    @property
    def shards(self) -> list[Path]:
        """The shards, in the order of their searches."""
        found = [path for path in self.folder.glob("pairs-*.parquet") if _SHARD.match(path.name)]
        return sorted(found)

    def write(self, pairs: Sequence[Pair], *, searches: range) -> Path:
        """Store all pairs of consecutive searches as one shard.

        Args:
            pairs: All pairs of these searches.
            searches: The searches' numbers.

        Raises:
            StoreError: If the folder cannot be written or the disk is full; nothing is left.
        """
        rows = [pair.to_row() for pair in pairs]
        table = pa.Table.from_pylist(rows, schema=SCHEMA)
        make_folder(self.folder)
        path = self.folder / f"pairs-{searches[0]:08d}-{searches[-1]:08d}.parquet"
        with whole_file(path) as temporary:
            pa_parquet.write_table(table, temporary, compression="zstd", write_page_checksum=True)
        return path

    def searches(self) -> set[int]:
        """Numbers of the searches whose pairs are stored, by the names of the shards."""
        done: set[int] = set()
        for path in self.shards:
            first, last = _range_of(path)
            done.update(range(first, last + 1))
        return done

    def __iter__(self) -> Iterator[Pair]:
        """Every pair, in the order of searches and prices.

        Raises:
            StoreError: If there is no pair or a shard is broken.
        """
        if not self.shards:
            raise StoreError(f"{self.folder} must hold pairs (pairs-*.parquet); it holds none.")
        seen: set[tuple[int, float]] = set()
        for path in self.shards:
            for row in _read(path).to_pylist():
                key = (row["search"], row["price"])
                if key not in seen:  # ranges of two runs of different lengths may overlap
                    seen.add(key)
                    yield Pair.from_row(row)

    def __len__(self) -> int:
        """Number of pairs; reads only the index of every shard."""
        keys: set[tuple[int, float]] = set()
        for path in self.shards:
            table = _read(path, columns=["search", "price"])
            columns = table["search"].to_pylist(), table["price"].to_pylist()
            keys.update(zip(*columns, strict=True))
        return len(keys)

    def verify(self) -> list[str]:
        """Read every shard through; one sentence a fault, none if all is well."""
        faults: list[str] = []
        seen: dict[tuple[int, float], str] = {}
        for path in self.shards:
            try:
                rows = _read(path).to_pylist()
                pairs = [Pair.from_row(row) for row in rows]
            except (StoreError, ValueError) as error:
                faults.append(f"{path.name}: {error}")
                continue
            first, last = _range_of(path)
            if {pair.search for pair in pairs} != set(range(first, last + 1)):
                faults.append(f"{path.name}: it must hold all searches of its name.")
            for pair in pairs:
                key = (pair.search, pair.price)
                if key in seen:
                    faults.append(f"{path.name}: search {key[0]} is in {seen[key]} as well.")
                seen[key] = path.name
        return faults

    def read_run(self) -> dict[str, Any] | None:
        """What the searches were asked to do; None before the first run."""
        try:
            text = (self.folder / RUN_FILE).read_text(encoding="utf-8")
            run = json.loads(text)
        except FileNotFoundError:
            return None
        except (OSError, ValueError) as error:
            raise StoreError(f"{self.folder / RUN_FILE} must be readable JSON: {error}.") from error
        if not isinstance(run, dict):
            raise StoreError(f"{self.folder / RUN_FILE} must describe a run; it does not.")
        return run

    def claim(self, run: dict[str, Any]) -> dict[str, Any]:
        """Note what the searches are asked to do, unless another process was quicker.

        Returns:
            What is noted, by whichever process was first.
        """
        make_folder(self.folder)
        own = self.folder / f"{TEMPORARY_PREFIX}{uuid.uuid4().hex}-{RUN_FILE}"
        try:
            with whole_file(own) as temporary:
                temporary.write_text(_json(run), encoding="utf-8")
            with contextlib.suppress(FileExistsError):
                os.link(own, self.folder / RUN_FILE)  # unlike a rename, never replaces
        except OSError:  # a disk that has no links
            if not (self.folder / RUN_FILE).exists():
                self.write_run(run)
        finally:
            own.unlink(missing_ok=True)
        return self.read_run() or run

    def write_run(self, run: dict[str, Any]) -> None:
        """Note what the searches are asked to do."""
        make_folder(self.folder)
        with whole_file(self.folder / RUN_FILE) as temporary:
            temporary.write_text(_json(run), encoding="utf-8")

    def remove_unfinished(self, *, older_than: float = 3600.0) -> None:
        """Delete what killed writers left.

        Args:
            older_than: Seconds; younger files may belong to a writer that is alive.
        """
        for path in self.folder.glob(f"{TEMPORARY_PREFIX}*"):
            with contextlib.suppress(FileNotFoundError):
                if time.time() - path.stat().st_mtime > older_than:
                    path.unlink()

    def remove_contained(self) -> None:
        """Delete shards whose searches another, whole shard holds as well.

        Runs of two lengths that fill the folder at once cut their last shard differently.
        """
        shards = [(path, *_range_of(path)) for path in self.shards]
        shards.sort(key=lambda shard: (shard[1], -shard[2]))
        widest: tuple[Path, int, int] | None = None
        for path, first, last in shards:
            if widest is not None and last <= widest[2]:
                with contextlib.suppress(StoreError):
                    _read(widest[0], columns=["search"])
                    path.unlink(missing_ok=True)
            else:
                widest = path, first, last


def _json(run: dict[str, Any]) -> str:
    return json.dumps(run, indent=2) + "\n"


def _range_of(path: Path) -> tuple[int, int]:
    match = _SHARD.match(path.name)
    assert match is not None
    return int(match[1]), int(match[2])


def _read(path: Path, *, columns: list[str] | None = None) -> pa.Table:
    try:
        return pa_parquet.read_table(
            path,
            columns=columns or SCHEMA.names,
            partitioning=None,  # a folder named "seed=1" must not become a column
            page_checksum_verification=True,
        )
    except (OSError, pa.ArrowException) as error:
        reason = str(error).splitlines()[0]
        raise StoreError(
            f"{path} must be a whole Parquet shard of pairs: {reason}. Delete it and run "
            "generate again; it makes the missing pairs."
        ) from error
