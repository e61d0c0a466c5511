"""A sample of a data set's rows that does not depend on their order.

The refinement of a predicted network reads rows themselves, of which it needs no more than a
thousand or so; so do the statistics of pairs of features. Rows with the lowest hash of their
contents are as good as a random choice. Equal rows have equal hashes and come or go together, so
they are kept once and counted: where a table has few different rows, the sample has them all, each
as often as it deserves. Both make the samples of parts merge exactly to that of the whole.
"""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from graphpred.task import Task

ROW_LIMIT = 1024
"""Rows that drafts are refined on, and that statistics of pairs of features come from."""
FIT_LIMIT = 4096
"""Rows that a network is fitted to when its edges are chosen."""
Words = NDArray[np.uint64]
_MULTIPLIERS = np.uint64(0xBF58476D1CE4E5B9), np.uint64(0x94D049BB133111EB)  # of splitmix64
_BLOCK_VALUES = 16384  # that are hashed at a time: they stay in cache


@dataclass(frozen=True, eq=False, kw_only=True)
class RowSample:
    """Rows of one data set.

    Attributes:
        X: Standardised features. Float32, shape ``(q, n)``.
        y: Indicators of the classes, or standardised targets. Float32, shape ``(q, c)``.
        is_regression: Whether the outputs are quantities.
    """

    X: Tensor
    y: Tensor
    is_regression: bool

    @classmethod
    def of(cls, task: Task, *, limit: int = ROW_LIMIT) -> "RowSample":
        """At most ``limit`` of the training rows, by their hashes; see ``CountedRows.sample``."""
        rows = CountedRows.of(*task.rows("train"))
        return rows.sample(limit=limit, n_outputs=task.n_outputs)

    def first(self, limit: int) -> "RowSample":
        """No more than so many of its rows, which are in no order that says anything."""
        if len(self.X) <= limit:
            return self
        return RowSample(X=self.X[:limit], y=self.y[:limit], is_regression=self.is_regression)

    @property
    def shape(self) -> tuple[int, int, int]:
        """q, n, c."""
        return len(self.X), self.X.shape[1], self.y.shape[1]


@dataclass(frozen=True, eq=False, kw_only=True)
class CountedRows:
    """Rows of a data set with how often each occurs; samples of its parts merge to its own.

    Attributes:
        X: Standardised features. Float32, shape ``(q, n)``.
        y: Classes, int64, shape ``(q,)``; or standardised targets, float32, shape ``(q, c)``.
        count: Int64, shape ``(q,)``.
    """

    X: Tensor
    y: Tensor
    count: Tensor

    @classmethod
    def of(cls, X: Tensor, y: Tensor) -> "CountedRows":
        """Every row once, repeated ones as often as they are."""
        return cls(X=X, y=y, count=torch.ones(len(X), dtype=torch.int64))

    def merged(self, other: "CountedRows", *, limit: int) -> "CountedRows":
        """The sample of the rows of both, at most ``limit`` different ones.

        Exact: whichever way a data set is cut into parts, and in whatever order and tree their
        samples are merged with this limit, the result holds the same rows and counts. A row that
        is among the lowest of the whole is so in every part that has it.
        """
        parts = ((self.X, other.X), (self.y, other.y), (self.count, other.count))
        X, y, count = (torch.cat(part) for part in parts)
        return CountedRows(X=X, y=y, count=count).lowest(limit)

    def lowest(self, limit: int) -> "CountedRows":
        """The different rows with the lowest hashes; itself if it has no more rows than that."""
        return self if len(self.X) <= limit else self.distinct(limit)

    def distinct(self, limit: int | None = None) -> "CountedRows":
        """Every different row once, by its hash; at most so many, if a limit is given."""
        limit = len(self.X) if limit is None else limit
        hashes, order = _hashes(self.X, self.y).sort()
        rank = torch.nn.functional.pad(hashes.diff() != 0, (1, 0)).cumsum(dim=0)  # (q,)
        n_low = int(torch.searchsorted(rank, limit))
        rows = self._take(order[:n_low])
        if not n_low or int(rank[n_low - 1]) == n_low - 1:  # no hash is that of two rows
            return rows
        identities, hashes = _identities(rows.X, rows.y), hashes[:n_low]
        order = identities.argsort()
        order = order[hashes[order].argsort(stable=True)]  # by hash, then by identity
        is_first = torch.ones_like(order, dtype=torch.bool)
        is_first[1:] = (hashes[order].diff() != 0) | (identities[order].diff() != 0)
        unique = rows._take(order[is_first])
        count = torch.zeros_like(unique.count)
        count.index_add_(0, is_first.cumsum(dim=0) - 1, rows.count[order])
        return CountedRows(X=unique.X, y=unique.y, count=count)._take(slice(limit))

    def sample(self, *, limit: int, n_outputs: int) -> RowSample:
        """All rows if there are no more than ``limit``; else ``limit`` rows of lowest hash.

        Of the different rows that are kept, each comes as often as its share of their counts. They
        are sorted by ``row_hashes`` of X.
        """
        rows = self.distinct(limit)
        n_rows = int(rows.count.sum())
        if n_rows > len(rows.count):  # some are repeated
            q = min(limit, n_rows)
            places = (2 * torch.arange(q) + 1) * n_rows // (2 * q)
            rows = rows._take(torch.searchsorted(rows.count.cumsum(dim=0), places, right=True))
        if rows.y.is_floating_point():
            rows = rows._take(row_hashes(rows.X).argsort(stable=True))
        return RowSample(
            X=rows.X,
            y=indicators(rows.y, n_outputs=n_outputs),
            is_regression=rows.y.is_floating_point(),
        )

    def _take(self, rows: Tensor | slice) -> "CountedRows":
        return CountedRows(X=self.X[rows], y=self.y[rows], count=self.count[rows])


def indicators(y: Tensor, *, n_outputs: int) -> Tensor:
    """Indicators of classes ``(m,)``; quantities ``(m, c)`` as they are. Float32, ``(m, c)``."""
    return y if y.is_floating_point() else torch.nn.functional.one_hot(y, n_outputs).float()


def row_hashes(X: Tensor) -> Tensor:
    """A number for every row that depends on its values and not on the order of its columns.

    Args:
        X: Float32, shape ``(m, n)``.

    Returns:
        Int64, shape ``(m,)``, as if uniform.
    """
    blocks = X.split(max(1, _BLOCK_VALUES // max(1, X.shape[1])))
    sums = [_mixed(_bits(block)).sum(axis=1) for block in blocks]
    return _signed(_mixed(np.concatenate(sums)))


def _hashes(X: Tensor, y: Tensor) -> Tensor:
    """By which rows are chosen: of X, and of quantities y too, not of classes. Int64, ``(m,)``.

    Few different X may have many different quantities, which must not come or go together; the
    order of classes must change nothing.
    """
    hashes = row_hashes(X)
    return _signed(_mixed(_words(hashes + row_hashes(y)))) if y.is_floating_point() else hashes


def _identities(X: Tensor, y: Tensor) -> Tensor:
    """A number for every row that is that of another only if all values are. Int64, ``(m,)``."""
    outputs = _bits(y) if y.is_floating_point() else _words(y.unsqueeze(1))
    values = _mixed(np.concatenate([_bits(X), outputs], axis=1))  # (m, n + 1) or (m, n + c)
    factors = _mixed(np.arange(values.shape[1], dtype=np.uint64)) | np.uint64(1)
    return _signed((values * factors).sum(axis=1))


def _bits(values: Tensor) -> Words:
    """Float32 numbers as integers; −0 is 0. Of the same shape."""
    return _words((values + 0.0).contiguous().view(torch.int32).to(torch.int64))


def _words(x: Tensor) -> Words:
    return x.numpy().view(np.uint64)


def _signed(x: Words) -> Tensor:
    return torch.from_numpy(x.view(np.int64))


def _mixed(x: Words) -> Words:
    """A bijection of the 64-bit integers that scatters them (Steele, Lea and Flood, 2014)."""
    x = x + np.uint64(1)
    for shift, multiplier in zip((30, 27), _MULTIPLIERS, strict=True):
        x ^= x >> np.uint64(shift)
        x *= multiplier
    return x ^ (x >> np.uint64(31))
