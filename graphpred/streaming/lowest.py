"""The entries of a stream with the lowest keys, each once and counted: a sample that merges.

Keys are hashes of the entries, so those with the lowest are as good as a random choice of the
different entries, whatever their order and whichever parts they come in. Notation: m entries of
the stream, q different ones that are kept.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

Keys = NDArray[np.uint64]
Counts = NDArray[np.int64]
Array = NDArray[Any]


class LowestKeys:
    """At most ``limit`` different entries.

    Args:
        limit: How many to keep.

    Attributes:
        is_complete: Whether no entry was dropped.
    """

    def __init__(self, *, limit: int) -> None:
        self.limit, self.is_complete = limit, True
        self._parts: list[tuple[Keys, Array, Counts]] = []
        self._n_held = 0
        self._bound: np.uint64 | None = None  # the highest key that can still be kept

    def update(self, keys: Keys, values: Array, *, counts: Counts | None = None) -> None:
        """Add entries.

        Args:
            keys: Equal for equal entries alone. Shape ``(m,)``.
            values: The entries, shape ``(m, …)``.
            counts: How often each came, of one or several kinds, shape ``(m,)`` or ``(m, k)``;
                once by default.
        """
        if counts is None:
            counts = np.ones(len(keys), dtype=np.int64)
        if self._bound is not None:
            low = keys <= self._bound
            self.is_complete = self.is_complete and bool(low.all())
            if not low.any():
                return
            keys, values, counts = keys[low], values[low], counts[low]
        self._parts.append((keys, values, counts))
        self._n_held += len(keys)
        if self._n_held > 2 * self.limit:
            self._tidy()

    def wanted(self, keys: Keys) -> NDArray[np.bool_]:
        """Which entries could still be kept, by their keys; bool, shape ``(m,)``."""
        return np.ones(len(keys), dtype=bool) if self._bound is None else keys <= self._bound

    def merge(self, other: "LowestKeys") -> None:
        """Add the entries of another with the same limit, which stays as it is."""
        for keys, values, counts in other._parts:
            self.update(keys, values, counts=counts)
        self.is_complete = self.is_complete and other.is_complete

    def entries(self) -> tuple[Array, Counts]:
        """Every entry that is kept, by ascending key, and how often it came; q of them."""
        if not self._parts:
            return np.empty(0, dtype=object), np.empty(0, dtype=np.int64)
        self._tidy()
        _, values, counts = self._parts[0]
        return values, counts

    def repeated(self) -> Array:
        """Every entry as often as it came, or as its share of at most ``limit`` if those are more.

        Only for counts of one kind.
        """
        values, counts = self.entries()
        total = int(counts.sum())
        size = min(self.limit, total)
        places = (2 * np.arange(size) + 1) * total // (2 * max(size, 1))
        return values[np.searchsorted(np.cumsum(counts), places, side="right")]

    def _tidy(self) -> None:
        """Bring all parts into one, sorted, without repeats and within the limit."""
        keys, values, counts = (np.concatenate(part) for part in zip(*self._parts, strict=True))
        unique, first, inverse = np.unique(keys, return_index=True, return_inverse=True)
        total = np.zeros((len(unique), *counts.shape[1:]), dtype=np.int64)
        np.add.at(total, inverse, counts)
        if len(unique) > self.limit:
            self.is_complete = False
            unique, first, total = (part[: self.limit] for part in (unique, first, total))
        if len(unique) == self.limit:
            self._bound = unique[-1]
        self._parts = [(unique, values[first], total)]
        self._n_held = len(unique)
