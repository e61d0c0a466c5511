"""What a target column is, learnt from sums that merge. Notation: m rows of a batch."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor

from graphpred.columns import Floats
from graphpred.errors import DataError
from graphpred.objective import Kind
from graphpred.streaming.batches import Levels, Numbers, RawColumn, scattered
from graphpred.streaming.columns import LEVEL_LIMIT, NumberSums, add_levels, counted_words
from graphpred.streaming.lowest import Counts, LowestKeys
from graphpred.targets import guess_kind, rare_classes, require_values, target_labels
from graphpred.tidying import tidy_column


@dataclass(frozen=True, eq=False, kw_only=True)
class TargetCode:
    """From raw targets to classes or standardised quantities.

    Attributes:
        kind: What they are.
        class_names: One per class, or the name of the quantity.
        words: Every word or number with its class or quantity; None if quantities are numbers.
        mean: Of the quantity in the training rows; empty for classes.
        scale: Likewise, its deviation.
        notices: On classes with few rows.
    """

    kind: Kind
    class_names: tuple[str, ...]
    words: dict[Any, float] | None
    mean: tuple[float, ...]
    scale: tuple[float, ...]
    notices: tuple[str, ...]

    def encode(self, column: RawColumn) -> Tensor:
        """Classes, int64 ``(m,)``, or standardised quantities, float32 ``(m, 1)``.

        Raises:
            DataError: If there are words that were not there when they were listed.
        """
        if isinstance(column, Levels):
            values = column.looked_up(self._listed, missing=np.nan)
        else:
            assert isinstance(column, Numbers)
            values = column.values
            if self.words is not None:
                unique, inverse = np.unique(values, return_inverse=True)
                values = self._listed(unique)[inverse]
        if np.isnan(values).any():
            raise DataError("a file must stay as it is while it is read; its target has changed.")
        if self.kind == "classification":
            return torch.from_numpy(values.astype(np.int64))
        standardised = (values[:, None] - self.mean[0]) / self.scale[0]
        return torch.from_numpy(standardised.astype(np.float32))

    def _listed(self, words: NDArray[Any]) -> Floats:
        assert self.words is not None
        return np.array([self.words.get(word, np.nan) for word in words], dtype=np.float64)


class TargetSums:
    """What the target column needs to be encoded; see ``ColumnSums``."""

    def __init__(self, name: str, *, nominal: bool = False) -> None:
        self.name, self.nominal, self.n_missing = name, nominal, 0
        self.numbers = NumberSums()  # of the training rows
        self.levels = LowestKeys(limit=LEVEL_LIMIT)
        self._is_text = False

    def update(self, column: RawColumn, *, train: NDArray[np.int64]) -> None:
        """Add a batch of which some rows, by position, are for training."""
        if isinstance(column, Levels):
            self._is_text = True
            add_levels(self.levels, column, train=train)
            self.n_missing += int((column.codes < 0).sum())
            return
        assert isinstance(column, Numbers)  # dates were made words
        values = column.values
        missing = np.isnan(values)
        self.n_missing += int(missing.sum())
        here = values[train]
        self.numbers = self.numbers.merged(NumberSums.of(here[~np.isnan(here)]))
        if self.levels.is_complete:
            unique, codes = np.unique(values[~missing], return_inverse=True)
            counts = np.bincount(codes, minlength=len(unique))
            keys = scattered((unique + 0.0).view(np.uint64))
            self.levels.update(keys, unique.astype(object), counts=np.stack([counts] * 2, axis=1))

    def merge(self, other: "TargetSums") -> None:
        """Add the rows of another, of the same column."""
        self.n_missing += other.n_missing
        self.numbers = self.numbers.merged(other.numbers)
        self._is_text = self._is_text or other._is_text
        self.levels.merge(other.levels)

    def code(self) -> TargetCode:
        """How the target is encoded.

        Raises:
            DataError: If values are missing, or they are neither classes nor a quantity.
        """
        require_values(self.name, n_missing=self.n_missing)
        words, (in_all, in_train) = counted_words(self.levels)
        if not self.levels.is_complete and self._is_text:
            raise DataError(
                f"target {self.name!r} must have few classes, or be numbers that are stored as "
                f"such; it has more than {LEVEL_LIMIT:,} different texts."
            )
        if not self.levels.is_complete:
            return self._quantity(None, self.numbers)
        values = tidy_column(pd.Series(words, name=self.name), nominal=self.nominal)
        enough = values.iloc[np.repeat(np.arange(len(words)), _few(in_all))]
        kind = guess_kind(enough)
        _, class_names = target_labels(enough, kind=kind)
        if kind == "regression":
            listed = values.to_numpy(dtype=np.float64)
            table = dict(zip(words, listed, strict=True)) if self._is_text else None
            sums = NumberSums.of(listed, in_train) if self._is_text else self.numbers
            return self._quantity(table, sums)
        codes = pd.factorize(values, sort=True)[0]
        counts = np.bincount(codes, weights=in_all).astype(np.int64)
        few = torch.arange(len(counts)).repeat_interleave(torch.from_numpy(counts.clip(max=3)))
        return TargetCode(
            kind=kind,
            class_names=class_names,
            words=dict(zip(words, codes.astype(float), strict=True)),
            mean=(),
            scale=(),
            notices=tuple(rare_classes(few, class_names)),
        )

    def _quantity(self, words: dict[Any, float] | None, sums: NumberSums) -> TargetCode:
        mean, deviation = sums.spread
        return TargetCode(
            kind="regression",
            class_names=(self.name,),
            words=words,
            mean=(mean,),
            scale=(deviation if deviation > 0 else 1.0,),
            notices=(),
        )


def _few(counts: Counts) -> Counts:
    """Smaller counts that every rule on the number of rows per value takes for these."""
    few = counts.clip(max=3)
    few[0] += min(int(counts.sum() - few.sum()), 3 * len(few) + 60)
    return few
